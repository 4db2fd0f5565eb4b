package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// Segment is a network policy that is kept.
type Segment struct {
	Kind, Namespace, Name string
	State                 string // kept, staged, enforced
	Document              string
	By                    string
	At                    time.Time
}

// Segments returns all that are kept, by name.
func (d *DB) Segments(ctx context.Context) ([]Segment, error) {
	return all(ctx, d, "list network policies", func(r *sql.Rows) (s Segment, err error) {
		var at int64
		err = r.Scan(&s.Kind, &s.Namespace, &s.Name, &s.State, &s.Document, &s.By, &at)
		s.At = moment(at)
		return s, err
	}, `SELECT kind, namespace, name, state, document, by_whom, at FROM segments ORDER BY namespace, name, kind`)
}

// KeepSegments stores policies over those of the same kind and name, all or none.
func (d *DB) KeepSegments(ctx context.Context, list []Segment) error {
	return d.change(ctx, "keep network policies", func(tx *sql.Tx) error {
		for _, s := range list {
			_, err := tx.ExecContext(ctx, `INSERT INTO segments (kind, namespace, name, state, document, by_whom, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (kind, namespace, name) DO UPDATE SET state = excluded.state, document = excluded.document, by_whom = excluded.by_whom, at = excluded.at`,
				s.Kind, s.Namespace, s.Name, s.State, s.Document, s.By, micros(s.At))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// DropSegments forgets policies.
func (d *DB) DropSegments(ctx context.Context, list []Segment) error {
	return d.change(ctx, "remove network policies", func(tx *sql.Tx) error {
		for _, s := range list {
			if _, err := tx.ExecContext(ctx, `DELETE FROM segments WHERE kind = $1 AND namespace = $2 AND name = $3`, s.Kind, s.Namespace, s.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Quarantine is a workload that is cut off.
type Quarantine struct {
	Workload, By string
	At           time.Time
}

// Quarantines returns the workloads that are cut off, by name.
func (d *DB) Quarantines(ctx context.Context) ([]Quarantine, error) {
	return all(ctx, d, "list quarantines", func(r *sql.Rows) (q Quarantine, err error) {
		var at int64
		err = r.Scan(&q.Workload, &q.By, &at)
		q.At = moment(at)
		return q, err
	}, `SELECT workload, by_whom, at FROM quarantines ORDER BY workload`)
}

// SetQuarantine cuts a workload off, or lets it back.
func (d *DB) SetQuarantine(ctx context.Context, q Quarantine, lift bool) error {
	if lift {
		return d.exec(ctx, "lift a quarantine", `DELETE FROM quarantines WHERE workload = $1`, q.Workload)
	}
	return d.exec(ctx, "quarantine a workload", `INSERT INTO quarantines (workload, by_whom, at) VALUES ($1, $2, $3) ON CONFLICT (workload) DO NOTHING`,
		q.Workload, q.By, micros(q.At))
}

// Located is what nodes said last of a workload: where it is, and its labels. Both outlive it.
type Located struct {
	Cluster, Workload, Namespace string
	Labels                       map[string]string // null: not known
	Addresses                    []string
	Seen                         time.Time
}

// Locate stores what nodes say of workloads.
func (d *DB) Locate(ctx context.Context, list []Located) error {
	return d.change(ctx, "store where workloads are", func(tx *sql.Tx) error {
		for _, l := range list {
			_, err := tx.ExecContext(ctx, `INSERT INTO flow_workloads (cluster, workload, namespace, labels, addresses, seen) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (cluster, workload) DO UPDATE SET namespace = excluded.namespace, labels = excluded.labels, addresses = excluded.addresses, seen = excluded.seen`,
				l.Cluster, l.Workload, l.Namespace, written(l.Labels), written(l.Addresses), micros(l.Seen))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Located returns what is known of the workloads of a cluster, or of all.
func (d *DB) Located(ctx context.Context, cluster string) ([]Located, error) {
	return all(ctx, d, "list where workloads are", func(r *sql.Rows) (l Located, err error) {
		var labels, addresses string
		var seen int64
		err = r.Scan(&l.Cluster, &l.Workload, &l.Namespace, &labels, &addresses, &seen)
		if err == nil {
			err = json.Unmarshal([]byte(labels), &l.Labels)
		}
		if err == nil {
			err = json.Unmarshal([]byte(addresses), &l.Addresses)
		}
		l.Seen = moment(seen)
		return l, err
	}, `SELECT cluster, workload, namespace, labels, addresses, seen FROM flow_workloads WHERE $1 = '' OR cluster = $1 ORDER BY cluster, workload`, cluster)
}

// Service is an address that nodes translate, and to whom.
type Service struct {
	Cluster  string
	Protocol uint8
	Address  string
	Port     uint16
	Backends []string
	Seen     time.Time
}

// Serve stores what nodes translated.
func (d *DB) Serve(ctx context.Context, list []Service) error {
	return d.change(ctx, "store services", func(tx *sql.Tx) error {
		for _, s := range list {
			_, err := tx.ExecContext(ctx, `INSERT INTO flow_services (cluster, protocol, address, port, backends, seen) VALUES ($1, $2, $3, $4, $5, $6)
				ON CONFLICT (cluster, protocol, address, port) DO UPDATE SET backends = excluded.backends, seen = excluded.seen`,
				s.Cluster, int(s.Protocol), s.Address, int(s.Port), written(s.Backends), micros(s.Seen))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Services returns what nodes of any cluster translated.
func (d *DB) Services(ctx context.Context) ([]Service, error) {
	return all(ctx, d, "list services", func(r *sql.Rows) (s Service, err error) {
		var protocol, port int
		var backends string
		var seen int64
		if err = r.Scan(&s.Cluster, &protocol, &s.Address, &port, &backends, &seen); err == nil {
			err = json.Unmarshal([]byte(backends), &s.Backends)
		}
		s.Protocol, s.Port, s.Seen = uint8(protocol), uint16(port), moment(seen)
		return s, err
	}, `SELECT cluster, protocol, address, port, backends, seen FROM flow_services ORDER BY cluster, protocol, address, port`)
}

// NodePlace is what a node said last of where its workloads are.
type NodePlace struct {
	Node, Cluster string
	Report        string // JSON, as the caller wrote it
	Seen          time.Time
}

// Place stores what a node says of where its workloads are.
func (d *DB) Place(ctx context.Context, p NodePlace) error {
	return d.exec(ctx, "store where a node's workloads are", `INSERT INTO flow_nodes (node, cluster, report, seen) VALUES ($1, $2, $3, $4)
		ON CONFLICT (node) DO UPDATE SET cluster = excluded.cluster, report = excluded.report, seen = excluded.seen`, p.Node, p.Cluster, p.Report, micros(p.Seen))
}

// Places returns what nodes said, of those that were heard since a time.
func (d *DB) Places(ctx context.Context, since time.Time) ([]NodePlace, error) {
	return all(ctx, d, "list where nodes' workloads are", func(r *sql.Rows) (p NodePlace, err error) {
		var seen int64
		err = r.Scan(&p.Node, &p.Cluster, &p.Report, &seen)
		p.Seen = moment(seen)
		return p, err
	}, `SELECT node, cluster, report, seen FROM flow_nodes WHERE seen >= $1 ORDER BY node`, micros(since))
}

func written(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "null" // maps and lists of strings can be written
	}
	return string(b)
}
