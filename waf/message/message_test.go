package message

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fields(raw string) (got []string) {
	r := Parse([]byte(raw))
	for _, f := range r.Fields() {
		got = append(got, fmt.Sprintf("%s %s=%s", f.Place, f.Name, f.Value))
	}
	return got
}

func TestFields(t *testing.T) {
	tests := []struct {
		name, raw string
		want      []string
	}{
		{"query", "GET /a?b=c%20d&e HTTP/1.1\nHost: h\n\n", []string{"path =/a", "query b=c%20d", "query =e", "header Host=h"}},
		{"form", "POST /a HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\na=1&b[$ne]=2", []string{"path =/a", "header Content-Type=application/x-www-form-urlencoded", "form a=1", "name b[$ne]=b[$ne]", "form b[$ne]=2"}},
		{"json", "POST /a HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{\"a\":\"x\\u0027\\n\",\"b\":[1,\"y\"],\"c\":\"{\\\"d\\\":\\\"z\\\"}\"}", []string{"path =/a", "header Content-Type=application/json", "json a=x'\n", "json b=y", `json c={"d":"z"}`, "json d=z"}},
		{"xml", "POST /a HTTP/1.1\r\nContent-Type: text/xml\r\n\r\n<a b=\"c\">d<![CDATA[<e>]]></a>", []string{"path =/a", "header Content-Type=text/xml", "xml b=c", "xml a=d", "xml a=<e>"}},
		{"multipart", "POST /a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=X\r\n\r\n--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\n\r\nbytes\r\n--X\r\nContent-Disposition: form-data; name=\"g\"\r\n\r\nv\r\n--X--\r\n", []string{"path =/a", "header Content-Type=multipart/form-data; boundary=X", "filename f=a.php", "file f=bytes", "form g=v"}},
		{"cookie", "GET / HTTP/1.1\r\nCookie: a=b; c=\"d\"\r\n\r\n", []string{"path =/", "cookie a=b", "cookie c=d"}},
		{"basic", "GET / HTTP/1.1\r\nAuthorization: Basic YTpiJw==\r\n\r\n", []string{"path =/", "header Authorization=a", "header Authorization=b'"}},
		{"chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na=1\r\n2\r\n23\r\n0\r\n\r\n", []string{"path =/", "header Transfer-Encoding=chunked", "form a=123"}},
		{"guessed", "POST / HTTP/1.1\r\n\r\n {\"a\":\"b\"}", []string{"path =/", "json a=b"}},
		{"nothing", "", []string{"path ="}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, fields(tt.raw)); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnomalies(t *testing.T) {
	bomb := func() string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(make([]byte, 16<<20))
		_ = w.Close()
		return b.String()
	}
	tests := []struct{ name, raw, want string }{
		{"none", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", ""},
		{"lines of Unix", "GET / HTTP/1.1\nHost: h\n\n", ""},
		{"cut off", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc", ""},
		{"both lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "length-and-chunked"},
		{"two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", "many-content-lengths"},
		{"a length that is none", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd", "bad-content-length"},
		{"coding in disguise", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", "bad-transfer-encoding"},
		{"name in disguise", "POST / HTTP/1.1\r\nHost: h\r\nTransfer_Encoding: chunked\r\n\r\n", "disguised-framing"},
		{"space before colon", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n", "space-before-colon"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "many-hosts"},
		{"second request", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /admin HTTP/1.1\r\n\r\n", "request-in-request"},
		{"chunk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", "bad-chunk"},
		{"control character", "GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n", "control-character"},
		{"folded", "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: a\r\n chunked\r\n\r\n", "folded-header"},
		{"bomb", "POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\n\r\n" + bomb(), "decompression-bomb"},
		{"entity from outside", "POST / HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n\r\n<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>", "xxe"},
		{"a flood of headers", "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 600) + "\r\n", "header-flood"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Parse([]byte(tt.raw))
			r.Fields()
			for _, a := range r.Anomalies {
				if a.ID == tt.want {
					return
				}
			}
			if tt.want != "" || len(r.Anomalies) > 0 {
				t.Errorf("anomalies %v, want %q", r.Anomalies, tt.want)
			}
		})
	}
}

// TestManyParameters: ten thousand are looked at, and a hundred thousand too, if less closely.
func TestManyParameters(t *testing.T) {
	for _, n := range []int{10_000, 100_000} {
		got := Parse([]byte("POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n" + strings.Repeat("a=b&", n) + "last=attack")).Fields()
		seen := false
		for _, f := range got[len(got)-2:] {
			seen = seen || strings.HasSuffix(f.Value, "attack")
		}
		if !seen {
			t.Errorf("of %d parameters the last is not looked at", n)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"GET /a?b=c HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{\"query\":\"{a(b:\\\"c\\\")}\"}",
		"POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=X\r\n\r\n--X\r\nContent-Disposition: form-data; name=a; filename='b\r\n\r\nc\r\n--X--", "POST / HTTP/1.1\r\nContent-Type: text/xml\r\n\r\n<!DOCTYPE a [<!ENTITY b 'c'>]><a d='e'><![CDATA[f", "\r\n\r\n", "A\nB",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := Parse(raw)
		total := 0
		for _, field := range r.Fields() {
			total += len(field.Value)
		}
		if limit := 64*(len(raw)+1024) + 10*maxInflated; total > limit {
			t.Fatalf("%d bytes became %d", len(raw), total)
		}
	})
}
