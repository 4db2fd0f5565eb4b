//go:build integration

package bpf

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// probe runs one act in a room of its own: "ok", the name of an error, or "killed".
func (h *hall) probe(t *testing.T, slot Slot, act ...string) string {
	t.Helper()
	return h.probeIn(t, "", slot, act...)
}

func (h *hall) probeIn(t *testing.T, parent string, slot Slot, act ...string) string {
	t.Helper()
	r := newRoom(t, h.image, parent, append([]string{"/bin/probe"}, act...)...)
	r.slot.Allowed = slot.Allowed
	h.enter(t, r, slot.Flags)
	defer h.leave(t, r)
	return outcome(r, r.run())
}

func outcome(r *room, said string) string {
	if status, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return "killed"
	}
	return said
}

// denied is what an act that is not allowed comes to.
func (h *hall) denied() string {
	if h.lsm {
		return "EPERM"
	}
	return "killed"
}

func (h *hall) files(t *testing.T) {
	k, hash := h.kernel, h.kernel.Hasher()
	check(t, k.PutPolicy(Global, []Entry{
		{PolicyRead, hash.Path("/etc/shadow"), EntryExact},
		{PolicyRead, hash.Path("/etc/deep"), EntryDeep | EntryChild},
		{PolicyName, hash.Name(PolicyRead, ".ssh"), EntryDeep},
		{PolicyWrite, hash.Path("/etc"), EntryDeep | EntryChild},
	}))
	defer k.DropPolicy(Global)
	const learned = 2
	check(t, k.PutPolicy(learned, append(profileEntries(hash),
		Entry{PolicyRead, hash.Path("/etc/shadow"), EntryExact},
		Entry{PolicyRead, hash.Path("/etc/deep"), EntryDeep | EntryChild},
		Entry{PolicyRead, hash.Path("/root"), EntryDeep},
		Entry{PolicyWrite, hash.Path("/etc/passwd"), EntryExact},
		Entry{PolicyWrite, hash.Path("/data/logs"), EntryChild},
		Entry{PolicyWrite, hash.Path("/data/app"), EntrySuffix},
		Entry{PolicyWrite, hash.Suffix("/data/app", "db"), EntryDeep},
	)))
	defer k.DropPolicy(learned)
	ordinary := "ok" // after the fact, an ordinary write is told of
	if h.lsm {
		ordinary = "EPERM"
	}
	foreign := "ok" // 32-bit calls are in no profile where tracepoints decide
	if !h.lsm {
		foreign = h.denied()
	}
	for _, c := range []struct {
		act, path          string
		outside, inProfile string
	}{
		{"read", "/etc/motd", "ok", "ok"},
		{"read", "/etc/shadow", h.denied(), "ok"},
		{"read32", "/etc/shadow", h.denied(), foreign},
		{"read", "/etc/../etc//shadow", h.denied(), "ok"},
		{"read", "/proc/self/root/etc/shadow", h.denied(), "ok"},
		{"read", "/etc/deep/er/key", h.denied(), "ok"},
		{"read", "/root/.ssh/id", h.denied(), "ok"},
		{"write", "/etc/passwd", h.denied(), "ok"},
		{"write", "/etc/new", h.denied(), h.denied()},
		{"write", "/data/logs/b.log", ordinary, "ok"},
		{"write", "/data/app/two.db", ordinary, "ok"},
		{"write", "/data/app/sub/one.db", ordinary, "ok"},
		{"write", "/data/app/sub/one.txt", ordinary, ordinary},
		{"write", "/dev/null", "ok", "ok"},
	} {
		t.Run(c.act+c.path, func(t *testing.T) {
			flags := Slot{Flags: HoldFiles | Enforce}
			h.profile = 1
			if got := h.probe(t, flags, c.act, c.path); got != c.outside && got != "none" {
				t.Errorf("outside the profile: %q, want %q", got, c.outside)
			}
			h.profile = learned
			defer func() { h.profile = 1 }()
			if got := h.probe(t, flags, c.act, c.path); got != c.inProfile && got != "none" {
				t.Errorf("in the profile: %q, want %q", got, c.inProfile)
			}
		})
	}
	t.Run("the next container in the slot", func(t *testing.T) {
		for range 2 { // equal events of two are not one
			if got := h.probe(t, Slot{Flags: HoldFiles}, "read", "/etc/deep/er/key"); got != "ok" {
				t.Fatalf("without Enforce: %q", got)
			}
			seen, err := k.Seen(roomSlot)
			check(t, err)
			if told := seen.Events + seen.Lost; seen.Folded > 0 || told == 0 { // nobody reads the ring here: it may be full
				t.Errorf("%d events told, %d folded away", told, seen.Folded)
			}
		}
	})
	t.Run("monitor", func(t *testing.T) {
		if got := h.probe(t, Slot{Flags: HoldFiles}, "read", "/etc/shadow"); got != "ok" {
			t.Errorf("without Enforce: %q", got)
		}
	})
}

