package enforce

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/profile"
)

const hasher = bpf.Hasher(0x123456789)

func nowhere(string) []netip.Addr { return nil }

// policy is what the kernel has of a profile.
type policy map[bpf.PolicyKind]map[uint64]uint32

func policyOf(t interface{ Fatalf(string, ...any) }, k compiled) policy {
	p := policy{}
	for _, e := range k.entries {
		if p[e.Kind] == nil {
			p[e.Kind] = map[uint64]uint32{}
		}
		if _, twice := p[e.Kind][e.Hash]; twice {
			t.Fatalf("two entries of kind %d with one hash: the kernel keeps one", e.Kind)
		}
		p[e.Kind][e.Hash] = e.Flags
	}
	return p
}

// allows decides as match_chain in bpf/c/path.h does.
func (p policy) allows(kind bpf.PolicyKind, path string) bool {
	parts := strings.Split(path[1:], "/")
	suffix := kernelSuffix(parts[len(parts)-1])
	for i := range parts {
		dir := "/" + strings.Join(parts[:i+1], "/")
		want := bpf.EntryDeep
		switch len(parts) - 1 - i {
		case 0:
			want = bpf.EntryExact
		case 1:
			want = bpf.EntryChild | bpf.EntryDeep
		}
		flags := p[kind][hasher.Path(dir)]
		if flags&want != 0 {
			return true
		}
		if i == len(parts)-1 || flags&bpf.EntrySuffix == 0 || suffix == "" {
			continue
		}
		if p[kind][hasher.Suffix(dir, suffix)]&want != 0 {
			return true
		}
	}
	return false
}

// kernelSuffix looks at the last 16 bytes of a name.
func kernelSuffix(name string) string {
	tail := name[max(0, len(name)-16):]
	if dot := strings.LastIndexByte(tail, '.'); dot >= 0 {
		return tail[dot+1:]
	}
	return ""
}

func aPath(t *rapid.T, label string) string {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"var", "lib", "tmp", "etc", "usr", "log", "srv", "app", "cache"}),
		rapid.StringMatching(`[a-c]{1,2}[0-9]{0,3}(\.(log|php|so|txt|tar\.gz))?`),
		rapid.StringMatching(`[a-z]{1,3}\.[a-z]{14,18}`),
		rapid.StringMatching(`[.*\\A-Za-z0-9 _-]{1,8}`),
	).Filter(func(s string) bool { return s != "." && s != ".." })
	return "/" + strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, label), "/")
}

// aPattern opens some of a path's last parts.
func aPattern(t *rapid.T, path string) string {
	parts := strings.Split(profile.Quote(path)[1:], "/")
	for i := 1; i < len(parts); i++ {
		last := i == len(parts)-1
		switch rapid.IntRange(0, 5).Draw(t, "how") {
		case 0:
			parts[i] = "*"
		case 1:
			if dot := strings.LastIndexByte(parts[i], '.'); dot > 0 {
				parts[i] = "*" + parts[i][dot:]
			}
		case 2:
			if last {
				parts[i] = "**"
			}
		case 3:
			if dot := strings.LastIndexByte(parts[i], '.'); last && dot > 0 {
				parts[i] = "**" + parts[i][dot:]
			}
		}
	}
	return "/" + strings.Join(parts, "/")
}

// TestKernelAllowsWhatTheProfileAllows: for writes, reads and scripts, alone and many together.
func TestKernelAllowsWhatTheProfileAllows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var patterns, paths []string
		for range rapid.IntRange(1, 8).Draw(t, "n") {
			path := aPath(t, "path")
			paths = append(paths, path, aPath(t, "another"))
			patterns = append(patterns, aPattern(t, path))
		}
		p := bulkhead.Profile{Writes: patterns, Reads: patterns}
		for _, pattern := range patterns {
			p.Scripts = append(p.Scripts, bulkhead.Script{Path: pattern, Interpreter: "/bin/sh"})
		}
		kernel := policyOf(t, compile(hasher, p, nowhere))
		for _, path := range paths {
			for _, pattern := range patterns {
				if !profile.Match(pattern, path) {
					continue
				}
				for _, kind := range []bpf.PolicyKind{bpf.PolicyWrite, bpf.PolicyRead, bpf.PolicyScript} {
					if !kernel.allows(kind, path) {
						t.Fatalf("kind %d: pattern %q stands for %q, the kernel would block it", kind, pattern, path)
					}
				}
			}
		}
	})
}

