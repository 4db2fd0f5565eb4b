package enforce

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/profile"
	"bulkhead/profile/syscalls"
)

// compiled is a profile as the kernel takes it.
type compiled struct {
	entries   []bpf.Entry
	peers     []bpf.PeerEntry
	filter    []string  // system calls of the seccomp filter
	allowed   [8]uint64 // the same, and those with which a filter comes into a process
	anonymous bool
}

// compile lowers a profile. addresses says where the containers of a workload are now.
func compile(h bpf.Hasher, p bulkhead.Profile, addresses func(workload string) []netip.Addr) compiled {
	var c compiled
	c.executables(h, p)
	c.scripts(h, p)
	c.patterns(bpf.PolicyWrite, lower(h, p.Writes))
	c.patterns(bpf.PolicyRead, lower(h, p.Reads))
	c.network(p, addresses)
	c.filter = slices.Clone(p.Syscalls)
	for _, need := range profile.Needs() {
		c.filter = append(c.filter, need.Name)
	}
	c.calls()
	c.merge()
	return c
}

// merge makes one entry of those with the same key: the kernel keeps one.
func (c *compiled) merge() {
	type key struct {
		kind bpf.PolicyKind
		hash uint64
	}
	at := map[key]int{}
	list := c.entries[:0]
	for _, e := range c.entries {
		if i, ok := at[key{e.Kind, e.Hash}]; ok {
			list[i].Flags |= e.Flags
			continue
		}
		at[key{e.Kind, e.Hash}] = len(list)
		list = append(list, e)
	}
	c.entries = list
}

func (c *compiled) add(kind bpf.PolicyKind, hash uint64, flags uint32) {
	c.entries = append(c.entries, bpf.Entry{Kind: kind, Hash: hash, Flags: flags})
}

func (c *compiled) executables(h bpf.Hasher, p bulkhead.Profile) {
	c.anonymous = len(p.Anonymous) > 0
	for _, x := range p.Executables {
		if x.Foreign && !x.Approved {
			continue
		}
		flags := uint32(0)
		set := func(on bool, flag uint32) {
			if on {
				flags |= flag
			}
		}
		set(x.Interpreter, bpf.EntryInterpreter)
		set(x.Foreign, bpf.EntryForeign)
		set(len(x.Applets) > 0, bpf.EntryMultiCall)
		set(slices.Contains(p.Anonymous, x.Path) || slices.Contains(p.Anonymous, profile.AnyExecutable), bpf.EntryAnonymous)
		c.add(bpf.PolicyExec, h.Path(x.Path), flags)
		for _, applet := range x.Applets {
			c.add(bpf.PolicyApplet, h.Applet(x.Path, applet), interpreterFlag(applet))
		}
	}
}

// interpreterFlag tells a multi-call program's shells from its tools.
func interpreterFlag(applet string) uint32 {
	if profile.Interpreter(applet) {
		return bpf.EntryInterpreter
	}
	return 0
}

// maxSuffix is how long a suffix the kernel looks at. It allows any name where a longer one is asked for.
const maxSuffix = 15

// scripts lowers scripts: only those whose bytes were foreign when they were learned, or that a person approved, may
// have other bytes than the image's.
func (c *compiled) scripts(h bpf.Hasher, p bulkhead.Profile) {
	var own, foreign []string
	for _, s := range p.Scripts {
		if s.Foreign {
			foreign = append(foreign, s.Path)
		} else {
			own = append(own, s.Path)
		}
	}
	flags := lower(h, own)
	for hash, f := range lower(h, foreign) {
		flags[hash] |= f | bpf.EntryForeign
	}
	c.patterns(bpf.PolicyScript, flags)
}

func (c *compiled) patterns(kind bpf.PolicyKind, flags map[uint64]uint32) {
	for hash, f := range flags {
		c.add(kind, hash, f)
	}
}

