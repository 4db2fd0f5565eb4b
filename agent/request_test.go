package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bpf"
	"bulkhead/sensor/request"
)

// TestRequests: what a server is asked comes with its edge's report, once, and adds to one that waits.
func TestRequests(t *testing.T) {
	f, r := newFlows(), request.New()
	key := bpf.FlowKey{Cgroup: 7, Port: 8080, Protocol: 6, Role: bpf.FlowServer}
	at := uint64(0)
	say := func(in uint32, text string) {
		at += uint64(2 * time.Millisecond)
		turn := &bpf.Turn{FlowKey: key, Socket: 1, At: at, Length: uint32(len(text)), Incoming: in}
		copy(turn.Data[:], text)
		f.turn(r, turn, time.Now())
	}
	report := func() []*pb.NodeRequest {
		f.add(bulkhead.Container{Workload: bulkhead.Workload{Name: "shop/api"}}, &bpf.Flow{FlowKey: key}, key, "", time.Now())
		for _, m := range f.waiting {
			return m.Requests
		}
		return nil
	}
	ask := func(status string) {
		say(1, "GET /orders/17?card=1234 HTTP/1.1\r\n")
		say(0, "HTTP/1.1 "+status+"\r\n")
	}
	ask("200 OK")
	ask("503 Away")
	want := []*pb.NodeRequest{{Shape: "GET /orders/*", Answered: 2, Failed: 1, TookSumMicroseconds: 4000, TookMaxMicroseconds: 2000}}
	if diff := cmp.Diff(want, report(), protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	ask("404 Not Found")
	want[0].Answered, want[0].Rejected, want[0].TookSumMicroseconds = 3, 1, 6000
	for range 2 {
		if diff := cmp.Diff(want, report(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestShapesHaveRoom(t *testing.T) {
	e := &exchanges{shapes: map[string]*pb.NodeRequest{}}
	for i := range 10 * maxShapes {
		e.add(request.Exchange{Shape: "GET /" + string(rune('a'+i%26)) + string(rune('a'+i/26%26))})
	}
	if n := len(e.shapes); n > maxShapes+1 || e.shapes[otherShapes].Answered == 0 {
		t.Errorf("%d shapes", n)
	}
}

func TestReadsAlong(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{{"*", "shop/api", true}, {"shop/*", "shop/deployment/api", true}, {"shop/*", "shopping/a", false}, {"*/api", "shop/api", true}, {"shop", "shop/api", false}, {"", "a", false}, {"a*b*c", "axxbxxc", true}} {
		a := &Agent{options: Options{ReadAlong: []string{c.pattern}}}
		if got := a.readsAlong(c.name); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.name, got)
		}
	}
}
