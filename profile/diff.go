package profile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
)

// ChangeKind says what happened to an entry.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "added"
	Removed ChangeKind = "removed"
	Changed ChangeKind = "changed" // the same executable or script with other content or marks
)

// Change is one difference between two profiles.
type Change struct {
	Section bulkhead.Section `json:"section"`
	Kind    ChangeKind       `json:"kind"`
	Value   string           `json:"value"`            // as an [bulkhead.Approval] names it
	Detail  string           `json:"detail,omitempty"` // of a changed one: what it was and what it is
}

// String writes a change as a line of a patch: "+ writes /tmp/php*".
func (c Change) String() string {
	sign := map[ChangeKind]string{Added: "+", Removed: "-", Changed: "~"}[c.Kind]
	line := fmt.Sprintf("%s %s %s", sign, c.Section, c.Value)
	if c.Detail != "" {
		line += " (" + c.Detail + ")"
	}
	return line
}

// Diff lists what the second profile has otherwise than the first, by section and value.
// It looks at what is allowed, not at dates and measures.
func Diff(old, latest bulkhead.Profile) []Change {
	before, after := entries(Tidy(old)), entries(Tidy(latest))
	changes := []Change{}
	for e, mark := range after {
		was, had := before[e]
		switch {
		case !had:
			changes = append(changes, Change{Section: e.section, Kind: Added, Value: e.value})
		case was != mark:
			changes = append(changes, Change{Section: e.section, Kind: Changed, Value: e.value, Detail: was + " → " + mark})
		}
	}
	for e := range before {
		if _, has := after[e]; !has {
			changes = append(changes, Change{Section: e.section, Kind: Removed, Value: e.value})
		}
	}
	order := Sections()
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(slices.Index(order, a.Section)-slices.Index(order, b.Section), strings.Compare(a.Value, b.Value))
	})
	return changes
}

// entry is one thing that a profile allows, in the words of an approval.
type entry struct {
	section bulkhead.Section
	value   string
}

// entries lists what a profile allows, each with what else is known of it.
func entries(p bulkhead.Profile) map[entry]string {
	out := map[entry]string{}
	add := func(section bulkhead.Section, value, mark string) {
		e := entry{section, value}
		if old, double := out[e]; double && old != mark {
			mark = old + " or " + mark
		}
		out[e] = mark
	}
	for _, e := range p.Executables {
		mark := marks(e)
		if len(e.Applets) == 0 {
			add(bulkhead.SectionExecutables, e.Path, mark)
		}
		for _, applet := range e.Applets {
			add(bulkhead.SectionExecutables, e.Path+"#"+applet, mark)
		}
	}
	for _, s := range p.Scripts {
		add(bulkhead.SectionScripts, scriptValue(s), scriptMarks(s))
	}
	for section, list := range map[bulkhead.Section][]string{
		bulkhead.SectionSyscalls: p.Syscalls, bulkhead.SectionWrites: p.Writes, bulkhead.SectionReads: p.Reads,
		bulkhead.SectionCapabilities: p.Capabilities, bulkhead.SectionMemory: p.Anonymous,
	} {
		for _, value := range list {
			add(section, value, "")
		}
	}
	for _, family := range p.Sockets {
		add(bulkhead.SectionSyscalls, socketPrefix+family, "")
	}
	for _, l := range p.Listens {
		add(bulkhead.SectionListens, PortValue(l), "")
	}
	for _, q := range p.Peers {
		add(bulkhead.SectionPeers, PeerValue(q), "")
	}
	return out
}

func marks(e bulkhead.Executable) string {
	words := []string{short(e.Digest)}
	for _, m := range []struct {
		name string
		set  bool
	}{{"interpreter", e.Interpreter}, {"foreign", e.Foreign}, {"approved", e.Approved}} {
		if m.set {
			words = append(words, m.name)
		}
	}
	return strings.Join(words, ", ")
}

// scriptMarks leaves the digest of foreign bytes out: they are written anew at every start.
func scriptMarks(s bulkhead.Script) string {
	if s.Foreign {
		return "foreign"
	}
	return short(s.Digest)
}

func short(digest string) string {
	if digest == "" {
		return "no digest"
	}
	return digest[:min(len(digest), len("sha256:")+12)]
}

func scriptValue(s bulkhead.Script) string {
	if s.Interpreter == "" {
		return s.Path
	}
	return s.Path + "#" + s.Interpreter
}

// PortValue writes a port as an approval names it: "tcp/443".
func PortValue(p bulkhead.Port) string { return fmt.Sprintf("%s/%d", p.Protocol, p.Port) }

// PeerValue writes a peer as an approval names it: "tcp 10.0.0.0/8 443", "tcp workload:docker/db 5432".
func PeerValue(p bulkhead.Peer) string {
	who := p.CIDR
	if p.Workload != "" {
		who = workloadPrefix + p.Workload
	}
	return fmt.Sprintf("%s %s %d", p.Protocol, who, p.Port)
}
