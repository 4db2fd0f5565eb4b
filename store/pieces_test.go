package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

// testPieces compares windows that are put together with what one statement says of them, while reports arrive on time and
// late; one database is asked again and again, as a map is.
func testPieces(t *testing.T, db *DB) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	for sequence := range uint64(40) {
		report := FlowReport{Node: "pieces", Boot: "b", Sequence: sequence + 1}
		for range 30 {
			at := now.Add(-time.Duration(random.Int64N(int64(time.Minute))))
			if random.IntN(4) == 0 {
				at = now.Add(-time.Duration(random.Int64N(int64(23 * time.Hour)))) // was away
			}
			edge := bulkhead.Edge{
				Cluster: fmt.Sprintf("c%d", random.IntN(2)), Protocol: "tcp", Port: uint16(random.IntN(20)),
				Source:      bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: "shop/pieces"},
				Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: "example.org"},
			}
			f := SeenFlow{Side: Side(1 + random.IntN(2)), Flow: bulkhead.Flow{Edge: edge, Traffic: bulkhead.Traffic{
				First: at, Last: at, Opened: random.Uint64N(9), BytesOut: random.Uint64N(9000), RTTs: 1,
			}}}
			if random.IntN(5) == 0 {
				f.Application = "http"
			}
			report.Flows = append(report.Flows, f)
		}
		if err := db.AddFlows(ctx, report); err != nil {
			t.Fatal(err)
		}
		for _, back := range []time.Duration{10 * time.Minute, time.Hour, 23 * time.Hour, 50 * time.Hour} {
			to := now.Add(-time.Duration(random.Int64N(int64(back / 2))))
			if random.IntN(2) == 0 {
				to = now
			}
			q := FlowQuery{From: now.Add(-back), To: to, Cluster: []string{"", "c1"}[random.IntN(2)]}
			got, err := db.Flows(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			q.Workload = "shop/" // and so by one statement
			want, err := db.Flows(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			mine := []bulkhead.Flow{}
			for _, f := range got {
				if f.Source.Name == "shop/pieces" {
					mine = append(mine, f)
				}
			}
			if diff := cmp.Diff(want, mine); diff != "" {
				t.Fatalf("%v of report %d (-statement +pieces):\n%s", back, sequence, diff)
			}
		}
	}
	if db.pieces.rows > maxPieceRows || len(db.pieces.held) == 0 {
		t.Errorf("%d pieces of %d rows are held", len(db.pieces.held), db.pieces.rows)
	}
}

// TestPieceRoom: what finds no room drives out what was not used for longest.
func TestPieceRoom(t *testing.T) {
	p := newPieces()
	at := func(i int) span { return span{int64(i) * time.Minute.Microseconds(), time.Minute, false} }
	for i := range 5 {
		p.put(at(i), &piece{rows: make([]sum, maxPieceRows/4), version: "v"}, 0)
		p.get(at(0), "v", time.Now())
	}
	for i, want := range []bool{true, false, true, true, true} {
		if _, _, ok := p.get(at(i), "v", time.Now()); ok != want {
			t.Errorf("piece %d is held: %v", i, ok)
		}
	}
	if _, _, ok := p.get(at(0), "other", time.Now()); ok {
		t.Error("a piece of yesterday's moment that was read too early is believed")
	}
}

// BenchmarkMapWindow asks for the last hour of 5,000 edges of 500 workloads that both ends report each minute, as a page does that is looked at: a
// report arrives between two questions. Statement is the one statement that adds up all rows.
func BenchmarkMapWindow(b *testing.B) {
	db, err := Open(b.Context(), filepath.Join(b.TempDir(), "flows.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	now, sequence := time.Now(), uint64(0)
	add := func(at time.Time, edges int) {
		sequence++
		report := FlowReport{Node: "a", Boot: "b", Sequence: sequence}
		for i := range edges {
			e := bulkhead.Edge{
				Cluster: "local", Protocol: "tcp", Port: uint16(8000 + i/500),
				Source:      bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: fmt.Sprintf("n%d/deployment/w%d/main", i%12, i%500)},
				Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: fmt.Sprintf("n%d/deployment/w%d/main", i%7, i*7%500)},
			}
			for _, side := range []Side{BySource, ByDestination} {
				report.Flows = append(report.Flows, SeenFlow{Side: side, Flow: bulkhead.Flow{Edge: e, Traffic: bulkhead.Traffic{First: at, Last: at, Opened: 1, BytesOut: 100}}})
			}
		}
		if err := db.AddFlows(b.Context(), report); err != nil {
			b.Fatal(err)
		}
	}
	const edges = 5_000
	for i := range 60 {
		add(now.Add(-time.Duration(i)*time.Minute), edges)
	}
	for name, ask := range map[string]func(context.Context, FlowQuery) ([]bulkhead.Flow, error){"statement": db.flowsOf, "pieces": db.Flows} {
		b.Run(name, func(b *testing.B) {
			if _, err := ask(b.Context(), FlowQuery{From: time.Now().Add(-time.Hour), To: time.Now()}); err != nil { // the page was opened
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				add(time.Now(), 300)
				b.StartTimer()
				list, err := ask(b.Context(), FlowQuery{From: time.Now().Add(-time.Hour), To: time.Now()})
				if err != nil || len(list) < edges {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
