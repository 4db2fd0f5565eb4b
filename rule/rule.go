// Package rule tells known attacks from ordinary behaviour: rules written in YAML with CEL
// conditions, evaluated on every [bulkhead.Event] of the node. Start with [Default] and
// [Set.Eval].
//
// It promises that a rule which loads is type-checked, has a bounded cost and names its ATT&CK
// technique; that a bad file is refused whole, with file, line, column and the next step; and
// that evaluating the default set on a common event costs microseconds. A Set never changes
// and may be used by many goroutines: whoever reloads keeps the last good one.
//
// It is not the place for what a workload normally does (package profile), and it decides
// nothing: it says what matched, the caller acts.
package rule

import (
	"slices"

	"bulkhead"
)

// Action says what the caller should do when a rule matches.
type Action string

// The actions.
const (
	Alert    Action = "alert"      // tell
	Kill     Action = "kill"       // tell, and end the process
	Pause    Action = "pause"      // tell, and hold the container still for a while
	Isolate  Action = "quarantine" // tell, and take the workload off the network for a while
	Snapshot Action = "snapshot"   // tell, and keep what can be seen of the container
)

// Rule is one known attack.
type Rule struct {
	ID          string               `yaml:"id" json:"id"`
	Title       string               `yaml:"title" json:"title"`
	Description string               `yaml:"description" json:"description"` // what happened, why it matters, what to do
	Severity    bulkhead.Severity    `yaml:"severity" json:"severity"`
	Technique   string               `yaml:"technique" json:"technique"` // ATT&CK id: "T1059.004"
	Tactic      string               `yaml:"tactic" json:"tactic"`       // one of the technique's tactics: "execution"
	Action      Action               `yaml:"action" json:"action"`
	Events      []bulkhead.EventKind `yaml:"events" json:"events"`
	When        string               `yaml:"when" json:"when"`       // CEL, bool
	Message     string               `yaml:"message" json:"message"` // CEL, string
	Exceptions  []Exception          `yaml:"exceptions" json:"exceptions"`
	Needs       Needs                `yaml:"needs" json:"needs"`
	Enabled     bool                 `yaml:"enabled" json:"enabled"`
	Source      string               `yaml:"-" json:"source"` // FILE:LINE of the last document that said something about it
}

// Exception is a condition under which a rule stays quiet.
type Exception struct {
	Name string `yaml:"name" json:"name"`
	When string `yaml:"when" json:"when"` // CEL, bool
}

// Needs is what the sensor has to deliver beside programs, connections and opens for writing.
type Needs struct {
	Syscalls []string `yaml:"syscalls" json:"syscalls"` // by kernel name: "openat"
	Reads    []string `yaml:"reads" json:"reads"`       // patterns of paths whose opening for reading must be told, see [MatchPath]
}

// Match is a rule that an event met.
type Match struct {
	Rule    *Rule
	Message string
}

// Rules returns the rules by id, those that are switched off included.
func (s *Set) Rules() []Rule {
	rules := make([]Rule, 0, len(s.rules))
	for _, r := range s.rules {
		rules = append(rules, *r)
	}
	return rules
}

// Needs returns what the rules that are switched on need, sorted: the sensor asks the kernel
// for exactly this.
func (s *Set) Needs() Needs {
	var n Needs
	for _, r := range s.rules {
		if r.Enabled {
			n.Syscalls = append(n.Syscalls, r.Needs.Syscalls...)
			n.Reads = append(n.Reads, r.Needs.Reads...)
		}
	}
	slices.Sort(n.Syscalls)
	slices.Sort(n.Reads)
	return Needs{Syscalls: slices.Compact(n.Syscalls), Reads: slices.Compact(n.Reads)}
}
