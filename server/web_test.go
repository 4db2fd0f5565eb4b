package server_test

import (
	"slices"
	"testing"

	"connectrpc.com/connect"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
)

func (p *plane) web() bulkheadv1connect.WebServiceClient {
	return bulkheadv1connect.NewWebServiceClient(p.Client(), p.URL)
}

// TestWeb: what is decided about requests reaches nodes that are there and those that come back, events give exceptions,
// causes give patches, and what cannot be meant is refused.
func TestWeb(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	n := join(t, p.dir, "a")
	web, ctx := p.web(), t.Context()
	event := alert(1)
	event.ID, event.Rule = "web-0123", "web/sql-injection"
	event.Web = &bulkhead.WebRequest{
		ID: "0123", Method: "GET", Path: "/items/7", Endpoint: "/items/{integer}", Place: bulkhead.PlaceInline, Mode: bulkhead.WebBlock, Verdict: "block", Score: 92,
		Reasons: []bulkhead.WebReason{{Rule: "sql-tautology", Class: "sql-injection", Score: 92, Place: "query", Name: "q"}, {Rule: "bad-host", Class: "protocol", Score: 70}},
		Request: []byte("GET /items/7?q=1 HTTP/1.1\r\n\r\n"),
	}
	caused := alert(2)
	caused.Cause.Request = &bulkhead.WebCause{ID: "0124", Sure: bulkhead.Certain, Patch: &bulkhead.WebPatch{Path: "/order", Name: "name", Pattern: "[a-z]*"}}
	n.publish(t, []bulkhead.Alert{event, caused, alert(3)})
	eventually(t, "alerts stored", func() bool { return p.total(t) == 3 })

	set, err := web.SetWeb(ctx, connect.NewRequest(&pb.SetWebRequest{Workload: "docker/shop", Mode: "block", Ports: []uint32{8080, 8080}}))
	if err != nil || set.Msg.Setting.Place != "inline" || !slices.Equal(set.Msg.Setting.Ports, []uint32{8080}) || len(set.Msg.Nodes) != 1 || !set.Msg.Nodes[0].Ok {
		t.Fatal(set, err)
	}
	if set, err = web.AllowWeb(ctx, connect.NewRequest(&pb.AllowWebRequest{Event: "0123"})); err != nil {
		t.Fatal(err)
	}
	if e := set.Msg.Setting.Exceptions; len(e) != 1 || e[0].Rule != "sql-tautology" || e[0].Path != "/items/{integer}" || e[0].Name != "q" || e[0].Id == "" {
		t.Error(e)
	}
	if set, err = web.PatchWeb(ctx, connect.NewRequest(&pb.PatchWebRequest{Alert: caused.ID})); err != nil || len(set.Msg.Setting.Patches) != 1 || set.Msg.Setting.Patches[0].Name != "name" {
		t.Fatal(set, err)
	}
	n.mu.Lock()
	have := n.webs
	n.mu.Unlock()
	if len(have) != 1 || len(have[0].Exceptions) != 1 || len(have[0].Patches) != 1 || have[0].Mode != "block" {
		t.Error(have)
	}
	listed, err := web.ListWebEvents(ctx, connect.NewRequest(&pb.ListWebEventsRequest{}))
	if err != nil || listed.Msg.Total != 1 || listed.Msg.Events[0].Web.Id != "0123" {
		t.Error(listed, err)
	}
	if got, err := web.GetWebEvent(ctx, connect.NewRequest(&pb.GetWebEventRequest{Id: "0123"})); err != nil || string(got.Msg.Event.Web.Request) != string(event.Web.Request) {
		t.Error(got, err)
	}
	id := set.Msg.Setting.Exceptions[0].Id
	if set, err = web.AllowWeb(ctx, connect.NewRequest(&pb.AllowWebRequest{Workload: "docker/shop", Remove: id})); err != nil || len(set.Msg.Setting.Exceptions) != 0 {
		t.Error(set, err)
	}

	late := join(t, p.dir, "b")
	eventually(t, "a node that comes later has it", func() bool {
		late.tell(t)
		late.mu.Lock()
		defer late.mu.Unlock()
		return api.WebDigest(late.webs) == api.WebDigest([]*pb.WebSetting{set.Msg.Setting})
	})

	for _, bad := range []*pb.SetWebRequest{
		{Workload: "docker/shop", Mode: "protect"},
		{Workload: "docker/shop", Mode: "block", Place: "cloud"},
		{Workload: "docker/shop", Mode: "block", Place: "tap"},
		{Workload: "docker/shop", Mode: "block", Ports: []uint32{70000}},
	} {
		if _, err := web.SetWeb(ctx, connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Error(bad, err)
		}
	}
	if _, err := web.SetWeb(ctx, connect.NewRequest(&pb.SetWebRequest{Workload: "docker/nobody", Mode: "block", Ports: []uint32{1}})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
	if _, err := web.PatchWeb(ctx, connect.NewRequest(&pb.PatchWebRequest{Workload: "docker/shop", Patch: &pb.WebPatch{Path: "/x", Name: "y", Pattern: "("}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}