func TestPatternsInTheKernel(t *testing.T) {
	kernel := policyOf(t, compile(hasher, bulkhead.Profile{
		Writes:  []string{"/var/log/*.log", "/var/log/app/**", "/run/app.pid", "/data/*", "/x/**.db"},
		Scripts: []bulkhead.Script{{Path: "/srv/*.py"}, {Path: "/srv/*.sh"}, {Path: "/srv"}},
	}, nowhere))
	for path, want := range map[string]bool{
		"/var/log/a.log": true, "/var/log/a.txt": false, "/var/log/b/a.log": false, "/var/log/app/x/y": true, "/var/log/app": false, "/run/app.pid": true,
		"/run/app.pid2": false, "/run/app.pid/x": false, "/data/a": true, "/data/a/b": false, "/data": false, "/x/a.db": true, "/x/a/b.db": true, "/x/a/b": false,
		"/etc/passwd": false, "/var": false, "/var/log/.log": true,
	} {
		if got := kernel.allows(bpf.PolicyWrite, path); got != want {
			t.Errorf("write %s: %v", path, got)
		}
	}
	for path, want := range map[string]bool{"/srv/a.py": true, "/srv/a.sh": true, "/srv/a.rb": false, "/srv": true} {
		if got := kernel.allows(bpf.PolicyScript, path); got != want {
			t.Errorf("script %s: %v", path, got)
		}
	}
	if kernel.allows(bpf.PolicyRead, "/data/a") {
		t.Error("what may be written may be read")
	}
}

// TestChangedScripts: a learned script of the image runs with the image's bytes only.
func TestChangedScripts(t *testing.T) {
	kernel := policyOf(t, compile(hasher, bulkhead.Profile{Scripts: []bulkhead.Script{{Path: "/app/own.sh"}, {Path: "/app/made.sh", Foreign: true}}}, nowhere))
	for path, want := range map[string]bool{"/app/own.sh": false, "/app/made.sh": true} {
		if got := kernel[bpf.PolicyScript][hasher.Path(path)]&bpf.EntryForeign != 0; got != want {
			t.Errorf("%s with other bytes: %v", path, got)
		}
	}
}

func TestExecutablesInTheKernel(t *testing.T) {
	k := compile(hasher, bulkhead.Profile{
		Executables: []bulkhead.Executable{
			{Path: "/usr/sbin/nginx"},
			{Path: "/bin/busybox", Applets: []string{"ls", "cat"}},
			{Path: "/tmp/dropped", Foreign: true},
			{Path: "/tmp/approved", Foreign: true, Approved: true},
			{Path: "/usr/bin/python3", Interpreter: true},
			{Path: "/usr/bin/node"},
		},
		Anonymous: []string{"/usr/bin/node"},
	}, nowhere)
	got := policyOf(t, k)
	want := map[uint64]uint32{
		hasher.Path("/usr/sbin/nginx"): 0, hasher.Path("/bin/busybox"): bpf.EntryMultiCall, hasher.Path("/tmp/approved"): bpf.EntryForeign,
		hasher.Path("/usr/bin/python3"): bpf.EntryInterpreter, hasher.Path("/usr/bin/node"): bpf.EntryAnonymous,
	}
	if d := cmp.Diff(want, got[bpf.PolicyExec]); d != "" {
		t.Error(d)
	}
	applets := map[uint64]uint32{hasher.Applet("/bin/busybox", "ls"): 0, hasher.Applet("/bin/busybox", "cat"): 0}
	if d := cmp.Diff(applets, got[bpf.PolicyApplet]); d != "" {
		t.Error(d)
	}
	if !k.anonymous {
		t.Error("an executable makes anonymous memory executable")
	}
}

