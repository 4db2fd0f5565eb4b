package vuln

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"bulkhead"
)

// The limits of an ignore file, which may come from the repository that is being scanned.
const (
	maxIgnoreFile = 1 << 20
	maxIgnores    = 10_000
)

// Ignores is what an ignore file says.
type Ignores struct {
	Name    string
	Entries []Ignore
}

// Ignore is one entry of an ignore file: findings that somebody accepts, and why.
type Ignore struct {
	ID      string    // of the vulnerability, or an alias; empty: any
	Package string    // pattern, * stands for anything; empty: any
	PURL    string    // pattern, or a purl that leaves version and qualifiers open
	Path    string    // pattern
	Reason  string    // never empty
	Expires time.Time // its last day; zero: none
	File    string
	Line    int
}

// FileError is what is wrong with an ignore file, and where.
type FileError struct {
	File         string
	Line, Column int
	Problem      string
}

func (e *FileError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
}

// LoadIgnores reads an ignore file:
//
//	ignore:
//	  - id: CVE-2024-1234
//	    package: "linux-*"
//	    reason: the driver is not in our kernels
//	    expires: 2027-01-31
//
// An entry names at least one of id, package, purl and path; reason is required. Every problem is told, each as a
// [*FileError]; then there are no Ignores.
func LoadIgnores(path string) (*Ignores, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the ignore file: %w", err)
	}
	return ParseIgnores(path, data)
}

