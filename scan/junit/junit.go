// Package junit writes a report as the XML that build servers read from test runs. Start with [Write].
//
// It promises a document that servers take for a test run: one suite for each kind of result, one case for each result,
// a failure where the policy says no, and a passed case where there is nothing to tell. It is not for people, nor
// for what other tools work on: those formats are in packages sarif and sbom.
package junit

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"bulkhead"
)

// Fails says which results are failures. The others are told as skipped.
type Fails struct {
	Vulnerability func(bulkhead.Vulnerability) bool
	Finding       func(bulkhead.Finding) bool
}

type suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Suites   []suite  `xml:"testsuite"`
}

type suite struct {
	Name     string `xml:"name,attr"`
	Tests    int    `xml:"tests,attr"`
	Failures int    `xml:"failures,attr"`
	Errors   int    `xml:"errors,attr"`
	Skipped  int    `xml:"skipped,attr"`
	Cases    []test `xml:"testcase"`
}

type test struct {
	Name    string   `xml:"name,attr"`
	Class   string   `xml:"classname,attr"`
	Time    string   `xml:"time,attr"`
	Failure *outcome `xml:"failure,omitempty"`
	Error   *outcome `xml:"error,omitempty"`
	Skipped *outcome `xml:"skipped,omitempty"`
}

type outcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// kinds are the suites, in order.
var kinds = []struct {
	name string
	of   bulkhead.FindingKind // empty: vulnerabilities
}{
	{"vulnerabilities", ""},
	{"malware", bulkhead.FindingMalware},
	{"web shells", bulkhead.FindingWebShell},
	{"secrets", bulkhead.FindingSecret},
	{"misconfiguration", bulkhead.FindingMisconfig},
	{"end of life", bulkhead.FindingEOL},
}

// Write writes the report.
func Write(w io.Writer, r bulkhead.Report, fails Fails) error {
	all := suites{Name: clean("bulkhead scan " + r.Target)}
	for _, k := range kinds {
		var s suite
		if k.of == "" {
			s = vulnerabilities(r, fails)
		} else {
			s = findings(r, k.of, fails)
		}
		all.add(k.name, r.Target, s)
	}
	if len(r.Incomplete) > 0 {
		all.add("completeness", r.Target, omissions(r))
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// add counts the cases of a suite. One without cases gets one that passed: servers take an empty file for an error.
func (all *suites) add(name, target string, s suite) {
	s.Name = name
	if len(s.Cases) == 0 {
		s.Cases = []test{{Name: "none found", Class: clean(target), Time: "0"}}
	}
	s.Tests = len(s.Cases)
	for _, c := range s.Cases {
		switch {
		case c.Failure != nil:
			s.Failures++
		case c.Error != nil:
			s.Errors++
		case c.Skipped != nil:
			s.Skipped++
		}
	}
	all.Tests, all.Failures, all.Errors = all.Tests+s.Tests, all.Failures+s.Failures, all.Errors+s.Errors
	all.Suites = append(all.Suites, s)
}

func vulnerabilities(r bulkhead.Report, fails Fails) (s suite) {
	for _, v := range r.Vulnerabilities {
		what := fmt.Sprintf("%s %s: %s, %s", v.Package, v.Version, cmp.Or(string(v.Severity), "unknown"), advice(v))
		c := test{Name: clean(v.ID + " " + v.Package + " " + v.Version), Class: clean(cmp.Or(v.Path, r.Target)), Time: "0"}
		c.set(fails.Vulnerability(v), what, string(v.Severity), strings.Join(append([]string{cmp.Or(v.Title, v.ID), v.PURL}, v.URLs...), "\n"), v.VEX)
		s.Cases = append(s.Cases, c)
	}
	return s
}

func advice(v bulkhead.Vulnerability) string {
	if v.Fixed == "" {
		return "no fixed version yet"
	}
	return "fixed in " + v.Fixed
}

func findings(r bulkhead.Report, kind bulkhead.FindingKind, fails Fails) (s suite) {
	for _, f := range r.Findings {
		if f.Kind != kind {
			continue
		}
		name := f.Rule
		if f.Line > 0 {
			name = fmt.Sprintf("%s line %d", f.Rule, f.Line)
		}
		c := test{Name: clean(name), Class: clean(cmp.Or(f.Path, r.Target)), Time: "0"}
		c.set(fails.Finding(f), f.Message, string(f.Severity), "layer "+f.Layer, nil)
		s.Cases = append(s.Cases, c)
	}
	return s
}

func (t *test) set(fails bool, what, kind, text string, judged *bulkhead.Judgment) {
	o := &outcome{Message: clean(what), Type: kind, Text: clean(text)}
	switch {
	case fails:
		t.Failure = o
	case judged != nil:
		t.Skipped = &outcome{Message: clean(judged.Status + ": " + cmp.Or(judged.Reason, judged.Justification)), Text: o.Message}
	default:
		t.Skipped = o
		t.Skipped.Type = ""
	}
}

func omissions(r bulkhead.Report) (s suite) {
	for _, o := range r.Incomplete {
		s.Cases = append(s.Cases, test{Name: clean(cmp.Or(o.Path, "target")), Class: clean(r.Target), Time: "0", Error: &outcome{Message: clean(o.Message), Type: "incomplete"}})
	}
	return s
}

// clean leaves out what XML 1.0 has no way to write.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r >= ' ' && r != 0xfffe && r != 0xffff {
			return r
		}
		return '\ufffd'
	}, strings.ToValidUTF8(s, "\ufffd"))
}
