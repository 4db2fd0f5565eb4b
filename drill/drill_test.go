package drill

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// TestSteps: each technique has a step or a reason why not, no id is given twice, and a twin is not the deed.
func TestSteps(t *testing.T) {
	steps, err := Steps()
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) < 120 {
		t.Errorf("%d steps, want at least 120", len(steps))
	}
	seen, tactics := map[string]bool{}, map[string]bool{}
	for _, s := range steps {
		if seen[s.ID] {
			t.Errorf("two steps are called %s", s.ID)
		}
		if s.Run+s.Manifest+s.Image == s.Twin {
			t.Errorf("the near-twin of %s is the step itself", s.ID)
		}
		seen[s.ID], tactics[s.Tactic] = true, true
	}
	if len(tactics) != 12 {
		t.Errorf("steps of %d tactics, want 12", len(tactics))
	}
	for _, tech := range Techniques() {
		some, err := chosen([]string{tech.ID})
		if (err != nil || len(some) == 0) && outOfReach[tech.ID] == "" {
			t.Errorf("no step for %s %s, and no reason why not", tech.ID, tech.Name)
		}
	}
}

func TestMatrices(t *testing.T) {
	count := map[string]int{}
	for _, tech := range Techniques() {
		count[tech.Matrix]++
	}
	if count[Containers] != 48 || count[Kubernetes] != 40 {
		t.Errorf("matrices of %v, want 48 and 40 techniques", count)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no twin":           "- {id: a, name: A, techniques: [T1190], run: id, works: {output: x}}",
		"no goal":           "- {id: a, name: A, techniques: [T1190], run: id, twin: date}",
		"two deeds":         "- {id: a, name: A, techniques: [T1190], run: id, image: plain, works: {output: x}, twin: date}",
		"unknown technique": "- {id: a, name: A, techniques: [T9999], run: id, works: {output: x}, twin: date}",
		"unknown stage":     "- {id: a, name: A, stage: moon, techniques: [T1190], run: id, works: {output: x}, twin: date}",
		"unknown field":     "- {id: a, name: A, techniques: [T1190], ran: id, works: {output: x}, twin: date}",
	} {
		if _, err := parse("steps/x.yaml", []byte(text)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestJudge(t *testing.T) {
	worked := Trial{Reached: true}
	for name, c := range map[string]struct {
		open, guarded Trial
		want          string
	}{
		"does not work":              {Trial{}, Trial{}, NotApplicable},
		"stopped, and said so":       {worked, Trial{Blocked: true, Alerts: []string{"a"}}, Blocked},
		"stopped after it was done":  {worked, Trial{Reached: true, Blocked: true, Alerts: []string{"a"}}, Detected},
		"seen":                       {worked, Trial{Reached: true, Alerts: []string{"a"}}, Detected},
		"failed for no reason":       {worked, Trial{}, Missed},
		"failed, and only an alarm":  {worked, Trial{Alerts: []string{"a"}}, Detected},
		"worked, and nobody noticed": {worked, Trial{Reached: true}, Missed},
	} {
		r := StepResult{Open: c.open, Guarded: c.guarded}
		if r.judge(); r.Result != c.want {
			t.Errorf("%s: %s, want %s", name, r.Result, c.want)
		}
	}
}

// The worst step decides, and what does not apply does not.
func TestCellIsAsGoodAsItsWorstStep(t *testing.T) {
	r := newReport(time.Now())
	add := func(technique string, open, guarded Trial) {
		r.Steps = append(r.Steps, StepResult{Step: Step{ID: technique, Techniques: []string{technique}}, Open: open, Guarded: guarded})
	}
	worked, stopped := Trial{Reached: true}, Trial{Blocked: true, Alerts: []string{"a"}}
	add("T1110.001", worked, stopped)
	add("T1110.003", worked, Trial{Reached: true, Alerts: []string{"a"}})
	add("T1110.004", Trial{}, Trial{})
	r.conclude()
	got := map[string]string{}
	for _, c := range r.Cells {
		got[c.Technique] = c.Result
	}
	want := map[string]string{"T1110": Detected, "T1110.001": Blocked, "T1110.003": Detected, "T1110.004": NotApplicable}
	for id, result := range want {
		if got[id] != result {
			t.Errorf("%s is %s, want %s", id, got[id], result)
		}
	}
	c := r.Coverage[0]
	if c.Applicable != 3 || c.Blocked != 1 || c.Detected != 2 || c.Steps != 2 {
		t.Errorf("coverage: %+v", c)
	}
}

func TestCompare(t *testing.T) {
	report := func(results ...string) *Report {
		r := &Report{}
		for i, x := range results {
			r.Cells = append(r.Cells, Cell{Technique: techniques[i].ID, Name: techniques[i].Name, Result: x})
		}
		return r
	}
	changes := Compare(report(Blocked, Detected, Missed, NotApplicable), report(Detected, Blocked, Missed, Missed))
	want := []Change{
		{techniques[0].ID, techniques[0].Name, Blocked, Detected, true},
		{techniques[1].ID, techniques[1].Name, Detected, Blocked, false},
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if err := Fell(changes); !errors.Is(err, ErrFell) {
		t.Errorf("Fell says %v", err)
	}
	if err := Fell(changes[1:]); err != nil {
		t.Errorf("Fell says %v of what is better", err)
	}
}

func TestHistory(t *testing.T) {
	dir := t.TempDir()
	if _, err := Last(dir); err == nil {
		t.Error("an empty history has a last report")
	}
	first, second := newReport(time.Now().Add(-time.Hour)), newReport(time.Now())
	second.Machine = "second"
	for _, r := range []*Report{second, first} {
		if err := Keep(dir, r); err != nil {
			t.Fatal(err)
		}
	}
	if last, err := Last(dir); err != nil || last.Machine != "second" {
		t.Errorf("the last is %+v, %v", last, err)
	}
}

// What is written for people carries nothing from a container into their page.
func TestHTMLEscapes(t *testing.T) {
	r := newReport(time.Now())
	r.Steps = append(r.Steps, StepResult{Step: Step{ID: "x", Techniques: []string{"T1190"}}, Open: Trial{Reached: true}, Guarded: Trial{Reached: true, Transcript: "<script>alert(1)</script>"}})
	r.conclude()
	var html, markdown bytes.Buffer
	if err := errors.Join(r.WriteHTML(&html), r.WriteMarkdown(&markdown)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(html.String(), "<script>") || !strings.Contains(html.String(), "T1190") {
		t.Error("the page does not escape what a container said")
	}
	if !strings.Contains(markdown.String(), "| T1190 | Exploit Public-Facing Application | missed | x |") {
		t.Errorf("the page:\n%s", markdown.String())
	}
}

func TestOwner(t *testing.T) {
	start := time.Now()
	began := []time.Time{start, start.Add(time.Second), start.Add(2 * time.Second)}
	for after, want := range map[time.Duration]int{-time.Second: 0, 500 * time.Millisecond: 0, 1500 * time.Millisecond: 1, time.Minute: 2} {
		if got := owner(began, start.Add(after)); got != want {
			t.Errorf("%s belongs to %d, want %d", after, got, want)
		}
	}
}

// judging is a product of which only what needs no container is asked.
type judging struct{}

func (judging) SetMode(context.Context, string, bulkhead.Mode) error {
	return errors.New("no workload")
}

func (judging) Alerts(context.Context, string, time.Time) ([]bulkhead.Alert, error) {
	return nil, errors.New("no alerts")
}

func (judging) Admit(_ context.Context, manifest string) ([]Objection, error) {
	if strings.Contains(manifest, "privileged: true") {
		return []Objection{{Refuses: true, Rule: "admission/privileged"}}, nil
	}
	if strings.Contains(manifest, "latest") {
		return []Objection{{Rule: "admission/moving-tag", Technique: "T1204.003"}}, nil
	}
	return []Objection{}, nil
}

func (judging) Scan(_ context.Context, archive string) ([]Objection, error) {
	if strings.Contains(archive, "implanted") {
		return []Objection{{Refuses: true, Rule: "scan/webshell"}}, nil
	}
	return nil, nil
}

// What needs no container needs neither root nor an engine, and leaves nothing.
func TestRunWithoutContainers(t *testing.T) {
	state, err := os.MkdirTemp("", "drill") // a test's own directory has too long a name
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(state)
	report, err := Run(t.Context(), Options{Product: judging{}, State: state, Only: []string{"privileged-manifest", "hostpath-manifest", "malicious-image", "image-from-anywhere", "pod-like-the-systems"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range report.Steps {
		got[s.ID] = s.Result
	}
	if diff := cmp.Diff(map[string]string{"privileged-manifest": Blocked, "hostpath-manifest": Missed, "malicious-image": Blocked, "image-from-anywhere": Detected, "pod-like-the-systems": Missed}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
