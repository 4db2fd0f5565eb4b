//go:build integration

package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

// payloads are strings that a container or a node chooses, and that would be more than text on a careless page.
var payloads = []string{
	`<img src=x onerror="window.hit=1">`,
	`"><script>window.hit=1</script>`,
	`<svg/onload=window.hit=1>`,
	`'-(window.hit=1)-'`,
	`{{window.hit=1}}${window.hit=1}{@html "<b>"}`,
	`</td></table><iframe srcdoc="<script>parent.hit=1</script>">`,
	`javascript:window.hit=1`,
	`<a href="javascript:window.hit=1" autofocus onfocus=window.hit=1>x</a>`,
	`<style>*{display:none}</style><base href="//evil.example/">`,
	`__proto__`, `constructor`, `toString`,
	"\u202egpj.exe\u0000\u001b[2J\r\n\u2028\ufeff",
	strings.Repeat("long<b>", 140),
}

func (w *window) harmless() {
	w.t.Helper()
	for what, expression := range map[string]string{
		"a script ran":               `window.hit`,
		"an element was made of it":  `document.querySelector('img, iframe, base, style, td b b, [onerror], [onload], [onfocus], [srcdoc], a:not([href^="/"], [href^="https://nvd.nist.gov/"], [href="#main"]), a[href^="//"]')?.outerHTML`,
		"a script was added":         `document.scripts.length !== 1`,
		"the page is wider than it":  `document.documentElement.scrollWidth > innerWidth`,
		"the prototype was reached":  `({}).id || ({}).name`,
		"an invisible sign is there": `/[\u0000\u001b\u202e]/.test(document.body.innerText)`,
	} {
		if got := w.value(`(` + expression + `) || ""`); got != "" {
			w.t.Errorf("%s: %.300s", what, got)
		}
	}
}

func hostileReport() *pb.NodeReport {
	r := &pb.NodeReport{Node: &pb.Node{Id: "evil", Name: payloads[0], Kernel: payloads[1], Version: payloads[2], Cluster: payloads[0], Containers: 3}}
	for _, p := range payloads {
		r.Node.Problems = append(r.Node.Problems, p, p)
		r.Node.Engines = append(r.Node.Engines, &pb.Engine{Name: p, Socket: p, Version: p, Error: p})
		r.Node.Backends = append(r.Node.Backends, &pb.Enforcement{Kind: p, Backend: p, Limits: p})
		w := workload("docker/"+p, p, pb.Mode_MODE_LEARN, .3, p)
		w.Workload.Sections = map[string]*pb.Completeness{p: {Score: -4, HeldOut: 1e300, Items: -1, Curve: []*pb.Completeness_Point{{Seconds: 1e300, Items: 5}, {Seconds: -1, Items: -9}}}}
		w.Workload.Digest, w.Workload.Kind, w.Workload.Namespace = p, p, p
		r.Workloads = append(r.Workloads, w)
	}
	return r
}

func hostileAlert(i int, p string) bulkhead.Alert {
	return bulkhead.Alert{
		ID: fmt.Sprintf("hostile-%d", i), Time: time.Now().UTC(), Cluster: p, Node: "evil", Workload: "docker/" + p, Container: p, Image: p, Digest: p,
		Rule: p, Title: p, Technique: p, Tactic: p, Severity: bulkhead.High, Action: "blocked", Message: p,
		Process: bulkhead.AlertProcess{PID: -1, Exe: p, Args: payloads, Ancestry: []bulkhead.Ancestor{{PID: 1, Comm: p, Exe: p}, {PID: 1, Comm: p, Exe: p}}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventExec, Reason: bulkhead.Reason(p), Object: p},
		Count:   1, Heal: &bulkhead.Approval{Workload: "docker/" + p, Section: bulkhead.SectionExecutables, Value: p},
	}
}

// TestHostile puts every payload into every field that comes from a node, and opens everything.
func TestHostile(t *testing.T) {
	p := serve(t, t.TempDir(), "")
	n := join(t, p.dir, hostileReport())
	for i, payload := range payloads {
		n.publish(t, hostileAlert(i, payload))
	}
	w := open(t, p)
	w.visit(p.URL)
	w.signIn(p, p.password)
	last := len(payloads) - 1
	w.holds("all alerts are shown", fmt.Sprintf(`document.querySelector('[data-alert="hostile-0"]') && document.querySelector('[data-alert="hostile-%d"]')`, last))
	w.says(payloads[0]) // as text
	w.harmless()
	w.themes("hostile")
	w.click(`//header//button[@aria-controls="nodes"]`)
	w.harmless()
	w.click(`//header//button[@aria-controls="nodes"]`)
	for i := range payloads {
		w.value(fmt.Sprintf(`document.querySelector('[data-alert="hostile-%d"] button').click()`, i))
		w.says("How it came about")
		w.harmless()
		if i == 0 {
			w.themes("hostile-drawer")
		}
		w.value(`document.querySelector('dialog[open] form button').click()`)
		w.holds("the drawer closes", `!document.querySelector('#alert-title')`)
	}
	for i := range payloads {
		for _, opens := range []string{`button[aria-haspopup=dialog]`, `button.protect`} {
			w.value(fmt.Sprintf(`document.querySelectorAll('[data-workload]')[%d].querySelector('%s').click()`, i, opens))
			w.holds("it opens", `document.querySelector('dialog[open]')`)
			w.harmless()
			w.value(`document.querySelector('dialog[open]').close()`)
		}
	}
	w.value(`document.querySelectorAll('[aria-labelledby=matrix] button').forEach(b => b.click())`)
	w.harmless()
	w.clean()
}
