package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bulkhead"
	"bulkhead/rule"
)

// defaultRules takes its time to compile them, once.
var defaultRules = sync.OnceValues(rule.Default)

// newTestAgent is an agent without a kernel: its words, its disk and its rules.
func newTestAgent(t *testing.T, state string) *Agent {
	t.Helper()
	a := &Agent{
		options: Options{State: state, Run: t.TempDir(), Node: "n1", Cluster: "c1", Log: slog.New(slog.DiscardHandler)}, log: slog.New(slog.DiscardHandler),
		workloads: map[string]*workload{}, problems: map[string]string{}, changed: make(chan struct{}, 1), ready: make(chan struct{}), images: newImages(),
	}
	for _, dir := range []string{"workloads", "spool"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if a.rules, err = defaultRules(); err != nil {
		t.Fatal(err)
	}
	a.spool = openTestSpool(t, filepath.Join(state, "spool"), spoolBytes)
	a.alerts = newAlerter(a)
	return a
}

func problems(a *Agent) string {
	var all []string
	for _, text := range a.problems {
		all = append(all, text)
	}
	return strings.Join(all, "\n")
}

const goodRule = `rules:
  - id: own-rule
    title: Our own
    description: It is for this test.
    severity: high
    technique: T1059
    tactic: execution
    events: [exec]
    when: exec.path == "/bin/own"
    message: '"it ran: " + exec.path'
`

func TestRulesLastGood(t *testing.T) {
	state, rules := t.TempDir(), t.TempDir()
	load := func(text string) *Agent {
		write(t, filepath.Join(rules, "own.yaml"), text)
		a := newTestAgent(t, state)
		a.options.Rules = rules
		if err := a.loadRules(); err != nil {
			t.Fatal(err)
		}
		return a
	}
	fires := func(a *Agent) bool {
		e := execEvent("/bin/own", bulkhead.Allowed, "")
		for _, m := range a.rules.Eval(*e) {
			if m.Rule.ID == "own-rule" {
				return true
			}
		}
		return false
	}
	bad := strings.Replace(goodRule, "severity: high", "severity: enormous", 1)
	if a := load(bad); fires(a) || !strings.Contains(problems(a), "own.yaml:5:") || !strings.Contains(problems(a), "in force are the default ones") {
		t.Errorf("a bad file, nothing before it: %s", problems(a))
	}
	if a := load(goodRule); !fires(a) || problems(a) != "" {
		t.Errorf("a good file: %s", problems(a))
	}
	if a := load(bad); !fires(a) || !strings.Contains(problems(a), "own.yaml:5:") || !strings.Contains(problems(a), "those that were good last") {
		t.Errorf("a bad file after a good one: fires %v, %s", fires(a), problems(a))
	}
}

func TestEngineNotes(t *testing.T) {
	a := newTestAgent(t, t.TempDir())
	if got := a.engineNotes(); len(got) != 0 {
		t.Errorf("without a folder: %v", got)
	}
	dir := filepath.Join(a.options.Run, "engines.d")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "demo"), "docker unix:///run/demo/docker.sock\n")
	write(t, filepath.Join(dir, "other"), "\ncri /run/o/c.sock\r\ndocker /run/o/d.sock\nnonsense\n\xff\xfe\n")
	got := a.engineNotes()
	if strings.Join(got["docker"], ",") != "/run/demo/docker.sock,/run/o/d.sock" || strings.Join(got["cri"], ",") != "/run/o/c.sock" || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestMissingCapabilities(t *testing.T) {
	for status, want := range map[string]string{
		"CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n": "",
		"CapEff:\t0000000000000000\n":                            "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_SYS_ADMIN",
		"CapEff:\t0000000000201000\n":                            "CAP_SYS_PTRACE",
	} {
		if got := strings.Join(missingCapabilities(status), " "); got != want {
			t.Errorf("%q: %s", status, got)
		}
	}
}

func TestAlone(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pins")
	first, err := alone(pin)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := alone(pin); err == nil || !strings.Contains(err.Error(), "another agent runs") {
		t.Errorf("a second one: %v %v", second, err)
	}
	first.Close()
	again, err := alone(pin)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
