package keeper

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("KEEPER_TEST_ROLE"); role != "" {
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// roles are what this test binary does when it is started as a helper.
var roles = map[string]func(){}

func number(t *testing.T, name string) int32 {
	t.Helper()
	n, ok := seccomp.Number("amd64", name)
	if !ok {
		t.Fatal(name)
	}
	return int32(n)
}

func TestDecide(t *testing.T) {
	const x64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	base := Ward{Enforcing: true, Policy: Policy{Syscalls: []string{"read", "socket"}, Sockets: []string{"inet"}}}
	with := func(change func(*Ward)) Ward { w := base; change(&w); return w }
	for _, test := range []struct {
		name    string
		ward    Ward
		data    seccomp.Data
		run     bool
		verdict Verdict
	}{
		{"in the policy", base, seccomp.Data{Number: number(t, "read"), Arch: x64}, true, ""},
		{"outside", base, seccomp.Data{Number: number(t, "mkdir"), Arch: x64}, false, Denied},
		{"always", base, seccomp.Data{Number: number(t, "exit_group"), Arch: x64}, true, ""},
		{"io_uring", base, seccomp.Data{Number: number(t, "io_uring_setup"), Arch: x64}, false, Denied},
		{"family in the policy", base, seccomp.Data{Number: number(t, "socket"), Arch: x64, Args: [6]uint64{unix.AF_INET}}, true, ""},
		{"family with dirt above", base, seccomp.Data{Number: number(t, "socket"), Arch: x64, Args: [6]uint64{9<<32 | unix.AF_INET}}, true, ""},
		{"family outside", base, seccomp.Data{Number: number(t, "socket"), Arch: x64, Args: [6]uint64{unix.AF_PACKET}}, false, Denied},
		{"32-bit entry", base, seccomp.Data{Number: number(t, "read"), Arch: i386}, false, Denied},
		{"x32 entry", base, seccomp.Data{Number: number(t, "read") | 0x40000000, Arch: x64}, false, Denied},
		{"widened", with(func(w *Ward) { w.Syscalls = []string{"mkdir"} }), seccomp.Data{Number: number(t, "mkdir"), Arch: x64}, true, ""},
		{"family widened", with(func(w *Ward) { w.Sockets = []string{"packet"} }), seccomp.Data{Number: number(t, "socket"), Arch: x64, Args: [6]uint64{unix.AF_PACKET}}, true, ""},
		{"any family", with(func(w *Ward) { w.Sockets = []string{"*"} }), seccomp.Data{Number: number(t, "socket"), Arch: x64, Args: [6]uint64{40}}, true, ""},
		{"monitor", with(func(w *Ward) { w.Enforcing = false }), seccomp.Data{Number: number(t, "mkdir"), Arch: x64}, true, WouldDeny},
		{"monitor, 32-bit", with(func(w *Ward) { w.Enforcing = false }), seccomp.Data{Number: number(t, "read"), Arch: i386}, true, WouldDeny},
		{"kill", with(func(w *Ward) { w.Policy.Kill = true }), seccomp.Data{Number: number(t, "mkdir"), Arch: x64}, false, Killed},
	} {
		if run, verdict := newRules(test.ward).decide(test.data); run != test.run || verdict != test.verdict {
			t.Errorf("%s: %v %q, want %v %q", test.name, run, verdict, test.run, test.verdict)
		}
	}
}

func TestDenialsFoldAndStayBounded(t *testing.T) {
	d := newDenials()
	pid := func() int { return 7 }
	call := func(tid uint32) *seccomp.Notification {
		return &seccomp.Notification{TID: tid, Data: seccomp.Data{Number: number(t, "mkdir"), Arch: unix.AUDIT_ARCH_X86_64}}
	}
	for range 5 {
		d.add(1, call(9), Denied, pid)
	}
	want := []Denial{{CgroupID: 1, PID: 7, TID: 9, Number: uint32(number(t, "mkdir")), Syscall: "mkdir", Verdict: Denied, Count: 5}}
	if diff := cmp.Diff(want, d.take(10)); diff != "" {
		t.Error(diff)
	}
	for tid := range uint32(maxDenials + 10) {
		d.add(1, call(tid), Denied, pid)
	}
	first := d.take(100)
	if len(first) != 100 || first[0].Dropped != 10 {
		t.Errorf("%d denials, %d dropped", len(first), first[0].Dropped)
	}
	d.put(first)
	if n := len(d.take(2 * maxDenials)); n != maxDenials {
		t.Errorf("%d denials after putting some back, want %d", n, maxDenials)
	}
}

func TestMessageFits(t *testing.T) {
	w := Ward{Policy: Policy{}}
	for n := range uint32(600) {
		w.Policy.Syscalls = append(w.Policy.Syscalls, seccomp.Name("", n))
	}
	text, err := json.Marshal(message{Kind: kindWard, Ward: &w})
	if err != nil || len(text) > maxMessage/8 {
		t.Errorf("%d bytes %v", len(text), err)
	}
	full := make([]Denial, 256)
	for i := range full {
		full[i] = Denial{Syscall: "a_rather_long_system_call_name", Args: [6]uint64{1 << 63, 1 << 63, 1 << 63, 1 << 63, 1 << 63, 1 << 63}, CgroupID: 1 << 63, Count: 1 << 63}
	}
	if text, err = json.Marshal(message{Kind: kindDenials, Denials: full}); err != nil || len(text) > maxMessage {
		t.Errorf("%d bytes %v", len(text), err)
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"kind":"ward","ward":{"cgroupId":1}}`))
	f.Fuzz(func(t *testing.T, text []byte) { parseMessage(text) })
}
