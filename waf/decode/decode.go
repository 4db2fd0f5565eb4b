// Package decode takes the encodings off a value, layer by layer, as the many programs behind a
// request may do: percent signs (once or more often, with %u), HTML entities, escapes of JavaScript
// and CSS, base64 and hexadecimal that turn out to be text, UTF-8 that is longer than it may be.
// Start with [Forms].
//
// It promises few forms for few bytes: at most [maxForms] of a value and none longer than the
// value itself, but for a constant factor. It is not for judging what comes out.
package decode

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"strings"
	"unicode/utf8"
)

const (
	maxForms = 8       // of one value: attacks have two or three layers, each seen as it comes off
	maxText  = 1 << 20 // of a value whose inner layers are looked for
)

// Forms appends the forms of s to list: first as an application gets it, then what lies deeper.
// encoded says that percent signs are the value's transport.
func Forms(list []string, s string, encoded bool) []string {
	start := len(list)
	if encoded {
		s = Percent(s, true)
	}
	list = append(list, tidy(s))
	if len(s) > maxText {
		return list
	}
	for i := start; i < len(list) && len(list)-start < maxForms; i++ {
		list = deeper(list, start, list[i])
	}
	return list
}

// deeper appends what one more decoder of each kind makes of s.
func deeper(list []string, start int, s string) []string {
	marks := scan(s)
	if marks&markPercent != 0 {
		list = appendNew(list, start, tidy(Percent(s, false)))
	}
	if marks&markAmpersand != 0 {
		list = appendNew(list, start, tidy(html.UnescapeString(s)))
	}
	if marks&markBackslash != 0 {
		list = appendNew(list, start, tidy(Escapes(s)))
	}
	if marks == 0 || marks == markPlusEquals || marks&^(markPlusEquals|markOther) == 0 && spacedBase64(s) {
		list = appendPacked(list, start, s)
	}
	if marks&markPlusEquals != 0 && strings.IndexByte(s, '+') >= 0 {
		if text, ok := fromUTF7(s); ok {
			list = appendNew(list, start, tidy(text))
		}
		if marks&markOther != 0 && strings.IndexByte(s, ' ') < 0 && (strings.Count(s, "+") > 1 || strings.IndexByte(list[start], '%') >= 0) {
			list = appendNew(list, start, strings.ReplaceAll(s, "+", " ")) // encoded once more than its place needs
		}
	}
	if i := strings.Index(s, "0x"); i >= 0 && len(s) >= i+8 {
		list = appendNew(list, start, tidy(hexRuns(s)))
	}
	if i := strings.Index(s, ";base64,"); i >= 0 {
		list = appendPacked(list, start, base64Run(s[i+len(";base64,"):]))
	}
	if strings.HasPrefix(s, "eyJ") && strings.Count(s, ".") >= 1 { // a JWT
		for part := range strings.SplitSeq(s, ".") {
			list = appendPacked(list, start, part)
		}
	}
	return list
}

type marks uint8

const (
	markPercent marks = 1 << iota
	markAmpersand
	markBackslash
	markPlusEquals
	markOther
)

var markOf = func() (t [256]marks) {
	for c := range 256 {
		b := byte(c)
		switch {
		case b == '%':
			t[c] = markPercent
		case b == '&':
			t[c] = markAmpersand
		case b == '\\':
			t[c] = markBackslash
		case b == '+' || b == '=' || b == '/' || b == '-' || b == '_':
			t[c] = markPlusEquals
		case b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z':
		default:
			t[c] = markOther
		}
	}
	return t
}()

func scan(s string) (m marks) {
	for i := 0; i < len(s); i++ {
		m |= markOf[s[i]]
	}
	return m
}

func appendNew(list []string, start int, s string) []string {
	if s == "" || len(list)-start >= maxForms {
		return list
	}
	for _, known := range list[start:] {
		if known == s {
			return list
		}
	}
	return append(list, s)
}

// appendPacked opens base64 and hexadecimal, where text is in it.
func appendPacked(list []string, start int, s string) []string {
	if text, ok := fromBase64(s); ok {
		return appendNew(list, start, tidy(text))
	}
	if text, ok := fromHex(s); ok {
		return appendNew(list, start, tidy(text))
	}
	return list
}

