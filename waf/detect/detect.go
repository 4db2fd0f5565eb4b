// Package detect finds the grammar of attacks in one decoded value: SQL in its dialects, HTML and
// JavaScript, shells, paths, templates, the query languages, addresses that lead inside, objects
// that run when they are read. Start with [Find] and [patterns].
//
// It promises that a value of an ordinary alphabet costs a scan of its bytes and no more, and that
// time grows with length alone. It is not for deciding: a hit says how sure it is, and what follows
// from it is package waf's.
package detect

import "strings"

// Class is the kind of attack.
type Class string

// The classes, in the words of reports.
const (
	SQL             Class = "sql-injection"
	XSS             Class = "cross-site-scripting"
	Command         Class = "command-injection"
	Path            Class = "path-traversal"
	Inclusion       Class = "file-inclusion"
	Template        Class = "template-injection"
	LDAP            Class = "ldap-injection"
	XPath           Class = "xpath-injection"
	NoSQL           Class = "nosql-injection"
	SSRF            Class = "server-side-request-forgery"
	Deserialisation Class = "deserialisation"
	XXE             Class = "xml-external-entity"
	Lookup          Class = "jndi-lookup"
	Code            Class = "code-injection"
	CRLF            Class = "header-injection"
	Redirect        Class = "open-redirect"
	Scanner         Class = "scanner"
	Include         Class = "server-side-include"
	Disclosure      Class = "file-disclosure"
	Other           Class = "injection"
	Anomaly         Class = "protocol"
	Learned         Class = "learned"
	Upload          Class = "upload"
	Known           Class = "known-name" // no attack, but a name that the Core Rule Set is to be asked about
)

// Hit is one thing found.
type Hit struct {
	Class Class
	Rule  string // stable, of lower-case words
	Score int    // from 1, a hint, to 100, nothing honest looks like this
}

// Where is what a detector may know about the place of a value.
type Where uint8

// The places that matter to detectors.
const (
	Value    Where = iota // a parameter, a member, a text
	URL                   // the path of the request
	Header                // a header
	Agent                 // the User-Agent header
	FileName              // of an upload
	Contents              // of an upload
	Key                   // a parameter's name
)

// Text is a value with what a scan of its bytes says.
type Text struct {
	Raw   string
	Lower string // ASCII letters in lower case
	Where Where

	mask  class
	words wordSet
}

// Plain says whether s needs no detector: letters of any script, digits, and what stands between
// words, with no word that an attack in that alphabet needs. This is what nearly all values are.
func Plain(s string) bool {
	m := maskOf(s)
	if m&^(letter|digit|joiner) == 0 {
		words := scanWords(s)
		return !words.meets(&aloneSet)
	}
	if m&^(letter|digit|joiner|space|dot|comma|colon|slash|at|plus|high) != 0 {
		return m&^(letter|digit|joiner|space|dot|comma|colon|slash|at|plus|high|quote|ampersand|mark|lineEnd|paren) == 0 && prose(s)
	}
	if m&dot != 0 && strings.Contains(s, "..") || m&slash != 0 && (strings.Contains(s, "//") || s[0] == '/' || len(s) > 1 && s[1] == ':') {
		return false
	}
	words := scanWords(s)
	return words.none()
}

// prose says whether the signs in s stand where sentences have them: an apostrophe within a word, & between spaces,
// marks and brackets at the ends of words; and no detector knows a word of it.
func prose(s string) bool {
	for i := 0; i < len(s); i++ {
		switch classOf[s[i]] {
		case quote:
			if !apostrophe(s, i) {
				return false
			}
		case ampersand:
			if i == 0 || i+1 >= len(s) || s[i-1] != ' ' || s[i+1] != ' ' {
				return false
			}
		case mark:
			if s[i] != '!' && s[i] != '?' || i == 0 || classOf[s[i-1]]&(letter|high|mark|paren) == 0 || i+1 < len(s) && classOf[s[i+1]]&(space|lineEnd|mark) == 0 {
				return false
			}
		case paren:
			if s[i] == '(' && (i == 0 || s[i-1] != ' ') || s[i] == ')' && (i == 0 || classOf[s[i-1]]&(letter|digit|high|dot) == 0) {
				return false
			}
		}
	}
	if strings.Contains(s, "..") && !strings.Contains(s, "...") || strings.Contains(s, "//") || s[0] == '/' {
		return false
	}
	words := scanWords(s)
	return words.none()
}

// ends are what follows an apostrophe in English; before one, French, Italian and Irish have at most four letters.
var ends = map[string]bool{"s": true, "t": true, "re": true, "ve": true, "ll": true, "d": true, "m": true}

func apostrophe(s string, i int) bool {
	start, end := i, i+1
	for start > 0 && classOf[s[start-1]]&(letter|high) != 0 {
		start--
	}
	for end < len(s) && classOf[s[end]]&(letter|high) != 0 {
		end++
	}
	if start == i || end == i+1 || end < len(s) && classOf[s[end]]&(digit|quote|joiner) != 0 || start > 0 && classOf[s[start-1]]&(digit|quote|joiner) != 0 {
		return false
	}
	after := s[i+1 : end]
	if ends[after] {
		return true
	}
	return i-start <= 4 && end-i > 3 && sqlWordKinds[lower(after)] == 0
}

// Ordinary says whether t has only letters, digits and what joins names.
func (t *Text) Ordinary() bool {
	return !t.has(^(letter | digit | joiner | dot | comma | at | plus | high))
}

// Scan prepares a value for detectors and the model.
func Scan(s string, where Where) *Text {
	return &Text{Raw: s, Lower: lower(s), Where: where, mask: maskOf(s), words: scanWords(s)}
}

// KnownName returns what is known of a parameter's name that is but a word.
func KnownName(s string) []Hit {
	words := scanWords(s)
	if words.none() {
		return nil
	}
	f := &finder{Text: Scan(s, Key)}
	f.patterns()
	return f.hits
}

// maxText is what detectors read of a value at once; longer ones are read in pieces that overlap.
const maxText = 64 << 10

const overlap = 512 // longer than the start of any attack

// Find returns what the detectors find in t.
func Find(t *Text) []Hit {
	if len(t.Raw) <= maxText {
		return find(nil, t)
	}
	var hits []Hit
	for start := 0; start < len(t.Raw); start += maxText - overlap {
		piece := Scan(t.Raw[start:min(len(t.Raw), start+maxText)], t.Where)
		hits = find(hits, piece)
	}
	return hits
}

func find(hits []Hit, t *Text) []Hit {
	f := &finder{Text: t, hits: hits}
	f.patterns()
	if t.Where == Agent || t.Where == Contents {
		return f.hits
	}
	f.sql()
	f.html()
	f.script()
	f.shell()
	f.path()
	f.address()
	f.template()
	return f.hits
}

type finder struct {
	*Text
	hits []Hit
}

// hit keeps the highest score of a rule.
func (f *finder) hit(class Class, rule string, score int) {
	for i := range f.hits {
		if f.hits[i].Rule == rule {
			f.hits[i].Score = max(f.hits[i].Score, score)
			return
		}
	}
	f.hits = append(f.hits, Hit{Class: class, Rule: rule, Score: score})
}

func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return lowered(s, i)
		}
	}
	return s
}

func lowered(s string, i int) string {
	b := []byte(s)
	for ; i < len(b); i++ {
		if b[i] >= 'A' && b[i] <= 'Z' {
			b[i] |= 0x20
		}
	}
	return string(b)
}
