package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Policy is a document that somebody applied.
type Policy struct {
	Kind, Name string
	Document   string // as it was written
	By         string
	At         time.Time
}

// ApplyPolicies keeps documents, all or none; one of the same kind and name is replaced.
func (d *DB) ApplyPolicies(ctx context.Context, all []Policy) error {
	return d.change(ctx, "store policies", func(tx *sql.Tx) error {
		for _, p := range all {
			_, err := tx.ExecContext(ctx, `INSERT INTO policies (kind, name, document, applied_by, applied_at) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document, applied_by = excluded.applied_by, applied_at = excluded.applied_at`,
				p.Kind, p.Name, p.Document, p.By, micros(p.At))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Policies returns all documents, by kind and name.
func (d *DB) Policies(ctx context.Context) ([]Policy, error) {
	return all(ctx, d, "list policies", func(r *sql.Rows) (p Policy, err error) {
		var at int64
		err = r.Scan(&p.Kind, &p.Name, &p.Document, &p.By, &at)
		p.At = moment(at)
		return p, err
	}, `SELECT kind, name, document, applied_by, applied_at FROM policies ORDER BY kind, name`)
}

// RemovePolicy forgets one; [ErrNotFound] where there is none.
func (d *DB) RemovePolicy(ctx context.Context, kind, name string) error {
	return d.change(ctx, "remove a policy", func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `DELETE FROM policies WHERE kind = $1 AND name = $2`, kind, name)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return fmt.Errorf("%.80s %.80q: %w", kind, name, ErrNotFound)
	})
}
