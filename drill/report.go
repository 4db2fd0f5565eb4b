package drill

import (
	"fmt"
	"slices"
	"time"

	"bulkhead"
)

// The results of a step and of a cell.
const (
	Blocked       = "blocked"        // it did not reach its goal, and the product says that it stopped it
	Detected      = "detected"       // an alert was raised, though the goal was reached or nothing claims to have stopped it
	Missed        = "missed"         // nobody noticed
	NotApplicable = "not-applicable" // it does not work here, whoever protects
)

// Report is what came of a drill. Its JSON is a promise to scripts.
type Report struct {
	Time     time.Time    `json:"time"`
	Seconds  float64      `json:"seconds"`
	Machine  string       `json:"machine"` // kernel, and what decides on it
	Coverage []Coverage   `json:"coverage"`
	Cells    []Cell       `json:"cells"`
	Steps    []StepResult `json:"steps"`
	Twins    Twins        `json:"twins"`
}

// Coverage sums up one matrix.
type Coverage struct {
	Matrix        string  `json:"matrix"`
	Techniques    int     `json:"techniques"`
	Applicable    int     `json:"applicable"`
	Blocked       int     `json:"blocked"`
	Detected      int     `json:"detected"`
	Missed        int     `json:"missed"`
	BlockedShare  float64 `json:"blockedShare"`  // of the applicable
	NoticedShare  float64 `json:"noticedShare"`  // blocked or detected, of the applicable
	Steps         int     `json:"steps"`         // that worked unprotected
	BlockedSteps  int     `json:"blockedSteps"`  // of these
	DetectedSteps int     `json:"detectedSteps"` // of these
}

// Cell is one technique. It is as good as the worst of its steps.
type Cell struct {
	Technique string     `json:"technique"`
	Name      string     `json:"name"`
	Tactic    string     `json:"tactic"`
	Matrix    string     `json:"matrix"`
	Result    string     `json:"result"`
	Reason    string     `json:"reason,omitempty"` // why it is not applicable
	Evidence  []Evidence `json:"evidence"`
}

// Evidence is what one step says about a cell.
type Evidence struct {
	Step       string   `json:"step"`
	Result     string   `json:"result"`
	Alerts     []string `json:"alerts"` // "ACTION RULE ID"
	Decision   string   `json:"decision,omitempty"`
	Transcript string   `json:"transcript,omitempty"`
}

// StepResult is how one step went.
type StepResult struct {
	Step
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Open    Trial  `json:"open"`    // where nobody protects
	Guarded Trial  `json:"guarded"` // where the application is protected
	Twin    Twin   `json:"twinResult"`
}

// Twin is how the near-twin of a step went: it should neither alarm nor break.
type Twin struct {
	Alarms []string `json:"alarms"`
	Broken []string `json:"broken"`
}

// Twins sums up the near-twins.
type Twins struct {
	Count  int      `json:"count"`
	Alarms []string `json:"alarms"`
	Broken []string `json:"broken"`
}

func newReport(began time.Time) *Report {
	return &Report{Time: began.UTC(), Coverage: []Coverage{}, Cells: []Cell{}, Steps: []StepResult{}, Twins: Twins{Alarms: []string{}, Broken: []string{}}}
}

func newStepResult(s Step) *StepResult {
	return &StepResult{Step: s, Open: Trial{Alerts: []string{}}, Guarded: Trial{Alerts: []string{}}, Twin: Twin{Alarms: []string{}, Broken: []string{}}}
}

func (t *Twin) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(t.Broken, text) {
		t.Broken = append(t.Broken, text)
	}
}

func (t *Twin) alarm(against string, a bulkhead.Alert) {
	t.Alarms = append(t.Alarms, fmt.Sprintf("%s: %s: %s", against, a.Rule, shorten(a.Message, 160)))
}

// explain writes the alerts of a trial into it, the one that tells it best first.
func (t *Trial) explain(step Step, alerts []bulkhead.Alert, began time.Time) {
	slices.SortStableFunc(alerts, func(x, y bulkhead.Alert) int {
		if d := weight(y, step) - weight(x, step); d != 0 {
			return d
		}
		return x.Time.Compare(y.Time)
	})
	for i, a := range alerts {
		t.Alerts = append(t.Alerts, a.Action+" "+a.Rule+" "+a.ID)
		t.Blocked = t.Blocked || a.Action == bulkhead.ActionBlocked
		if i == 0 {
			t.Best, t.Decision = shorten(a.Message, 200), decision(a)
			if after := a.Time.Sub(began); after > 0 && after < time.Minute {
				t.Millis = float64(after.Microseconds()) / 1000
			}
		}
	}
}

