package demo

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestAttackProgramme(t *testing.T) {
	all := attacks()
	if len(all) != 20 {
		t.Errorf("%d attacks, not 20", len(all))
	}
	names := map[string]bool{}
	for _, a := range all {
		if names[a.Name] || !strings.HasPrefix(a.Technique, "T1") || a.Story == "" || a.Run == nil {
			t.Errorf("attack %+v is incomplete or there twice", a)
		}
		names[a.Name] = true
	}
}

// The verification script must not repeat what was learned, nor leave out a function.
func TestScriptsDiffer(t *testing.T) {
	learned, verified := learningScript(), verificationScript()
	for what, pair := range map[string][2][]string{
		"people": {learned.people, verified.people}, "searches": {learned.searches, verified.searches},
		"exports": {learned.exports, verified.exports}, "cards": {learned.cards, verified.cards},
	} {
		for _, item := range pair[0] {
			if slices.Contains(pair[1], item) {
				t.Errorf("%s: both scripts have %q", what, item)
			}
		}
	}
	for _, p := range learned.products {
		if slices.Contains(verified.products, p) {
			t.Errorf("both scripts buy %s", p.Name)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		reached bool
		alerts  []string
		mode    bulkhead.Mode
		want    string
	}{
		{false, nil, bulkhead.Protect, Blocked},
		{false, []string{"r"}, bulkhead.Protect, Blocked},
		{true, []string{"r"}, bulkhead.Protect, Detected},
		{true, nil, bulkhead.Protect, Missed},
		{true, []string{"r"}, bulkhead.Monitor, Detected},
		{false, []string{"r"}, bulkhead.Monitor, "failed"},
		{false, nil, bulkhead.Learn, "failed"},
	} {
		trial := Trial{Reached: c.reached, Alerts: c.alerts}
		if trial.judge(c.mode); trial.Result != c.want {
			t.Errorf("reached %v, alerts %v, mode %s: %s, want %s", c.reached, c.alerts, c.mode, trial.Result, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	alert := func(rule, technique, action string, after time.Duration) bulkhead.Alert {
		return bulkhead.Alert{Rule: rule, Technique: technique, Action: action, Message: rule, Time: start.Add(after), Severity: bulkhead.High}
	}
	for name, c := range map[string]struct {
		alerts []bulkhead.Alert
		want   Trial
	}{
		"none": {nil, Trial{}},
		"blocked before detected": {
			[]bulkhead.Alert{alert("seen", "T1496", "detected", time.Millisecond), alert("stopped", "T1", "blocked", 7*time.Millisecond)},
			Trial{Alerts: []string{"stopped", "seen"}, Message: "stopped", Milliseconds: 7},
		},
		"own technique first": {
			[]bulkhead.Alert{alert("other", "T1", "blocked", time.Millisecond), alert("own", "T1496", "blocked", 2*time.Millisecond)},
			Trial{Alerts: []string{"own", "other"}, Message: "own", Milliseconds: 2},
		},
		"a folded alert keeps its old time": {
			[]bulkhead.Alert{alert("old", "T1496", "blocked", -time.Second)},
			Trial{Alerts: []string{"old"}, Message: "old"},
		},
	} {
		var got Trial
		got.explain(attack{Technique: "T1496"}, c.alerts, start)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestFound(t *testing.T) {
	for _, c := range []struct{ answer, sought, want string }{
		{"a\nuid=1000(shop)\nb", "uid=1000", "uid=1000(shop)"},
		{"nothing", "uid=1000", ""},
		{"\x1b[31muid=1000\x07", "uid=1000", "[31muid=1000"},
		{"", "x", ""},
	} {
		if got, _ := found(c.answer, c.sought, nil); got != c.want {
			t.Errorf("found(%q, %q) = %q, want %q", c.answer, c.sought, got, c.want)
		}
	}
}

func FuzzFound(f *testing.F) {
	f.Add("a long line with the loot in it", "loot")
	f.Fuzz(func(t *testing.T, answer, sought string) {
		if got, _ := found(answer, sought, nil); len([]rune(got)) > 120 || strings.ContainsAny(got, "\x1b\n\x07") {
			t.Errorf("found(%q, %q) = %q", answer, sought, got)
		}
	})
}

func FuzzCheckArchive(f *testing.F) {
	f.Add("\x1f\x8b")
	f.Fuzz(func(t *testing.T, data string) {
		if err := checkArchive(data, order{number: "1"}); err == nil {
			t.Error("accepted an archive without the order")
		}
	})
}

// A shop file that is not a program is enough to look at the image's form.
func TestImageIsReproducible(t *testing.T) {
	shop := filepath.Join(t.TempDir(), "shop")
	if err := os.WriteFile(shop, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	layers := make([][]byte, 2)
	for i := range layers {
		var err error
		if layers[i], err = shopLayer(shop); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(layers[0], layers[1]) {
		t.Error("the same shop gives two different layers")
	}
	modes := map[string]int64{}
	for archive := tar.NewReader(bytes.NewReader(layers[0])); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[header.Name] = header.Mode
	}
	for name, mode := range map[string]int64{"srv/app/shop": 0o755, "srv/plugins/imageinfo": 0o755, "srv/templates/cart.html": 0o644, "home/shop/.ssh/": 0o700} {
		if modes[name] != mode {
			t.Errorf("%s has mode %o, want %o", name, modes[name], mode)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"no product":     {},
		"unknown format": {Product: &alarmed{}, Format: "xml"},
	} {
		if err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func sample() *Report {
	r := &Report{Engine: "private", Seconds: 58.2}
	r.Learned = Learned{Workload: "docker/shop", Seconds: 20, Requests: 1200, Completeness: 0.987, Ready: true}
	r.Learned.describe(bulkhead.Profile{
		Executables: []bulkhead.Executable{{Path: "/srv/app/shop"}, {Path: "/bin/busybox", Applets: []string{"gzip", "tar"}}},
		Scripts:     []bulkhead.Script{{Path: "/srv/plugins/imageinfo", Interpreter: "/bin/dash"}},
		Syscalls:    []string{"openat", "read"},
		Writes:      []string{"/srv/uploads/*.png"},
		Listens:     []bulkhead.Port{{Protocol: "tcp", Port: 8080}},
		Peers:       []bulkhead.Peer{{Protocol: "tcp", Port: 4444, CIDR: "10.213.0.1/32"}},
	})
	r.Attacks = []Attack{
		{Name: "Injected command", Technique: "T1190", Story: "`id` rides along"},
		{Name: "Coin miner", Technique: "T1496", Story: "burns a core"},
		{Name: "Log wiped", Technique: "T1070.002", Story: "the log is gone"},
	}
	reached := Trial{Reached: true, Result: Missed, Proof: "uid=1000", Alerts: []string{}}
	seen := Trial{Reached: true, Result: Detected, Proof: "uid=1000", Alerts: []string{"a"}, Message: "seen"}
	for i := range r.Attacks {
		r.Attacks[i].set(bulkhead.Learn, reached)
		r.Attacks[i].set(bulkhead.Monitor, seen)
		r.Attacks[i].set(bulkhead.Protect, Trial{Result: Blocked, Alerts: []string{"a"}, Message: "id is not in the profile.", Milliseconds: 11.7})
	}
	r.Attacks[1].set(bulkhead.Protect, seen)
	r.Attacks[2].set(bulkhead.Learn, Trial{Result: "failed", Alerts: []string{}})
	r.Application.init()
	r.Application.Requests = 800
	return r
}

func TestReportText(t *testing.T) {
	golden := filepath.Join("testdata", "report.txt")
	got := sample().text()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Scripts rely on these names, and on lists being lists.
func TestReportJSON(t *testing.T) {
	var out bytes.Buffer
	if err := sample().write(&out, "json"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Learned     map[string]any
		Attacks     []map[string]any
		Application map[string]any
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "null") {
		t.Error("a list is null")
	}
	first := map[string]any{"name": got.Attacks[0]["name"], "technique": got.Attacks[0]["technique"], "result": got.Attacks[0]["result"], "requests": got.Application["requests"], "broken": got.Application["broken"]}
	want := map[string]any{"name": "Injected command", "technique": "T1190", "result": "blocked", "requests": 800.0, "broken": 0.0}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProtected(t *testing.T) {
	r := sample()
	if r.protected() {
		t.Error("an attack got through, yet the report says protected")
	}
	r.Attacks[1].Result = Blocked
	if !r.protected() {
		t.Error("everything is blocked, yet the report says not protected")
	}
	r.Application.Broken = 1
	if r.protected() {
		t.Error("a customer was disturbed, yet the report says protected")
	}
}
