package seccomp

import (
	"fmt"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

type entry struct {
	name   string
	number uint32
}

// arch is what differs between the machines we run on.
type arch struct {
	name            string
	audit           uint32 // what the kernel calls it
	compat          uint32 // the 32-bit entry beside it
	compatExitGroup uint32
	x32             bool
	numbers         map[string]uint32
	names           map[uint32]string
	socket          map[uint32]bool // calls whose first argument is an address family
}

// compatExit is exit's number on i386 and on 32-bit ARM.
const compatExit = 1

var (
	amd64 = newArch("amd64", unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 252, true, numbersX64)
	arm64 = newArch("arm64", unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM, 248, false, numbersA64)
)

func newArch(name string, audit, compat, exitGroup uint32, x32 bool, table []entry) *arch {
	a := &arch{
		name: name, audit: audit, compat: compat, compatExitGroup: exitGroup, x32: x32,
		numbers: map[string]uint32{}, names: map[uint32]string{},
	}
	for _, e := range table {
		a.numbers[e.name], a.names[e.number] = e.number, e.name
	}
	a.socket = map[uint32]bool{a.numbers["socket"]: true, a.numbers["socketpair"]: true}
	return a
}

func archOf(name string) (*arch, error) {
	if name == "" {
		name = runtime.GOARCH
	}
	switch name {
	case "amd64":
		return amd64, nil
	case "arm64":
		return arm64, nil
	}
	return nil, fmt.Errorf("system calls of architecture %q are not known: amd64 and arm64 are", name)
}

// elsewhere reports whether the other machine has the call: a profile may come from it.
func (a *arch) elsewhere(name string) bool {
	_, x := amd64.numbers[name]
	_, m := arm64.numbers[name]
	return x || m
}

// Number returns the number of a system call. An empty arch is that of this program.
func Number(archName, name string) (uint32, bool) {
	a, err := archOf(archName)
	if err != nil {
		return 0, false
	}
	if n, ok := a.numbers[name]; ok {
		return n, true
	}
	return numbered("syscall_", name, x32Bit)
}

// Name returns the name of a system call, "syscall_N" when it has none here.
func Name(archName string, number uint32) string {
	if a, err := archOf(archName); err == nil && a.names[number] != "" {
		return a.names[number]
	}
	return "syscall_" + strconv.FormatUint(uint64(number), 10)
}

// Entry says by which door a call came in: "" for the machine's own, else "i386", "x32" or "arm".
func Entry(archName string, audit, number uint32) string {
	a, err := archOf(archName)
	switch {
	case err != nil:
		return "unknown"
	case audit == a.audit && a.x32 && number >= x32Bit:
		return "x32"
	case audit == a.audit:
		return ""
	case audit == unix.AUDIT_ARCH_I386:
		return "i386"
	case audit == unix.AUDIT_ARCH_ARM:
		return "arm"
	}
	return "unknown"
}

// TakesFamily reports whether a call's first argument is an address family.
func TakesFamily(archName string, number uint32) bool {
	a, err := archOf(archName)
	return err == nil && a.socket[number]
}

var families = []entry{
	{"unspec", unix.AF_UNSPEC},
	{"unix", unix.AF_UNIX},
	{"inet", unix.AF_INET},
	{"ax25", unix.AF_AX25},
	{"ipx", unix.AF_IPX},
	{"appletalk", unix.AF_APPLETALK},
	{"netrom", unix.AF_NETROM},
	{"bridge", unix.AF_BRIDGE},
	{"atmpvc", unix.AF_ATMPVC},
	{"x25", unix.AF_X25},
	{"inet6", unix.AF_INET6},
	{"rose", unix.AF_ROSE},
	{"netbeui", unix.AF_NETBEUI},
	{"security", unix.AF_SECURITY},
	{"key", unix.AF_KEY},
	{"netlink", unix.AF_NETLINK},
	{"packet", unix.AF_PACKET},
	{"ash", unix.AF_ASH},
	{"econet", unix.AF_ECONET},
	{"atmsvc", unix.AF_ATMSVC},
	{"rds", unix.AF_RDS},
	{"sna", unix.AF_SNA},
	{"irda", unix.AF_IRDA},
	{"pppox", unix.AF_PPPOX},
	{"wanpipe", unix.AF_WANPIPE},
	{"llc", unix.AF_LLC},
	{"ib", unix.AF_IB},
	{"mpls", unix.AF_MPLS},
	{"can", unix.AF_CAN},
	{"tipc", unix.AF_TIPC},
	{"bluetooth", unix.AF_BLUETOOTH},
	{"iucv", unix.AF_IUCV},
	{"rxrpc", unix.AF_RXRPC},
	{"isdn", unix.AF_ISDN},
	{"phonet", unix.AF_PHONET},
	{"ieee802154", unix.AF_IEEE802154},
	{"caif", unix.AF_CAIF},
	{"alg", unix.AF_ALG},
	{"nfc", unix.AF_NFC},
	{"vsock", unix.AF_VSOCK},
	{"kcm", unix.AF_KCM},
	{"qipcrtr", unix.AF_QIPCRTR},
	{"smc", unix.AF_SMC},
	{"xdp", unix.AF_XDP},
	{"mctp", unix.AF_MCTP},
}

// Family returns the number of an address family by its name ("inet6").
func Family(name string) (uint32, bool) {
	for _, f := range families {
		if f.name == name {
			return f.number, true
		}
	}
	return numbered("family_", name, 1<<31)
}

// FamilyName returns the name of an address family, "family_N" when it has none here.
func FamilyName(number uint32) string {
	for _, f := range families {
		if f.number == number {
			return f.name
		}
	}
	return "family_" + strconv.FormatUint(uint64(number), 10)
}
