package profile

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/profile/syscalls"
)

const (
	socketPrefix   = "socket:"   // an address family, approved in the section of system calls
	workloadPrefix = "workload:" // a peer by its workload's name
)

// Apply widens a profile by one approval. It returns p itself when p allows it already;
// else Revisions is one more and p's lists are left alone: the result has its own.
func Apply(p bulkhead.Profile, a bulkhead.Approval) (bulkhead.Profile, error) {
	if a.Workload != "" && a.Workload != p.Workload {
		return p, fmt.Errorf("approve %s %q: it is for workload %q, this profile is of %q", a.Section, a.Value, a.Workload, p.Workload)
	}
	next := Tidy(p)
	before := entries(next)
	if err := widen(&next, a); err != nil {
		return p, fmt.Errorf("approve %s %q: %w", a.Section, a.Value, err)
	}
	next = Tidy(next)
	if same(before, entries(next)) {
		return p, nil
	}
	next.Revisions++
	return next, nil
}

func same(a, b map[entry]string) bool {
	if len(a) != len(b) {
		return false
	}
	for e, mark := range a {
		if other, ok := b[e]; !ok || other != mark {
			return false
		}
	}
	return true
}

func widen(p *bulkhead.Profile, a bulkhead.Approval) error {
	switch a.Section {
	case bulkhead.SectionExecutables:
		return addExecutable(p, a.Value)
	case bulkhead.SectionScripts:
		s, err := parseScript(a.Value)
		p.Scripts = append(p.Scripts, s)
		return err
	case bulkhead.SectionSyscalls:
		return addSyscall(p, a.Value)
	case bulkhead.SectionWrites:
		p.Writes = append(p.Writes, a.Value)
		return CheckPattern(a.Value)
	case bulkhead.SectionReads:
		p.Reads = append(p.Reads, a.Value)
		return CheckPattern(a.Value)
	case bulkhead.SectionCapabilities:
		p.Capabilities = append(p.Capabilities, a.Value)
		return checkCapability(a.Value)
	case bulkhead.SectionListens:
		port, err := ParsePort(a.Value)
		p.Listens = append(p.Listens, port)
		return err
	case bulkhead.SectionPeers:
		q, err := ParsePeer(a.Value)
		p.Peers = append(p.Peers, q)
		return err
	case bulkhead.SectionMemory:
		p.Anonymous = append(p.Anonymous, a.Value)
		return checkMemory(a.Value)
	}
	return fmt.Errorf("there is no such section; use one of %s", sectionNames())
}

func sectionNames() string {
	return strings.Join(convert(Sections(), func(s bulkhead.Section) string { return string(s) }), ", ")
}

// addExecutable approves "path" or "path#applet". A known program keeps what is known of
// it; a new one has no digest until the node has seen it.
func addExecutable(p *bulkhead.Profile, value string) error {
	path, applet, hasApplet := strings.Cut(value, "#")
	if err := checkProgram(path); err != nil {
		return err
	}
	if hasApplet {
		if err := checkApplet(applet); err != nil {
			return err
		}
	}
	found := false
	for i := range p.Executables {
		e := &p.Executables[i]
		if e.Path != path {
			continue
		}
		found = true
		allowed := len(e.Applets) == 0 || hasApplet && slices.Contains(e.Applets, applet)
		e.Approved = e.Approved || e.Foreign
		switch {
		case !hasApplet:
			e.Applets = nil // whatever it is called by
		case !allowed:
			e.Applets = append(slices.Clone(e.Applets), applet)
		}
	}
	if !found {
		e := bulkhead.Executable{Path: path, Approved: true}
		if hasApplet {
			e.Applets = []string{applet}
		}
		p.Executables = append(p.Executables, e)
	}
	return nil
}

func checkProgram(path string) error {
	if !clean(path) || !printable(path) {
		return errors.New("an executable is an absolute path without . or .. parts, like /usr/bin/convert or /bin/busybox#sh")
	}
	return nil
}

func checkApplet(applet string) error {
	if applet == "" || len(applet) > maxName || strings.Contains(applet, "/") || !printable(applet) {
		return errors.New("what follows # is an applet's name, like /bin/busybox#sh")
	}
	return nil
}

// parseScript reads "path" (for any interpreter) or "path#interpreter".
func parseScript(value string) (bulkhead.Script, error) {
	path, interpreter, has := strings.Cut(value, "#")
	if err := CheckPattern(path); err != nil {
		return bulkhead.Script{}, err
	}
	if has && (!clean(interpreter) || !printable(interpreter)) {
		return bulkhead.Script{}, errors.New("what follows # is the interpreter's absolute path, like /app/run.py#/usr/bin/python3")
	}
	return bulkhead.Script{Path: path, Interpreter: interpreter, Foreign: true}, nil // the image's own were never in question
}