func TestNetworkInTheKernel(t *testing.T) {
	db := netip.MustParseAddr("10.0.0.7")
	k := compile(hasher, bulkhead.Profile{
		Listens: []bulkhead.Port{{Protocol: "tcp", Port: 80}, {Protocol: "udp", Port: 0}},
		Peers: []bulkhead.Peer{
			{Protocol: "tcp", Port: 443, CIDR: "10.1.0.0/16"},
			{Protocol: "udp", Port: 53, CIDR: "2001:db8::53/128"},
			{Protocol: "tcp", Port: 5432, Workload: "docker/db"},
			{Protocol: "tcp", Port: 1, CIDR: "nonsense"},
		},
	}, func(name string) []netip.Addr {
		if name == "docker/db" {
			return []netip.Addr{db}
		}
		return nil
	})
	var want []bpf.PeerEntry
	for _, r := range ownAddresses {
		want = append(want, bpf.PeerEntry{Protocol: 6, Port: 80, Range: r})
	}
	want = append(want, []bpf.PeerEntry{
		{Protocol: 6, Port: 443, Range: netip.MustParsePrefix("10.1.0.0/16")},
		{Protocol: 17, Port: 53, Range: netip.MustParsePrefix("2001:db8::53/128")},
		{Protocol: 6, Port: 5432, Range: netip.PrefixFrom(db, 32)},
	}...)
	if d := cmp.Diff(want, k.peers, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[uint64]uint32{6<<16 | 80: 0, 17 << 16: 0}, policyOf(t, k)[bpf.PolicyListen]); d != "" {
		t.Error(d)
	}
	if len(policyOf(t, k)[bpf.PolicySocket]) != 0 {
		t.Error("raw sockets without the capability")
	}
	raw := compile(hasher, bulkhead.Profile{Capabilities: []string{"CAP_NET_RAW"}}, nowhere)
	if len(policyOf(t, raw)[bpf.PolicySocket]) != 256 {
		t.Error("no raw sockets with the capability")
	}
}

func TestCallsInTheKernel(t *testing.T) {
	k := compile(hasher, bulkhead.Profile{Syscalls: []string{"ptrace", "nosuchcall"}}, nowhere)
	names := syscallNames(k.allowed)
	for _, need := range []string{"ptrace", "exit_group", "rt_sigreturn", "seccomp", "prctl", "close"} {
		if !slices.Contains(names, need) {
			t.Errorf("%s is not allowed", need)
		}
	}
	for _, never := range []string{"mount", "bpf", "init_module", "setns"} {
		if slices.Contains(names, never) {
			t.Errorf("%s is allowed", never)
		}
	}
	for _, need := range profile.Baseline {
		if !slices.Contains(k.filter, need.Name) {
			t.Errorf("%s is not in the filter", need.Name)
		}
	}
	if slices.Contains(k.filter, "seccomp") && !slices.ContainsFunc(profile.Baseline, func(n profile.Need) bool { return n.Name == "seccomp" }) {
		t.Error("the filter allows more filters")
	}
}

func TestFlagsOfModes(t *testing.T) {
	hold := uint32(bpf.HoldExec | bpf.HoldFiles | bpf.HoldNet)
	for mode, want := range map[bulkhead.Mode]uint32{
		bulkhead.Learn: bpf.Learn, bulkhead.Monitor: hold, bulkhead.Protect: hold | bpf.Enforce, "": bpf.Learn,
	} {
		if got := flagsOf(mode, compiled{}); got != want {
			t.Errorf("%s: %b, want %b", mode, got, want)
		}
		if got := flagsOf(mode, compiled{anonymous: true}); got != want|bpf.Anonymous {
			t.Errorf("%s with anonymous code: %b", mode, got)
		}
	}
	for _, mode := range []bulkhead.Mode{bulkhead.Learn, bulkhead.Monitor, bulkhead.Protect} { // what a later agent reads from the kernel
		if got := modeOf(flagsOf(mode, compiled{})); got != mode {
			t.Errorf("%s is read as %s", mode, got)
		}
	}
}

func TestNamesOfBits(t *testing.T) {
	if got := capabilities(1<<13 | 1<<21 | 1<<40 | 1<<63); !slices.Equal(got, []string{"CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"}) {
		t.Error(got)
	}
	if got := families(1<<1 | 1<<2 | 1<<10); !slices.Equal(got, []string{"unix", "inet", "inet6"}) {
		t.Error(got)
	}
	if got := syscallNames([8]uint64{0: 1, 7: 1 << 63}); len(got) != 1 {
		t.Error(got)
	}
}
