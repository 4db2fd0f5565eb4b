package store

import (
	"context"
	"database/sql"
	"time"
)

// Inventory is what a cluster said last of itself.
type Inventory struct {
	Cluster string
	Said    string
	At      time.Time
}

// PutInventory takes the place of what the cluster said before.
func (d *DB) PutInventory(ctx context.Context, i Inventory) error {
	return d.exec(ctx, "keep a cluster's inventory", `INSERT INTO inventories (cluster, said, at) VALUES ($1, $2, $3)
		ON CONFLICT (cluster) DO UPDATE SET said = excluded.said, at = excluded.at`, i.Cluster, i.Said, micros(i.At))
}

// Inventories are those of all clusters.
func (d *DB) Inventories(ctx context.Context) ([]Inventory, error) {
	return all(ctx, d, "read inventories", func(r *sql.Rows) (i Inventory, err error) {
		var at int64
		err = r.Scan(&i.Cluster, &i.Said, &at)
		i.At = moment(at)
		return i, err
	}, `SELECT cluster, said, at FROM inventories ORDER BY cluster`)
}
