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
	if err := db.PruneFlows(ctx, now.Add(48*time.Hour), time.Hour); err != nil {
		t.Fatal(err)
	}
	if list, err := db.Flows(ctx, FlowQuery{From: now.Add(-60 * time.Hour), To: now}); len(list) != 0 || err != nil {
		t.Errorf("after their time: %v, %v", list, err)
	}
}
