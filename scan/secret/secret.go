// Package secret finds keys, tokens and passwords in files and in an image's configuration. Start with [Analyzers] and
// [Image].
//
// It promises never to show a secret: findings have its first characters and its length. Each file is read once for all
// keywords of all rules; a pattern is tried only where one of its keywords is; a shape is checked as far as it goes, a
// key is parsed, a checksum computed. It does not try secrets out: nothing is sent anywhere. It is not for files that
// are secret by their permissions; that is scan/config.
package secret

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxFile is the largest file that is read. Secrets that people leave behind are in files that people write; programs
// with keys inside are seldom larger either. A larger file is not told as omitted: every image has some.
const maxFile = 16 << 20

// Analyzers returns the analyzer of secrets.
func Analyzers() []look.Analyzer {
	s := shared()
	return []look.Analyzer{{Name: "secret", Version: 1, Kind: look.Secret, Wants: wants, Look: s.look}}
}

// scanner has all rules, compiled.
type scanner struct {
	*detector
	known []known
}

// shared is compiled once, when it is first needed: it never changes, and takes ten milliseconds.
var shared = sync.OnceValue(newScanner)

func newScanner() *scanner {
	d, err := newDetector(allRules())
	if err != nil {
		panic(err) // a mistake in our own table, which a test finds
	}
	return &scanner{detector: d, known: knownFiles()}
}

func (s *scanner) look(ctx context.Context, f *image.File) (look.Facts, error) {
	b, err := f.Bytes(maxFile)
	if err != nil {
		return look.Facts{}, err
	}
	return look.Facts{Findings: s.scan(f.Path, b)}, ctx.Err()
}

// Scan finds the secrets in one text, as the analyzer does in a file: for Dockerfiles and manifests beside an image.
func Scan(path string, content []byte) []bulkhead.Finding {
	found := shared().scan(path, content)
	for i := range found {
		found[i].Path = path
	}
	return found
}

func (s *scanner) scan(path string, b []byte) []bulkhead.Finding {
	if passive(b) {
		return nil
	}
	isText := bytes.IndexByte(b[:min(len(b), 8<<10)], 0) < 0
	var found []match
	if isText {
		found = s.inKnown(path, b)
	}
	found = append(found, s.find(b, isText)...)
	if isText && isConfiguration(path) && len(b) < 1<<20 {
		found = append(found, assignments(b)...)
	}
	return s.findings(b, path, isText, distinct(found))
}

// inKnown looks into a file that is there for secrets, by its own rule.
func (s *scanner) inKnown(path string, b []byte) []match {
	var found []match
	for i := range s.known {
		k := &s.known[i]
		if !k.is(path) {
			continue
		}
		for _, at := range k.find(b) {
			found = append(found, match{rule: &k.rule, start: at.start, end: at.end})
		}
	}
	return found
}

func (s *scanner) findings(b []byte, path string, isText bool, matches []match) []bulkhead.Finding {
	var found []bulkhead.Finding
	slices.SortStableFunc(matches, func(a, b match) int { return cmp.Compare(a.start, b.start) })
	lines := lineCounter{text: b}
	for _, m := range matches {
		severity, note := m.rule.severity, ""
		if m.rule.id == "private-key" {
			if severity, note, m.end = privateKey(b, m.start); severity == "" {
				continue
			}
			if strings.Contains(path, "snakeoil") {
				severity, note = bulkhead.Low, "it is the self-signed one of the package ssl-cert, which nobody should trust"
			}
		}
		// Libraries of cryptography carry keys with which they test themselves when they start.
		if isFixture(path, m.rule) || !isText && m.rule.id == "private-key" && isInstalled(path) || isText && allowed(b, m.start) {
			continue
		}
		f := finding(m, severity, note, b)
		if isText {
			f.Line = lines.at(m.start)
			f.Evidence[0].Line = f.Line
		}
		found = append(found, f)
	}
	return found
}

func finding(m match, severity bulkhead.Severity, note string, b []byte) bulkhead.Finding {
	message := m.rule.title
	if note != "" {
		message += "; " + note
	}
	message += ": revoke it, as every copy of the image has it; give it to the container when it runs (a mounted secret), or to the build as a secret mount"
	return bulkhead.Finding{
		Kind: bulkhead.FindingSecret, Rule: m.rule.id, Severity: severity, Message: message,
		Evidence: []bulkhead.Evidence{{Text: mask(string(b[m.start:m.end]), m.rule), Why: m.rule.title}},
	}
}

// mask shows as much of a secret as is needed to know it again: the first four characters of a token, which are its
// kind; nothing of a password.
func mask(s string, r *rule) string {
	if r.id == "private-key" {
		return s
	}
	shown := 0
	if len(s) >= 20 && r != &generic && r.id != "url-credentials" && !strings.HasSuffix(r.id, "password") {
		shown = 4
	}
	first := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s[:shown])
	return fmt.Sprintf("%s… (%d characters)", first, len(s))
}

// lineCounter counts lines for growing positions, so that all of a file are counted once.
type lineCounter struct {
	text []byte
	pos  int
	line int
}

func (l *lineCounter) at(pos int) int {
	l.line += bytes.Count(l.text[l.pos:pos], []byte("\n"))
	l.pos = pos
	return l.line + 1
}

// allowance are comments by which people say that a secret is none. Those of other tools are understood too.
var allowance = []string{"bulkhead:allow", "gitleaks:allow", "pragma: allowlist secret", "trufflehog:ignore", "nosecret", "noqa: S105"}

// allowed reports whether the line says so, or the one before it does with our own comment.
func allowed(b []byte, pos int) bool {
	begin := bytes.LastIndexByte(b[:pos], '\n') + 1
	end := len(b)
	if n := bytes.IndexByte(b[pos:], '\n'); n >= 0 {
		end = pos + n
	}
	line := b[max(begin, pos-1000):min(end, pos+1000)]
	for _, a := range allowance {
		if bytes.Contains(line, []byte(a)) {
			return true
		}
	}
	if begin == 0 {
		return false
	}
	above := b[bytes.LastIndexByte(b[:begin-1], '\n')+1 : begin-1]
	return len(above) < 1000 && bytes.Contains(above, []byte("bulkhead:allow-next"))
}

// Rule describes one kind of secret, for lists of rules and for documentation.
type Rule struct {
	ID       string
	Title    string
	Severity bulkhead.Severity
}

// Rules lists all kinds of secrets that are found.
func Rules() []Rule {
	var all []Rule
	add := func(r rule) {
		if !slices.ContainsFunc(all, func(x Rule) bool { return x.ID == r.id }) {
			all = append(all, Rule{r.id, r.title, r.severity})
		}
	}
	for _, r := range allRules() {
		add(r)
	}
	for _, k := range knownFiles() {
		add(k.rule)
	}
	add(generic)
	add(rule{id: "variable-secret", title: "Variable of an image with a secret's name", severity: bulkhead.High})
	add(rule{id: "argument-secret", title: "Argument of an image's build with a secret's name", severity: bulkhead.High})
	return all
}
