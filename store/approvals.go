package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"time"

	"bulkhead"
)

// AddApproval keeps an approval and returns its id; the same one again has the same id.
func (d *DB) AddApproval(ctx context.Context, a bulkhead.Approval, at time.Time) (string, error) {
	sum := sha256.Sum256([]byte(a.Workload + "\x00" + string(a.Section) + "\x00" + a.Value))
	id := hex.EncodeToString(sum[:])
	err := d.exec(ctx, "store an approval", `INSERT INTO approvals (id, workload, section, value, decided_by, decided_at)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`, id, a.Workload, string(a.Section), a.Value, a.By, micros(at))
	return id, err
}

// DropApproval forgets one that every node refused.
func (d *DB) DropApproval(ctx context.Context, id string) error {
	return d.exec(ctx, "forget an approval", `DELETE FROM approvals WHERE id = $1`, id)
}

// Delivered notes that a node has an approval.
func (d *DB) Delivered(ctx context.Context, id, node string) error {
	return d.exec(ctx, "note an approval's delivery", `INSERT INTO approval_nodes (approval, node) VALUES ($1, $2) ON CONFLICT DO NOTHING`, id, node)
}

// Pending is an approval that a node does not have yet.
type Pending struct {
	ID       string
	Approval bulkhead.Approval
}

// PendingApprovals returns the approvals for workloads of a node that it does not have yet, oldest first.
func (d *DB) PendingApprovals(ctx context.Context, node string) ([]Pending, error) {
	return all(ctx, d, "list approvals", func(r *sql.Rows) (p Pending, err error) {
		return p, r.Scan(&p.ID, &p.Approval.Workload, &p.Approval.Section, &p.Approval.Value, &p.Approval.By)
	}, `SELECT a.id, a.workload, a.section, a.value, a.decided_by FROM approvals a
		JOIN workload_nodes w ON w.workload = a.workload AND w.node = $1
		WHERE NOT EXISTS (SELECT 1 FROM approval_nodes n WHERE n.approval = a.id AND n.node = $1)
		ORDER BY a.decided_at, a.id`, node)
}
