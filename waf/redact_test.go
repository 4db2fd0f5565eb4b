package waf

import (
	"strings"
	"testing"
)

func TestRedact(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{
			"headers", "GET /a HTTP/1.1\r\nHost: x\r\nCookie: sid=abcdefghij; b=c\r\nX-Api-Key: k\r\nAuthorization: Basic dTpwYXNzd29yZA==\r\n\r\n",
			"GET /a HTTP/1.1\r\nHost: x\r\nCookie: ********\r\nX-Api-Key: *\r\nAuthorization: ********\r\n\r\n",
		},
		{"folded", "GET / HTTP/1.1\r\nCookie: a\r\n more\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nCookie: *\r\nHost: x\r\n\r\n"},
		{"query", "GET /a?token=s3cr3tvalue&q=1'+or+1=1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?token=********&q=1'+or+1=1 HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"a short one", "GET /a?pwd=a&q=banana HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?pwd=*&q=banana HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"an author is none", "GET /a?author=someone&keyword=word HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?author=someone&keyword=word HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"form", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 35\r\n\r\nuser=ada&password=correct+horse&x=1", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 35\r\n\r\nuser=ada&password=********&x=1"},
		{"JSON", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n{\"password\": \"hunter2\", \"pin_token\":12}", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n{\"password\": \"*******\", \"pin_token\":**}"},
		{"JSON with escapes", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n{\"password\": \"hun\\u0074er2\"}", "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\r\n"},
		{"a card", "GET /pay?n=4111+x4111-1111-1111-1111x&m=4111111111111112 HTTP/1.1\r\nHost: x\r\n\r\n", "GET /pay?n=4111+x*******************x&m=4111111111111112 HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		got, _ := Redact([]byte(c.raw), 8<<10)
		if string(got) != c.want {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, c.want)
		}
	}
}

// What is taken out decides nothing: the same request gets the same verdict afterwards.
func TestRedactKeepsVerdict(t *testing.T) {
	e := New(Options{})
	raw := []byte("GET /a?token=s3cr3tvalue&id=1'+or+'1'='1 HTTP/1.1\r\nHost: x\r\nCookie: sid=0123456789\r\n\r\n")
	kept, _ := Redact(raw, 8<<10)
	if before, after := e.Inspect(raw), e.Inspect(kept); before.Action != Block || after.Action != before.Action || after.Score != before.Score {
		t.Errorf("%v, then %v", before, after)
	}
}

// FuzzRedact: a password in a query or a form never stays, and it ends.
func FuzzRedact(f *testing.F) {
	f.Add("GET /a?", "&b=c HTTP/1.1\r\nHost: x\r\n\r\n")
	f.Add("POST /a HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\na=b&", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		kept, _ := Redact([]byte(before+after), 4<<10)
		if len(kept) > 8<<10+len(before) {
			t.Errorf("%d bytes became %d", len(before+after), len(kept))
		}
		simple := "GET /a?password=Sw0rdfish-77&x=" + strings.Map(plainOnly, before) + " HTTP/1.1\r\nHost: x\r\n\r\n" + after
		if kept, _ := Redact([]byte(simple), 4<<10); strings.Contains(string(kept), "Sw0rdfish-77") {
			t.Errorf("it stays in %q", kept)
		}
	})
}

func plainOnly(r rune) rune {
	if r > ' ' && r < 0x7f {
		return r
	}
	return -1
}