// fromUTF7 opens +ADw-: characters in UTF-16 in base64, which old browsers and XML parsers read.
func fromUTF7(s string) (string, bool) {
	if !strings.Contains(s, "+A") {
		return "", false
	}
	var b strings.Builder
	found := false
	for i := 0; i < len(s); {
		if s[i] == '+' {
			run := base64Run(strings.TrimLeft(s[i+1:], "+"))
			run, _, _ = strings.Cut(run, "-")
			run, _, _ = strings.Cut(run, "+")
			if plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(run, "=")); err == nil && len(plain) >= 2 && plain[0] == 0 {
				for k := 0; k+1 < len(plain); k += 2 {
					b.WriteRune(rune(plain[k])<<8 | rune(plain[k+1]))
				}
				i += 1 + len(run)
				if i < len(s) && s[i] == '-' {
					i++
				}
				found = true
				continue
			}
		}
		b.WriteByte(s[i])
		i++
	}
	return b.String(), found
}

// hexRuns opens 0x… where text is in it, in bytes or in UTF-16, as databases take strings; and 0x2e0x2f.
func hexRuns(s string) string {
	var b strings.Builder
	for s != "" {
		i := strings.Index(s, "0x")
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		end := i + 2
		for end < len(s) && nibble(s[end]) >= 0 {
			end++
		}
		if end == i+3 && end < len(s) && s[end] == 'x' { // 0x2e0x2f: the last digit is the next one's 0
			end--
		}
		if end > i+4 && end < len(s) && s[end] == 'x' && s[end-1] == '0' {
			end--
		}
		b.WriteString(openHex(s[i:end]))
		s = s[end:]
	}
	b.WriteString(s)
	return b.String()
}

func openHex(s string) string {
	plain, err := hex.DecodeString(s[2:])
	switch {
	case err != nil || len(plain) == 0:
		return s
	case len(plain) == 1 && plain[0] >= 0x20 && plain[0] < 0x7f:
		return string(plain)
	case len(plain) < 3:
		return s
	}
	if len(plain) >= 6 && plain[1] == 0 && plain[3] == 0 {
		narrow := make([]byte, 0, len(plain)/2)
		for i := 0; i < len(plain); i += 2 {
			narrow = append(narrow, plain[i])
		}
		plain = narrow
	}
	if len(plain) < 6 || !isText(plain) {
		return s
	}
	return string(plain)
}

func base64Run(s string) string {
	for i := 0; i < len(s); i++ {
		if m := markOf[s[i]]; m != 0 && m != markPlusEquals {
			return s[:i]
		}
	}
	return s
}

// spacedBase64: base64 whose plus signs became spaces on the way.
func spacedBase64(s string) bool {
	spaces := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ' ':
			spaces++
		case markOf[s[i]]&markOther != 0:
			return false
		}
	}
	return len(s) >= 24 && spaces > 0 && spaces <= len(s)/16
}

// fromBase64 wants at least 8 characters, and text in them: a word of letters is rarely that.
func fromBase64(s string) (string, bool) {
	s = strings.TrimRight(strings.ReplaceAll(s, " ", "+"), "=")
	if len(s) < 8 || len(s)%4 == 1 {
		return "", false
	}
	code := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		code = base64.RawURLEncoding
	}
	plain, err := code.DecodeString(s)
	if err != nil || !isText(plain) || len(s) < 16 && !isWord(plain) {
		return "", false
	}
	return string(plain), true
}

// isWord is what the little that a short token holds has to be: a token of chance holds signs.
func isWord(b []byte) bool {
	letters := 0
	for _, c := range b {
		switch {
		case c == '\n':
			return true
		case c|0x20 >= 'a' && c|0x20 <= 'z' || c == ' ':
			letters++
		}
	}
	return letters*10 >= len(b)*7 || len(b) >= 9
}

func fromHex(s string) (string, bool) {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	if len(s) < 12 || len(s)%2 != 0 {
		return "", false
	}
	plain, err := hex.DecodeString(s)
	if err != nil || !isText(plain) {
		return "", false
	}
	return string(plain), true
}

