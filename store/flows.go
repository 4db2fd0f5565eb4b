package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Side is which end of an edge saw a flow.
type Side int

// The sides.
const (
	BySource      Side = 1
	ByDestination Side = 2
)

// SeenFlow is a flow as one of its ends saw it.
type SeenFlow struct {
	bulkhead.Flow
	Side     Side
	Requests []bulkhead.Requests
}

// FlowReport is what one node counted since its last report. Boot and Sequence name it.
type FlowReport struct {
	Node     string
	Boot     string
	Sequence uint64
	Lost     uint64
	Flows    []SeenFlow
}

// flowTables are what traffic is added up in, with the time that one row is for.
var flowTables = []struct {
	name string
	step time.Duration
}{{"flow_minutes", time.Minute}, {"flow_hours", time.Hour}}

// MinutesFor is how long traffic is kept by minute.
const MinutesFor = 24 * time.Hour

// edgeNumber is the first 8 bytes of a hash over an edge's fields: two edges of a million share one with a chance of
// 3 in 100 million.
func edgeNumber(e bulkhead.Edge) int64 {
	h := sha256.New()
	for _, field := range []string{e.Cluster, string(e.Source.Kind), e.Source.Name, string(e.Destination.Kind), e.Destination.Name, e.Protocol} {
		fmt.Fprintf(h, "%d %s", len(field), field)
	}
	fmt.Fprint(h, e.Port)
	return int64(binary.BigEndian.Uint64(h.Sum(nil)[:8]))
}

// AddFlows adds a report up. The same report again changes nothing.
func (d *DB) AddFlows(ctx context.Context, r FlowReport) error {
	err := d.change(ctx, "store flows", func(tx *sql.Tx) error {
		fresh, err := newReport(ctx, tx, r)
		if err != nil || !fresh {
			return err
		}
		add, err := newAdder(ctx, tx)
		if err != nil {
			return err
		}
		for _, f := range r.Flows {
			if err := add.flow(ctx, f); err != nil {
				return err
			}
		}
		return nil
	})
	d.pieces.stored(r, time.Now()) // also where nobody knows what became of it
	return err
}

// adder has the statements of a report prepared: there are thousands of the same.
type adder struct {
	edge     *sql.Stmt
	requests *sql.Stmt
	tables   []*sql.Stmt // of flowTables
}

func newAdder(ctx context.Context, tx *sql.Tx) (a adder, err error) {
	a.edge, err = tx.PrepareContext(ctx, `
		INSERT INTO flow_edges (id, cluster, source_kind, source, destination_kind, destination, protocol, port, application, first, last)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (id) DO UPDATE SET
			application = CASE WHEN excluded.application = '' THEN flow_edges.application ELSE excluded.application END,
			last = CASE WHEN excluded.last > flow_edges.last THEN excluded.last ELSE flow_edges.last END`)
	if err == nil {
		a.requests, err = tx.PrepareContext(ctx, addRequests)
	}
	for _, table := range flowTables {
		if err != nil {
			return a, err
		}
		var places, sums []string
		for i, c := range counters {
			places = append(places, fmt.Sprintf("$%d", i+6))
			sums = append(sums, fmt.Sprintf("%s = %s.%s + excluded.%s", c, table.name, c, c))
		}
		var s *sql.Stmt
		s, err = tx.PrepareContext(ctx, `INSERT INTO `+table.name+` (at, edge, side, first, last, `+strings.Join(counters, ", ")+`)
			VALUES ($1, $2, $3, $4, $5, `+strings.Join(places, ", ")+`)
			ON CONFLICT (at, edge, side) DO UPDATE SET `+fmt.Sprintf(`first = CASE WHEN excluded.first < %[1]s.first THEN excluded.first ELSE %[1]s.first END,
			last = CASE WHEN excluded.last > %[1]s.last THEN excluded.last ELSE %[1]s.last END, `, table.name)+strings.Join(sums, ", "))
		a.tables = append(a.tables, s)
	}
	return a, err
}

