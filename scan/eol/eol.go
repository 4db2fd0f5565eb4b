// Package eol tells distributions and runtimes that get no fixes any more: whoever finds no vulnerabilities in them
// looks at a list that nobody writes any more. Start with [Find] and [Cycles].
//
// It promises to tell an end that is announced for exactly this release and has passed, and to tell apart an end with
// extended support behind it. What it does not know it does not tell. It is not for where the dates come from: those
// of the vulnerability database are given to it; [Known] has a few for when there is none.
package eol

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Cycles are the release cycles of products, by the product's name at endoflife.date: "debian", "nodejs". The newest
// comes first.
type Cycles map[string][]Cycle

// Cycle is one release that is maintained on its own: "12" of debian, "3.11" of python. Dates are as "2026-07-11".
type Cycle struct {
	Name     string `json:"name"`
	Codename string `json:"codename,omitempty"`
	End      string `json:"end,omitempty"`      // of fixes for everybody; empty while it is open or not known
	Ended    bool   `json:"ended,omitempty"`    // it is over, at a date that is not known
	Extended string `json:"extended,omitempty"` // end of extended support: by others, for some packages, or for money
}

// state is how far a release's end has come.
type state int

const (
	maintained state = iota
	extended
	ended
)

// at returns the state on a day. A release is maintained through the day of its end.
func (c Cycle) at(now time.Time) state {
	day := now.UTC().Format(time.DateOnly)
	switch {
	case !c.Ended && (c.End == "" || day <= c.End):
		return maintained
	case c.Extended != "" && day <= c.Extended:
		return extended
	}
	return ended
}

// Find returns a finding for the distribution and one for each program outside of it that has reached its end of life.
// Programs that the distribution's packages brought are the distribution's to fix and are left out. Products that
// cycles do not have are looked up in [Known].
func Find(cycles Cycles, os bulkhead.OS, packages []bulkhead.Package, now time.Time) []bulkhead.Finding {
	e := ends{cycles, Known(), now}
	var findings []bulkhead.Finding
	if f, over := e.distribution(os); over {
		findings = append(findings, f)
	}
	for _, p := range packages {
		if f, over := e.program(p); over {
			findings = append(findings, f)
		}
	}
	return findings
}

// Products returns the products whose cycles [Find] asks for.
func Products(os bulkhead.OS, packages []bulkhead.Package) []string {
	list := []string{productOf(os)}
	for _, p := range packages {
		if counts(p) {
			list = append(list, productsOf(p)...)
		}
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(product string) bool { return product == "" })
}

func productOf(os bulkhead.OS) string {
	if os.ID == "centos" && strings.Contains(os.Name, "Stream") {
		return "centos-stream"
	}
	return distributions[os.ID]
}

// counts reports whether a package is a program that no distribution fixes.
func counts(p bulkhead.Package) bool {
	return (p.Type == "bitnami" || p.Type == "generic") && p.Owner == ""
}

func productsOf(p bulkhead.Package) []string {
	if products := programs[p.Name]; len(products) > 0 {
		return products
	}
	return []string{p.Name}
}

// ends answers for one day.
type ends struct {
	told, known Cycles
	now         time.Time
}

func (e ends) distribution(os bulkhead.OS) (bulkhead.Finding, bool) {
	product := productOf(os)
	c, ok := e.cycle(product, os)
	if !ok {
		return bulkhead.Finding{}, false
	}
	f := bulkhead.Finding{Kind: bulkhead.FindingEOL, Rule: "eol-distribution", Path: "etc/os-release"}
	subject := os.Name
	if subject == "" {
		subject = product + " " + c.Name
	}
	switch c.at(e.now) {
	case ended:
		f.Severity = bulkhead.High
		f.Message = subject + over(c) + ": no package in it is fixed any more, and vulnerabilities found since are not listed" + e.instead(product)
	case extended:
		f.Severity = bulkhead.Low
		f.Message = fmt.Sprintf("%s%s: fixes come from its extended support alone, until %s and not for all packages or users%s", subject, over(c), c.Extended, e.instead(product))
	default:
		return f, false
	}
	return f, true
}

func (e ends) program(p bulkhead.Package) (bulkhead.Finding, bool) {
	if !counts(p) {
		return bulkhead.Finding{}, false
	}
	products := productsOf(p)
	// One program may be maintained by several, as Java is: as long as one of them is known to fix it, it is not over.
	var last Cycle
	var by string
	for _, product := range products {
		c, ok := e.cycle(product, bulkhead.OS{Version: p.Version})
		if ok && c.at(e.now) == maintained {
			return bulkhead.Finding{}, false
		}
		if ok && (by == "" || c.at(e.now) < last.at(e.now)) {
			last, by = c, product
		}
	}
	if by == "" {
		return bulkhead.Finding{}, false
	}
	f := bulkhead.Finding{
		Kind: bulkhead.FindingEOL, Rule: "eol-program", Severity: bulkhead.Medium,
		Path: p.Path, Layer: p.Layer, Base: p.Base,
		Message: fmt.Sprintf("%s %s (release %s)%s: vulnerabilities are not fixed in it any more%s", p.Name, p.Version, last.Name, over(last), e.instead(by)),
	}
	if last.at(e.now) == extended {
		f.Severity = bulkhead.Low
		f.Message = fmt.Sprintf("%s %s (release %s)%s: extended support goes on until %s%s", p.Name, p.Version, last.Name, over(last), last.Extended, e.instead(by))
	}
	return f, true
}

func over(c Cycle) string {
	if c.End == "" {
		return " has reached its end of life"
	}
	return " has reached its end of life on " + c.End
}

// instead names the newest release that is maintained.
func (e ends) instead(product string) string {
	for _, c := range e.of(product) {
		if c.at(e.now) == maintained {
			return "; the newest maintained release is " + c.Name
		}
	}
	return ""
}

func (e ends) of(product string) []Cycle {
	if told := e.told[product]; len(told) > 0 {
		return told
	}
	return e.known[product]
}

// cycle finds the release to which a version belongs: the one with the longest name that the version begins with.
func (e ends) cycle(product string, os bulkhead.OS) (best Cycle, ok bool) {
	for _, c := range e.of(product) {
		if belongs(os, c) && (!ok || len(c.Name) > len(best.Name)) {
			best, ok = c, true
		}
	}
	return best, ok
}

func belongs(os bulkhead.OS, c Cycle) bool {
	if os.Version == "" {
		return c.Codename != "" && strings.EqualFold(c.Codename, os.Codename)
	}
	rest, ok := strings.CutPrefix(os.Version, c.Name)
	return ok && c.Name != "" && (rest == "" || rest[0] < '0' || rest[0] > '9')
}
