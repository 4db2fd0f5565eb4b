package message

import (
	"encoding/json"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// json adds the strings of a JSON text. It reads what parsers of all manners accept: single quotes,
// comments and a missing end do not stop it.
func (c *collector) json(s string, depth int) {
	p := &jsonReader{c: c, s: s, depth: depth}
	p.read()
	if p.broken && depth == 0 {
		c.add(Field{Place: Text, Value: s})
	}
}

// Inside returns the strings of a value that is JSON as a whole, as cookies and parameters of scripts often are, and
// whether it is: one that breaks out of its JSON is not, and is a text.
func (r *Request) Inside(f *Field, value string) ([]Field, bool) {
	s := strings.TrimSpace(value)
	if len(s) < 2 || s[0] != '{' && s[0] != '[' || !json.Valid([]byte(s)) {
		return nil, false
	}
	c := &collector{r: r}
	p := &jsonReader{c: c, s: s, depth: 1, key: f.Name}
	p.read()
	for i := range c.fields {
		if c.fields[i].Place == JSON {
			c.fields[i].Place = f.Place
		}
	}
	return c.fields, true
}

type jsonReader struct {
	c      *collector
	s      string
	depth  int
	key    string
	broken bool
}

func (p *jsonReader) read() {
	s, level := p.s, 0
	for i := 0; i < len(s); {
		switch s[i] {
		case '"':
			text, end, closed := jsonString(s, i+1)
			if !closed {
				p.broken = true
			}
			i = end
			if !p.isKey(i) {
				p.value(text)
				continue
			}
			p.key = text
			if needsLook(text) {
				p.c.add(Field{Place: Name, Name: text, Value: text})
			}
		case '{', '[':
			if level++; level > 512 {
				p.c.r.anomaly(50, "deep-json", "nested deeper than parsers go")
				p.broken = true
				return
			}
			i++
		case '}', ']':
			level--
			i++
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
		default:
			i = p.bare(i)
		}
	}
	if level != 0 {
		p.broken = true
	}
}

// isKey says whether a colon follows.
func (p *jsonReader) isKey(i int) bool {
	for ; i < len(p.s); i++ {
		switch p.s[i] {
		case ' ', '\t', '\r', '\n':
		default:
			return p.s[i] == ':'
		}
	}
	return false
}

// bare skips numbers and literals; anything else means that this is not quite JSON.
func (p *jsonReader) bare(i int) int {
	start := i
	for i < len(p.s) && strings.IndexByte("{}[],:\" \t\r\n", p.s[i]) < 0 {
		i++
	}
	word := p.s[start:i]
	if word == "true" || word == "false" || word == "null" {
		return i
	}
	for k := 0; k < len(word); k++ {
		if b := word[k]; (b < '0' || b > '9') && b != '-' && b != '+' && b != '.' && b != 'e' && b != 'E' {
			p.broken = true
			break
		}
	}
	return max(i, start+1)
}

func (p *jsonReader) value(text string) {
	if text == "" {
		return
	}
	if !p.c.add(Field{Place: JSON, Name: p.key, Value: text}) {
		return
	}
	if p.depth >= maxDepth/8 || len(text) < 8 {
		return
	}
	switch text[0] {
	case '{', '[':
		if last := text[len(text)-1]; last == '}' || last == ']' {
			p.c.json(text, p.depth+1)
		}
	case 'q', 'm', 's':
		p.graphQL(text)
	}
}

// graphQL adds the strings within a GraphQL document, where it is one.
func (p *jsonReader) graphQL(text string) {
	if p.key != "query" || !strings.Contains(text, "{") {
		return
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '"' {
			continue
		}
		inner, end, _ := jsonString(text, i+1)
		if inner != "" {
			p.c.add(Field{Place: JSON, Name: "graphql", Value: inner})
		}
		i = end - 1
	}
}

// jsonString reads a string whose first character is s[i]; end is behind its closing quote.
func jsonString(s string, i int) (text string, end int, closed bool) {
	start := i
	for ; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[start:i], i + 1, true
		case '\\':
			return jsonEscaped(s, start, i)
		}
	}
	return s[start:], len(s), false
}

func jsonEscaped(s string, start, i int) (text string, end int, closed bool) {
	b := make([]byte, 0, len(s[start:i])+64)
	b = append(b, s[start:i]...)
	for i < len(s) {
		switch s[i] {
		case '"':
			return string(b), i + 1, true
		case '\\':
			b, i = appendEscape(b, s, i)
		default:
			b = append(b, s[i])
			i++
		}
	}
	return string(b), len(s), false
}

// appendEscape appends what the escape at s[i] stands for; one that is not JSON's stays as it is.
func appendEscape(b []byte, s string, i int) ([]byte, int) {
	if i+1 >= len(s) {
		return append(b, '\\'), i + 1
	}
	switch s[i+1] {
	case 'n':
		return append(b, '\n'), i + 2
	case 'r':
		return append(b, '\r'), i + 2
	case 't':
		return append(b, '\t'), i + 2
	case 'b', 'f':
		return append(b, ' '), i + 2
	case '"', '\\', '/':
		return append(b, s[i+1]), i + 2
	case 'u':
		r, end, ok := unicodeEscape(s, i)
		if !ok {
			return append(b, '\\', 'u'), i + 2
		}
		return utf8.AppendRune(b, r), end
	}
	return append(b, '\\', s[i+1]), i + 2
}

// unicodeEscape reads \uXXXX at s[i], and the second half of a pair.
func unicodeEscape(s string, i int) (r rune, end int, ok bool) {
	first, ok := hex4(s, i+2)
	if !ok {
		return 0, i, false
	}
	end = i + 6
	if utf16.IsSurrogate(first) && strings.HasPrefix(s[end:], `\u`) {
		if second, ok := hex4(s, end+2); ok {
			if joined := utf16.DecodeRune(first, second); joined != utf8.RuneError {
				return joined, end + 6, true
			}
		}
	}
	return first, end, true
}

func hex4(s string, i int) (r rune, ok bool) {
	if i+4 > len(s) {
		return 0, false
	}
	for _, c := range []byte(s[i : i+4]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