func (a adder) flow(ctx context.Context, f SeenFlow) error {
	id, e := edgeNumber(f.Edge), f.Edge
	_, err := a.edge.ExecContext(ctx,
		id, e.Cluster, string(e.Source.Kind), e.Source.Name, string(e.Destination.Kind), e.Destination.Name, e.Protocol, int(e.Port), f.Application, micros(f.First), micros(f.Last))
	for i, table := range flowTables {
		if err != nil {
			return err
		}
		args := []any{micros(f.Last.Truncate(table.step)), id, int(f.Side), micros(f.First), micros(f.Last)}
		for _, v := range values(&f.Traffic) {
			args = append(args, int64(*v))
		}
		_, err = a.tables[i].ExecContext(ctx, args...)
	}
	for _, r := range f.Requests {
		if err != nil {
			return err
		}
		_, err = a.requests.ExecContext(ctx, micros(f.Last.Truncate(time.Minute)), id, int(f.Side), r.Shape,
			int64(r.Answered), int64(r.Rejected), int64(r.Failed), r.Took.Microseconds(), r.Longest.Microseconds())
	}
	return err
}

func newReport(ctx context.Context, tx *sql.Tx, r FlowReport) (bool, error) {
	var boot string
	var sequence uint64
	err := tx.QueryRowContext(ctx, `SELECT boot, sequence FROM flow_reports WHERE node = $1`, r.Node).Scan(&boot, &sequence)
	if err != nil && err != sql.ErrNoRows {
		return false, err
	}
	if err == nil && boot == r.Boot && sequence >= r.Sequence {
		return false, nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO flow_reports (node, boot, sequence, lost) VALUES ($1, $2, $3, $4)
		ON CONFLICT (node) DO UPDATE SET boot = excluded.boot, sequence = excluded.sequence, lost = excluded.lost`, r.Node, r.Boot, int64(r.Sequence), int64(r.Lost))
	return true, err
}

// counters are the columns that are added up, in the order of traffic's values.
var counters = []string{"opened", "established", "refused", "reset", "denied", "would_deny", "resent", "bytes_out", "bytes_in", "packets_out", "packets_in", "rtt", "rtts"}

func values(t *bulkhead.Traffic) []*uint64 {
	return []*uint64{&t.Opened, &t.Established, &t.Refused, &t.Reset, &t.Denied, &t.WouldDeny, &t.Resent, &t.BytesOut, &t.BytesIn, &t.PacketsOut, &t.PacketsIn, &t.RTT, &t.RTTs}
}

// FlowQuery says which flows.
type FlowQuery struct {
	From, To time.Time // by whole minutes for a day back, by whole hours before
	Workload string    // at either end; with "/" at its end: all that begin so; empty: all
	Cluster  string
}

// Flows adds up what was seen of each edge in a window.
func (d *DB) Flows(ctx context.Context, q FlowQuery) ([]bulkhead.Flow, error) {
	if q.Workload == "" {
		return d.sumFlows(ctx, q)
	}
	return d.flowsOf(ctx, q)
}

// flowsOf adds up by one statement, which reads every row of the window.
func (d *DB) flowsOf(ctx context.Context, q FlowQuery) ([]bulkhead.Flow, error) {
	table := flowTable(q.From)
	where, args := q.conditions()
	args = append(args, micros(q.From.Truncate(table.step)), micros(q.To))
	sums := make([]string, len(counters))
	for i, c := range counters {
		sums[i] = "SUM(t." + c + ") AS " + c
	}
	if where != "" {
		where = "t.edge IN (SELECT e.id FROM flow_edges e WHERE " + strings.TrimSuffix(where, "AND ") + ") AND "
	}
	// The sums are made before names are looked at: grouping by names would sort by them.
	rows, err := all(ctx, d, "list flows", scanSeen, fmt.Sprintf(`
		SELECT e.cluster, e.source_kind, e.source, e.destination_kind, e.destination, e.protocol, e.port, e.application, s.side, s.first, s.last, %s
		FROM (SELECT t.edge, t.side, MIN(t.first) AS first, MAX(t.last) AS last, %s FROM %s t WHERE %s t.at >= $%d AND t.at < $%d GROUP BY t.edge, t.side) s
		JOIN flow_edges e ON e.id = s.edge ORDER BY e.id, s.side`,
		"s."+strings.Join(counters, ", s."), strings.Join(sums, ", "), table.name, where, len(args)-1, len(args)), args...)
	if err != nil {
		return nil, err
	}
	return merge(rows), nil
}

func flowTable(from time.Time) struct {
	name string
	step time.Duration
} {
	if time.Since(from) < MinutesFor {
		return flowTables[0]
	}
	return flowTables[1]
}

func (q FlowQuery) conditions() (where string, args []any) {
	if q.Cluster != "" {
		args = append(args, q.Cluster)
		where += fmt.Sprintf("e.cluster = $%d AND ", len(args))
	}
	switch prefix, ok := strings.CutSuffix(q.Workload, "/"); {
	case q.Workload == "":
	case ok:
		args = append(args, prefix+"/", prefix+"0") // the character after "/"
		where += fmt.Sprintf("((e.source >= $%[1]d AND e.source < $%[2]d) OR (e.destination >= $%[1]d AND e.destination < $%[2]d)) AND ", len(args)-1, len(args))
	default:
		args = append(args, q.Workload)
		where += fmt.Sprintf("(e.source = $%[1]d OR e.destination = $%[1]d) AND ", len(args))
	}
	return where, args
}

func scanSeen(r *sql.Rows) (f SeenFlow, err error) {
	var port, side int
	var first, last int64
	into := []any{&f.Cluster, &f.Source.Kind, &f.Source.Name, &f.Destination.Kind, &f.Destination.Name, &f.Protocol, &port, &f.Application, &side, &first, &last}
	for _, v := range values(&f.Traffic) {
		into = append(into, v)
	}
	err = r.Scan(into...)
	f.Port, f.Side, f.First, f.Last = uint16(port), Side(side), moment(first), moment(last)
	return f, err
}

// merge makes one flow of what the two ends of an edge saw: of each count the larger, as both count the same.
func merge(rows []SeenFlow) []bulkhead.Flow {
	list := make([]bulkhead.Flow, 0, len(rows))
	for _, r := range rows {
		last := len(list) - 1
		if last < 0 || list[last].Edge != r.Edge {
			list = append(list, r.Flow)
			continue
		}
		f := &list[last]
		other := values(&r.Traffic)
		for i, v := range values(&f.Traffic) {
			*v = max(*v, *other[i])
		}
		f.First, f.Last = earlier(f.First, r.First), later(f.Last, r.Last)
		if f.Application == "" {
			f.Application = r.Application
		}
	}
	return list
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// FlowHistory is what was seen of one edge, by minute or hour, oldest first.
func (d *DB) FlowHistory(ctx context.Context, e bulkhead.Edge, from, to time.Time) ([]bulkhead.Traffic, error) {
	table := flowTable(from)
	rows, err := all(ctx, d, "read an edge's history", func(r *sql.Rows) (f SeenFlow, err error) {
		var at, first, last int64
		into := []any{&at, &first, &last}
		for _, v := range values(&f.Traffic) {
			into = append(into, v)
		}
		err = r.Scan(into...)
		f.Cluster, f.First, f.Last = fmt.Sprint(at), moment(first), moment(last)
		return f, err
	}, `SELECT at, first, last, `+strings.Join(counters, ", ")+` FROM `+table.name+` WHERE edge = $1 AND at >= $2 AND at < $3 ORDER BY at`,
		edgeNumber(e), micros(from.Truncate(table.step)), micros(to))
	if err != nil {
		return nil, err
	}
	list := make([]bulkhead.Traffic, 0, len(rows))
	for _, f := range merge(rows) {
		list = append(list, f.Traffic)
	}
	return list, nil
}

// FlowMoment is what was seen of the flow Flow of a list in one hour or minute.
type FlowMoment struct {
	Flow          int
	At            time.Time
	Opened, Bytes uint64
}

// FlowHourly is what was seen of flows by hour, oldest first.
func (d *DB) FlowHourly(ctx context.Context, from, to time.Time, flows []bulkhead.Flow) ([]FlowMoment, error) {
	of := make(map[int64]int, len(flows))
	for i := range flows {
		of[edgeNumber(flows[i].Edge)] = i
	}
	rows, err := all(ctx, d, "read hours of flows", func(r *sql.Rows) (m FlowMoment, err error) {
		var edge, at, opened, bytes int64
		err = r.Scan(&edge, &at, &opened, &bytes)
		if i, ok := of[edge]; ok {
			return FlowMoment{i, moment(at), uint64(opened), uint64(bytes)}, err
		}
		return FlowMoment{Flow: -1}, err
	}, `SELECT edge, at, MAX(opened), MAX(bytes_out + bytes_in) FROM flow_hours WHERE at >= $1 AND at < $2 GROUP BY at, edge ORDER BY at`,
		micros(from.Truncate(time.Hour)), micros(to))
	return slices.DeleteFunc(rows, func(m FlowMoment) bool { return m.Flow < 0 }), err
}

// FlowHours are the hours of a window in which any flow was seen. Each is found by the index: the rows between are not read.
func (d *DB) FlowHours(ctx context.Context, from, to time.Time) ([]time.Time, error) {
	return all(ctx, d, "read which hours are covered", func(r *sql.Rows) (time.Time, error) {
		var at int64
		err := r.Scan(&at)
		return moment(at), err
	}, `WITH RECURSIVE hours (at) AS (
		SELECT (SELECT MIN(at) FROM flow_hours WHERE at >= $1 AND at < $2)
		UNION ALL
		SELECT (SELECT MIN(h.at) FROM flow_hours h WHERE h.at > hours.at AND h.at < $2) FROM hours WHERE hours.at IS NOT NULL
	) SELECT at FROM hours WHERE at IS NOT NULL`, micros(from.Truncate(time.Hour)), micros(to))
}

// FlowEdges are the edges that may have been seen in a window, by their first and last time: no counts, but for any length
// of history as quick as there are edges.
func (d *DB) FlowEdges(ctx context.Context, q FlowQuery) ([]bulkhead.Flow, error) {
	where, args := q.conditions()
	args = append(args, micros(q.From), micros(q.To))
	return all(ctx, d, "list edges", func(r *sql.Rows) (f bulkhead.Flow, err error) {
		var port int
		var first, last int64
		err = r.Scan(&f.Cluster, &f.Source.Kind, &f.Source.Name, &f.Destination.Kind, &f.Destination.Name, &f.Protocol, &port, &f.Application, &first, &last)
		f.Port, f.First, f.Last = uint16(port), moment(first), moment(last)
		return f, err
	}, fmt.Sprintf(`SELECT e.cluster, e.source_kind, e.source, e.destination_kind, e.destination, e.protocol, e.port, e.application, e.first, e.last
		FROM flow_edges e WHERE %s e.last >= $%d AND e.first < $%d ORDER BY e.id`, where, len(args)-1, len(args)), args...)
}

// FlowsLost is how many packets' edges found no room on their nodes; FlowsSince is how far the history goes back.
func (d *DB) FlowsLost(ctx context.Context) (lost uint64, since time.Time, err error) {
	rows, err := all(ctx, d, "read what was lost", func(r *sql.Rows) (pair [2]int64, err error) {
		err = r.Scan(&pair[0], &pair[1])
		return pair, err
	}, `SELECT COALESCE((SELECT SUM(lost) FROM flow_reports), 0), COALESCE((SELECT MIN(at) FROM flow_hours), 0)`)
	if err != nil || len(rows) == 0 {
		return 0, time.Time{}, err
	}
	if rows[0][1] > 0 {
		since = moment(rows[0][1])
	}
	return uint64(rows[0][0]), since, nil
}

// PruneFlows forgets what is older than its time, in small steps.
func (d *DB) PruneFlows(ctx context.Context, now time.Time, keep time.Duration) error {
	defer d.pieces.forget(now.Add(-MinutesFor-time.Hour), now.Add(-keep))
	for _, step := range []struct {
		statement string
		before    time.Time
	}{
		{`DELETE FROM flow_minutes WHERE at < $1`, now.Add(-MinutesFor - time.Hour)},
		{`DELETE FROM flow_requests WHERE at < $1`, now.Add(-MinutesFor - time.Hour)},
		{`DELETE FROM flow_hours WHERE at < $1`, now.Add(-keep)},
		{`DELETE FROM flow_edges WHERE last < $1`, now.Add(-keep)},
		{`DELETE FROM flow_workloads WHERE seen < $1`, now.Add(-keep)},
		{`DELETE FROM flow_services WHERE seen < $1`, now.Add(-keep)},
		{`DELETE FROM flow_nodes WHERE seen < $1`, now.Add(-keep)},
	} {
		if err := d.exec(ctx, "forget old flows", step.statement, micros(step.before)); err != nil {
			return err
		}
	}
	return nil
}

// SortFlows puts the busiest first.
func SortFlows(list []bulkhead.Flow) {
	slices.SortFunc(list, func(a, b bulkhead.Flow) int {
		if n := int64(b.BytesOut+b.BytesIn) - int64(a.BytesOut+a.BytesIn); n != 0 {
			return int(max(-1, min(1, n)))
		}
		return strings.Compare(a.Edge.String(), b.Edge.String())
	})
}
