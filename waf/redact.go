package waf

import (
	"bytes"
	"regexp"
	"strings"

	"bulkhead/waf/decode"
	"bulkhead/waf/message"
)

// secretWords are in the names of parameters and headers whose values no log shows.
var secretWords = []string{"pass", "pwd", "secret", "token", "cookie", "session", "credential", "card", "cvv", "iban", "ssn"}

// isSecret says whether a field's value is kept out of logs.
func isSecret(f *message.Field) bool {
	if f.Place == message.Cookie {
		return true
	}
	name := strings.ToLower(f.Name)
	for _, word := range secretWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	if strings.Contains(name, "auth") && (!strings.Contains(name, "author") || strings.Contains(name, "authoriz")) {
		return true
	}
	return strings.HasSuffix(name, "key")
}

// Redact returns a copy of a request without its secrets, of at most so many bytes: judged again it gets the same verdict
// where neither a secret nor what was cut off decided it. What cannot be taken out with certainty takes the body with it.
func Redact(raw []byte, most int) (kept []byte, cut bool) {
	kept = bytes.Clone(raw)
	if len(kept) > most {
		kept, cut = kept[:most], true
	}
	r := message.Parse(raw)
	kept = maskHeaders(kept)
	secrets := 0
	for _, f := range r.Fields() {
		if f.Value == "" || !isSecret(&f) {
			continue
		}
		gone := false
		if secrets++; secrets <= maxSecrets {
			kept, gone = maskValue(kept, f)
		}
		if !gone {
			kept, cut = withoutBody(kept), true
		}
	}
	kept = jsonNumber.ReplaceAllFunc(kept, func(b []byte) []byte {
		i := bytes.LastIndexByte(b, ':') + 1
		if !isSecret(&message.Field{Place: message.JSON, Name: string(b[1:bytes.LastIndexByte(b, '"')])}) {
			return b
		}
		return append(bytes.Clone(b[:i]), mask(len(bytes.TrimSpace(b[i:])))...)
	})
	return maskNumbers(kept), cut
}

// jsonNumber is a member that is a number: those are no values that an engine looks at.
var jsonNumber = regexp.MustCompile(`"[^"]{1,64}"\s*:\s*-?[0-9][0-9.eE+-]*`)

// maxSecrets are more than a request has; who sends more is told of without a body.
const maxSecrets = 64

// maskHeaders takes the values of secret headers out, whatever is in them.
func maskHeaders(raw []byte) []byte {
	end := bodyStart(raw)
	var out []byte
	first, secret := true, false
	for line := range bytes.SplitAfterSeq(raw[:end], []byte("\n")) {
		name, value, isHeader := bytes.Cut(line, []byte(":"))
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if !folded {
			secret = !first && isHeader && isSecret(&message.Field{Place: message.Head, Name: string(bytes.TrimSpace(name))})
		}
		first = false
		switch text := bytes.TrimRight(value, "\r\n"); {
		case !secret:
			out = append(out, line...)
		case !folded:
			out = append(append(append(out, name...), ": "...), mask(len(bytes.TrimSpace(text)))...)
			out = append(out, value[len(text):]...)
		}
	}
	return append(out, raw[end:]...)
}

func bodyStart(raw []byte) int {
	for _, end := range []string{"\r\n\r\n", "\n\n"} {
		if i := bytes.Index(raw, []byte(end)); i >= 0 {
			return i + len(end)
		}
	}
	return len(raw)
}

func withoutBody(raw []byte) []byte { return raw[:bodyStart(raw)] }

// mask is as long as what it stands for, up to eight: lengths tell something too.
func mask(n int) []byte { return bytes.Repeat([]byte("*"), max(1, min(n, 8))) }

// maskValue takes a value out wherever it stands. Short ones stand everywhere: they are taken out behind their name.
func maskValue(raw []byte, f message.Field) ([]byte, bool) {
	m := mask(len(f.Value))
	if len(f.Value) >= 6 && bytes.Contains(raw, []byte(f.Value)) {
		return bytes.ReplaceAll(raw, []byte(f.Value), m), true
	}
	for _, name := range []string{f.Name, decode.Percent(f.Name, true)} {
		for _, form := range []string{name + "=" + f.Value, `"` + name + `":"` + f.Value + `"`, `"` + name + `": "` + f.Value + `"`, `"` + name + `":` + f.Value, `"` + name + `": ` + f.Value} {
			if bytes.Contains(raw, []byte(form)) {
				head := strings.TrimSuffix(strings.TrimSuffix(form, `"`), f.Value)
				tail := form[len(head)+len(f.Value):]
				return bytes.ReplaceAll(raw, []byte(form), append(append([]byte(head), m...), tail...)), true
			}
		}
	}
	// It may have gone already, with an equal one or a header, or be written otherwise than it is read.
	return raw, f.Place == message.Cookie || f.Place == message.Head || !bytes.Contains(raw, []byte(f.Name))
}

// maskNumbers takes out numbers that pass as those of payment cards.
func maskNumbers(raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		if !digit(raw[i]) || i > 0 && digit(raw[i-1]) {
			continue
		}
		end, digits := i, []byte{}
		for end < len(raw) && len(digits) <= 19 && (digit(raw[end]) || len(digits) > 0 && (raw[end] == ' ' || raw[end] == '-') && end+1 < len(raw) && digit(raw[end+1])) {
			if digit(raw[end]) {
				digits = append(digits, raw[end])
			}
			end++
		}
		if len(digits) >= 13 && len(digits) <= 19 && luhn(digits) {
			for j := i; j < end; j++ {
				raw[j] = '*'
			}
		}
		i = end
	}
	return raw
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

func luhn(digits []byte) bool {
	sum := 0
	for i, d := range digits {
		n := int(d - '0')
		if (len(digits)-i)%2 == 0 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	return sum%10 == 0
}
