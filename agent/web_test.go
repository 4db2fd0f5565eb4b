package agent

import (
	"testing"
	"time"

	"bulkhead"
	"bulkhead/intercept"
	"bulkhead/waf"
)

func TestWebAlert(t *testing.T) {
	a := &Agent{options: Options{Node: "n", Cluster: "c"}}
	c := bulkhead.Container{ID: "0123", Name: "shop", Workload: bulkhead.Workload{Name: "docker/shop"}}
	e := intercept.Event{ID: "77", Action: "blocked", Mode: intercept.Block, Method: "GET", Path: "/items/7", Endpoint: "/items/{integer}", Verdict: waf.Block, Score: 92, Later: true, Reasons: []waf.Reason{
		{Rule: "portrait-type", Class: "portrait", Score: 65}, {Rule: "sql-tautology", Class: "sql-injection", Score: 92, Place: "query", Name: "q"},
	}}
	al := a.webAlert(c, e)
	if al.ID != "web-77-later" || al.Rule != "web/sql-injection" || al.Title != "SQL injection" || al.Severity != bulkhead.High || al.Action != bulkhead.ActionBlocked ||
		al.Web.Place != bulkhead.PlaceInline || al.Cause.Object != "GET /items/{integer}" || len(al.Web.Reasons) != 2 {
		t.Errorf("%+v", al)
	}
}

func TestWebBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &webBudget{left: webBurst, last: now}
	took := 0
	for range 3 * webBurst {
		if b.take(now) {
			took++
		}
	}
	if took != webBurst {
		t.Errorf("%d of a flood were told one by one", took)
	}
	for range 100 {
		if b.take(now.Add(time.Second)) {
			took++
		}
	}
	if took != webBurst+webRate {
		t.Errorf("%d a second later", took-webBurst)
	}
}
