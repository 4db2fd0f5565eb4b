package profile

import (
	"slices"
	"strings"
)

// Set is a compiled list of patterns: Match costs the depth of the path, not the number
// of patterns. It does not change after [NewSet] and may be used by many at once.
type Set struct{ root branch }

// branch is one directory of the tree of patterns.
type branch struct {
	fixed map[string]*branch
	stars []starred
	end   bool   // a pattern ends here
	deep  []glob // what a final ** asks of the last name
}

type starred struct {
	glob
	to *branch
}

// NewSet compiles patterns. Bad ones match nothing, as with [Match].
func NewSet(patterns []string) *Set {
	s := &Set{}
	for _, p := range patterns {
		s.add(p)
	}
	return s
}

// Match reports whether one of the patterns stands for the path.
func (s *Set) Match(path string) bool {
	return clean(path) && s.root.match(path[1:])
}

func (s *Set) add(pattern string) {
	if !strings.HasPrefix(pattern, "/") {
		return
	}
	at := &s.root
	for rest, more := pattern[1:], true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		suffix, deep := strings.CutPrefix(part, "**")
		if deep {
			part = "*" + suffix
		}
		g, ok := parsePart(part)
		if !ok {
			return
		}
		if deep {
			if !more && !slices.Contains(at.deep, g) {
				at.deep = append(at.deep, g)
			}
			return
		}
		at = at.child(g)
	}
	at.end = true
}

func (b *branch) child(g glob) *branch {
	if g.star {
		for _, s := range b.stars {
			if s.glob == g {
				return s.to
			}
		}
		to := &branch{}
		b.stars = append(b.stars, starred{g, to})
		return to
	}
	if b.fixed == nil {
		b.fixed = map[string]*branch{}
	}
	if b.fixed[g.pre] == nil {
		b.fixed[g.pre] = &branch{}
	}
	return b.fixed[g.pre]
}

func (b *branch) match(x string) bool {
	for _, g := range b.deep {
		if g.file(x[strings.LastIndexByte(x, '/')+1:]) {
			return true
		}
	}
	name, below, deeper := strings.Cut(x, "/")
	if to := b.fixed[name]; to != nil && (!deeper && to.end || deeper && to.match(below)) {
		return true
	}
	for _, s := range b.stars {
		if !deeper && s.to.end && s.file(name) || deeper && s.name(name) && s.to.match(below) {
			return true
		}
	}
	return false
}

// covers reports whether one pattern of the set, other than q itself, stands for
// everything that q stands for.
func (s *Set) covers(q string) bool { return s.root.covers(q[1:], true) }

// covers walks with the parts of q; same is true while the walk has followed q itself.
func (b *branch) covers(q string, same bool) bool {
	part, below, deeper := strings.Cut(q, "/")
	suffix, deepQ := strings.CutPrefix(part, "**")
	if deepQ {
		part = "*" + suffix
	}
	g, ok := parsePart(part)
	if !ok {
		return false
	}
	last, lastOK := parseLast(q)
	for _, d := range b.deep {
		if lastOK && d.covers(last, true) && !(same && deepQ && d == g) {
			return true
		}
	}
	if deepQ {
		return false
	}
	if !g.star {
		if to := b.fixed[g.pre]; to != nil && (!deeper && to.end && !same || deeper && to.covers(below, same)) {
			return true
		}
	}
	for _, s := range b.stars {
		still := same && s.glob == g
		if !deeper && s.to.end && !still && s.covers(g, true) || deeper && s.covers(g, false) && s.to.covers(below, still) {
			return true
		}
	}
	return false
}

func parseLast(q string) (glob, bool) {
	part := q[strings.LastIndexByte(q, '/')+1:]
	if suffix, deep := strings.CutPrefix(part, "**"); deep {
		part = "*" + suffix
	}
	return parsePart(part)
}

// Covers reports whether pattern p stands for every path that pattern q stands for.
func Covers(p, q string) bool {
	if p == q {
		return true
	}
	return strings.HasPrefix(q, "/") && NewSet([]string{p}).covers(q)
}

// tidy sorts patterns and drops the ones that another one covers.
func tidy(patterns []string) []string {
	patterns = sorted(patterns)
	wide := NewSet(nil)
	for _, p := range patterns {
		if strings.Contains(p, "*") {
			wide.add(p)
		}
	}
	return slices.DeleteFunc(patterns, func(p string) bool { return strings.HasPrefix(p, "/") && wide.covers(p) })
}

// sorted returns a sorted copy without doubles, never nil.
func sorted(list []string) []string {
	out := append(make([]string, 0, len(list)), list...)
	slices.Sort(out)
	return slices.Compact(out)
}
