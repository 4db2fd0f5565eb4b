package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// User is a person with a local account.
type User struct {
	Name    string
	Hash    string // of the password, by package auth
	Role    string
	Created time.Time
}

// AddUser makes an account; it changes nothing and reports false when the name is taken.
func (d *DB) AddUser(ctx context.Context, u User) (bool, error) {
	added, err := affected(d.write.ExecContext(ctx, `INSERT INTO users (name, hash, role, created) VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING`,
		u.Name, u.Hash, u.Role, micros(u.Created)))
	return added, wrap("store a user", err)
}

// User returns one account, or [ErrNotFound].
func (d *DB) User(ctx context.Context, name string) (User, error) {
	var u User
	var created int64
	err := d.read.QueryRowContext(ctx, `SELECT name, hash, role, created FROM users WHERE name = $1`, name).Scan(&u.Name, &u.Hash, &u.Role, &created)
	u.Created = moment(created)
	return u, wrap("read a user", err)
}

// Users returns how many accounts there are.
func (d *DB) Users(ctx context.Context) (n int, err error) {
	err = d.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM users`).Scan(&n)
	return n, wrap("count users", err)
}

// AddSession keeps a session by the hash of its token, and forgets those that are over.
func (d *DB) AddSession(ctx context.Context, hash, user string, now, expires time.Time) error {
	return d.change(ctx, "store a session", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires <= $1`, micros(now)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions (hash, name, expires) VALUES ($1, $2, $3)`, hash, user, micros(expires))
		return err
	})
}

// Session returns whose session it is and when it ends, or [ErrNotFound].
func (d *DB) Session(ctx context.Context, hash string) (User, time.Time, error) {
	var u User
	var expires int64
	err := d.read.QueryRowContext(ctx, `SELECT u.name, u.role, s.expires FROM sessions s JOIN users u ON u.name = s.name WHERE s.hash = $1`, hash).
		Scan(&u.Name, &u.Role, &expires)
	return u, moment(expires), wrap("read a session", err)
}

// DropSession ends one session.
func (d *DB) DropSession(ctx context.Context, hash string) error {
	return d.exec(ctx, "end a session", `DELETE FROM sessions WHERE hash = $1`, hash)
}

// Entry says who did what, when, to what, from where, and how it went.
type Entry struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`
	Origin  string    `json:"origin"`
	Action  string    `json:"action"`
	Object  string    `json:"object"`
	Detail  string    `json:"detail"`
	Outcome string    `json:"outcome"`
	Hash    string    `json:"hash"`
}

// link is the hash of an entry, chained to the one before.
func (e Entry) link(before string) string {
	e.Hash = before
	e.At = e.At.UTC().Truncate(time.Microsecond)
	raw, _ := json.Marshal(e) // times and texts always encode
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Audit appends one entry.
func (d *DB) Audit(ctx context.Context, e Entry) (err error) {
	for range 5 { // another replica may take the same number at the same moment
		if err = d.audit(ctx, e); err == nil || ctx.Err() != nil || errors.Is(err, ErrFull) {
			return err
		}
	}
	return err
}

func (d *DB) audit(ctx context.Context, e Entry) error {
	return d.change(ctx, "write the audit log", func(tx *sql.Tx) error {
		var last Entry
		err := tx.QueryRowContext(ctx, `SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1`).Scan(&last.Seq, &last.Hash)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		e.Seq = last.Seq + 1
		_, err = tx.ExecContext(ctx, `INSERT INTO audit (seq, at, actor, origin, action, object, detail, outcome, hash)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			e.Seq, micros(e.At), e.Actor, e.Origin, e.Action, e.Object, e.Detail, e.Outcome, e.link(last.Hash))
		return err
	})
}

// Entries returns audit entries after a number, oldest first.
func (d *DB) Entries(ctx context.Context, after int64, limit int) ([]Entry, error) {
	return all(ctx, d, "read the audit log", func(r *sql.Rows) (e Entry, err error) {
		var at int64
		err = r.Scan(&e.Seq, &at, &e.Actor, &e.Origin, &e.Action, &e.Object, &e.Detail, &e.Outcome, &e.Hash)
		e.At = moment(at)
		return e, err
	}, `SELECT seq, at, actor, origin, action, object, detail, outcome, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
}

// VerifyAudit walks the audit log and names the first entry that was changed, or before which some were
// removed. The oldest entries may have been removed by [DB.PruneAudit]: the walk starts at the oldest kept.
func (d *DB) VerifyAudit(ctx context.Context) (entries int, err error) {
	before, after := "", int64(0)
	for {
		page, err := d.Entries(ctx, after, 1000)
		if err != nil || len(page) == 0 {
			return entries, err
		}
		for _, e := range page {
			first := entries == 0 && e.Seq > 1 // what it was chained to is gone
			if !first && (e.Seq != after+1 || e.Hash != e.link(before)) {
				return entries, fmt.Errorf("verify the audit log: entry %d does not follow from entry %d: it was changed, or entries between were removed", e.Seq, after)
			}
			before, after = e.Hash, e.Seq
			entries++
		}
	}
}

// PruneAudit removes the oldest entries beyond keep.
func (d *DB) PruneAudit(ctx context.Context, keep int) error {
	return d.exec(ctx, "remove old audit entries", `DELETE FROM audit WHERE seq <= (SELECT COALESCE(MAX(seq), 0) FROM audit) - $1`, keep)
}
