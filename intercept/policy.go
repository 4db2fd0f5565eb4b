package intercept

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bulkhead/waf"
	"bulkhead/waf/message"
	"bulkhead/waf/portrait"
)

// Policy is what a proxy does with requests. It may be another from one request to the next.
type Policy struct {
	Mode       Mode
	Exceptions []Exception
	Patches    []Patch
	Portrait   *portrait.Portrait // of the application; nil: none
	LearnFirst int                // requests that are taken into the portrait in every mode before it is compared with: it is of a new image
}

// Exception is a rule that does not count on some requests.
type Exception struct {
	Rule string // as reasons name it
	Path string // that the request's path begins with; "{…}" is any one segment; empty: any
	Name string // of the parameter or header; empty: any
}

func (e Exception) covers(r waf.Reason, path string) bool {
	return r.Rule == e.Rule && underPath(e.Path, path) && (e.Name == "" || r.Name == e.Name)
}

// Patch demands something of a parameter of an endpoint.
type Patch struct {
	ID      string
	Method  string         // empty: any
	Path    string         // as [Exception.Path]
	Name    string         // of the parameter; empty: the endpoint is closed
	Pattern *regexp.Regexp // the whole value; nil: no value passes
}

// CompilePattern makes the expression of a [Patch] from what a person wrote: for the whole value.
func CompilePattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxPattern {
		return nil, fmt.Errorf("the pattern has %d bytes, the limit is %d", len(text), maxPattern)
	}
	return regexp.Compile(`\A(?:` + text + `)\z`)
}

const maxPattern = 1000 // bytes: compiled it is some hundred times that

// underPath says whether a path begins so. Where the beginning has places for values it is compared by segments.
func underPath(begin, path string) bool {
	if !strings.Contains(begin, "{") {
		return strings.HasPrefix(path, begin)
	}
	want, have := strings.Split(begin, "/"), strings.Split(path, "/")
	if len(want) > len(have) {
		return false
	}
	for i, w := range want {
		if w != have[i] && !strings.HasPrefix(w, "{") {
			return false
		}
	}
	return true
}

func (p *Policy) excepted(r waf.Reason, path string) bool {
	return slices.ContainsFunc(p.Exceptions, func(e Exception) bool { return e.covers(r, path) })
}

// except takes off what exceptions cover.
func (p *Policy) except(e *waf.Engine, v waf.Verdict, path string) waf.Verdict {
	if len(p.Exceptions) == 0 || v.Action == waf.Pass {
		return v
	}
	v.Reasons = slices.DeleteFunc(v.Reasons, func(r waf.Reason) bool { return p.excepted(r, path) })
	v.Score = 0
	for _, r := range v.Reasons {
		v.Score = max(v.Score, r.Score)
	}
	v.Action = e.ActionAt(v.Score)
	return v
}

// patch adds what the patches of the endpoint demand in vain.
func (p *Policy) patch(v waf.Verdict, r *message.Request, method, path string) waf.Verdict {
	for _, one := range p.Patches {
		if one.Method != "" && one.Method != method || !underPath(one.Path, path) {
			continue
		}
		if reason, breaks := one.broken(r); breaks {
			v.Reasons = append([]waf.Reason{reason}, v.Reasons...)
			v.Action, v.Score = waf.Block, reason.Score
		}
	}
	return v
}

func (p Patch) broken(r *message.Request) (waf.Reason, bool) {
	reason := waf.Reason{Rule: "patch-" + p.ID, Class: "virtual-patch", Score: 100, Name: p.Name, Message: "a virtual patch does not let this value through"}
	if p.Name == "" {
		reason.Message = "a virtual patch closes this endpoint"
		return reason, true
	}
	for _, f := range portrait.Values(r) {
		if f.Name == p.Name && (p.Pattern == nil || !p.Pattern.MatchString(f.Value)) {
			reason.Place = f.Place.String()
			return reason, true
		}
	}
	return reason, false
}

// deviates is the score from which a deviation from the portrait is told. It refuses nothing by itself.
const deviates = 60

// compare takes what passes into the portrait, or tells how it differs from it.
func (p *Policy) compare(r *message.Request, source, path string, v waf.Verdict) waf.Verdict {
	if p.Portrait == nil {
		return v
	}
	if _, n := p.Portrait.Learned(); p.Mode == Learn || n < p.LearnFirst {
		if v.Action == waf.Pass {
			p.Portrait.Learn(r, source)
		}
		return v
	}
	for _, d := range p.Portrait.Judge(r) {
		reason := waf.Reason{Rule: d.Rule, Class: "portrait", Score: d.Score, Place: d.Place, Name: d.Name, Message: d.Message}
		if p.excepted(reason, path) {
			continue
		}
		v.Reasons = append(v.Reasons, reason)
		if d.Score >= deviates && v.Action == waf.Pass {
			v.Action, v.Score = waf.Alert, d.Score
		}
	}
	return v
}

// endpoint is a path with its values replaced by what they are.
func (p *Policy) endpoint(path string) string {
	if p.Portrait == nil {
		return portrait.Template(path)
	}
	return p.Portrait.Template(path)
}
