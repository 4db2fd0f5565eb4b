package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"bulkhead"
)

// Node is what a node last said of itself.
type Node struct {
	ID     string
	Seen   time.Time
	Report string // JSON, as the caller wrote it
}

// Workload is what one node last said of one workload.
type Workload struct {
	Name    string
	Node    string
	Seen    time.Time
	Report  string // JSON, as the caller wrote it
	Profile string // JSON; empty: not sent, keep what is stored
}

// Decision is the mode that a person wants for a workload.
type Decision struct {
	Workload string
	Mode     bulkhead.Mode
	Anyway   bool
	By       string
	At       time.Time
}

// SaveReport replaces what a node said: itself and the workloads it has. A profile that was not
// sent again stays; workloads it no longer names are forgotten for this node.
func (d *DB) SaveReport(ctx context.Context, n Node, workloads []Workload) error {
	return d.change(ctx, "store a node's report", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO nodes (id, seen, report) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, report = excluded.report`, n.ID, micros(n.Seen), n.Report)
		if err != nil {
			return err
		}
		for _, w := range workloads {
			if err := saveWorkload(ctx, tx, n, w); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM workload_nodes WHERE node = $1 AND seen < $2`, n.ID, micros(n.Seen))
		return err
	})
}

func saveWorkload(ctx context.Context, tx *sql.Tx, n Node, w Workload) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO workload_nodes (workload, node, seen, report, profile) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (workload, node) DO UPDATE SET seen = excluded.seen, report = excluded.report,
			profile = CASE WHEN excluded.profile = '' THEN workload_nodes.profile ELSE excluded.profile END`,
		w.Name, n.ID, micros(n.Seen), w.Report, w.Profile)
	return err
}

// Nodes returns every node, by id.
func (d *DB) Nodes(ctx context.Context) ([]Node, error) {
	return all(ctx, d, "list nodes", func(r *sql.Rows) (n Node, err error) {
		var seen int64
		err = r.Scan(&n.ID, &seen, &n.Report)
		n.Seen = moment(seen)
		return n, err
	}, `SELECT id, seen, report FROM nodes ORDER BY id`)
}

// Workloads returns what nodes said of workloads, without the profiles, by name and node.
func (d *DB) Workloads(ctx context.Context) ([]Workload, error) {
	return all(ctx, d, "list workloads", scanWorkload, `SELECT workload, node, seen, report, '' FROM workload_nodes ORDER BY workload, node`)
}

// Workload returns what nodes said of one workload, with the profiles, by node.
func (d *DB) Workload(ctx context.Context, name string) ([]Workload, error) {
	list, err := all(ctx, d, "read workload", scanWorkload, `SELECT workload, node, seen, report, profile FROM workload_nodes WHERE workload = $1 ORDER BY node`, name)
	if err == nil && len(list) == 0 {
		return nil, fmt.Errorf("workload %.80q: %w", name, ErrNotFound)
	}
	return list, err
}

// NodeWorkloads returns what one node said of its workloads, without the profiles, by name.
func (d *DB) NodeWorkloads(ctx context.Context, node string) ([]Workload, error) {
	return all(ctx, d, "list a node's workloads", scanWorkload, `SELECT workload, node, seen, report, '' FROM workload_nodes WHERE node = $1 ORDER BY workload`, node)
}

func scanWorkload(r *sql.Rows) (w Workload, err error) {
	var seen int64
	err = r.Scan(&w.Name, &w.Node, &seen, &w.Report, &w.Profile)
	w.Seen = moment(seen)
	return w, err
}

// Decide keeps the mode that a person wants for a workload.
func (d *DB) Decide(ctx context.Context, c Decision) error {
	return d.exec(ctx, "store a mode", `
		INSERT INTO workloads (name, mode, anyway, decided_by, decided_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO UPDATE SET mode = excluded.mode, anyway = excluded.anyway,
			decided_by = excluded.decided_by, decided_at = excluded.decided_at`,
		c.Workload, string(c.Mode), bit(c.Anyway), c.By, micros(c.At))
}

// Undecide forgets it.
func (d *DB) Undecide(ctx context.Context, workload string) error {
	return d.exec(ctx, "forget a mode", `DELETE FROM workloads WHERE name = $1`, workload)
}

// Decisions returns the wanted modes by workload.
func (d *DB) Decisions(ctx context.Context) (map[string]Decision, error) {
	list, err := all(ctx, d, "list modes", func(r *sql.Rows) (c Decision, err error) {
		var at int64
		err = r.Scan(&c.Workload, &c.Mode, &c.Anyway, &c.By, &at)
		c.At = moment(at)
		return c, err
	}, `SELECT name, mode, anyway, decided_by, decided_at FROM workloads`)
	out := make(map[string]Decision, len(list))
	for _, c := range list {
		out[c.Workload] = c
	}
	return out, err
}
