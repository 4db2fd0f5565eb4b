//go:build integration

package browser

import (
	"fmt"
	"testing"
	"time"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/waf/message"
	"bulkhead/waf/portrait"
)

// learnedPortrait is of a shop with three customers.
func learnedPortrait(t *testing.T) *pb.GetPortraitResponse {
	t.Helper()
	p := portrait.New()
	for n := range 90 {
		raw := fmt.Sprintf("GET /items/%d?page=%d HTTP/1.1\r\nHost: shop\r\n\r\n", n, n)
		p.Learn(message.Parse([]byte(raw)), fmt.Sprintf("10.0.0.%d", n%3))
	}
	out := &pb.GetPortraitResponse{Workload: "docker/shop", Digest: "sha256:00112233445566778899", Digests: []string{"sha256:00112233445566778899"}}
	var err, oerr error
	out.Json, err = p.Write()
	out.Openapi, oerr = p.OpenAPI("shop")
	if err != nil || oerr != nil {
		t.Fatal(err, oerr)
	}
	return out
}

func webEvent(id string, hostile string) bulkhead.Alert {
	return bulkhead.Alert{
		ID: "web-" + id, Time: time.Now().UTC(), Cluster: "local", Node: "harbour", Workload: "docker/shop", Container: "shop", Image: "shop:1",
		Rule: "web/sql-injection", Title: "SQL injection", Technique: "T1190", Tactic: "initial-access", Severity: bulkhead.High, Action: bulkhead.ActionBlocked,
		Message: "GET /items/7 from 10.0.0.9:4711 was refused: sql-tautology in the query parameter q" + hostile, Count: 1,
		Process: bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}},
		Web: &bulkhead.WebRequest{
			ID: id, Client: "10.0.0.9:4711", Method: "GET", Host: "shop", Path: "/items/7" + hostile, Endpoint: "/items/{integer}", Place: bulkhead.PlaceInline, Mode: bulkhead.WebBlock,
			Verdict: "block", Score: 92, Request: []byte("GET /items/7?q=1'+or+1=1 HTTP/1.1\r\nHost: shop\r\nCookie: ********\r\n\r\n" + hostile),
			Reasons: []bulkhead.WebReason{{Rule: "sql-tautology", Class: "sql-injection", Score: 92, Place: "query", Name: "q", Message: "1' or 1=1" + hostile}},
		},
	}
}

// TestRequests is one sitting: a refused request, why, allowing it; modes; a patch taken back; a portrait.
func TestRequests(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	w := open(t, p)
	var n *node
	for _, part := range []struct {
		name string
		do   func()
	}{
		{"nothing there yet", func() {
			w.visit(p.URL + "/requests")
			w.signIn(p, p.password)
			w.says("No request was refused or told of.")
			w.accessible("requests, empty")
		}},
		{"events", func() {
			n = join(t, p.dir, ordinary())
			n.portrait.Store(learnedPortrait(t))
			n.publish(t, webEvent("0123abcd", ""), webEvent("hostile", "<img src=x onerror=alert(1)>\u202e"))
			w.rows("tr[data-row]", 2)
			w.accessible("requests")
			w.widths("requests", 900)
			w.click(chip("Detected"))
			w.says("No event fits.")
			w.click(chip("Detected"))
		}},
		{"why", func() {
			w.visit(p.URL + "/requests?id=0123abcd")
			w.says("1' or 1=1")
			w.says("bulkhead waf explain 0123abcd")
			w.says("Cookie: ********")
			w.accessible("a request")
			w.shot("request")
		}},
		{"allow", func() {
			w.click(button("Allow…"))
			w.click(button("Yes, let it pass from now on"))
			n.hasWeb(w, "the exception", func(s *pb.WebSetting) bool { return len(s.Exceptions) == 1 && s.Exceptions[0].Rule == "sql-tautology" })
		}},
		{"applications", func() {
			w.visit(p.URL + "/requests?tab=applications")
			w.rows("tr[data-exception]", 1)
			w.accessible("applications")
			w.widths("requests-applications", 900)
			w.click(`//tr[@data-exception]//button`)
			w.rows("tr[data-exception]", 0)
			n.hasWeb(w, "no exception", func(s *pb.WebSetting) bool { return len(s.Exceptions) == 0 })
		}},
		{"portrait", func() {
			w.visit(p.URL + "/requests?tab=portrait&workload=docker%2Fshop")
			w.says("/items/{integer}")
			w.says("page")
			w.accessible("a portrait")
			w.widths("requests-portrait", 900)
		}},
		{"the cause of an alert", func() {
			a := alert(7, "A program the workload never ran before", "/usr/bin/cksum", "T1059", "execution", bulkhead.High, bulkhead.ActionBlocked)
			a.Workload = "docker/shop"
			a.Cause.Request = &bulkhead.WebCause{
				ID: "0123abcd", Method: "POST", Path: "/order/export", Endpoint: "/order/export", Place: "form", Parameter: "name", Client: "10.0.0.9", Sure: bulkhead.Certain,
				Why: "the thread had read it", Patch: &bulkhead.WebPatch{Method: "POST", Path: "/order/export", Name: "name", Pattern: "[a-z ]*"},
			}
			n.publish(w.t, a)
			w.visit(p.URL)
			w.click(row(a.ID))
			w.says("The request that led to it")
			w.says("form parameter name")
			w.accessible("an alert with its cause")
			w.shot("cause")
			w.click(button("Close the hole"))
			w.says("The patch is in force.")
			n.hasWeb(w, "the patch", func(s *pb.WebSetting) bool { return len(s.Patches) == 1 && s.Patches[0].Name == "name" })
		}},
	} {
		if !t.Run(part.name, func(sub *testing.T) { w.t = sub; part.do(); w.clean() }) {
			return
		}
	}
}

func (n *node) hasWeb(w *window, what string, is func(*pb.WebSetting) bool) {
	w.t.Helper()
	eventually(w.t, what, func() bool {
		all := n.webs.Load()
		return all != nil && len(all.Settings) == 1 && is(all.Settings[0])
	})
}
