package incident

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// alert is one after some time, in a container, by a process below others.
func alert(after time.Duration, container string, pids ...int) bulkhead.Alert {
	a := bulkhead.Alert{
		ID: fmt.Sprint(container, "-", after), Time: start.Add(after), Node: "n1", Workload: "docker/" + container, Container: container,
		Rule: "rule", Title: "Something done", Tactic: "execution", Technique: "T1059", Severity: bulkhead.Medium, Action: bulkhead.ActionDetected, Count: 1,
		Cause: bulkhead.AlertCause{Kind: bulkhead.EventExec, Object: "/bin/x"},
	}
	for i, pid := range pids {
		if i == 0 {
			a.Process.PID = pid
			continue
		}
		a.Process.Ancestry = append(a.Process.Ancestry, bulkhead.Ancestor{PID: pid, Comm: "app"})
	}
	return a
}

func with(a bulkhead.Alert, change func(*bulkhead.Alert)) bulkhead.Alert {
	change(&a)
	return a
}

func TestWhatIsOne(t *testing.T) {
	owner := func(_ string, ip netip.Addr) string {
		if ip == netip.MustParseAddr("10.0.0.7") {
			return "docker/db"
		}
		return ""
	}
	connect := func(a *bulkhead.Alert) {
		a.Cause = bulkhead.AlertCause{Kind: bulkhead.EventConnect, Object: "tcp 10.0.0.7:5432"}
	}
	ofImage := func(a *bulkhead.Alert) { a.Digest = "sha256:1" }
	for name, c := range map[string]struct {
		alerts []bulkhead.Alert
		want   [][]Cause // of each incident, the newest first
	}{
		"nothing":                           {nil, [][]Cause{}},
		"one alert":                         {[]bulkhead.Alert{alert(0, "shop", 10)}, [][]Cause{{}}},
		"one container, soon after":         {[]bulkhead.Alert{alert(0, "shop", 10), alert(time.Minute, "shop", 20)}, [][]Cause{{SameContainer}}},
		"one container, the next day":       {[]bulkhead.Alert{alert(0, "shop", 10), alert(24*time.Hour, "shop", 20)}, [][]Cause{{}, {}}},
		"two containers":                    {[]bulkhead.Alert{alert(0, "shop", 10), alert(time.Minute, "db", 20)}, [][]Cause{{}, {}}},
		"two containers, one line":          {[]bulkhead.Alert{alert(0, "shop", 10, 5), alert(time.Minute, "sidecar", 20, 5)}, [][]Cause{{SameLine}}},
		"a supervisor is nobody's line":     {[]bulkhead.Alert{above(alert(0, "shop", 10), 3, "containerd-shim"), above(alert(time.Minute, "db", 20), 3, "containerd-shim")}, [][]Cause{{}, {}}},
		"a connection":                      {[]bulkhead.Alert{with(alert(0, "shop", 10), connect), alert(time.Minute, "db", 20)}, [][]Cause{{Connection}}},
		"a connection of afterwards":        {[]bulkhead.Alert{alert(0, "db", 20), with(alert(time.Minute, "shop", 10), connect)}, [][]Cause{{}, {}}},
		"the same deed in the same image":   {[]bulkhead.Alert{with(alert(0, "shop-1", 10), ofImage), with(alert(time.Minute, "shop-2", 20), ofImage)}, [][]Cause{{SameDeed}}},
		"the same deed in some other image": {[]bulkhead.Alert{with(alert(0, "shop-1", 10), ofImage), alert(time.Minute, "shop-2", 20)}, [][]Cause{{}, {}}},
		"joined by what comes between":      {[]bulkhead.Alert{with(alert(0, "shop", 10), connect), alert(20*time.Minute, "shop", 11), alert(25*time.Minute, "db", 20), alert(50*time.Minute, "shop", 12)}, [][]Cause{{SameContainer, Connection}}},
	} {
		got := [][]Cause{}
		for _, in := range Of(c.alerts, Options{Owner: owner}) {
			got = append(got, in.Causes)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func above(a bulkhead.Alert, pid int, comm string) bulkhead.Alert {
	a.Process.Ancestry = append(a.Process.Ancestry, bulkhead.Ancestor{PID: pid, Comm: comm})
	return a
}

func TestDescribe(t *testing.T) {
	alerts := []bulkhead.Alert{
		with(alert(0, "shop", 10), func(a *bulkhead.Alert) {
			a.Title, a.Tactic, a.Technique = "Web server started a shell", "initial-access", "T1190"
		}),
		with(alert(time.Second, "shop", 11), func(a *bulkhead.Alert) {
			a.Title, a.Tactic, a.Technique, a.Severity, a.Action, a.Count = "Code that is not the image's own", "command-and-control", "T1105", bulkhead.Critical, bulkhead.ActionBlocked, 3
		}),
		with(alert(2*time.Second, "shop", 12), func(a *bulkhead.Alert) {
			a.Tactic, a.Technique, a.Action = "exfiltration", "T1048", bulkhead.ActionBlocked
			a.Cause = bulkhead.AlertCause{Kind: bulkhead.EventConnect, Object: "tcp 192.0.2.1:443"}
		}),
	}
	got := Of(alerts, Options{})
	if len(got) != 1 {
		t.Fatalf("%d incidents, want 1", len(got))
	}
	in := got[0]
	if want := "Code that is not the image's own in docker/shop, with 2 techniques more: 2 of 3 techniques were blocked each time"; in.Title != want {
		t.Errorf("title %q, want %q", in.Title, want)
	}
	if in.ID != alerts[0].ID || in.Severity != bulkhead.Critical || in.Blocked != 2 || in.Detected != 1 {
		t.Errorf("%+v", in)
	}
	if diff := cmp.Diff([]Stop{{"executables", "/bin/x", 3}, {"network", "tcp 192.0.2.1:443", 1}}, in.Stopped); diff != "" {
		t.Errorf("stopped (-want +got):\n%s", diff)
	}
	var path []string
	for _, s := range in.Path {
		path = append(path, s.Tactic)
	}
	if diff := cmp.Diff([]string{"initial-access", "command-and-control", "exfiltration"}, path); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
}

// Stored alerts come in any order; the incidents are the same.
func TestOrderDoesNotMatter(t *testing.T) {
	var alerts []bulkhead.Alert
	for i := range 200 {
		alerts = append(alerts, alert(time.Duration(i)*7*time.Minute%(9*time.Hour), fmt.Sprint("c", i%7), 100+i%11, 50+i%5))
	}
	want := Of(alerts, Options{})
	for range 5 {
		shuffled := slices.Clone(alerts)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if diff := cmp.Diff(want, Of(shuffled, Options{})); diff != "" {
			t.Fatalf("incidents of another order (-want +got):\n%s", diff)
		}
	}
}

func TestEveryAlertIsInOneIncident(t *testing.T) {
	var alerts []bulkhead.Alert
	for i := range 500 {
		a := alert(time.Duration(i)*time.Minute, fmt.Sprint("c", i%13), i%17+2)
		a.ID = fmt.Sprint(i)
		alerts = append(alerts, a)
	}
	seen := map[string]int{}
	for _, in := range Of(alerts, Options{}) {
		for _, id := range in.Alerts {
			seen[id]++
		}
	}
	for _, a := range alerts {
		if seen[a.ID] != 1 {
			t.Errorf("alert %s is in %d incidents", a.ID, seen[a.ID])
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("tcp 10.0.0.7:1", "shop", int64(5))
	f.Add("[::1]:", "", int64(-1))
	f.Fuzz(func(t *testing.T, object, container string, nanoseconds int64) {
		a := alert(time.Duration(nanoseconds), container, 3)
		a.Cause = bulkhead.AlertCause{Kind: bulkhead.EventConnect, Object: object}
		owner := func(string, netip.Addr) string { return container }
		if got := Of([]bulkhead.Alert{a, a}, Options{Owner: owner}); len(got) != 1 {
			t.Errorf("the same alert twice makes %d incidents", len(got))
		}
	})
}
