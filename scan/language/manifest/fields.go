package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

var (
	errObject = errors.New("read as JSON: not an object, or cut off")
	errArray  = errors.New("read as JSON: not an array, or cut off")
)

// Fields calls visit with every member of the JSON object b until visit returns false. Values are raw and were not
// checked: it looks only for where they end, which makes it ten times as fast as decoding. A comma too many, as bun
// writes it, is fine.
func Fields(b []byte, visit func(key string, value []byte) bool) error {
	s := scanner{b: b}
	if !s.open('{') {
		return errObject
	}
	for !s.close('}') {
		key := s.value()
		if len(key) == 0 || key[0] != '"' || !s.open(':') {
			return errObject
		}
		value := s.value()
		if len(value) == 0 {
			return errObject
		}
		if !visit(Text(key), value) {
			return nil
		}
		if !s.open(',') && !s.at('}') {
			return errObject
		}
	}
	return nil
}

// Elements calls visit with every element of the JSON array b until visit returns false.
func Elements(b []byte, visit func(value []byte) bool) error {
	s := scanner{b: b}
	if !s.open('[') {
		return errArray
	}
	for !s.close(']') {
		value := s.value()
		if len(value) == 0 {
			return errArray
		}
		if !visit(value) {
			return nil
		}
		if !s.open(',') && !s.at(']') {
			return errArray
		}
	}
	return nil
}

// Text is the string that a raw JSON value is, "" where it is none.
func Text(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner)
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// scanner finds where JSON values end.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) && (s.b[s.i] == ' ' || s.b[s.i] == '\n' || s.b[s.i] == '\t' || s.b[s.i] == '\r') {
		s.i++
	}
}

// at reports whether c is next.
func (s *scanner) at(c byte) bool {
	s.space()
	return s.i < len(s.b) && s.b[s.i] == c
}

// open takes c where it is next.
func (s *scanner) open(c byte) bool {
	if !s.at(c) {
		return false
	}
	s.i++
	return true
}

// close is open for the end of something.
func (s *scanner) close(c byte) bool { return s.open(c) }

// value takes the next value and returns its bytes, none where it is cut off.
func (s *scanner) value() []byte {
	s.space()
	start := s.i
	if start == len(s.b) {
		return nil
	}
	ok := true
	switch s.b[start] {
	case '"':
		ok = s.text()
	case '{', '[':
		ok = s.nested()
	default:
		s.word()
	}
	if !ok {
		return nil
	}
	return s.b[start:s.i]
}

// text takes a string.
func (s *scanner) text() bool {
	for i := s.i + 1; ; {
		n := bytes.IndexByte(s.b[i:], '"')
		if n < 0 {
			return false
		}
		i += n
		escapes := 0
		for s.b[i-1-escapes] == '\\' {
			escapes++
		}
		i++
		if escapes%2 == 0 {
			s.i = i
			return true
		}
	}
}

// nested takes an object or array. It counts and does not recurse, so depth costs nothing.
func (s *scanner) nested() bool {
	for depth := 0; s.i < len(s.b); {
		switch s.b[s.i] {
		case '"':
			if !s.text() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.i++
		if depth == 0 {
			return true
		}
	}
	return false
}

// word takes a number, true, false or null.
func (s *scanner) word() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ',', '}', ']', ':', '"', '{', '[', ' ', '\n', '\t', '\r':
			return
		}
		s.i++
	}
}
