package profile

import (
	"fmt"
	"strings"
)

// Prefix is a pattern in the form that a kernel program can decide with hashes of path
// prefixes. Dir, Deep, Exact and Suffix have to be honoured. Stem, Base, Depth and Plain
// narrow it further: a program that does not look at them allows more than the pattern,
// never less.
type Prefix struct {
	Dir    string // the longest fixed directory; with Exact the whole path
	Exact  bool   // this path and nothing else
	Deep   bool   // any depth below Dir; else its direct children only
	Suffix string // what has to follow the last "." of the name; empty: anything

	Stem  string // how the first part below Dir begins
	Base  string // the whole last name, where it is fixed
	Depth int    // with Deep: how many parts below Dir, 0 for any number
	Plain bool   // the name has no script suffix
}

// Compile lowers patterns, one Prefix for each good one, in their order. Bad ones are
// left out: they match nothing.
func Compile(patterns []string) []Prefix {
	out := make([]Prefix, 0, len(patterns))
	for _, p := range patterns {
		if CheckPattern(p) == nil {
			out = append(out, compile(p))
		}
	}
	return out
}

func compile(pattern string) Prefix {
	parts := strings.Split(pattern[1:], "/")
	var dir strings.Builder
	for i, part := range parts {
		g, deep := partOf(part)
		if g.star {
			return open(dir.String(), g, parts[i:], deep)
		}
		dir.WriteString("/" + g.pre)
	}
	return Prefix{Dir: dir.String(), Exact: true}
}

// open lowers the parts from the first one with a star.
func open(dir string, first glob, parts []string, deep bool) Prefix {
	last, anyDepth := partOf(parts[len(parts)-1])
	p := Prefix{Dir: dir, Stem: first.pre, Deep: deep || len(parts) > 1}
	if p.Deep && !anyDepth {
		p.Depth = len(parts)
	}
	if !last.star {
		p.Base, p.Suffix = last.pre, suffixOf(last.pre)
		return p
	}
	p.Suffix, p.Plain = suffixOf(last.suf), scriptSuffix(last.suf) == ""
	return p
}

func partOf(part string) (g glob, deep bool) {
	suffix, deep := strings.CutPrefix(part, "**")
	if deep {
		part = "*" + suffix
	}
	g, _ = parsePart(part)
	return g, deep
}

func suffixOf(text string) string {
	if dot := strings.LastIndexByte(text, '.'); dot >= 0 {
		return text[dot+1:]
	}
	return ""
}

// Allows is what the kernel has to answer for a clean absolute path, with all the fields.
func (p Prefix) Allows(path string) bool {
	if p.Exact {
		return path == p.Dir
	}
	below, under := strings.CutPrefix(path, p.Dir+"/")
	name := below[strings.LastIndexByte(below, '/')+1:]
	depth := 1 + strings.Count(below, "/")
	switch {
	case !under || name == "" || !strings.HasPrefix(below, p.Stem):
		return false
	case p.Deep && p.Depth > 0 && depth != p.Depth, !p.Deep && depth != 1:
		return false
	case p.Suffix != "" && suffixOf(name) != p.Suffix, p.Base != "" && name != p.Base:
		return false
	}
	return !p.Plain || scriptSuffix(name) == ""
}

// Coarse is p with the four fields that have to be honoured, and no others.
func (p Prefix) Coarse() Prefix {
	return Prefix{Dir: p.Dir, Exact: p.Exact, Deep: p.Deep, Suffix: p.Suffix}
}

// Excess says in words what p allows beyond the pattern it was made from; nothing when
// both are the same.
func (p Prefix) Excess(pattern string) string {
	if p.Exact || tight(p, pattern) {
		return ""
	}
	what := "any name"
	switch {
	case p.Base != "":
		what = fmt.Sprintf("the name %q", p.Base)
	case p.Suffix != "":
		what = fmt.Sprintf("any name that ends in .%s", p.Suffix)
	}
	switch {
	case !p.Deep:
		return fmt.Sprintf("%s directly in %s/%s*", what, p.Dir, p.Stem)
	case p.Depth > 0:
		return fmt.Sprintf("%s %d levels below %s/%s*", what, p.Depth, p.Dir, p.Stem)
	}
	return fmt.Sprintf("%s at any depth below %s/%s*", what, p.Dir, p.Stem)
}

// tight reports whether no more is left of the pattern than what the fields say.
func tight(p Prefix, pattern string) bool {
	parts := strings.Split(pattern[1:], "/")
	parts = parts[strings.Count(p.Dir, "/"):]
	for i, part := range parts {
		g, deep := partOf(part)
		lastly := i == len(parts)-1
		switch {
		case !g.star && !lastly, g.star && i > 0 && g.pre != "":
			return false // a fixed or half fixed part behind the first star is not looked at
		case g.star && !lastly && g.suf != "", g.star && lastly && g.suf != "" && g.suf != "."+p.Suffix:
			return false
		case deep && len(parts) > 1:
			return false
		}
	}
	return p.Depth > 0 || !p.Deep || len(parts) == 1
}
