package decode

import (
	"strings"
	"unicode/utf8"
)

// tidy maps what programs take for ASCII to it: overlong UTF-8, full-width forms, a few look-alikes
// that databases and file systems fold. Null bytes and invisible characters, which only hide, go.
func tidy(s string) string {
	if i := firstOdd(s); i >= 0 {
		return tidied(s, i)
	}
	return s
}

// firstOdd finds a byte that may have to be mapped.
func firstOdd(s string) int {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c == 0xc0 || c == 0xc1 || c == 0xe0 || c == 0xe2 || c == 0xef || c == 0xca || c == 0xc2 || c == 0xf0 || c == 0x0b || c == 0x0c {
			return i
		}
	}
	return -1
}

func tidied(s string, i int) string {
	b := make([]byte, i, len(s))
	copy(b, s)
	for i < len(s) {
		c := s[i]
		if c < utf8.RuneSelf {
			if c == 0x0b || c == 0x0c {
				c = ' '
			}
			if c != 0 {
				b = append(b, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			if ascii, length := overlong(s[i:]); length > 0 {
				b = append(b, ascii)
				i += length
				continue
			}
			b = append(b, c)
			i++
			continue
		}
		b = appendFolded(b, r, s[i:i+size])
		i += size
	}
	return string(b)
}

// overlong reads an ASCII character in two to four bytes of UTF-8, which no encoder writes.
func overlong(s string) (c byte, length int) {
	switch {
	case len(s) >= 2 && (s[0] == 0xc0 || s[0] == 0xc1) && s[1]&0xc0 == 0x80:
		return s[0]<<6 | s[1]&0x3f, 2
	case len(s) >= 2 && s[0] == 0xc0: // %c0%2f: some decoders do not look at the second byte's top
		return s[1] & 0x7f, 2
	case len(s) >= 3 && s[0] == 0xe0 && (s[1] == 0x80 || s[1] == 0x81) && s[2]&0xc0 == 0x80:
		return s[1]<<6 | s[2]&0x3f, 3
	case len(s) >= 4 && s[0] == 0xf0 && s[1] == 0x80 && (s[2] == 0x80 || s[2] == 0x81):
		return s[2]<<6 | s[3]&0x3f, 4
	}
	return 0, 0
}

// folds are characters that databases, shells and file systems take for ASCII ones.
const folds = "ʼ'ʹ'ˈ'′'＇'∕/⁄/∖\\﹤<﹥>‹<›>〈<〉>ʺ\"″\"․."

func appendFolded(b []byte, r rune, as string) []byte {
	switch {
	case r >= 0xff01 && r <= 0xff5e: // full-width forms
		return append(b, byte(r-0xfee0))
	case r == 0xa0 || r == 0x3000:
		return append(b, ' ')
	case r >= 0x200b && r <= 0x200d || r == 0x2060 || r == 0xfeff || r == 0xad:
		return b
	}
	if i := strings.Index(folds, as); i >= 0 {
		return append(b, folds[i+len(as)])
	}
	return append(b, as...)
}
