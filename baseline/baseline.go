// Package baseline says how hard a host, its engines and its cluster are: facts are collected once, and checks, which are
// data, judge them. Start with [Run] and [Load].
//
// It promises that a check passes only on what was really seen: a fact that cannot be read makes it "manual", with the
// reason. It runs no program, and changes nothing: package repair does that. It is not for what a workload does (that is
// profile) nor for refusing anything (that is admission).
package baseline

import (
	"bulkhead"
	"bulkhead/baseline/repair"
	"bulkhead/rule/condition"
)

// Status is the answer of one check.
type Status string

// The answers. Manual means that a person has to look, and the evidence says why.
const (
	Pass          Status = "pass"
	Fail          Status = "fail"
	Manual        Status = "manual"
	NotApplicable Status = "not-applicable"
)

// The layers.
const (
	Host       = "host"
	Docker     = "docker"
	Containerd = "containerd"
	Kubernetes = "kubernetes"
	Manifest   = "manifest"
)

// Maps tells where others ask for the same: sections by number, clauses, techniques.
type Maps struct {
	CIS    []string `json:"cis"`    // "docker/2.2", "kubernetes/1.2.1", "debian/1.5.1"
	Attack []string `json:"attack"` // techniques of MITRE ATT&CK
	NSA    []string `json:"nsa"`    // topics of the Kubernetes hardening guide of NSA and CISA
	MLPS   []string `json:"mlps"`   // clauses of GB/T 22239-2019, level 3
}

// Check is one check. When says where it is about anything; exactly one of Test and Bad is there.
type Check struct {
	ID, Title, Why, Remediation string
	Layer                       string
	Group                       string // the facts that it needs: "host", "docker", "containerd", "node", "cluster"
	Severity                    bulkhead.Severity
	Maps                        Maps
	When                        *condition.Expression // nil: always
	Test                        *condition.Expression // true: pass
	Bad                         *condition.Expression // a list of what is wrong; empty: pass
	Evidence                    *condition.Expression // what it was decided on, as texts; nil: Show
	Show                        [][]string            // the facts that it reads
	Fix                         []repair.Action
}

// Result is the answer of one check, with what it was decided on.
type Result struct {
	ID          string            `json:"id"`
	Title       string            `json:"title"`
	Layer       string            `json:"layer"`
	Status      Status            `json:"status"`
	Severity    bulkhead.Severity `json:"severity"`
	Evidence    string            `json:"evidence"`
	Remediation string            `json:"remediation"`
	Fixable     bool              `json:"fixable"`
	Maps        Maps              `json:"maps"`
	Why         string            `json:"why"`
	Path        string            `json:"path,omitempty"` // of a manifest
	Line        int               `json:"line,omitempty"`
	Exception   *Exception        `json:"exception,omitempty"` // somebody answers for it
}

// Counts says how many checks have which answer.
type Counts struct {
	Pass          int `json:"pass"`
	Fail          int `json:"fail"`
	Manual        int `json:"manual"`
	NotApplicable int `json:"notApplicable"`
	Excepted      int `json:"excepted"` // of those that fail
}

// Report is the answer of an audit. Its JSON is a promise to scripts.
type Report struct {
	Checks []Result           `json:"checks"`
	Score  float64            `json:"score"`  // 0 to 100
	Layers map[string]float64 `json:"layers"` // the score of each
	Counts Counts             `json:"counts"`

	Incomplete []string `json:"incomplete"` // files that could not be read, so that checks are manual for them
}

// weights are what a check counts in the score.
var weights = map[bulkhead.Severity]float64{bulkhead.Low: 1, bulkhead.Medium: 3, bulkhead.High: 6, bulkhead.Critical: 10}

// NewReport counts results. The score is the share of what passed of what passed or failed, by weight: what nobody could
// decide does not count, and an exception does not make it better.
func NewReport(results []Result) Report {
	r := Report{Checks: results, Layers: map[string]float64{}, Incomplete: []string{}}
	if r.Checks == nil {
		r.Checks = []Result{}
	}
	by := map[string][]Result{}
	for _, c := range results {
		r.Counts.add(c)
		by[c.Layer] = append(by[c.Layer], c)
	}
	r.Score = score(results)
	for layer, list := range by {
		if decided(list) {
			r.Layers[layer] = score(list)
		}
	}
	return r
}

func (n *Counts) add(r Result) {
	switch r.Status {
	case Pass:
		n.Pass++
	case Fail:
		n.Fail++
		if r.Exception != nil {
			n.Excepted++
		}
	case Manual:
		n.Manual++
	case NotApplicable:
		n.NotApplicable++
	}
}

func decided(list []Result) bool {
	for _, r := range list {
		if r.Status == Pass || r.Status == Fail {
			return true
		}
	}
	return false
}

func score(list []Result) float64 {
	var have, all float64
	for _, r := range list {
		if r.Status != Pass && r.Status != Fail {
			continue
		}
		all += weights[r.Severity]
		if r.Status == Pass {
			have += weights[r.Severity]
		}
	}
	if all == 0 {
		return 0
	}
	return float64(int(have/all*1000+0.5)) / 10
}

// Failed returns the checks at or above a severity that failed and that nobody answers for.
func (r Report) Failed(from bulkhead.Severity) (failed []Result) {
	for _, c := range r.Checks {
		if c.Status == Fail && c.Exception == nil && c.Severity.Rank() >= from.Rank() {
			failed = append(failed, c)
		}
	}
	return failed
}