// ParseIgnores is [LoadIgnores] for what was read already.
func ParseIgnores(name string, data []byte) (*Ignores, error) {
	p := &ignoreParser{file: name}
	if len(data) > maxIgnoreFile {
		return nil, p.at(nil, "the file is larger than %d bytes", maxIgnoreFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, p.syntax(err)
	}
	if doc.Kind == 0 {
		return &Ignores{Name: name}, nil // empty
	}
	entries := p.document(doc.Content[0])
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	return &Ignores{Name: name, Entries: entries}, nil
}

type ignoreParser struct {
	file     string
	problems []error
}

func (p *ignoreParser) at(n *yaml.Node, format string, a ...any) error {
	e := &FileError{File: p.file, Line: 1, Column: 1, Problem: fmt.Sprintf(format, a...)}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

// syntax is an error of the YAML reader, which says the line in its text.
func (p *ignoreParser) syntax(err error) error {
	e := &FileError{File: p.file, Line: 1, Column: 1, Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	if _, after, ok := strings.Cut(e.Problem, "line "); ok {
		number, problem, _ := strings.Cut(after, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			e.Line, e.Problem = n, problem
		}
	}
	return e
}

func (p *ignoreParser) complain(n *yaml.Node, format string, a ...any) {
	if len(p.problems) < 100 {
		p.problems = append(p.problems, p.at(n, format, a...))
	}
}

func (p *ignoreParser) document(n *yaml.Node) (entries []Ignore) {
	if n.Kind != yaml.MappingNode {
		p.complain(n, "write `ignore:` and a list of entries below it")
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Value != "ignore" {
			p.complain(key, "%q is not known here; write `ignore:`", shorten(key.Value, 40))
			continue
		}
		if value.Kind != yaml.SequenceNode {
			p.complain(value, "write a list of entries, each beginning with `- `")
			continue
		}
		if len(value.Content) > maxIgnores {
			p.complain(value, "%d entries, the limit is %d; use patterns", len(value.Content), maxIgnores)
			continue
		}
		for _, e := range value.Content {
			entries = append(entries, p.entry(e))
		}
	}
	return entries
}

func (p *ignoreParser) entry(n *yaml.Node) Ignore {
	e := Ignore{File: p.file, Line: n.Line}
	if n.Kind != yaml.MappingNode {
		p.complain(n, "write an entry with id, package, purl or path, and a reason")
		return e
	}
	fields := map[string]*string{"id": &e.ID, "package": &e.Package, "purl": &e.PURL, "path": &e.Path, "reason": &e.Reason}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if seen[key.Value] {
			p.complain(key, "%s is here twice", shorten(key.Value, 40))
		}
		seen[key.Value] = true
		field, ok := fields[key.Value]
		switch {
		case key.Value == "expires":
			e.Expires = p.date(value)
		case !ok:
			p.complain(key, "%q is not known; write id, package, purl, path, reason or expires", shorten(key.Value, 40))
		case value.Kind != yaml.ScalarNode || strings.TrimSpace(value.Value) == "" || len(value.Value) > maxReason:
			p.complain(value, "%s needs a text of 1 to %d bytes", key.Value, maxReason)
		default:
			*field = strings.TrimSpace(value.Value)
		}
	}
	if e.ID+e.Package+e.PURL+e.Path == "" {
		p.complain(n, "the entry would hold for everything; name an id, package, purl or path")
	}
	if !seen["reason"] {
		p.complain(n, "the entry has no reason; say why the finding is accepted")
	}
	return e
}

func (p *ignoreParser) date(n *yaml.Node) time.Time {
	t, err := time.Parse(time.DateOnly, n.Value)
	if err != nil {
		p.complain(n, "%q is no date; write it as 2027-01-31", shorten(n.Value, 40))
	}
	return t
}

// Over reports whether the entry's last day is past.
func (e *Ignore) Over(now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires.AddDate(0, 0, 1))
}

// holds reports whether the entry is about a vulnerability, expired or not.
func (e *Ignore) holds(v *bulkhead.Vulnerability, pkg purl) bool {
	if e.ID != "" && !wildcard(e.ID, v.ID) && !slices.ContainsFunc(v.Aliases, func(name string) bool { return wildcard(e.ID, name) }) {
		return false
	}
	if e.PURL != "" && !wildcard(e.PURL, v.PURL) && !parsePURL(e.PURL).covers(pkg) {
		return false
	}
	return (e.Package == "" || wildcard(e.Package, v.Package)) && (e.Path == "" || wildcard(e.Path, v.Path))
}

// wildcard matches a pattern in which * stands for any text. It takes time in proportion to both lengths at most.
func wildcard(pattern, s string) bool {
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// ignoring applies entries: those with a plain id are found by it, as a file may have thousands.
type ignoring struct {
	byID  map[string][]*Ignore
	other []*Ignore
	all   []*Ignore
	used  map[*Ignore]bool
}

func newIgnoring(files []*Ignores) *ignoring {
	x := &ignoring{byID: map[string][]*Ignore{}, used: map[*Ignore]bool{}}
	for _, f := range files {
		for i := range f.Entries {
			e := &f.Entries[i]
			x.all = append(x.all, e)
			if e.ID == "" || strings.Contains(e.ID, "*") {
				x.other = append(x.other, e)
			} else {
				x.byID[e.ID] = append(x.byID[e.ID], e)
			}
		}
	}
	return x
}

func (x *ignoring) about(v *bulkhead.Vulnerability, now time.Time) (judged *bulkhead.Judgment) {
	if len(x.all) == 0 {
		return nil
	}
	pkg := parsePURL(v.PURL)
	try := func(e *Ignore) {
		if !e.holds(v, pkg) {
			return
		}
		x.used[e] = true
		if e.Over(now) || judged != nil {
			return
		}
		judged = &bulkhead.Judgment{Status: statusIgnored, Reason: e.Reason, By: fmt.Sprintf("%s:%d", e.File, e.Line)}
		if !e.Expires.IsZero() {
			judged.Until = e.Expires.Format(time.DateOnly)
		}
	}
	for _, name := range append([]string{v.ID}, v.Aliases...) {
		for _, e := range x.byID[name] {
			try(e)
		}
	}
	for _, e := range x.other {
		try(e)
	}
	return judged
}

func (x *ignoring) verdicts(now time.Time) (v Verdicts) {
	for _, e := range x.all {
		switch {
		case e.Over(now) && x.used[e]:
			v.Expired = append(v.Expired, *e)
		case !x.used[e]:
			v.Unused = append(v.Unused, *e)
		}
	}
	return v
}
