package secret

import (
	"encoding/base64"
	"encoding/json"
	"hash/crc32"
	"math"
	"strings"
)

// entropy is Shannon's, of the bytes of s, in bits a byte. Random hexadecimal has some 3.5 in 32 bytes, base64 some 4.5.
func entropy(s string) float64 {
	var counts [256]int
	for i := range len(s) {
		counts[s[i]]++
	}
	h := 0.0
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return h
}

// mixed reports whether s has small and capital letters and digits, as random text of them has.
func mixed(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// awsKey: of random base 32 text some characters are digits; a word in capitals has none. The examples of Amazon's
// documentation end in EXAMPLE.
func awsKey(s string) bool {
	return strings.ContainsAny(s, "234567") && !strings.HasSuffix(s, "EXAMPLE")
}

// githubChecksum checks the last six characters: the CRC-32 of what is before them, in base 62. GitHub described it in
// 2021 ("Behind GitHub's new authentication token formats"); npm's tokens have the same.
func githubChecksum(s string) bool {
	i := strings.LastIndexByte(s, '_') + 1
	body, sum := s[i:len(s)-6], s[len(s)-6:]
	return base62(crc32.ChecksumIEEE([]byte(body))) == sum || strings.HasPrefix(s, "github_pat_") && base62(crc32.ChecksumIEEE([]byte(s[:len(s)-6]))) == sum
}

const base62Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// base62 writes n with six digits.
func base62(n uint32) string {
	b := []byte("000000")
	for i := len(b) - 1; n > 0; i-- {
		b[i] = base62Digits[n%62]
		n /= 62
	}
	return string(b)
}

// notAzurite: the storage emulator's key is public and the same everywhere.
func notAzurite(s string) bool {
	return !strings.HasPrefix(s, "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq")
}

// twitterBearer: after the leading A comes an encoded number, then text with percent signs or of mixed case.
func twitterBearer(s string) bool { return strings.Contains(s, "%") && mixed(s) }

// jwt reports whether the header names an algorithm, and the claims are not those of the examples everybody copies.
func jwt(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return false
	}
	var header struct {
		Alg string `json:"alg"`
	}
	if b, err := base64.RawURLEncoding.DecodeString(parts[0]); err != nil || json.Unmarshal(b, &header) != nil || header.Alg == "" {
		return false
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && json.Valid(claims) && !strings.Contains(string(claims), "John Doe")
}

// basicAuthorization reports whether s is "user:password" in base 64.
func basicAuthorization(s string) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		b, err = base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	}
	user, password, ok := strings.Cut(string(b), ":")
	return err == nil && ok && user != "" && printable(string(b)) && likelyPassword(password)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// placeholders are words that stand where a secret belongs. A value that contains one of them is none.
var placeholders = []string{
	"example", "exampl", "sample", "dummy", "placeholder", "changeme", "change_me", "change-me", "changeit", "replace",
	"your", "insert", "redacted", "xxxx", "****", "....", "todo", "fixme", "none", "null", "undefined", "test", "foobar",
	"secret_here", "enter_", "my_", "my-", "fake", "mock", "invalid", "notreal", "not-a-real", "deadbeef", "lorem",
	"1234567", "0123456", "abcdefg", "qwerty", "aaaaaa", "000000", "______", "------", "default", "hunter2", "swordfish",
	"${", "{{", "%(", "$(", "<%", "@@", "#{", "process.env", "os.environ", "getenv", "vault:", "secretkeyref", "env.",
}

// words are values that are passwords in documentation only, or no passwords at all.
var words = map[string]bool{
	"password": true, "passwd": true, "pass": true, "pwd": true, "secret": true, "token": true, "key": true, "apikey": true,
	"true": true, "false": true, "yes": true, "no": true, "on": true, "off": true, "enabled": true, "disabled": true,
	"string": true, "prompt": true, "required": true, "optional": true, "auto": true, "user": true, "username": true,
	"root": true, "admin": true, "guest": true, "anonymous": true, "basic": true, "bearer": true, "digest": true,
	"hostname": true, "localhost": true, "value": true, "self": true, "empty": true, "blank": true, "hidden": true, "foo": true, "bar": true, "baz": true,
	"passphrase": true, "credential": true, "credentials": true, "plaintext": true, "file": true, "stdin": true, "ask": true,
	"hello": true, "world": true, "mypassword": true, "mysecret": true, "mypass": true, "s3cret": true, "letmein": true,
}

// isPlaceholder reports whether the text stands for a secret and is none.
func isPlaceholder(s string) bool {
	lower := strings.ToLower(s)
	if words[lower] || repeated(lower) {
		return true
	}
	// In a long random text short words turn up by chance: only what nobody's chance makes counts there.
	for _, p := range placeholders {
		if len(p) >= 6 || len(s) < 24 {
			if strings.Contains(lower, p) {
				return true
			}
		}
	}
	return false
}

// repeated reports whether the text is made of three different characters at most.
func repeated(s string) bool {
	if len(s) < 4 {
		return true
	}
	seen := map[byte]bool{}
	for i := range len(s) {
		seen[s[i]] = true
	}
	return len(seen) <= 3
}

// likelyPassword reports whether somebody could have chosen s as a password: not a word, a name, a path, a number, a
// reference to a variable or a call.
func likelyPassword(s string) bool {
	if len(s) < 6 || len(s) > 128 || isPlaceholder(s) || !printable(s) {
		return false
	}
	if strings.ContainsAny(s, " \t,;()[]{}<>") || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "$") || strings.HasPrefix(s, "%") || strings.HasPrefix(s, "@") {
		return false
	}
	return entropy(s) >= 2.5 && kinds(s) >= 2 && !isName(s)
}

// kinds counts of which of small letters, capitals, digits and signs a text is made.
func kinds(s string) int {
	var small, capital, digit, sign int
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z':
			small = 1
		case c >= 'A' && c <= 'Z':
			capital = 1
		case c >= '0' && c <= '9':
			digit = 1
		default:
			sign = 1
		}
	}
	return small + capital + digit + sign
}

// isName reports whether a text looks like an identifier or a path of names: words of letters with _ . - : / between
// them, or in camel case, without a digit.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isWord(c) && c != '.' && c != '-' && c != ':' && c != '/' && c != '\\' || c >= '0' && c <= '9' {
			return false
		}
	}
	return true
}
