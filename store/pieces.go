package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// A window of flows is put together of pieces of whole minutes, tens of minutes, hours and days, and a piece that is over does
// not change: a map that is looked at again a few seconds later, or a minute further, reads from the database only what is new.
const (
	maxPieceRows = 480_000          // in memory, of 136 bytes
	pieceSettles = 2 * time.Minute  // after its end: until then every report changes a piece
	pieceKept    = 10 * time.Minute // what another control plane adds late to a settled piece is seen after so long
)

// pieceLengths are tried from the longest; whole hours and days come from the table by the hour.
var pieceLengths = []time.Duration{24 * time.Hour, time.Hour, 10 * time.Minute, time.Minute}

// span is the time of a piece. It is of the one or the other table: each keeps its sums for another time.
type span struct {
	at     int64
	length time.Duration
	hours  bool
}

func (s span) end() int64 { return s.at + s.length.Microseconds() }

// piece are the sums of a span, as the database said at one moment.
type piece struct {
	rows    []sum
	read    time.Time
	version string // of all reports
	used    uint64
}

// sum is what one side saw of an edge.
type sum struct {
	edge        int64
	side        Side
	first, last int64
	counts      [13]uint64 // as counters
}

// named is an edge without its numbers.
type named struct {
	bulkhead.Edge
	application string
}

type pieces struct {
	mu      sync.Mutex
	held    map[span]*piece
	rows    int
	clock   uint64
	late    uint64 // how often a settled piece was changed
	edges   map[int64]named
	edgesAt time.Time
}

func newPieces() *pieces { return &pieces{held: map[span]*piece{}, edges: map[int64]named{}} }

// spans divides a window. Its ends are whole steps of the table already.
func spans(from, to time.Time, step time.Duration) (list []span) {
	for at := from; at.Before(to); {
		for _, length := range pieceLengths {
			if length < step || !at.Truncate(length).Equal(at) || at.Add(length).After(to) {
				continue
			}
			list = append(list, span{micros(at), length, length >= time.Hour})
			at = at.Add(length)
			break
		}
	}
	return list
}

// sumFlows is what was seen of all edges in a window.
func (d *DB) sumFlows(ctx context.Context, q FlowQuery) ([]bulkhead.Flow, error) {
	step := flowTable(q.From).step
	from, to := q.From.Truncate(step), q.To
	if whole := to.Truncate(step); whole.Before(to) {
		to = whole.Add(step)
	}
	version, err := d.flowVersion(ctx)
	if err != nil {
		return nil, err
	}
	d.pieces.mu.Lock()
	most := len(d.pieces.edges)
	d.pieces.mu.Unlock()
	at, total := make(map[[2]int64]int, most), make([]sum, 0, most)
	for _, s := range spans(from, to, step) {
		rows, err := d.piece(ctx, s, version)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			add(at, &total, &rows[i])
		}
	}
	slices.SortFunc(total, func(a, b sum) int { return cmp.Or(cmp.Compare(a.edge, b.edge), cmp.Compare(a.side, b.side)) })
	return d.nameFlows(ctx, total, from, q.Cluster)
}

func add(at map[[2]int64]int, total *[]sum, s *sum) {
	key := [2]int64{s.edge, int64(s.side)}
	i, ok := at[key]
	if !ok {
		at[key] = len(*total)
		*total = append(*total, *s)
		return
	}
	t := &(*total)[i]
	t.first, t.last = min(t.first, s.first), max(t.last, s.last)
	for c := range t.counts {
		t.counts[c] += s.counts[c]
	}
}

// flowVersion changes with every report that is stored, by whichever control plane.
func (d *DB) flowVersion(ctx context.Context) (string, error) {
	rows, err := all(ctx, d, "read what was reported", func(r *sql.Rows) (string, error) {
		var node, boot string
		var sequence int64
		err := r.Scan(&node, &boot, &sequence)
		return fmt.Sprintf("%q %q %d", node, boot, sequence), err
	}, `SELECT node, boot, sequence FROM flow_reports ORDER BY node`)
	return strings.Join(rows, "\n"), err
}

// piece is from memory where nothing can have changed.
func (d *DB) piece(ctx context.Context, s span, version string) ([]sum, error) {
	rows, late, ok := d.pieces.get(s, version, time.Now())
	if ok {
		return rows, nil
	}
	read, err := time.Now(), error(nil)
	if rows, ok = d.pieces.compose(s, read); !ok {
		rows, err = d.readPiece(ctx, s)
	}
	if err == nil {
		d.pieces.put(s, &piece{rows: rows, read: read, version: version}, late)
	}
	return rows, err
}

