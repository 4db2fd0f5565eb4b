package agent

import (
	"cmp"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/agent/web"
	"bulkhead/intercept"
	"bulkhead/waf"
)

// openWeb opens the layer-7 firewall. It begins with the first container of a workload that somebody wants it for.
func (a *Agent) openWeb() {
	told := &webBudget{left: webBurst, last: time.Now()}
	var err error
	a.web, err = web.Open(web.Options{
		Dir: filepath.Join(a.options.State, "web"), Pin: filepath.Join(a.options.Pin, "web"), Log: a.log,
		Tell: func(c bulkhead.Container, e intercept.Event) { a.tellWeb(told, c, e) },
	})
	if err != nil {
		a.problem("web", err.Error())
	}
}

// tellWeb makes an alert of a request. Each has an id that a client was shown, so they are told one by one; of a flood,
// what is beyond the budget is folded.
func (a *Agent) tellWeb(budget *webBudget, c bulkhead.Container, e intercept.Event) {
	if a.alerts == nil {
		return
	}
	al := a.webAlert(c, e)
	if budget.take(time.Now()) {
		a.alerts.write(al)
		return
	}
	al.Web.Request, al.Web.Cut = nil, true
	a.alerts.add(al)
}

func (a *Agent) webAlert(c bulkhead.Container, e intercept.Event) bulkhead.Alert {
	class, top := classOf(e)
	al := bulkhead.Alert{
		ID: "web-" + e.ID, Time: e.Time, Cluster: a.options.Cluster, Node: a.options.Node, Workload: c.Workload.Name,
		Container: cmp.Or(c.Name, c.ID), Image: c.Image.Reference, Digest: c.Image.Digest,
		Rule: bulkhead.WebRules + class, Title: titleOf(class), Technique: "T1190", Tactic: "initial-access",
		Severity: bulkhead.Medium, Action: e.Action, Count: 1,
		Process: bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventRequest, Object: e.Method + " " + e.Endpoint},
		Web: &bulkhead.WebRequest{
			ID: e.ID, Client: e.Client, Method: e.Method, Host: e.Host, Path: e.Path, Endpoint: e.Endpoint, Place: bulkhead.WebPlace(cmp.Or(e.Place, "inline")),
			Mode: bulkhead.WebMode(e.Mode), Verdict: string(e.Verdict), Score: e.Score, Reasons: []bulkhead.WebReason{}, Request: e.Request, Cut: e.Cut,
		},
	}
	if e.Later { // of one request there may be both
		al.ID += bulkhead.WebLater
	}
	for _, r := range e.Reasons {
		al.Web.Reasons = append(al.Web.Reasons, bulkhead.WebReason(r))
	}
	if e.Verdict == waf.Block {
		al.Severity = bulkhead.High
	}
	if class == "portrait" {
		al.Severity = bulkhead.Low
	}
	deed := "was refused"
	if e.Action == bulkhead.ActionDetected {
		deed = "was let through"
	}
	where := ""
	if top.Name != "" {
		where = fmt.Sprintf(" in the %s parameter %s", top.Place, top.Name)
	}
	al.Message = fmt.Sprintf("%s %s from %s %s: %s%s", e.Method, e.Path, e.Client, deed, top.Rule, where)
	return al
}

// classOf is what weighs most.
func classOf(e intercept.Event) (string, waf.Reason) {
	var top waf.Reason
	for _, r := range e.Reasons {
		if r.Score > top.Score {
			top = r
		}
	}
	return cmp.Or(top.Class, "unknown"), top
}

// titles are classes as a person says them.
var titles = map[string]string{
	"sql-injection": "SQL injection", "cross-site-scripting": "Cross-site scripting", "command-injection": "Command injection", "path-traversal": "Path traversal",
	"template-injection": "Template injection", "protocol": "A request that servers understand differently", "learned": "A value like those of attacks", "jndi-lookup": "A lookup in a value (Log4Shell)",
	"portrait": "A request unlike those of the application", "virtual-patch": "A request that a virtual patch closes", "core-rule-set": "A request that the Core Rule Set refuses",
}

func titleOf(class string) string {
	if title := titles[class]; title != "" {
		return title
	}
	return "Web attack: " + class
}

// webBudget bounds alerts about requests: an attacker chooses how many there are.
type webBudget struct {
	mu   sync.Mutex
	left float64
	last time.Time
}

const (
	webBurst = 500
	webRate  = 20 // a second
)

func (b *webBudget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = min(webBurst, b.left+webRate*now.Sub(b.last).Seconds())
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// causeOf is the request that a process served when it did something.
func (a *Agent) causeOf(e *bulkhead.Event, object string) *bulkhead.WebCause {
	if a.web == nil {
		return nil
	}
	return a.web.Cause(web.DeedOf(e, object))
}
