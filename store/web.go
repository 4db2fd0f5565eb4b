package store

import (
	"context"
	"database/sql"
	"errors"
)

// WebSettings returns what people decided about workloads' requests, by workload, as the caller wrote it.
func (d *DB) WebSettings(ctx context.Context) (map[string]string, error) {
	type row struct{ workload, setting string }
	list, err := all(ctx, d, "list settings of the layer-7 firewall", func(r *sql.Rows) (row row, err error) {
		return row, r.Scan(&row.workload, &row.setting)
	}, `SELECT workload, setting FROM web_settings`)
	out := map[string]string{}
	for _, r := range list {
		out[r.workload] = r.setting
	}
	return out, err
}

// ChangeWeb changes one workload's setting: change gets what is stored, which is empty where there is nothing.
func (d *DB) ChangeWeb(ctx context.Context, workload string, change func(before string) (string, error)) error {
	var refused error
	err := d.change(ctx, "store a setting of the layer-7 firewall", func(tx *sql.Tx) error {
		var before string
		err := tx.QueryRowContext(ctx, `SELECT setting FROM web_settings WHERE workload = $1`, workload).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		after, err := change(before)
		if err != nil {
			refused = err // as it is: the caller knows it
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO web_settings (workload, setting) VALUES ($1, $2)
			ON CONFLICT (workload) DO UPDATE SET setting = excluded.setting`, workload, after)
		return err
	})
	if refused != nil {
		return refused
	}
	return err
}
