package portrait

import (
	"encoding/hex"
	"strings"
	"time"
)

// typeOf is the narrowest type that a value has.
func typeOf(s string) string {
	switch {
	case s == "true" || s == "false":
		return "boolean"
	case only(s, "0123456789") && len(s) < 20:
		return "integer"
	case only(s, "0123456789.-+eE") && len(s) < 32 && strings.ContainsAny(s, "0123456789"):
		return "number"
	case isUUID(s):
		return "uuid"
	case isDate(s):
		return "date"
	case len(s) >= 16 && only(s, "0123456789abcdefABCDEF"):
		return "hex"
	case strings.Count(s, "@") == 1 && !strings.ContainsAny(s, " '\"<>()") && strings.Contains(s[strings.IndexByte(s, '@'):], "."):
		return "email"
	case only(s, letters+"-_") && len(s) <= 32:
		return "word"
	case only(s, letters+"0123456789-_.~") && len(s) <= 32 && !strings.Contains(s, ".."):
		return "name"
	case only(s, letters+"0123456789-_.~+/=") && len(s) > 32:
		return "token"
	}
	return "text"
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func only(s, alphabet string) bool {
	for i := range len(s) {
		if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	_, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	return err == nil
}

func isDate(s string) bool {
	if len(s) < 10 || len(s) > 35 {
		return false
	}
	_, err := time.Parse(time.DateOnly, s[:10])
	return err == nil
}

// signsOf are the kinds of characters in s: letters, digits, those beyond ASCII, and each sign by itself.
func signsOf(s string) []string {
	var seen [256]bool
	for i := range len(s) {
		c := s[i]
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			c = 'a'
		case c >= '0' && c <= '9':
			c = '0'
		case c >= 0x80:
			c = 0x80
		}
		seen[c] = true
	}
	var list []string
	for c, is := range seen {
		switch {
		case !is:
		case c == 0x80:
			list = append(list, "beyond ASCII")
		case c < 0x20 || c == 0x7f:
			list = append(list, "control")
		default:
			list = append(list, string(rune(c)))
		}
	}
	return list
}
