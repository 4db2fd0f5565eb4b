package corpus

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
)

// Ways are the places that a payload is sent in.
var Ways = []string{"query", "form", "json", "header", "cookie", "path"}

// Attack makes the request that carries a payload in one of the [Ways].
func Attack(s Sample, way string, r *rand.Rand) []byte {
	if s.Raw != nil {
		return s.Raw
	}
	v := s.Value
	q := &request{method: "GET", path: "/page"}
	name := []string{"q", "id", "user", "name", "search", "file", "url", "data", "page"}[r.IntN(9)]
	if strings.HasPrefix(v, "<?xml") || strings.HasPrefix(v, "<!DOCTYPE") {
		q.method, q.kind, q.body = "POST", "application/xml", v
	} else {
		q.carry(v, name, way)
	}
	var b strings.Builder
	target := q.path
	if len(q.query) > 0 {
		target += "?" + form(q.query)
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: %s\r\nAccept: */*\r\n", q.method, target, agents[r.IntN(4)])
	for _, h := range q.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.k, h.v)
	}
	if q.body != "" {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", q.kind, len(q.body))
	}
	b.WriteString("\r\n" + q.body)
	return []byte(b.String())
}

func (q *request) carry(v, name, way string) {
	switch way {
	case "query":
		q.query = []pair{{name, v}}
	case "form":
		q.method, q.kind, q.body = "POST", "application/x-www-form-urlencoded", form([]pair{{name, v}, {"submit", "1"}})
	case "json":
		text, _ := json.Marshal(map[string]any{name: v, "n": 1})
		q.method, q.kind, q.body = "POST", "application/json", string(text)
	case "header":
		q.headers = []pair{{"X-Api-Client", strings.NewReplacer("\r", "", "\n", " ", "\x00", "").Replace(v)}}
	case "cookie":
		q.headers = []pair{{"Cookie", name + "=" + url.QueryEscape(v)}}
	case "path":
		q.path = "/page/" + url.PathEscape(v)
	}
}
