package request

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// mysqlShape reads COM_QUERY and COM_STMT_PREPARE: a length of three bytes, the number 0, the command.
func mysqlShape(c *connection, said []byte) string {
	if len(said) < 5 || said[3] != 0 {
		return ""
	}
	body := said[5:]
	switch said[4] {
	case 3:
		if len(body) > 2 && body[0] == 0 && body[1] == 1 { // newer clients put parameters before it, here none
			body = body[2:]
		}
		return statement(body, '"')
	case 0x16:
		c.prepare("", statement(body, '"'))
		return "PREPARE " + c.prepared[""]
	case 0x17:
		return "EXECUTE" // by a number that the server gave
	}
	return ""
}

func mysqlResult(said []byte) (Result, bool) {
	if len(said) > 4 && said[4] == 0xff {
		return Failed, true
	}
	return Good, len(said) > 4
}

// postgresShape reads Query, Parse and Bind: a letter, a length, texts that end with a zero byte.
func postgresShape(c *connection, said []byte) string {
	if len(said) < 6 || binary.BigEndian.Uint32(said[1:]) < 4 {
		return ""
	}
	body := said[5:]
	switch said[0] {
	case 'Q':
		text, _, _ := bytes.Cut(body, []byte{0})
		return statement(text, '`')
	case 'P':
		name, rest, ok := bytes.Cut(body, []byte{0})
		if !ok {
			return ""
		}
		text, _, _ := bytes.Cut(rest, []byte{0})
		shape := statement(text, '`')
		c.prepare(string(name), shape)
		return shape
	case 'B':
		_, rest, ok := bytes.Cut(body, []byte{0})
		if !ok {
			return ""
		}
		name, _, _ := bytes.Cut(rest, []byte{0})
		if shape := c.prepared[string(name)]; shape != "" {
			return shape
		}
		return "EXECUTE"
	}
	return ""
}

func postgresResult(said []byte) (Result, bool) {
	if len(said) > 4 && said[0] == 'E' {
		return Failed, true
	}
	return Good, len(said) > 4
}

func (c *connection) prepare(name, shape string) {
	if c.prepared == nil || len(c.prepared) >= maxStatements {
		c.prepared = map[string]string{}
	}
	c.prepared[name] = shape
}

// statement is the text of an SQL statement without its literals and comments. Quote is what begins a text beside ': MySQL
// has " for it, PostgreSQL nothing, and its names in " stay. The text may end anywhere: a literal that does not end is one.
func statement(text []byte, quote byte) string {
	s := &shaper{text: text, quote: quote}
	for len(s.text) > 0 && s.out.Len() <= maxShape {
		s.next()
	}
	return lists(strings.TrimSpace(s.out.String()))
}

type shaper struct {
	text  []byte
	quote byte
	out   strings.Builder
}

func (s *shaper) next() {
	c := s.text[0]
	switch {
	case c == '\'' || c == s.quote:
		s.quoted(c, false)
		s.literal()
	case c == '`' || c == '"': // a name
		s.name(c)
	case c == '$' && s.quote != '"' && s.dollar():
		s.literal()
	case bytes.HasPrefix(s.text, []byte("--")) || c == '#' && s.quote == '"':
		s.line()
	case bytes.HasPrefix(s.text, []byte("/*")):
		s.comment()
	case c >= '0' && c <= '9' || c == '.' && len(s.text) > 1 && s.text[1] >= '0' && s.text[1] <= '9':
		s.number()
	case isNameByte(c):
		s.identifier()
	case c <= ' ':
		s.text = s.text[1:]
		s.space()
	default:
		s.text = s.text[1:]
		if c > '~' || c == 0x7f {
			c = '*' // no text of a statement that is not in quotes
		}
		s.out.WriteByte(c)
	}
}

func (s *shaper) literal() { s.out.WriteByte('?') }

func (s *shaper) space() {
	if n := s.out.Len(); n > 0 && s.out.String()[n-1] != ' ' {
		s.out.WriteByte(' ')
	}
}

