package binary

import (
	"bytes"
	"strings"
)

// text is a pattern of the table, ready to be searched: the fixed bytes that are looked for, and what stands around.
type text struct {
	pattern string
	anchor  []byte
	back    bool // the anchor comes after the version: the match begins before it
	before  int  // bytes of the match before the anchor
	lead    int  // bytes of the pattern before the version
	start   bool // "^": it stands at the start of the file or nowhere
}

// window is the largest number of bytes that a match needs around its anchor.
const window = 256

// maxStar is how many bytes "*" stands for.
const maxStar = 60

// compile reads a pattern for a file of this name; not ok when the name lacks the number for "%".
func compile(pattern, base string) (text, bool) {
	pattern, atStart := strings.CutPrefix(pattern, "^")
	if before, after, named := strings.Cut(pattern, "%"); named {
		number := numberIn(base)
		// The number of the name is as fixed as the rest of the text.
		t := text{pattern: before + "#.#" + after, lead: len(before)}
		return t.anchored(before + number + "."), strings.Count(number, ".") == 1
	}
	lead := strings.IndexByte(pattern, '#')
	fixed := strings.TrimRight(pattern[:lead], "0123456789.") // "3." of "\x003.#.#" belongs to the version
	t := text{pattern: pattern, lead: len(fixed), start: atStart}.anchored(pattern[:lead])
	if lead <= 1 && !atStart {
		// A lone zero byte is everywhere in a program: what follows the version is the better anchor.
		if last := pattern[strings.LastIndexByte(pattern, '#')+1:]; len(last) > 1 {
			t.anchor, t.back = []byte(last), true
		}
	}
	return t, true
}

// anchored sets the anchor to the fixed bytes at the pattern's start, without a zero byte before them: programs are full
// of those, and the search for one would stop at each.
func (t text) anchored(fixed string) text {
	if rest, zero := strings.CutPrefix(fixed, "\x00"); zero && rest != "" {
		fixed, t.before = rest, 1
	}
	t.anchor = []byte(fixed)
	return t
}

// numberIn returns the first number with dots of a file's name: "3.12" of "libpython3.12.so.1.0", "3" of "python3".
func numberIn(base string) string {
	start := strings.IndexAny(base, "0123456789")
	if start < 0 {
		return ""
	}
	end := start
	for end < len(base) && (digit(base[end]) || base[end] == '.' && end+1 < len(base) && digit(base[end+1])) {
		end++
	}
	return base[start:end]
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// find returns the first version in b at an offset of at least from, and that offset; empty when there is none.
func (t text) find(b []byte, from int) (version string, at int) {
	if t.start {
		if from > 0 {
			return "", len(b)
		}
		return t.match(b), 0
	}
	for ; from < len(b); from++ {
		n := bytes.Index(b[from:], t.anchor)
		if n < 0 {
			break
		}
		from += n
		begin := from - t.before
		if t.back {
			begin = beforeNumber(b, from) - t.lead
		}
		if begin < 0 {
			continue
		}
		if version := t.match(b[begin:]); version != "" {
			return version, from
		}
	}
	return "", len(b)
}

// beforeNumber goes back from the end of a version to its start.
func beforeNumber(b []byte, end int) int {
	start := end
	for start > 0 && end-start < 40 && (digit(b[start-1]) || b[start-1] == '.') {
		start--
	}
	return start
}

// match compares the pattern with the start of b and returns the version: from its first number to its last, with
// the further numbers and the suffix that follow.
func (t text) match(b []byte) string {
	end, at := 0, 0
	last := strings.LastIndexByte(t.pattern, '#')
	for i := range len(t.pattern) {
		n := 0
		switch c := t.pattern[i]; c {
		case '#':
			if n = number(b[at:]); n == 0 {
				return ""
			}
			if i == last {
				n += more(b[at+n:])
			}
			end = at + n
		case '@':
			n = suffix(b[at:])
			end = at + n
		case '*':
			if n = star(b[at:], t.pattern[i+1:]); n < 0 {
				return ""
			}
		default:
			if at >= len(b) || b[at] != c {
				return ""
			}
			n = 1
		}
		at += n
	}
	return string(b[t.lead:end])
}

// number is the length of the digits at the start of b; none have more than six.
func number(b []byte) int {
	n := 0
	for n < len(b) && digit(b[n]) {
		n++
	}
	if n > 6 {
		return 0
	}
	return n
}

// more is the length of the further numbers ".1.2" at the start of b.
func more(b []byte) int {
	n := 0
	for n < len(b) && b[n] == '.' && n < 20 {
		m := number(b[n+1:])
		if m == 0 {
			break
		}
		n += 1 + m
	}
	return n
}

// suffix is the length of a suffix at the start of b: letters, then digits.
func suffix(b []byte) int {
	n := 0
	for n < len(b) && n < 6 && b[n] >= 'a' && b[n] <= 'z' {
		n++
	}
	if n == 0 {
		return 0
	}
	return n + number(b[n:])
}

// star is the number of bytes before what follows the star, -1 when that does not come.
func star(b []byte, follows string) int {
	b = b[:min(len(b), maxStar+len(follows))]
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	return bytes.Index(b, []byte(follows))
}