func (h *hall) network(t *testing.T) {
	k := h.kernel
	check(t, k.PutPeers(1, []PeerEntry{
		{6, 80, netip.MustParsePrefix("127.0.0.1/32")},
		{17, 53, netip.MustParsePrefix("127.0.0.0/8")},
		{6, 80, netip.MustParsePrefix("::1/128")},
		{17, 53, netip.MustParsePrefix("::1/128")},
		{6, 0, netip.MustParsePrefix("127.9.0.0/16")},
	}))
	check(t, k.PutPolicy(1, []Entry{{PolicyListen, 6<<16 | 8080, 0}, {PolicyListen, 17<<16 | 8053, 0}, {PolicySocket, 3<<8 | 58, 0}}))
	for act, want := range map[string]string{
		"connect 127.0.0.1 80": "ok", "connect 127.0.0.1 81": "EPERM", "connect 127.0.0.2 80": "EPERM", "connect 127.9.1.1 7": "ok",
		"connect ::1 80": "ok", "connect ::1 81": "EPERM", "connect ::ffff:127.0.0.1 80": "ok", "connect ::ffff:127.0.0.1 81": "EPERM",
		"send 127.0.0.1 53": "ok", "send 127.0.0.1 54": "EPERM", "send ::1 53": "ok", "send ::1 54": "EPERM",
		"sendmsg 127.0.0.1 53": "ok", "sendmsg 127.0.0.1 54": "EPERM", "sendmsg ::1 54": "EPERM", "sendmsg ::ffff:127.0.0.1 54": "EPERM",
		"bind 127.0.0.1 8080": "ok", "bind 127.0.0.1 8081": "EPERM", "bind ::1 8080": "ok", "bind ::1 8081": "EPERM",
		"binddatagram 127.0.0.1 8053": "ok", "binddatagram 127.0.0.1 8080": "EPERM",
		"listen 127.0.0.1 8080": "ok", "listen ::1 8081": "EPERM", "listenunbound 127.0.0.1 0": "killed", "listenunbound ::1 0": "killed",
		"raw": "EPERM", "raw6": "ok",
	} {
		t.Run(strings.ReplaceAll(act, " ", "_"), func(t *testing.T) {
			if got := h.probe(t, Slot{Flags: HoldNet | Enforce}, strings.Fields(act)...); got != want {
				t.Errorf("enforced: %q, want %q", got, want)
			}
		})
	}
	t.Run("monitor", func(t *testing.T) {
		for _, act := range []string{"connect 127.0.0.1 81", "listenunbound 127.0.0.1 0", "raw"} {
			if got := h.probe(t, Slot{Flags: HoldNet}, strings.Fields(act)...); got != "ok" {
				t.Errorf("%s without Enforce: %q", act, got)
			}
		}
	})
}