// isText wants letters and no control characters.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	ascii, nulls := 0, 0
	for _, c := range b {
		if c == 0 && nulls < 2 { // within a word, to hide it
			nulls++
			continue
		}
		if c < 0x20 && c != '\n' && c != '\r' && c != '\t' || c == 0x7f {
			return false
		}
		if c < 0x80 {
			ascii++
		}
	}
	return ascii*10 >= len(b)*8
}

// Percent takes one layer of percent-encoding off, %uXXXX included. What is no encoding stays. Of
// a form, plus is a space.
func Percent(s string, form bool) string {
	i := strings.IndexByte(s, '%')
	if form {
		if plus := strings.IndexByte(s, '+'); plus >= 0 && (i < 0 || plus < i) {
			i = plus
		}
	}
	if i < 0 {
		return s
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for i < len(s) {
		switch {
		case s[i] == '+' && form:
			b = append(b, ' ')
			i++
		case s[i] == '%':
			b, i = appendPercent(b, s, i)
		default:
			b = append(b, s[i])
			i++
		}
	}
	return string(b)
}

func appendPercent(b []byte, s string, i int) ([]byte, int) {
	if i+2 < len(s) {
		if high, low := nibble(s[i+1]), nibble(s[i+2]); high >= 0 && low >= 0 {
			return append(b, byte(high<<4|low)), i + 3
		}
	}
	if i+5 < len(s) && s[i+1]|0x20 == 'u' {
		if r, ok := hexRune(s[i+2 : i+6]); ok {
			return utf8.AppendRune(b, r), i + 6
		}
	}
	return append(b, '%'), i + 1
}

func nibble(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20) - 'a' + 10
	}
	return -1
}

func hexRune(s string) (r rune, ok bool) {
	for i := 0; i < len(s); i++ {
		n := nibble(s[i])
		if n < 0 {
			return 0, false
		}
		r = r<<4 | rune(n)
	}
	return r, len(s) > 0 && r <= utf8.MaxRune
}

// Escapes takes the escapes of JavaScript (\x41, \u0041, \u{41}, \101) and CSS (\41 ) off.
func Escapes(s string) string {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := make([]byte, i, len(s))
	copy(b, s)
	for i < len(s) {
		if s[i] != '\\' || i+1 >= len(s) {
			b = append(b, s[i])
			i++
			continue
		}
		b, i = appendEscape(b, s, i+1)
	}
	return string(b)
}

// appendEscape appends what the escape that begins before s[i] stands for.
func appendEscape(b []byte, s string, i int) ([]byte, int) {
	switch c := s[i]; {
	case c == 'x' && i+2 < len(s):
		if r, ok := hexRune(s[i+1 : i+3]); ok {
			return utf8.AppendRune(b, r), i + 3
		}
	case c == 'u' && i+1 < len(s) && s[i+1] == '{':
		if end := strings.IndexByte(s[i:min(len(s), i+12)], '}'); end > 2 {
			if r, ok := hexRune(s[i+2 : i+end]); ok {
				return utf8.AppendRune(b, r), i + end + 1
			}
		}
	case c == 'u' && i+4 < len(s):
		if r, ok := hexRune(s[i+1 : i+5]); ok {
			return utf8.AppendRune(b, r), i + 5
		}
	case nibble(c) >= 0 && !(c == 'b' || c == 'f'):
		return appendNumber(b, s, i)
	}
	return append(b, '\\', s[i]), i + 1
}

// appendNumber reads three octal digits as JavaScript does, else up to six hexadecimal ones as CSS does.
func appendNumber(b []byte, s string, i int) ([]byte, int) {
	end := i
	for end < len(s) && end-i < 6 && nibble(s[end]) >= 0 {
		end++
	}
	digits := s[i:end]
	if len(digits) == 3 && strings.Trim(digits, "01234567") == "" && digits[0] < '4' {
		return append(b, (digits[0]-'0')<<6|(digits[1]-'0')<<3|(digits[2]-'0')), end
	}
	r, _ := hexRune(digits)
	if len(digits) < 2 || r < 0x20 || r > 0x7e { // \1 in a pattern, \n …
		return append(append(b, '\\'), digits...), end
	}
	if end < len(s) && s[end] == ' ' {
		end++
	}
	return utf8.AppendRune(b, r), end
}