// quoted goes behind a quoted text. Whether a backslash before a quote hides it is a setting of the server, but for PostgreSQL's
// E'…': where that decides where the text ends, all that follows is taken for a literal.
func (s *shaper) quoted(end byte, escapes bool) {
	slashes := 0
	for i := 1; i < len(s.text); i++ {
		switch {
		case s.text[i] == '\\':
			slashes++
			continue
		case s.text[i] != end:
		case slashes%2 == 1 && !escapes:
			s.text = nil
			return
		case slashes%2 == 1:
		case i+1 < len(s.text) && s.text[i+1] == end:
			i++
		default:
			s.text = s.text[i+1:]
			return
		}
		slashes = 0
	}
	s.text = nil
}

// name keeps a quoted name that is made like one; what is not may be a text in a mode of the server that quotes otherwise.
func (s *shaper) name(end byte) {
	i := bytes.IndexByte(s.text[1:], end)
	if i < 0 {
		s.text = nil
		s.literal()
		return
	}
	name := s.text[1 : i+1]
	s.text = s.text[i+2:]
	if !isName(name) {
		s.literal()
		return
	}
	s.out.WriteByte(end)
	s.out.Write(name)
	s.out.WriteByte(end)
}

func isName(b []byte) bool {
	for _, c := range b {
		if !isNameByte(c) {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 64
}

func isNameByte(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_'
}

// dollar goes behind a text of PostgreSQL's between $tag$ and $tag$; a parameter as $1 is none.
func (s *shaper) dollar() bool {
	end := 1
	for end < len(s.text) && isNameByte(s.text[end]) {
		end++
	}
	if end > 1 && s.text[1] >= '0' && s.text[1] <= '9' {
		s.text = s.text[end:]
		return true
	}
	if end >= len(s.text) || s.text[end] != '$' {
		return false
	}
	tag := s.text[:end+1]
	rest := s.text[end+1:]
	if at := bytes.Index(rest, tag); at >= 0 {
		s.text = rest[at+len(tag):]
	} else {
		s.text = nil
	}
	return true
}

// line goes behind a comment; for MySQL -- is one only before a space.
func (s *shaper) line() {
	if s.text[0] == '-' && s.quote == '"' && len(s.text) > 2 && s.text[2] > ' ' {
		s.text = nil
		s.literal()
		return
	}
	s.skipTo("\n")
}

// comment goes behind a comment. One that is run, or that has another in it, may end elsewhere than it seems.
func (s *shaper) comment() {
	inside, _, _ := bytes.Cut(s.text[2:], []byte("*/"))
	if len(inside) > 0 && inside[0] == '!' || bytes.HasPrefix(inside, []byte("M!")) || bytes.Contains(inside, []byte("/*")) {
		s.text = nil
		s.literal()
		return
	}
	s.skipTo("*/")
}

func (s *shaper) skipTo(end string) {
	at := bytes.Index(s.text, []byte(end))
	if at < 0 {
		s.text = nil
		return
	}
	s.text = s.text[at+len(end):]
	s.space()
}

// number goes behind a number in any of its forms: 1, 0xff, 1.5e-3.
func (s *shaper) number() {
	i := 0
	for i < len(s.text) && (isNameByte(s.text[i]) || s.text[i] == '.' || (s.text[i] == '-' || s.text[i] == '+') && i > 0 && s.text[i-1]|0x20 == 'e') {
		i++
	}
	s.text = s.text[i:]
	s.literal()
}

// identifier keeps a word. One that begins a literal, as in E'…' and x'ff', is part of it; one that is cut off at the end stays: no
// literal begins with a letter.
func (s *shaper) identifier() {
	i := 0
	for i < len(s.text) && (isNameByte(s.text[i]) || s.text[i] == '$') {
		i++
	}
	word := s.text[:i]
	s.text = s.text[i:]
	if len(s.text) > 0 && (s.text[0] == '\'' || s.text[0] == s.quote) && len(word) <= 2 {
		s.quoted(s.text[0], s.quote != '"' && (word[0]|0x20) == 'e')
		s.literal()
		return
	}
	s.out.Write(word[:min(len(word), 64)])
}

// lists makes of (?, ?, ?) one shape, however long.
func lists(shape string) string {
	for {
		next := strings.ReplaceAll(strings.ReplaceAll(shape, "?, ?", "?"), "?,?", "?")
		if next == shape {
			return shape
		}
		shape = next
	}
}
