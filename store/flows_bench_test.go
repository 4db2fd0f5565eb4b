package store

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
)

// BenchmarkHistory reads of 30 days of history what a replay needs of it: the edges, which hours are covered, and the hours of
// 50 edges that do not pass. The history is made by the database itself; of 10 million edge-hours that takes minutes, which are not measured.
func BenchmarkHistory(b *testing.B) {
	for _, rows := range []int{100_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(rows), func(b *testing.B) {
			ctx := b.Context()
			db, err := Open(ctx, filepath.Join(b.TempDir(), "flows.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			now := time.Now().Truncate(time.Hour)
			edges := history(b, db, now, rows)
			for b.Loop() {
				q := FlowQuery{From: now.Add(-30 * 24 * time.Hour), To: now}
				list, err := db.FlowEdges(ctx, q)
				if err != nil || len(list) != len(edges) {
					b.Fatalf("%d edges, %v", len(list), err)
				}
				hours, err := db.FlowHours(ctx, q.From, q.To)
				if err != nil || len(hours) != 720 {
					b.Fatalf("%d hours, %v", len(hours), err)
				}
				for i := range 50 {
					if h, err := db.FlowHistory(ctx, list[i*len(list)/50].Edge, q.From, q.To); err != nil || len(h) == 0 {
						b.Fatalf("%d hours of an edge, %v", len(h), err)
					}
				}
			}
		})
	}
}

// history makes 14,000 edges of 500 workloads with so many edge-hours.
func history(b *testing.B, db *DB, now time.Time, rows int) []bulkhead.Edge {
	b.Helper()
	ctx := b.Context()
	report := FlowReport{Node: "a", Boot: "b", Sequence: 1}
	var edges []bulkhead.Edge
	for i := range 14_000 {
		e := bulkhead.Edge{
			Cluster: "local", Protocol: "tcp", Port: uint16(8000 + i/500),
			Source:      bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: fmt.Sprintf("n%d/deployment/w%d/main", i%12, i%500)},
			Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: fmt.Sprintf("n%d/deployment/w%d/main", i%7, i*7%500)},
		}
		edges = append(edges, e)
		t := bulkhead.Traffic{First: now.Add(-29 * 24 * time.Hour), Last: now.Add(-time.Hour), Opened: 1}
		report.Flows = append(report.Flows, SeenFlow{Flow: bulkhead.Flow{Edge: e, Traffic: t}, Side: BySource})
	}
	if err := db.AddFlows(ctx, report); err != nil {
		b.Fatal(err)
	}
	each := rows / len(edges)
	_, err := db.write.ExecContext(ctx, `
		INSERT OR IGNORE INTO flow_hours (at, edge, side, first, last, opened, established, refused, reset, denied, would_deny, resent, bytes_out, bytes_in, packets_out, packets_in, rtt, rtts)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 720)
		SELECT $1 - i * 3600000000, e.id, 1, $1 - i * 3600000000, $1 - i * 3600000000 + 1000000, 5, 5, 0, 0, 0, 0, 0, 900, 9000, 9, 9, 0, 0
		FROM n, flow_edges e WHERE abs(e.id / 1000 + i) % 720 < $2`, micros(now), each)
	if err != nil {
		b.Fatal(err)
	}
	return edges
}
