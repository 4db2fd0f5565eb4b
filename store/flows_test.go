package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func testFlows(t *testing.T, db *DB) {
	ctx := t.Context()
	now := time.Now().Truncate(time.Second)
	shop := bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: "docker/shop"}
	data := bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: "docker/db"}
	edge := bulkhead.Edge{Cluster: "local", Source: shop, Destination: data, Protocol: "tcp", Port: 5432}
	world := bulkhead.Edge{Cluster: "local", Source: shop, Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: "example.org"}, Protocol: "tcp", Port: 443}
	seen := func(e bulkhead.Edge, side Side, ago time.Duration, n uint64) SeenFlow {
		return SeenFlow{Side: side, Flow: bulkhead.Flow{Edge: e, Traffic: bulkhead.Traffic{
			First: now.Add(-ago), Last: now.Add(-ago), Opened: n, BytesOut: 10 * n, BytesIn: 100 * n, PacketsOut: n, PacketsIn: n, RTT: 500 * n, RTTs: n,
		}}}
	}
	add := func(sequence uint64, flows ...SeenFlow) {
		t.Helper()
		if err := db.AddFlows(ctx, FlowReport{Node: "a", Boot: "b", Sequence: sequence, Lost: 3, Flows: flows}); err != nil {
			t.Fatal(err)
		}
	}
	named := seen(edge, ByDestination, time.Minute, 4)
	named.Application = "postgresql"
	add(1, seen(edge, BySource, 2*time.Minute, 3), named)
	add(1, seen(edge, BySource, 2*time.Minute, 3)) // the same report again
	add(2, seen(edge, BySource, time.Minute, 2), seen(world, BySource, 3*time.Hour, 7))

	got, err := db.Flows(ctx, FlowQuery{From: now.Add(-time.Hour), To: now})
	if err != nil {
		t.Fatal(err)
	}
	want := []bulkhead.Flow{{Edge: edge, Application: "postgresql", Traffic: bulkhead.Traffic{
		First: now.Add(-2 * time.Minute), Last: now.Add(-time.Minute), Opened: 5, BytesOut: 50, BytesIn: 500, PacketsOut: 5, PacketsIn: 5, RTT: 2500, RTTs: 5,
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for workload, n := range map[string]int{"docker/shop": 2, "docker/db": 1, "docker/": 2, "docker": 0, "example.org": 1} {
		for _, back := range []time.Duration{10 * time.Hour, 40 * time.Hour} { // by minutes, by hours
			list, err := db.Flows(ctx, FlowQuery{From: now.Add(-back), To: now, Workload: workload, Cluster: "local"})
			if err != nil || len(list) != n {
				t.Errorf("%s: %d edges, want %d, %v", workload, len(list), n, err)
			}
		}
	}
	history, err := db.FlowHistory(ctx, edge, now.Add(-time.Hour), now)
	if err != nil || len(history) != 2 || history[0].Opened != 3 || history[1].Opened != 4 {
		t.Errorf("history: %+v, %v", history, err)
	}
	if lost, since, err := db.FlowsLost(ctx); lost != 3 || since.IsZero() || err != nil {
		t.Errorf("lost %d, since %v, %v", lost, since, err)
	}
	testRequests(t, db, edge, now)
	if err := db.PruneFlows(ctx, now.Add(48*time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	if list, err := db.Flows(ctx, FlowQuery{From: now.Add(-60 * time.Hour), To: now}); len(list) != 0 || err != nil {
		t.Errorf("after their time: %v, %v", list, err)
	}
}

// testRequests: of what both ends of an edge were asked counts what the one that saw more says.
func testRequests(t *testing.T, db *DB, edge bulkhead.Edge, now time.Time) {
	t.Helper()
	asked := func(shape string, n, failed uint64) bulkhead.Requests {
		return bulkhead.Requests{Shape: shape, Answered: n, Failed: failed, Took: time.Duration(n) * time.Millisecond, Longest: time.Duration(n) * time.Millisecond}
	}
	for i, r := range []struct {
		side     Side
		requests []bulkhead.Requests
	}{{BySource, []bulkhead.Requests{asked("GET /a", 2, 0)}}, {ByDestination, []bulkhead.Requests{asked("GET /a", 3, 1), asked("GET /b", 9, 0)}}, {ByDestination, []bulkhead.Requests{asked("GET /a", 4, 0)}}} {
		f := SeenFlow{Side: r.side, Requests: r.requests, Flow: bulkhead.Flow{Edge: edge, Traffic: bulkhead.Traffic{First: now.Add(-30 * time.Minute), Last: now.Add(-30 * time.Minute)}}}
		if err := db.AddFlows(t.Context(), FlowReport{Node: "requests", Boot: "b", Sequence: uint64(i + 1), Flows: []SeenFlow{f}}); err != nil {
			t.Fatal(err)
		}
	}
	other := edge
	other.Port++
	for _, c := range []struct {
		query FlowQuery
		edge  *bulkhead.Edge
		want  int
	}{
		{FlowQuery{From: now.Add(-time.Hour), To: now}, nil, 2},
		{FlowQuery{From: now.Add(-time.Hour), To: now, Workload: edge.Source.Name, Cluster: "local"}, &edge, 2},
		{FlowQuery{From: now.Add(-time.Hour), To: now}, &other, 0},
		{FlowQuery{From: now.Add(-20 * time.Minute), To: now}, nil, 0},
	} {
		list, err := db.Requests(t.Context(), c.query, c.edge)
		if err != nil || len(list) != c.want {
			t.Errorf("%+v: %+v, %v", c.query, list, err)
		}
		if len(list) == 2 {
			a := list[1]
			if list[0].Shape != "GET /b" || a.Answered != 7 || a.Failed != 1 || a.Took != 7*time.Millisecond || a.Longest != 4*time.Millisecond || a.Edge != edge || a.Application != "postgresql" {
				t.Errorf("requests: %+v", list)
			}
		}
	}
}