// lower turns patterns into directories, by their hashes, with what is allowed in each. What the kernel does not look
// at (a fixed stem, a fixed name below a star) makes it allow more than the pattern, never less.
func lower(h bpf.Hasher, patterns []string) map[uint64]uint32 {
	flags := map[uint64]uint32{}
	for _, p := range profile.Compile(patterns) {
		reach := bpf.EntryChild
		if p.Exact {
			reach = bpf.EntryExact
		} else if p.Deep {
			reach = bpf.EntryDeep | bpf.EntryChild
		}
		if p.Suffix == "" || len(p.Suffix) > maxSuffix {
			flags[h.Path(p.Dir)] |= reach
			continue
		}
		flags[h.Path(p.Dir)] |= bpf.EntrySuffix
		flags[h.Suffix(p.Dir, p.Suffix)] |= reach
	}
	return flags
}

var protocolNumbers = map[string]uint8{"tcp": 6, "udp": 17}

func (c *compiled) network(p bulkhead.Profile, addresses func(string) []netip.Addr) {
	for _, l := range p.Listens {
		c.add(bpf.PolicyListen, uint64(protocolNumbers[l.Protocol])<<16|uint64(l.Port), 0)
		if l.Port != 0 || callsItself(p, l.Protocol) {
			c.itself(l)
		}
	}
	if slices.Contains(p.Capabilities, "CAP_NET_RAW") {
		for protocol := range 256 {
			c.add(bpf.PolicySocket, 3<<8|uint64(protocol), 0)
		}
	}
	for _, peer := range p.Peers {
		for _, r := range ranges(peer, addresses) {
			c.peers = append(c.peers, bpf.PeerEntry{Protocol: protocolNumbers[peer.Protocol], Port: uint16(peer.Port), Range: r})
		}
	}
}

// ownAddresses are those under which a container finds itself.
var ownAddresses = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("::/128"),
}

// callsItself: where the kernel chooses the port that a workload listens on, the next call of itself goes to another
// port than the one that was learned.
func callsItself(p bulkhead.Profile, protocol string) bool {
	return slices.ContainsFunc(p.Peers, func(q bulkhead.Peer) bool {
		r, err := netip.ParsePrefix(q.CIDR)
		return err == nil && q.Protocol == protocol && r.Addr().IsLoopback() && (q.Port == 0 || q.Port >= firstChosen)
	})
}

// firstChosen is the first port that Linux gives to who asks for any (net.ipv4.ip_local_port_range).
const firstChosen = 32768

// itself lets a container talk to a port of its own (0: any): a server wakes its idle workers that way, which a learner
// seldom sees.
func (c *compiled) itself(l bulkhead.Port) {
	for _, r := range ownAddresses {
		c.peers = append(c.peers, bpf.PeerEntry{Protocol: protocolNumbers[l.Protocol], Port: uint16(l.Port), Range: r})
	}
}

func ranges(p bulkhead.Peer, addresses func(string) []netip.Addr) []netip.Prefix {
	if p.Workload == "" {
		r, err := netip.ParsePrefix(p.CIDR)
		if err != nil {
			return nil
		}
		return []netip.Prefix{r}
	}
	var list []netip.Prefix
	for _, a := range addresses(p.Workload) {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}

// calls fills the set that the kernel's net under seccomp lets pass: the profile's, what every process needs,
// and what the injection of a filter does in the process itself.
func (c *compiled) calls() {
	for _, name := range c.filter {
		c.allow(name)
	}
	for _, name := range []string{"seccomp", "prctl", "mmap", "munmap", "close", "restart_syscall", "rt_sigreturn", "exit", "exit_group"} {
		c.allow(name)
	}
}

func (c *compiled) allow(name string) {
	if nr, ok := syscalls.Number(runtime.GOARCH, name); ok && nr >= 0 && nr < 512 {
		c.allowed[nr>>6] |= 1 << (nr & 63)
	}
}

// syscallNames lists the bits of a set.
func syscallNames(set [8]uint64) []string {
	var names []string
	for nr := range 512 {
		if set[nr>>6]>>(nr&63)&1 == 1 {
			if name := syscalls.Name(runtime.GOARCH, nr); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
	NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
	SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
	WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

func capabilities(set uint64) []string {
	var names []string
	for i, name := range capabilityNames {
		if set>>i&1 == 1 {
			names = append(names, "CAP_"+name)
		}
	}
	return names
}

func families(set uint64) []string {
	var names []string
	for i := range 64 {
		if set>>i&1 == 1 {
			if name := profile.FamilyName(i); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

func describe(c bulkhead.Container) string {
	return fmt.Sprintf("container %.12s (%s)", c.ID, c.Workload.Name)
}
