package waf

import (
	"bulkhead/waf/detect"
	"bulkhead/waf/message"
)

// Step is one form of one value that was looked at.
type Step struct {
	Place   string   `json:"place"`
	Name    string   `json:"name"`
	Form    string   `json:"form"`    // decoded so far; not shown where it is a secret
	Hits    []string `json:"hits"`    // the rules of detectors that fired
	Learned int      `json:"learned"` // the model's score, 70 at its threshold
	Score   int      `json:"score"`   // both together
}

const maxSteps = 64

// Explain says what was looked at in a request, what each detector and the model made of it, in the order of judging.
// Values that an ordinary alphabet is enough for are not in it: they passed at once.
func (e *Engine) Explain(r *message.Request) []Step {
	in := new(inspection)
	in.begin(e, r)
	steps := []Step{}
	in.see = func(f *message.Field, t *detect.Text, hits []detect.Hit) {
		if len(steps) >= maxSteps {
			return
		}
		score, _, _ := in.weigh(t, hits)
		s := Step{Place: f.Place.String(), Name: f.Name, Form: excerpt(f, t.Raw), Hits: []string{}, Learned: in.learned(), Score: max(0, score)}
		for _, h := range hits {
			if h.Class != detect.Known {
				s.Hits = append(s.Hits, h.Rule)
			}
		}
		steps = append(steps, s)
	}
	in.fields = r.AppendFields(in.fields[:0])
	for i := range in.fields {
		in.field(&in.fields[i])
	}
	return steps
}
