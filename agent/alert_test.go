package agent

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/enforce/keeper"
	"bulkhead/profile"
)

var shop = bulkhead.Container{
	ID: "0123456789abcdef", Name: "shop", CgroupID: 7, Image: bulkhead.Image{Reference: "shop:1", Digest: "sha256:1"},
	Workload: bulkhead.Workload{Name: "docker/shop", Kind: "container"},
}

func event(kind bulkhead.EventKind, verdict bulkhead.Verdict, reason bulkhead.Reason) *bulkhead.Event {
	return &bulkhead.Event{
		Boot: "01234567-89ab-cdef", Seq: 42, Time: time.Unix(1700000000, 0), Kind: kind, Container: shop, Verdict: verdict, Reason: reason,
		Process: bulkhead.Process{PID: 5, Comm: "app", Exe: "/usr/bin/app", Args: []string{"app"}, Ancestry: []bulkhead.Ancestor{}},
	}
}

func execEvent(path string, verdict bulkhead.Verdict, reason bulkhead.Reason) *bulkhead.Event {
	e := event(bulkhead.EventExec, verdict, reason)
	e.Exec = &bulkhead.Exec{Path: path, Origin: bulkhead.OriginImage}
	return e
}

func spooled(t *testing.T, a *Agent) []bulkhead.Alert {
	t.Helper()
	var all []bulkhead.Alert
	for {
		list, at, err := a.spool.next()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			return all
		}
		all = append(all, list...)
		if err := a.spool.done(at, len(list)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAlertOfProfile(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	a.alerts.event(execEvent("/usr/bin/odd", bulkhead.Blocked, bulkhead.ReasonNotInProfile))
	a.alerts.event(execEvent("/usr/bin/fine", bulkhead.Allowed, ""))
	got := spooled(t, a)
	want := []bulkhead.Alert{{
		ID: "01234567-42-profile-executables", Time: time.Unix(1700000000, 0).UTC(), Cluster: "c1", Node: "n1", Workload: "docker/shop", Container: "shop",
		Image: "shop:1", Digest: "sha256:1", Rule: "profile/executables", Title: "A program the workload never ran before", Technique: "T1059", Tactic: "execution",
		Severity: bulkhead.High, Action: "blocked", Message: "/usr/bin/odd was blocked: a program the workload never ran before by /usr/bin/app",
		Process: bulkhead.AlertProcess{PID: 5, Exe: "/usr/bin/app", Args: []string{"app"}, Ancestry: []bulkhead.Ancestor{}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventExec, Reason: bulkhead.ReasonNotInProfile, Object: "/usr/bin/odd"},
		Count:   1, Heal: &bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.SectionExecutables, Value: "/usr/bin/odd"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestAlertOfRule: a rule's alert stands in for the profile's, says whether it was blocked, and can heal it.
func TestAlertOfRule(t *testing.T) {
	for _, verdict := range []bulkhead.Verdict{bulkhead.Allowed, bulkhead.WouldBlock, bulkhead.Blocked} {
		a := newTestAgent(t, t.TempDir())
		e := event(bulkhead.EventSyscall, verdict, "")
		e.Syscall = &bulkhead.Syscall{Name: "init_module"}
		if verdict != bulkhead.Allowed {
			e.Reason = bulkhead.ReasonSyscall
		}
		a.alerts.event(e)
		got := spooled(t, a)
		if len(got) != 1 || strings.HasPrefix(got[0].Rule, "profile/") || got[0].Technique == "" || got[0].Tactic == "" {
			t.Fatalf("%s: %+v", verdict, got)
		}
		if blocked := got[0].Action == bulkhead.ActionBlocked; blocked != (verdict == bulkhead.Blocked) {
			t.Errorf("%s: action %s", verdict, got[0].Action)
		}
		if heals := got[0].Heal != nil; heals != (verdict != bulkhead.Allowed) {
			t.Errorf("%s: heal %v", verdict, got[0].Heal)
		}
	}
}

func TestAlertFolding(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	blocked := func(seq uint64, path string, repeats int) {
		e := execEvent(path, bulkhead.Blocked, bulkhead.ReasonNotInProfile)
		e.Seq, e.Repeats = seq, repeats
		a.alerts.event(e)
	}
	for i := range uint64(10) {
		blocked(1+i, "/usr/bin/odd", 4)
	}
	blocked(20, "/usr/bin/other", 0)
	if got := spooled(t, a); len(got) != 2 || got[0].Count != 5 {
		t.Fatalf("the first of each is told at once: %+v", got)
	}
	a.alerts.flush(false)
	a.alerts.flush(false)
	got := spooled(t, a)
	if len(got) != 1 || got[0].Count != 50 || got[0].ID != "01234567-1-profile-executables" {
		t.Fatalf("the count that grew, once, under the id of the first: %+v", got)
	}
	for _, f := range a.alerts.open { // a minute later
		f.since = f.since.Add(-fold)
		f.alert.Count++ // one that no flush has seen
	}
	blocked(30, "/usr/bin/odd", 0)
	got = spooled(t, a)
	if len(got) != 2 || got[0].Count != 51 || got[1].ID != "01234567-30-profile-executables" || got[1].Count != 1 {
		t.Fatalf("a new alert, after what the old one had grown to: %+v", got)
	}
}

func TestAlertFoldingIsBounded(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	for i := range 2 * maxFolds {
		e := execEvent(fmt.Sprint("/tmp/x", i), bulkhead.Blocked, bulkhead.ReasonNotInProfile)
		e.Seq = uint64(i)
		a.alerts.event(e)
		if len(a.alerts.open) > maxFolds {
			t.Fatalf("%d are remembered, the bound is %d", len(a.alerts.open), maxFolds)
		}
	}
	if got := spooled(t, a); len(got) != 2*maxFolds {
		t.Errorf("%d alerts, want %d", len(got), 2*maxFolds)
	}
}

// TestAlertIDs: the same event is the same alert, also for the next process; different ones differ.
func TestAlertIDs(t *testing.T) {
	id := func(e *bulkhead.Event) string {
		a := newTestAgent(t, t.TempDir())
		a.alerts.event(e)
		got := spooled(t, a)
		if len(got) != 1 {
			t.Fatal(got)
		}
		return got[0].ID
	}
	one, other, boot := execEvent("/x", bulkhead.Blocked, bulkhead.ReasonForeignFile), execEvent("/x", bulkhead.Blocked, bulkhead.ReasonForeignFile), execEvent("/x", bulkhead.Blocked, bulkhead.ReasonForeignFile)
	other.Seq, boot.Boot = 43, "fedcba98-1"
	if again := id(one); again != id(one) || id(one) == id(other) || id(one) == id(boot) {
		t.Error(id(one), id(other), id(boot))
	}
}

// outsideEvents is one event of each kind that can go against a profile.
func outsideEvents() []*bulkhead.Event {
	with := func(kind bulkhead.EventKind, reason bulkhead.Reason, set func(*bulkhead.Event)) *bulkhead.Event {
		e := event(kind, bulkhead.Blocked, reason)
		set(e)
		return e
	}
	network := func(n bulkhead.Network) func(*bulkhead.Event) { return func(e *bulkhead.Event) { e.Network = &n } }
	return []*bulkhead.Event{
		execEvent("/usr/bin/odd", bulkhead.Blocked, bulkhead.ReasonNotInProfile),
		execEvent("/tmp/dropped", bulkhead.Blocked, bulkhead.ReasonForeignFile),
		with(bulkhead.EventExec, bulkhead.ReasonNotInProfile, func(e *bulkhead.Event) { e.Exec = &bulkhead.Exec{Path: "/bin/busybox", Applet: "wget"} }),
		with(bulkhead.EventFile, bulkhead.ReasonForeignScript, func(e *bulkhead.Event) { e.File = &bulkhead.File{Path: "/tmp/x.py"} }),
		with(bulkhead.EventFile, bulkhead.ReasonFileWrite, func(e *bulkhead.Event) { e.File = &bulkhead.File{Path: "/etc/passwd", Write: true} }),
		with(bulkhead.EventFile, bulkhead.ReasonFileRead, func(e *bulkhead.Event) { e.File = &bulkhead.File{Path: "/etc/shadow"} }),
		with(bulkhead.EventConnect, bulkhead.ReasonConnect, network(bulkhead.Network{Protocol: "tcp", Address: "10.1.2.3", Port: 443})),
		with(bulkhead.EventConnect, bulkhead.ReasonConnect, network(bulkhead.Network{Protocol: "udp", Address: "2001:db8::1", Port: 53})),
		with(bulkhead.EventListen, bulkhead.ReasonListen, network(bulkhead.Network{Protocol: "tcp", Address: "0.0.0.0", Port: 4444})),
		with(bulkhead.EventListen, bulkhead.ReasonSocket, network(bulkhead.Network{Protocol: "raw", Port: 1})),
		with(bulkhead.EventSyscall, bulkhead.ReasonSyscall, func(e *bulkhead.Event) { e.Syscall = &bulkhead.Syscall{Name: "ptrace"} }),
		with(bulkhead.EventSyscall, bulkhead.ReasonSyscall, func(e *bulkhead.Event) { e.Syscall = &bulkhead.Syscall{Name: "socket", Path2: "netlink"} }),
		with(bulkhead.EventMemory, bulkhead.ReasonAnonymousCode, func(e *bulkhead.Event) { e.Memory = &bulkhead.Memory{Call: "mmap"} }),
	}
}

func TestHealingIsAccepted(t *testing.T) {
	p := profile.NewRecorder(shop.Workload, shop.Image, nil).Profile()
	for _, e := range outsideEvents() {
		heal := healing(e)
		if heal == nil {
			t.Errorf("%s %s: nothing heals it", e.Kind, e.Reason)
			continue
		}
		next, err := profile.Apply(p, *heal)
		if err != nil {
			t.Errorf("%s %s: %v", e.Kind, e.Reason, err)
			continue
		}
		if next.Revisions != p.Revisions+1 {
			t.Errorf("%s %s: approving %+v changed nothing", e.Kind, e.Reason, *heal)
		}
	}
}

func TestEveryReasonHasWords(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	reasons := []bulkhead.Reason{bulkhead.ReasonProcessMemory, bulkhead.ReasonForeignABI, bulkhead.ReasonHostNamespace}
	events := outsideEvents()
	for _, r := range reasons {
		e := event(bulkhead.EventSyscall, bulkhead.Blocked, r)
		e.Syscall = &bulkhead.Syscall{Name: "i386/11", ABI: "i386"}
		events = append(events, e)
	}
	for _, e := range events {
		al := fromProfile(a.base(e), e)
		if al.Rule == "" || al.Technique == "" || al.Tactic == "" || al.Title == "" || al.Severity == "" || al.Cause.Object == "" {
			t.Errorf("%s: %+v", e.Reason, al)
		}
	}
}

// TestHostileWords: what comes from a container is kept as it is, and ids stay what the bus takes.
func TestHostileWords(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	e := execEvent("/tmp/\x1b[2J\xff\n<script>", bulkhead.Blocked, bulkhead.ReasonForeignFile)
	e.Process.Args = []string{"\x00\xff", strings.Repeat("A", 1<<16)}
	e.Repeats = math.MaxInt32
	a.alerts.event(e)
	got := spooled(t, a)
	if len(got) != 1 || strings.ContainsFunc(got[0].ID, func(r rune) bool { return r <= ' ' || r > '~' }) || got[0].Count != 1<<31 {
		t.Fatalf("%+v", got)
	}
	if _, err := json.Marshal(got[0]); err != nil {
		t.Error(err)
	}
}

func TestDenials(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	for _, d := range []keeper.Denial{
		{CgroupID: shop.CgroupID, Syscall: "ptrace", Count: 3},
		{CgroupID: shop.CgroupID, Syscall: "socket", Family: "packet", Count: 1, Verdict: keeper.WouldDeny},
		{CgroupID: shop.CgroupID, Syscall: "i386/11", Entry: "i386", Count: 1},
	} {
		a.alerts.event(a.denial(shop, d))
	}
	got := spooled(t, a)
	if len(got) != 3 || got[0].Count != 3 || got[0].Action != bulkhead.ActionBlocked || got[1].Action != bulkhead.ActionDetected || got[2].Cause.Reason != bulkhead.ReasonForeignABI {
		t.Fatalf("%+v", got)
	}
	if got[1].Heal == nil || got[1].Heal.Value != "socket:packet" || got[2].Heal != nil {
		t.Errorf("heal: %+v, %+v", got[1].Heal, got[2].Heal)
	}
	seen := map[string]bool{}
	for _, al := range got {
		if seen[al.ID] {
			t.Errorf("id %s twice", al.ID)
		}
		seen[al.ID] = true
	}
}
