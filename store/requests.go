package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"bulkhead"
)

const addRequests = `INSERT INTO flow_requests (at, edge, side, shape, answered, rejected, failed, took_sum, took_max)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
	ON CONFLICT (at, edge, side, shape) DO UPDATE SET answered = flow_requests.answered + excluded.answered,
		rejected = flow_requests.rejected + excluded.rejected, failed = flow_requests.failed + excluded.failed, took_sum = flow_requests.took_sum + excluded.took_sum,
		took_max = CASE WHEN excluded.took_max > flow_requests.took_max THEN excluded.took_max ELSE flow_requests.took_max END`

// EdgeRequests are the requests of one shape over an edge.
type EdgeRequests struct {
	bulkhead.Edge
	Application string
	bulkhead.Requests
}

// Requests adds up what was asked in a window, the most asked first; of one edge alone where one is given.
func (d *DB) Requests(ctx context.Context, q FlowQuery, edge *bulkhead.Edge) ([]EdgeRequests, error) {
	where, args := q.conditions()
	if edge != nil {
		args = append(args, edgeNumber(*edge))
		where += fmt.Sprintf("e.id = $%d AND ", len(args))
	}
	args = append(args, micros(q.From.Truncate(time.Minute)), micros(q.To))
	rows, err := all(ctx, d, "list requests", scanRequests, fmt.Sprintf(`
		SELECT e.cluster, e.source_kind, e.source, e.destination_kind, e.destination, e.protocol, e.port, e.application, t.shape,
			MIN(t.at), MAX(t.at), SUM(t.answered), SUM(t.rejected), SUM(t.failed), SUM(t.took_sum), MAX(t.took_max)
		FROM flow_requests t JOIN flow_edges e ON e.id = t.edge WHERE %s t.at >= $%d AND t.at < $%d
		GROUP BY e.id, e.cluster, e.source_kind, e.source, e.destination_kind, e.destination, e.protocol, e.port, e.application, t.shape, t.side
		ORDER BY e.id, t.shape`, where, len(args)-1, len(args)), args...)
	if err != nil {
		return nil, err
	}
	list := eitherSide(rows)
	slices.SortStableFunc(list, func(a, b EdgeRequests) int { return cmp.Compare(b.Answered, a.Answered) })
	return list, nil
}

func scanRequests(r *sql.Rows) (e EdgeRequests, err error) {
	var port int
	var first, last, took, longest int64
	err = r.Scan(&e.Cluster, &e.Source.Kind, &e.Source.Name, &e.Destination.Kind, &e.Destination.Name, &e.Protocol, &port, &e.Application, &e.Shape,
		&first, &last, &e.Answered, &e.Rejected, &e.Failed, &took, &longest)
	e.Port, e.First, e.Last = uint16(port), moment(first), moment(last)
	e.Took, e.Longest = time.Duration(took)*time.Microsecond, time.Duration(longest)*time.Microsecond
	return e, err
}

// eitherSide takes of what the two ends of an edge counted what the one that saw more did.
func eitherSide(rows []EdgeRequests) []EdgeRequests {
	list := make([]EdgeRequests, 0, len(rows))
	for _, r := range rows {
		if last := len(list) - 1; last < 0 || list[last].Edge != r.Edge || list[last].Shape != r.Shape {
			list = append(list, r)
		} else if r.Answered > list[last].Answered {
			list[last] = r
		}
	}
	return list
}
