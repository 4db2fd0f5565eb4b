package secret

import (
	"fmt"
	"regexp"
	"strings"

	"bulkhead"
	"bulkhead/scan/keyword"
)

// rule is one kind of secret. Adding one is a line in rules.go and a pair of examples in its test.
type rule struct {
	id       string
	title    string
	severity bulkhead.Severity
	// keywords are searched first, all rules' in one pass, without regard to case. Only where one is found the pattern
	// is tried, and it begins there: what is before the keyword does not belong to the match.
	keywords []string
	// pattern is RE2. Its group "s", or else all of it, is the secret.
	pattern string
	// entropy is the least entropy of the secret in bits a character; 0 asks for none.
	entropy float64
	// valid checks the shape further than a pattern can: a checksum, a header that decodes.
	valid func(secret string) bool
	// inText limits a rule to text: in programs its pattern is found by chance.
	inText bool
	// anywhere: the keyword may stand inside a word. Otherwise no letter, digit or _ is before it.
	anywhere bool
}

// window is how many bytes from a keyword on a pattern may see: the longest token, a JWT with many claims, fits.
const window = 4 << 10

// compiled is a rule that can be used.
type compiled struct {
	*rule
	re    *regexp.Regexp
	group int
	run   int // so many characters of tokens follow the keyword's start, at least; looked at before the pattern is tried
}

// detector is all rules, compiled once.
type detector struct {
	search *keyword.Searcher
	owner  []int // keyword → rule
	rules  []compiled
}

func newDetector(rules []rule) (*detector, error) {
	d := &detector{}
	var keywords []string
	for i := range rules {
		r := &rules[i]
		re, err := regexp.Compile(`^(?:` + r.pattern + `)`)
		if err != nil {
			return nil, fmt.Errorf("compile the pattern of %s: %w", r.id, err)
		}
		d.rules = append(d.rules, compiled{rule: r, re: re, group: max(re.SubexpIndex("s"), 0), run: tokenRun(r.pattern)})
		for _, k := range r.keywords {
			if len(k) < keyword.Shortest {
				return nil, fmt.Errorf("keyword %q of %s has fewer than %d bytes", k, r.id, keyword.Shortest)
			}
			keywords, d.owner = append(keywords, strings.ToLower(k)), append(d.owner, i)
		}
	}
	d.search = keyword.New(keywords)
	return d, nil
}

// match is a secret that was found.
type match struct {
	rule       *rule
	start, end int // of the secret in the text
}

// limits of one file: one with thousands of secrets says it in few.
const (
	maxMatches  = 100
	maxAttempts = 200_000 // of patterns; bounds the time for a file that is made of keywords
)

// find returns the secrets in the text in the order in which they begin.
func (d *detector) find(text []byte, isText bool) []match {
	var found []match
	attempts := 0
	ends := make(map[int]int) // rule → end of its last match
	d.search.Each(text, func(word, start int) bool {
		n := d.owner[word]
		r := &d.rules[n]
		if r.inText && !isText || start < ends[n] || !r.anywhere && start > 0 && isWord(text[start-1]) || !hasRun(text[start:], r.run) {
			return true
		}
		if m, ok := r.at(text, start); ok {
			found, ends[n] = append(found, m), m.end
		}
		attempts++
		return len(found) < maxMatches && attempts < maxAttempts
	})
	return distinct(found)
}

func (r *compiled) at(text []byte, start int) (match, bool) {
	loc := r.re.FindSubmatchIndex(text[start:min(len(text), start+window)])
	if loc == nil || loc[2*r.group] < 0 {
		return match{}, false
	}
	m := match{rule: r.rule, start: start + loc[2*r.group], end: start + loc[2*r.group+1]}
	if m.end < len(text) && isWord(text[m.end-1]) && isWord(text[m.end]) {
		return match{}, false // the word goes on: it is something longer
	}
	return m, r.accepts(string(text[m.start:m.end]))
}

func (r *rule) accepts(secret string) bool {
	if isPlaceholder(secret) || r.entropy > 0 && entropy(secret) < r.entropy {
		return false
	}
	return r.valid == nil || r.valid(secret)
}

// distinct keeps, of secrets that lie over one another, the one whose rule says most: it stands first in the table.
func distinct(found []match) []match {
	var kept []match
	for _, m := range found {
		covered := false
		for i := len(kept) - 1; i >= 0 && i >= len(kept)-4; i-- {
			if m.start < kept[i].end && kept[i].start < m.end {
				covered = true
			}
		}
		if !covered {
			kept = append(kept, m)
		}
	}
	return kept
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
