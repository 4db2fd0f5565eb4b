package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"bulkhead"
)

// Audit is what an agent found on its host, in figures.
type Audit struct {
	ID, Cluster, Node string
	At                time.Time
	Cause             string
	Score             float64
	Layers            map[string]float64
	Counts            AuditCounts
	Severe            int // checks of severity high or critical that fail
	Drift             int // answers that are others than before
}

// AuditCounts say how many checks have which answer.
type AuditCounts struct {
	Pass, Fail, Manual, NotApplicable int
}

// AuditRetention says how much is kept of each node.
type AuditRetention struct {
	For     time.Duration // scores
	Scores  int           // of a node, the newest
	Reports int           // of a node, the newest
}

const auditColumns = `id, cluster, node, at, cause, score, layers, counts, severe, drift`

// AddAudit keeps an audit; report is JSON. The same audit again changes nothing.
func (d *DB) AddAudit(ctx context.Context, a Audit, report []byte) error {
	body, err := packed(report)
	if err != nil {
		return wrap("store an audit", err)
	}
	counts, err := json.Marshal(a.Counts)
	if err != nil {
		return wrap("store an audit", err)
	}
	return d.exec(ctx, "store an audit", `INSERT INTO audits (`+auditColumns+`, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING`,
		a.ID, a.Cluster, a.Node, micros(a.At), a.Cause, int64(a.Score*10+0.5), written(a.Layers), string(counts), int64(a.Severe), int64(a.Drift), body)
}

// NewestAudits are the newest of each node, by node.
func (d *DB) NewestAudits(ctx context.Context) ([]Audit, error) {
	return all(ctx, d, "list audits", scanAudit, `SELECT `+auditColumns+` FROM audits WHERE (node, at) IN (SELECT node, MAX(at) FROM audits GROUP BY node) ORDER BY node, id`)
}

// maxHistory bounds one answer: of a thousand hosts, some weeks.
const maxHistory = 50_000

// Audits are those since a time, of one node or of all, the oldest first.
func (d *DB) Audits(ctx context.Context, node string, since time.Time) ([]Audit, error) {
	return all(ctx, d, "list audits", scanAudit, `SELECT `+auditColumns+` FROM (
		SELECT `+auditColumns+` FROM audits WHERE at >= $1 AND ($2 = '' OR node = $2) ORDER BY at DESC LIMIT $3) AS newest ORDER BY at, id`, micros(since), node, maxHistory)
}

// AuditOf is one audit, or the newest of a node, with its report as JSON; the report is empty where it is no longer kept.
func (d *DB) AuditOf(ctx context.Context, id, node string) (a Audit, report []byte, err error) {
	var body []byte
	row := d.read.QueryRowContext(ctx, `SELECT `+auditColumns+`, body FROM audits WHERE ($1 <> '' AND id = $1) OR ($1 = '' AND node = $2) ORDER BY at DESC, id LIMIT 1`, id, node)
	if err := a.scan(row.Scan, &body); err != nil {
		return a, nil, wrap("read an audit", err)
	}
	if body == nil {
		return a, nil, nil
	}
	report, err = unpack(body)
	return a, report, err
}

func scanAudit(r *sql.Rows) (a Audit, err error) { return a, a.scan(r.Scan) }

func (a *Audit) scan(scan func(...any) error, more ...any) error {
	var at, score, severe, drift int64
	var layers, counts string
	if err := scan(append([]any{&a.ID, &a.Cluster, &a.Node, &at, &a.Cause, &score, &layers, &counts, &severe, &drift}, more...)...); err != nil {
		return err
	}
	a.At, a.Score, a.Severe, a.Drift = moment(at), float64(score)/10, int(severe), int(drift)
	if err := json.Unmarshal([]byte(layers), &a.Layers); err != nil {
		return err
	}
	return json.Unmarshal([]byte(counts), &a.Counts)
}

// PruneAudits removes reports and scores beyond what is kept of a node.
func (d *DB) PruneAudits(ctx context.Context, now time.Time, keep AuditRetention) error {
	return d.change(ctx, "remove old audits", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM audits WHERE at < $1 AND (node, at) NOT IN (SELECT node, MAX(at) FROM audits GROUP BY node)`, micros(now.Add(-keep.For))); err != nil {
			return err
		}
		const beyond = `SELECT id FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY node ORDER BY at DESC, id) AS n FROM audits) AS numbered WHERE n > $1`
		if _, err := tx.ExecContext(ctx, `DELETE FROM audits WHERE id IN (`+beyond+`)`, keep.Scores); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE audits SET body = NULL WHERE body IS NOT NULL AND id IN (`+beyond+`)`, keep.Reports)
		return err
	})
}

// AuditException is somebody's word that a check may fail.
type AuditException struct {
	ID, Check, Node, Owner, Reason, Expires, By string
	At                                          time.Time
}

// AuditExceptions are all, by check.
func (d *DB) AuditExceptions(ctx context.Context) ([]AuditException, error) {
	return all(ctx, d, "list exceptions", func(r *sql.Rows) (e AuditException, err error) {
		var at int64
		err = r.Scan(&e.ID, &e.Check, &e.Node, &e.Owner, &e.Reason, &e.Expires, &e.By, &at)
		e.At = moment(at)
		return e, err
	}, `SELECT id, check_id, node, owner, reason, expires, by_whom, at FROM audit_exceptions ORDER BY check_id, node, id`)
}

// PutAuditException keeps an exception, over the one with its id.
func (d *DB) PutAuditException(ctx context.Context, e AuditException) error {
	return d.exec(ctx, "store an exception", `INSERT INTO audit_exceptions (id, check_id, node, owner, reason, expires, by_whom, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET check_id = excluded.check_id, node = excluded.node, owner = excluded.owner, reason = excluded.reason, expires = excluded.expires,
			by_whom = excluded.by_whom, at = excluded.at`, e.ID, e.Check, e.Node, e.Owner, e.Reason, e.Expires, e.By, micros(e.At))
}

// RemoveAuditException forgets an exception.
func (d *DB) RemoveAuditException(ctx context.Context, id string) error {
	found, err := affected(d.write.ExecContext(ctx, `DELETE FROM audit_exceptions WHERE id = $1`, id))
	if err == nil && !found {
		return ErrNotFound
	}
	return wrap("remove an exception", err)
}

// driftRules chooses alerts about audited settings.
const driftRules = "rule LIKE '" + bulkhead.DriftRules + "%'"
