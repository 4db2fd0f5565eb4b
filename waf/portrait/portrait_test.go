package portrait

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/waf/message"
)

func get(target string) *message.Request {
	return message.Parse([]byte("GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"))
}

// learned is the portrait of a shop with twenty clients.
func learned() *Portrait {
	p := New()
	for i := range 400 {
		source := fmt.Sprintf("10.0.0.%d", i%20)
		p.Learn(get(fmt.Sprintf("/items/%d?sort=%s&q=blue+shoes", i, []string{"asc", "desc"}[i%2])), source)
		p.Learn(message.Parse([]byte(fmt.Sprintf("POST /orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\r\n{\"item\":\"%d\",\"note\":\"please wrap, thanks\"}", i))), source)
		p.Learn(get(fmt.Sprintf("/users/%s/profile", strings.Repeat(string(rune('a'+i%26)), 2+i/26%9))), source)
	}
	return p
}

func rules(list []Deviation) (names []string) {
	for _, d := range list {
		names = append(names, d.Rule)
	}
	return names
}

func TestJudge(t *testing.T) {
	p := learned()
	tests := []struct {
		name, target string
		want         []string
	}{
		{"usual", "/items/99999?sort=asc&q=red+shoes", nil},
		{"a user never seen", "/users/zoe/profile", nil},
		{"another endpoint", "/admin/backup", []string{"portrait-endpoint"}},
		{"another parameter", "/items/1?debug=1", []string{"portrait-parameter"}},
		{"another type", "/items/1?sort=1", []string{"portrait-type", "portrait-sign"}},
		{"a sign", "/items/1?q=it%27s", []string{"portrait-sign"}},
		{"long", "/items/1?q=" + strings.Repeat("shoes+", 40), []string{"portrait-length"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, rules(p.Judge(get(tt.target)))); diff != "" {
				t.Errorf("deviations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTooLittleIsNotJudgedBy(t *testing.T) {
	p := New()
	p.Learn(get("/a"), "x")
	if d := p.Judge(get("/b")); d != nil {
		t.Errorf("deviations %v", d)
	}
}

// TestPoison: an attacker sends as much as he likes from two addresses, or a little from many; neither is learned.
func TestPoison(t *testing.T) {
	attack := "/items/1?q=%27+or+1%3D1--&debug=1"
	for name, learn := range map[string]func(*Portrait){
		"two addresses": func(p *Portrait) {
			for i := range 5000 {
				p.Learn(get(attack), fmt.Sprintf("203.0.113.%d", i%2))
			}
		},
		"many addresses": func(p *Portrait) {
			for i := range 4 {
				p.Learn(get(attack), fmt.Sprintf("203.0.113.%d", i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := learned()
			learn(p)
			if diff := cmp.Diff([]string{"portrait-sign", "portrait-parameter"}, rules(p.Judge(get(attack)))); diff != "" {
				t.Errorf("deviations (-want +got):\n%s", diff)
			}
			if d := p.Judge(get("/items/5?sort=asc&q=green")); name == "many addresses" && d != nil {
				t.Errorf("an honest request deviates: %v", d)
			}
		})
	}
}

func TestOpenAPI(t *testing.T) {
	b, err := learned().OpenAPI("shop")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for path, methods := range doc.Paths {
		for method := range methods {
			got = append(got, method+" "+path)
		}
	}
	for _, want := range []string{"get /items/{integer1}", "post /orders", "get /users/{text1}/profile"} {
		if !strings.Contains(strings.Join(got, ","), want) {
			t.Errorf("%s is missing among %v", want, got)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	p := learned()
	b, err := p.Write()
	if err != nil {
		t.Fatal(err)
	}
	q, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := q.Judge(get("/items/3?sort=asc")); d != nil {
		t.Errorf("deviations after reading: %v", d)
	}
}

// TestBounded: a client that makes up paths and parameters makes no portrait grow without end.
func TestBounded(t *testing.T) {
	p := New()
	for i := range 20_000 {
		p.Learn(get(fmt.Sprintf("/x%c/y%d?p%d=1", 'a'+i%26, i, i)), "x")
	}
	if n := len(p.p.Endpoints); n > maxEndpoints {
		t.Errorf("%d endpoints", n)
	}
	for _, e := range p.p.Endpoints {
		if len(e.Parameters) > maxParameters {
			t.Errorf("%d parameters", len(e.Parameters))
		}
	}
}

func FuzzRead(f *testing.F) {
	b, _ := learned().Write()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(b)
		if err != nil {
			return
		}
		p.Learn(get("/a/1?b=c"), "x")
		p.Judge(get("/a/1?b=c"))
	})
}