// compose adds up ten minutes that are in memory and over: the database need not do it again.
func (p *pieces) compose(s span, now time.Time) ([]sum, bool) {
	if s.length != 10*time.Minute {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at, total := map[[2]int64]int{}, []sum{}
	for m := s.at; m < s.end(); m += time.Minute.Microseconds() {
		one := p.held[span{at: m, length: time.Minute}]
		if one == nil || !one.settled(m+time.Minute.Microseconds(), now) {
			return nil, false
		}
		for i := range one.rows {
			add(at, &total, &one.rows[i])
		}
	}
	return total, true
}

func (p *piece) settled(end int64, now time.Time) bool {
	return p.read.After(moment(end).Add(pieceSettles)) && now.Sub(p.read) < pieceKept
}

func (d *DB) readPiece(ctx context.Context, s span) ([]sum, error) {
	table, columns, group := flowTables[0], "edge, side, MIN(first), MAX(last), SUM("+strings.Join(counters, "), SUM(")+")", " GROUP BY edge, side"
	if s.hours {
		table = flowTables[1]
	}
	if s.length == table.step { // one row for each side already
		columns, group = "edge, side, first, last, "+strings.Join(counters, ", "), ""
	}
	return all(ctx, d, "add flows up", func(r *sql.Rows) (one sum, err error) {
		into := []any{&one.edge, &one.side, &one.first, &one.last}
		for i := range one.counts {
			into = append(into, &one.counts[i])
		}
		return one, r.Scan(into...)
	}, `SELECT `+columns+` FROM `+table.name+` WHERE at >= $1 AND at < $2`+group, s.at, s.end())
}

func (p *pieces) get(s span, version string, now time.Time) (rows []sum, late uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.held[s]
	if one == nil {
		return nil, p.late, false
	}
	if !one.settled(s.end(), now) && one.version != version {
		return nil, p.late, false
	}
	p.clock++
	one.used = p.clock
	return one.rows, p.late, true
}

// put keeps a piece, unless something settled was changed while it was read.
func (p *pieces) put(s span, one *piece, late uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.late != late || len(one.rows) > maxPieceRows/2 {
		return
	}
	p.drop(s)
	for p.rows+len(one.rows) > maxPieceRows {
		p.drop(p.oldest())
	}
	p.clock++
	one.used = p.clock
	p.held[s] = one
	p.rows += len(one.rows)
}

func (p *pieces) oldest() (oldest span) {
	least := ^uint64(0)
	for s, one := range p.held {
		if one.used < least {
			least, oldest = one.used, s
		}
	}
	return oldest
}

func (p *pieces) drop(s span) {
	if one := p.held[s]; one != nil {
		p.rows -= len(one.rows)
		delete(p.held, s)
	}
}

// stored drops the settled pieces that a report changed, and keeps what edges are known now to speak.
func (p *pieces) stored(r FlowReport, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	settled := micros(now.Add(-pieceSettles))
	for i := range r.Flows {
		if f := &r.Flows[i]; f.Application != "" {
			p.edges[edgeNumber(f.Edge)] = named{f.Edge, f.Application}
		}
		at := micros(r.Flows[i].Last)
		if at >= settled {
			continue
		}
		p.late++
		for s := range p.held {
			if at >= s.at && at < s.end() {
				p.drop(s)
			}
		}
	}
}

// forget drops what begins before the database does.
func (p *pieces) forget(minutes, hours time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.late++
	for s := range p.held {
		if from := map[bool]time.Time{false: minutes, true: hours}[s.hours]; s.at < micros(from) {
			p.drop(s)
		}
	}
}

// nameFlows makes flows of sums, with both sides of an edge in one.
func (d *DB) nameFlows(ctx context.Context, total []sum, from time.Time, cluster string) ([]bulkhead.Flow, error) {
	edges, err := d.nameEdges(ctx, total, from)
	if err != nil {
		return nil, err
	}
	rows := make([]SeenFlow, 0, len(total))
	for i := range total {
		e, known := edges[total[i].edge]
		if !known || cluster != "" && e.Cluster != cluster {
			continue
		}
		f := SeenFlow{Side: total[i].side, Flow: bulkhead.Flow{Edge: e.Edge, Application: e.application}}
		f.First, f.Last = moment(total[i].first), moment(total[i].last)
		for c, v := range values(&f.Traffic) {
			*v = total[i].counts[c]
		}
		rows = append(rows, f)
	}
	return merge(rows), nil
}

// fewEdges are asked for one by one; of more all of the window are.
const fewEdges = 200

func (d *DB) nameEdges(ctx context.Context, total []sum, from time.Time) (map[int64]named, error) {
	known, unknown := d.pieces.known(total, time.Now())
	if len(unknown) == 0 {
		return known, nil
	}
	where, args := "last >= $1", []any{micros(from)}
	if len(unknown) <= fewEdges {
		places := make([]string, len(unknown))
		args = args[:0]
		for i, id := range unknown {
			places[i] = fmt.Sprintf("$%d", i+1)
			args = append(args, id)
		}
		where = "id IN (" + strings.Join(places, ", ") + ")"
	}
	var ids []int64
	list, err := all(ctx, d, "list edges", func(r *sql.Rows) (e named, err error) {
		var id int64
		var port int
		err = r.Scan(&id, &e.Cluster, &e.Source.Kind, &e.Source.Name, &e.Destination.Kind, &e.Destination.Name, &e.Protocol, &port, &e.application)
		e.Port = uint16(port)
		ids = append(ids, id)
		return e, err
	}, `SELECT id, cluster, source_kind, source, destination_kind, destination, protocol, port, application FROM flow_edges WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	d.pieces.mu.Lock()
	defer d.pieces.mu.Unlock()
	for i, e := range list {
		if fresh, have := d.pieces.edges[ids[i]]; have { // a report came meanwhile
			e = fresh
		}
		known[ids[i]], d.pieces.edges[ids[i]] = e, e
	}
	return known, nil
}

// known are the edges of sums whose names are in memory.
func (p *pieces) known(total []sum, now time.Time) (known map[int64]named, unknown []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.edgesAt) > pieceKept || len(p.edges) > maxPieceRows {
		clear(p.edges)
		p.edgesAt = now
	}
	known = make(map[int64]named, len(total)/2)
	for i := range total {
		id := total[i].edge
		if _, have := known[id]; have || i > 0 && total[i-1].edge == id {
			continue
		}
		if e, have := p.edges[id]; have {
			known[id] = e
		} else {
			unknown = append(unknown, id)
		}
	}
	return known, unknown
}
