package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"bulkhead"
)

// Need is a system call with the reason for which every container needs it.
type Need struct{ Name, Why string }

// Baseline is what a runtime and a C library need between the moment the filter is set and
// the workload's first own instruction, and to end. It is in every seccomp profile: these
// calls run before a learner of the container itself sees them, or only on bad days.
var Baseline = []Need{
	{"execve", "the runtime starts the workload with it, behind the filter"},
	{"execveat", "newer runtimes start the workload by descriptor"},
	{"exit", "a thread ends"},
	{"exit_group", "a process ends"},
	{"rt_sigreturn", "return from any signal handler; without it the first signal kills"},
	{"rt_sigaction", "set-up of every C library and the runtime's own (Go) start"},
	{"rt_sigprocmask", "the runtime's threads block signals while they start the workload"},
	{"sigaltstack", "the runtime's own threads"},
	{"restart_syscall", "the kernel itself continues interrupted sleeps with it"},
	{"futex", "every lock; the runtime's threads wait with it"},
	{"brk", "first memory of the loader"},
	{"mmap", "the loader maps the program and its libraries"},
	{"mprotect", "the loader makes relocated pages read-only"},
	{"munmap", "the loader unmaps its cache"},
	{"madvise", "memory allocators and the runtime give pages back"},
	{"arch_prctl", "thread pointer of amd64"},
	{"set_tid_address", "start of every C library"},
	{"set_robust_list", "start of every C library"},
	{"rseq", "start of every C library"},
	{"prlimit64", "start of every C library: the stack's size"},
	{"getrandom", "start of every C library: hash seeds"},
	{"read", "the loader reads libraries; the runtime waits on its pipe"},
	{"pread64", "the loader reads program headers"},
	{"write", "the runtime reports a failed start through its pipe"},
	{"close", "the runtime closes its descriptors"},
	{"close_range", "newer runtimes close descriptors with it"},
	{"openat", "the loader opens libraries; the runtime opens its start FIFO"},
	{"fstat", "the loader"},
	{"newfstatat", "the loader"},
	{"faccessat", "the loader looks for ld.so.preload; the runtime checks the program"},
	{"faccessat2", "the same, newer"},
	{"access", "the same, on amd64"},
	{"fcntl", "the runtime sets close-on-exec"},
	{"getdents64", "the runtime lists its descriptors"},
	{"fstatfs", "the runtime checks that /proc is procfs"},
	{"statx", "runtimes from runc 1.4 on check that nothing is mounted over /proc/self"},
	{"openat2", "the same: they open below /proc without following links"},
	{"readlinkat", "the same"},
	{"chdir", "the working directory, set behind the filter when no_new_privs is off"},
	{"getcwd", "the runtime checks the working directory"},
	{"prctl", "the runtime sets capabilities and the parent's death signal"},
	{"capget", "the runtime drops capabilities behind the filter when no_new_privs is off"},
	{"capset", "the same"},
	{"setuid", "the workload's user, set behind the filter when no_new_privs is off"},
	{"setgid", "the same"},
	{"setgroups", "the same"},
	{"getpid", "the runtime checks its parent"},
	{"getppid", "the runtime checks that its parent still lives"},
	{"gettid", "the runtime's threads"},
	{"tgkill", "the runtime (Go) preempts its threads"},
	{"clone", "the runtime (Go) may need one more thread until it starts the workload"},
	{"clone3", "the same, with newer C libraries"},
	{"nanosleep", "the runtime's threads"},
	{"sched_yield", "the runtime's threads"},
	{"sched_getaffinity", "the runtime's start"},
	{"epoll_create1", "the runtime's network poller, for its start FIFO"},
	{"epoll_ctl", "the same"},
	{"epoll_pwait", "the same"},
	{"eventfd2", "the same, to wake it"},
	{"pipe2", "the same, older"},
}