// calls: what seccomp lets slip is killed by the tracepoint; 32-bit entries are no way round.
func (h *hall) calls(t *testing.T) {
	if h.lsm {
		return // there the filters alone hold system calls, and no tracepoint costs anything
	}
	var all Slot
	for i := range all.Allowed {
		all.Allowed[i] = ^uint64(0)
	}
	all.Flags = HoldCalls | Enforce
	without := func(nr int) Slot {
		s := all
		s.Allowed[nr>>6] &^= 1 << (nr & 63)
		return s
	}
	for _, c := range []struct {
		name string
		slot Slot
		act  string
		want []string
	}{
		{"allowed", all, "nothing", []string{"ok"}},
		{"sysinfo", without(99), "sysinfo", []string{"killed"}},
		{"io_uring", without(425), "uring", []string{"killed"}},
		{"int80", all, "getpid32", []string{"killed", "none"}},
		{"int80 mkdir", all, "mkdir32 /made", []string{"killed", "none"}},
		{"x32", all, "getpidx32", []string{"killed"}},
		{"told only", Slot{Flags: HoldCalls}, "sysinfo", []string{"ok"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := h.probe(t, c.slot, strings.Fields(c.act)...); !slices.Contains(c.want, got) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	t.Run("traced", func(t *testing.T) {
		s := without(101)
		r := newRoom(t, h.image, "", "/bin/attack", "traced", "20", "2")
		r.slot.Allowed = s.Allowed
		h.enter(t, r, s.Flags|HoldExec)
		defer h.leave(t, r)
		if said := r.run(); r.marks() != 0 {
			t.Errorf("code was written into another process %d times: %s", r.marks(), said)
		}
	})
}

// cgroups: what is made inside a container is that container, and moving between them changes nothing.
func (h *hall) cgroups(t *testing.T) {
	outer := newRoom(t, h.image, "", "/bin/probe", "nothing")
	h.enter(t, outer, 0)
	defer h.leave(t, outer)
	hold := func(r *room) { // only now: what makes a room is no program of its image
		outer.slot.RootDev, outer.slot.Flags = r.slot.RootDev, HoldExec|Enforce
		check(t, h.kernel.SetSlot(7, outer.slot))
	}
	release := func() {
		outer.slot.Flags = 0
		check(t, h.kernel.SetSlot(7, outer.slot))
	}
	nested := newCgroup(t, newCgroup(t, outer.cgroup, "inside"), "deeper")
	t.Run("nested", func(t *testing.T) {
		r := newRoomIn(t, h.image, nested, "/bin/attack", "exec_dropped", "4", "2")
		hold(r)
		defer release()
		if said := r.run(); r.marks() != 0 {
			t.Errorf("a nested cgroup escaped %d times: %s", r.marks(), said)
		}
	})
	t.Run("moved", func(t *testing.T) {
		r := newRoomIn(t, h.image, outer.cgroup, "/bin/attack", "exec_dropped", "4", "2")
		hold(r)
		defer release()
		check(t, os.WriteFile(nested+"/cgroup.procs", []byte(fmt.Sprint(r.cmd.Process.Pid)), 0))
		if said := r.run(); r.marks() != 0 {
			t.Errorf("a moved process escaped %d times: %s", r.marks(), said)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		bound, err := h.kernel.Bound()
		check(t, err)
		r := newRoom(t, h.image, outer.cgroup, "/bin/probe", "nothing")
		id := r.slot.Cgroup
		if now, _ := h.kernel.Bound(); len(now) != len(bound)+1 || now[id] != 7 {
			t.Errorf("a cgroup made inside is not bound: %v", now)
		}
		r.end()
		removeCgroup(t, r.cgroup)
		if now, _ := h.kernel.Bound(); len(now) != len(bound) {
			t.Errorf("a removed cgroup is still bound: %v", now)
		}
	})
}

// hold: the first program of a container that nobody knows yet waits for the keeper; without one it does not.
func (h *hall) hold(t *testing.T) {
	desk, err := h.kernel.Desk()
	check(t, err)
	defer desk.Close()
	check(t, h.kernel.HoldNew(true))
	defer h.kernel.HoldNew(false)
	newborn := func() *room {
		return newRoomIn(t, h.image, newCgroup(t, cgroupRoot(t), strings.Repeat("0123456789abcdef", 4)), "/bin/probe", "nothing")
	}
	t.Run("stale", func(t *testing.T) {
		r := newborn()
		if got := r.run(); got != "ok" {
			t.Errorf("with no keeper: %q", got)
		}
		r.end()
		removeCgroup(t, r.cgroup)
	})
	t.Run("held", func(t *testing.T) {
		r := newborn()
		check(t, desk.Beat())
		r.start()
		held, err := desk.Next()
		check(t, err)
		if held.Cgroup != r.slot.Cgroup || int(held.PID) != r.cmd.Process.Pid || held.Unknown != 1 {
			t.Errorf("held %+v, want process %d of cgroup %d", held, r.cmd.Process.Pid, r.slot.Cgroup)
		}
		if state := waitState(r.cmd.Process.Pid, 'T'); state != 'T' {
			t.Errorf("the process is in state %c, not stopped", state)
		}
		check(t, syscall.Kill(int(held.PID), syscall.SIGCONT))
		if got := r.wait(); got != "ok" {
			t.Errorf("after it was let go: %q", got)
		}
		r.end()
		removeCgroup(t, r.cgroup)
	})
}

func waitState(pid int, want byte) byte {
	var state byte
	for range 200 {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		rest := string(b[strings.LastIndexByte(string(b), ')')+1:])
		if state = strings.TrimSpace(rest)[0]; state == want {
			return state
		}
		time.Sleep(10 * time.Millisecond)
	}
	return state
}