// object writes down what was said against something that never ran. A warning counts if it is about a technique of
// the step: an object has many small faults.
func (t *Trial) object(step Step, against []Objection) {
	t.Reached = true
	for _, o := range against {
		if !o.Refuses && !slices.ContainsFunc(step.Techniques, func(id string) bool { return o.Technique != "" && within(o.Technique, id) }) {
			continue
		}
		if o.Refuses {
			t.Reached, t.Blocked, t.Decision = false, true, "refused before it ran"
		}
		t.Alerts = append(t.Alerts, o.String())
	}
	if len(t.Alerts) > 0 {
		t.Best = shorten(t.Alerts[0], 200)
	}
}

func weight(a bulkhead.Alert, step Step) int {
	w := a.Severity.Rank()
	if slices.Contains(step.Techniques, a.Technique) {
		w += 10
	}
	if a.Action == bulkhead.ActionBlocked {
		w += 20
	}
	return w
}

// decision is what the kernel said about an event, in its words.
func decision(a bulkhead.Alert) string {
	if a.Cause.Reason == "" {
		return a.Action + " " + string(a.Cause.Kind)
	}
	return a.Action + " " + string(a.Cause.Kind) + ": " + string(a.Cause.Reason)
}

// judge names the result of a step.
func (r *StepResult) judge() {
	switch g := r.Guarded; {
	case r.Reason != "":
		r.Result = NotApplicable
	case !r.Open.Reached:
		r.Result, r.Reason = NotApplicable, "it does not work on this host, though nobody is in the way: "+r.Open.Transcript
	case !g.Reached && g.Blocked:
		r.Result = Blocked
	case len(g.Alerts) > 0:
		r.Result = Detected
	case !g.Reached:
		r.Result, r.Reason = Missed, "it did not reach its goal, and nothing says why"
	default:
		r.Result = Missed
	}
}

// conclude judges the steps and sums them up.
func (r *Report) conclude() {
	r.Seconds = time.Since(r.Time).Seconds()
	for i := range r.Steps {
		s := &r.Steps[i]
		s.judge()
		r.Twins.Count++
		for _, a := range s.Twin.Alarms {
			r.Twins.Alarms = append(r.Twins.Alarms, s.ID+": "+a)
		}
		for _, b := range s.Twin.Broken {
			r.Twins.Broken = append(r.Twins.Broken, s.ID+": "+b)
		}
	}
	for _, t := range Techniques() {
		r.Cells = append(r.Cells, r.cell(t))
	}
	for _, m := range []string{Containers, Kubernetes, Enterprise} {
		r.Coverage = append(r.Coverage, r.cover(m))
	}
}

func (r *Report) cell(t Technique) Cell {
	c := Cell{Technique: t.ID, Name: t.Name, Tactic: t.Tactic, Matrix: t.Matrix, Result: NotApplicable, Evidence: []Evidence{}}
	for _, s := range r.Steps {
		if !slices.ContainsFunc(s.Techniques, func(id string) bool { return within(id, t.ID) }) {
			continue
		}
		c.Evidence = append(c.Evidence, Evidence{s.ID, s.Result, s.Guarded.Alerts, s.Guarded.Decision, s.Guarded.Transcript})
		if rank(s.Result) < rank(c.Result) {
			c.Result = s.Result
		}
	}
	switch reason := outOfReach[t.ID]; {
	case c.Result != NotApplicable:
	case reason != "":
		c.Reason = reason
	case len(c.Evidence) == 0:
		c.Reason = "no step of it was asked for"
	default:
		c.Reason = "none of its steps works on this host, though nobody is in the way"
	}
	return c
}

// rank orders results from bad to good; what does not apply is neither.
func rank(result string) int {
	return slices.Index([]string{Missed, Detected, Blocked, NotApplicable}, result)
}

func (r *Report) cover(matrix string) Coverage {
	c := Coverage{Matrix: matrix}
	for _, cell := range r.Cells {
		if cell.Matrix != matrix {
			continue
		}
		c.Techniques++
		c.count(cell.Result)
	}
	for _, s := range r.Steps {
		if s.Result == NotApplicable || !slices.ContainsFunc(s.Techniques, func(id string) bool { t, _ := named(id); return t.Matrix == matrix }) {
			continue
		}
		c.Steps++
		switch s.Result {
		case Blocked:
			c.BlockedSteps++
		case Detected:
			c.DetectedSteps++
		}
	}
	if c.Applicable > 0 {
		c.BlockedShare = float64(c.Blocked) / float64(c.Applicable)
		c.NoticedShare = float64(c.Blocked+c.Detected) / float64(c.Applicable)
	}
	return c
}

func (c *Coverage) count(result string) {
	switch result {
	case Blocked:
		c.Blocked++
	case Detected:
		c.Detected++
	case Missed:
		c.Missed++
	default:
		return
	}
	c.Applicable++
}