func addSyscall(p *bulkhead.Profile, value string) error {
	if family, ok := strings.CutPrefix(value, socketPrefix); ok {
		p.Sockets = append(p.Sockets, family)
		return checkFamily(family)
	}
	p.Syscalls = append(p.Syscalls, value)
	return checkSyscall(value)
}

func known(name string) bool { return syscalls.Known(name) }

func checkSyscall(name string) error {
	if !known(name) {
		return fmt.Errorf("%q is not a system call of amd64 or arm64; use the kernel's name, like openat", name)
	}
	return nil
}

func checkFamily(family string) error {
	if _, ok := familyNumber(family); !ok {
		return fmt.Errorf("%q is not an address family; use a name like unix, inet, inet6, netlink, packet", family)
	}
	return nil
}

func checkMemory(value string) error {
	if value != AnyExecutable && checkProgram(value) != nil {
		return fmt.Errorf("write the executable that makes code in memory, like /usr/bin/node, or %q for every one of the workload", AnyExecutable)
	}
	return nil
}

// AnyExecutable in a profile's Anonymous list stands for every executable of the workload.
const AnyExecutable = "anonymous"

// ParsePort reads "tcp/443"; port 0 is any of the ephemeral range.
func ParsePort(value string) (bulkhead.Port, error) {
	protocol, text, _ := strings.Cut(value, "/")
	port, err := parsePort(text)
	if err != nil || protocol != "tcp" && protocol != "udp" {
		return bulkhead.Port{}, errors.New("a port is tcp/NUMBER or udp/NUMBER with 0 to 65535, like tcp/443")
	}
	return bulkhead.Port{Protocol: protocol, Port: port}, nil
}

func parsePort(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err
}

// ParsePeer reads "tcp 10.0.0.0/8 443", "udp 10.0.0.53 53" or "tcp workload:docker/db 5432";
// port 0 is any.
func ParsePeer(value string) (bulkhead.Peer, error) {
	words := strings.Fields(value)
	if len(words) != 3 {
		return bulkhead.Peer{}, errPeer
	}
	q := bulkhead.Peer{Protocol: words[0]}
	port, err := parsePort(words[2])
	if err != nil || !protocolKnown(q.Protocol) {
		return bulkhead.Peer{}, errPeer
	}
	q.Port = port
	if name, ok := strings.CutPrefix(words[1], workloadPrefix); ok {
		q.Workload = name
		return q, checkPeer(q)
	}
	q.CIDR, err = parseNetwork(words[1])
	return q, err
}

var errPeer = errors.New("a peer is PROTOCOL ADDRESS PORT, like tcp 10.0.0.0/8 443, udp 10.0.0.53 53 or tcp workload:docker/db 5432")

// parseNetwork reads an address or a network and writes it as a network.
func parseNetwork(text string) (string, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		return single(address.Unmap()), nil
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return "", fmt.Errorf("%q is not an address or network; write 10.0.0.7, 10.0.0.0/8 or 2001:db8::/64", text)
	}
	if network.Masked() != network {
		return "", fmt.Errorf("network %s has bits beyond its length; write %s", text, network.Masked())
	}
	return network.String(), nil
}

func checkPeer(q bulkhead.Peer) error {
	switch {
	case !protocolKnown(q.Protocol):
		return fmt.Errorf("%q is not a protocol; use tcp, udp, icmp or raw", q.Protocol)
	case q.Port < 0 || q.Port > 65535:
		return fmt.Errorf("port %d is not within 0 to 65535", q.Port)
	case (q.CIDR == "") == (q.Workload == ""):
		return errors.New("a peer has either a cidr or a workload")
	case q.Workload != "":
		if len(q.Workload) > maxName || !printable(q.Workload) || strings.ContainsAny(q.Workload, " \t") {
			return fmt.Errorf("%q is not a workload's name", q.Workload)
		}
		return nil
	}
	text, err := parseNetwork(q.CIDR)
	if err == nil && text != q.CIDR {
		err = fmt.Errorf("write the network as %s", text)
	}
	return err
}

// checkCapability knows the kernel's capabilities.
func checkCapability(name string) error {
	if !slices.Contains(capabilities[:], name) {
		return fmt.Errorf("%q is not a capability; use the kernel's name, like CAP_NET_RAW", name)
	}
	return nil
}

// Capabilities are the kernel's names of all that there are, in the order of their numbers.
func Capabilities() []string { return slices.Clone(capabilities[:]) }

// capabilities in the order of their numbers.
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}