// Seccomp writes the system calls of a profile as a seccomp profile for Docker, containerd
// and Kubernetes: EPERM for all that neither the profile nor [Needs] names. Sockets are
// allowed by address family. Names that one architecture lacks are left out there by the
// runtime; 32-bit and x32 entries are refused, as no sub-architecture is named.
func Seccomp(p bulkhead.Profile) ([]byte, error) {
	names := map[string]bool{}
	for _, need := range Needs() {
		names[need.Name] = true
	}
	for _, name := range p.Syscalls {
		if err := checkSyscall(name); err != nil {
			return nil, fmt.Errorf("write seccomp profile of %s: %w", p.Workload, err)
		}
		names[name] = true
	}
	socket := names["socket"]
	delete(names, "socket")
	out := seccompFile{DefaultAction: "SCMP_ACT_ERRNO", DefaultErrnoRet: errnoPermission, ArchMap: archMap()}
	out.Syscalls = []seccompRule{{Names: slices.Sorted(maps.Keys(names)), Action: allow}}
	if socket {
		rules, err := socketRules(p)
		if err != nil {
			return nil, err
		}
		out.Syscalls = append(out.Syscalls, rules...)
	}
	text, err := json.MarshalIndent(out, "", "  ")
	return append(text, '\n'), err
}

// socketRules allows socket() for each family of the profile.
func socketRules(p bulkhead.Profile) ([]seccompRule, error) {
	var rules []seccompRule
	for _, family := range sorted(p.Sockets) {
		n, ok := familyNumber(family)
		if !ok {
			return nil, fmt.Errorf("write seccomp profile of %s: %w", p.Workload, checkFamily(family))
		}
		rules = append(rules, seccompRule{
			Names: []string{"socket"}, Action: allow, Comment: "AF_" + family,
			Args: []seccompArg{{Index: 0, Value: uint64(n), Op: "SCMP_CMP_EQ"}},
		})
	}
	return rules, nil
}

const (
	allow           = "SCMP_ACT_ALLOW"
	errnoPermission = 1 // EPERM: an application takes it for a refusal, ENOSYS would be taken for an old kernel
)

// seccompFile is Docker's form of the OCI one: archMap in place of architectures.
type seccompFile struct {
	DefaultAction   string        `json:"defaultAction"`
	DefaultErrnoRet uint          `json:"defaultErrnoRet"`
	ArchMap         []seccompArch `json:"archMap"`
	Syscalls        []seccompRule `json:"syscalls"`
}

type seccompArch struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures"`
}

type seccompRule struct {
	Names   []string     `json:"names"`
	Action  string       `json:"action"`
	Args    []seccompArg `json:"args,omitempty"`
	Comment string       `json:"comment,omitempty"`
}

type seccompArg struct {
	Index uint   `json:"index"`
	Value uint64 `json:"value"`
	Op    string `json:"op"`
}

func archMap() []seccompArch {
	return []seccompArch{{"SCMP_ARCH_X86_64", []string{}}, {"SCMP_ARCH_AARCH64", []string{}}}
}

// familyNumber returns the number of an address family (AF_…), the same on every architecture.
func familyNumber(name string) (int, bool) {
	for _, f := range families {
		if f.name == name {
			return f.number, true
		}
	}
	return 0, false
}

// FamilyName returns the name of an address family as profiles write it, empty when unknown.
func FamilyName(number int) string {
	for _, f := range families {
		if f.number == number {
			return f.name
		}
	}
	return ""
}

// FamilyNumber is the reverse of [FamilyName].
func FamilyNumber(name string) (int, bool) { return familyNumber(name) }

var families = [...]struct {
	name   string
	number int
}{
	{"unix", 1},
	{"inet", 2},
	{"ax25", 3},
	{"ipx", 4},
	{"appletalk", 5},
	{"netrom", 6},
	{"bridge", 7},
	{"atmpvc", 8},
	{"x25", 9},
	{"inet6", 10},
	{"rose", 11},
	{"decnet", 12},
	{"netbeui", 13},
	{"security", 14},
	{"key", 15},
	{"netlink", 16},
	{"packet", 17},
	{"ash", 18},
	{"econet", 19},
	{"atmsvc", 20},
	{"rds", 21},
	{"sna", 22},
	{"irda", 23},
	{"pppox", 24},
	{"wanpipe", 25},
	{"llc", 26},
	{"ib", 27},
	{"mpls", 28},
	{"can", 29},
	{"tipc", 30},
	{"bluetooth", 31},
	{"iucv", 32},
	{"rxrpc", 33},
	{"isdn", 34},
	{"phonet", 35},
	{"ieee802154", 36},
	{"caif", 37},
	{"alg", 38},
	{"nfc", 39},
	{"vsock", 40},
	{"kcm", 41},
	{"qipcrtr", 42},
	{"smc", 43},
	{"xdp", 44},
	{"mctp", 45},
}
