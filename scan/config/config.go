// Package config finds misconfiguration: in an image's configuration, in its files, and in the Dockerfiles and
// Kubernetes manifests that lie beside it. Start with [Image], [Analyzers], [Dockerfile] and [Manifest].
//
// It promises that every finding has a rule's id, a line where there is one, and a message that says how to mend it.
// Checks are tables: a new one is an entry and a pair of examples in its test. It is not for what a running cluster or
// host does (that is baseline) and not for refusing anything (that is admission).
package config

import (
	"bulkhead"
)

const (
	low      = bulkhead.Low
	medium   = bulkhead.Medium
	high     = bulkhead.High
	critical = bulkhead.Critical
)

// Check describes one check, for lists of rules and for documentation.
type Check struct {
	ID       string // "BH-D001"
	Severity bulkhead.Severity
	Title    string // what is wrong
	Fix      string // what to do, as an order
}

func (c Check) finding(line int, detail string) bulkhead.Finding {
	message := c.Title
	if detail != "" {
		message += " (" + clip(detail) + ")"
	}
	return bulkhead.Finding{Kind: bulkhead.FindingMisconfig, Rule: c.ID, Severity: c.Severity, Line: line, Message: message + ": " + c.Fix}
}

// Checks lists all checks of this package.
func Checks() []Check {
	var all []Check
	for _, c := range imageChecks() {
		all = append(all, c.Check)
	}
	for _, c := range fileChecks() {
		all = append(all, c.Check)
	}
	for _, c := range dockerfileChecks() {
		all = append(all, c.Check)
	}
	for _, c := range manifestChecks() {
		all = append(all, c.Check)
	}
	return all
}

// maxDetail is how much of what somebody wrote is repeated in a message.
const maxDetail = 120

// clip makes text from an image or manifest fit for a message: short and printable.
func clip(text string) string {
	out := make([]rune, 0, min(len(text), maxDetail))
	for _, r := range text {
		if len(out) == maxDetail {
			return string(out) + "…"
		}
		if r < ' ' || r == 0x7f || r == 0xfffd {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}
