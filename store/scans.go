package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Scan is one entry of the queue of images to scan, or what became of it.
type Scan struct {
	ID        string
	Subject   string // what is scanned once, however many ask for it at the same time
	Reference string // under which it is known afterwards
	Target    string // what is pulled
	Reason    string
	By        string
	State     string
	Error     string
	Digest    string
	Tries     int
	Created   time.Time
	Ended     time.Time
}

// The states of a scan.
const (
	ScanQueued  = "queued"
	ScanRunning = "running"
	ScanDone    = "done"
	ScanFailed  = "failed"
)

// Over reports whether it has ended, one way or the other.
func (s Scan) Over() bool { return s.State == ScanDone || s.State == ScanFailed }

const scanColumns = `id, subject, reference, target, reason, asked_by, state, error, digest, tries, created, ended`

func scanScan(r *sql.Rows) (s Scan, err error) {
	return s, r.Scan(&s.ID, &s.Subject, &s.Reference, &s.Target, &s.Reason, &s.By, &s.State, &s.Error, &s.Digest, &s.Tries, (*micro)(&s.Created), (*micro)(&s.Ended))
}

// Enqueue adds a scan, unless one of the same subject waits or runs already: then it returns that one. A full queue
// is [ErrQueue].
func (d *DB) Enqueue(ctx context.Context, s Scan, most int) (Scan, error) {
	waiting, err := d.Waiting(ctx)
	if err != nil {
		return s, err
	}
	if waiting >= most {
		return s, fmt.Errorf("%w: %d wait already", ErrQueue, waiting)
	}
	_, err = d.write.ExecContext(ctx, `INSERT INTO image_scans (`+scanColumns+`) VALUES ($1, $2, $3, $4, $5, $6, 'queued', '', '', 0, $7, 0)
		ON CONFLICT DO NOTHING`, s.ID, s.Subject, s.Reference, s.Target, s.Reason, s.By, micros(s.Created))
	if err != nil {
		return s, wrap("queue a scan", err)
	}
	list, err := all(ctx, d, "queue a scan", scanScan, `SELECT `+scanColumns+` FROM image_scans WHERE subject = $1 ORDER BY created DESC LIMIT 1`, s.Subject)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("queue a scan: %w", ErrNotFound)
	}
	if err != nil {
		return s, err
	}
	return list[0], nil
}

// ErrQueue says that too much waits already.
var ErrQueue = fmt.Errorf("the queue of scans is full")

// Waiting counts what is queued or runs.
func (d *DB) Waiting(ctx context.Context) (n int, err error) {
	err = d.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM image_scans WHERE state IN ('queued', 'running')`).Scan(&n)
	return n, wrap("count waiting scans", err)
}

// Take takes the oldest scan of the queue that somebody waits for: what a person asked for before everything else.
// Nothing to do is [ErrNotFound].
func (d *DB) Take(ctx context.Context) (s Scan, err error) {
	err = d.change(ctx, "take a scan", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `UPDATE image_scans SET state = 'running', tries = tries + 1
			WHERE id = (SELECT id FROM image_scans WHERE state = 'queued'
				ORDER BY CASE reason WHEN 'asked' THEN 0 WHEN 'harbor' THEN 0 WHEN 'pushed' THEN 1 ELSE 2 END, created, id LIMIT 1)
			AND state = 'queued' RETURNING `+scanColumns)
		if err != nil {
			return err
		}
		defer rows.Close()
		if !rows.Next() {
			if err := rows.Err(); err != nil {
				return err
			}
			return ErrNotFound
		}
		s, err = scanScan(rows)
		return err
	})
	return s, err
}

// Finish says what became of a scan.
func (d *DB) Finish(ctx context.Context, s Scan) error {
	return d.exec(ctx, "finish a scan", `UPDATE image_scans SET state = $2, error = $3, digest = $4, ended = $5 WHERE id = $1`,
		s.ID, s.State, s.Error, s.Digest, micros(s.Ended))
}

// maxTries is how often a scan is begun that never ended, as when an image takes the whole process with it.
const maxTries = 3

// Requeue puts what ran when the control plane ended into the queue again, and gives up on what it ended with before.
func (d *DB) Requeue(ctx context.Context, at time.Time) error {
	return d.change(ctx, "take up scans again", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE image_scans SET state = 'failed', ended = $1, error = 'the control plane ended during this scan, several times'
			WHERE state = 'running' AND tries >= $2`, micros(at), maxTries)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE image_scans SET state = 'queued' WHERE state = 'running'`)
		return err
	})
}

// Scan returns one scan, or [ErrNotFound].
func (d *DB) Scan(ctx context.Context, id string) (Scan, error) {
	list, err := all(ctx, d, "read a scan", scanScan, `SELECT `+scanColumns+` FROM image_scans WHERE id = $1`, id)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("scan %.80q: %w", id, ErrNotFound)
	}
	if err != nil {
		return Scan{}, err
	}
	return list[0], nil
}

// LastScan returns the newest scan of a subject, or [ErrNotFound].
func (d *DB) LastScan(ctx context.Context, subject string) (Scan, error) {
	list, err := all(ctx, d, "read a scan", scanScan, `SELECT `+scanColumns+` FROM image_scans WHERE subject = $1 ORDER BY created DESC LIMIT 1`, subject)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("scan of %.80q: %w", subject, ErrNotFound)
	}
	if err != nil {
		return Scan{}, err
	}
	return list[0], nil
}

// Scans returns the newest scans.
func (d *DB) Scans(ctx context.Context, limit int) ([]Scan, error) {
	limit = min(max(limit, 0), maxLimit)
	if limit == 0 {
		limit = defaultLimit
	}
	return all(ctx, d, "list scans", scanScan, `SELECT `+scanColumns+` FROM image_scans ORDER BY created DESC, id LIMIT `+strconv.Itoa(limit))
}

// Watch is a repository whose tags are scanned again and again.
type Watch struct {
	Repository string
	Every      time.Duration
	Tags       []string // patterns; none: all
	Last, Next time.Time
	Error      string // of the last time
	By         string
}

// SaveWatch keeps a watch, in place of one of the same repository.
func (d *DB) SaveWatch(ctx context.Context, w Watch) error {
	return d.exec(ctx, "store a watch", `INSERT INTO image_watches (repository, every, tags, last, next, error, asked_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (repository) DO UPDATE SET every = excluded.every, tags = excluded.tags,
			last = excluded.last, next = excluded.next, error = excluded.error, asked_by = excluded.asked_by`,
		w.Repository, int64(w.Every/time.Second), strings.Join(w.Tags, "\n"), micros(w.Last), micros(w.Next), w.Error, w.By)
}

// NoteWatch keeps when a watch was looked at, what came of it, and when it is next, unless somebody ended it or asked
// for something else meanwhile.
func (d *DB) NoteWatch(ctx context.Context, was, now Watch) error {
	return d.exec(ctx, "note a watch", `UPDATE image_watches SET last = $2, next = $3, error = $4 WHERE repository = $1 AND last = $5 AND next = $6`,
		was.Repository, micros(now.Last), micros(now.Next), now.Error, micros(was.Last), micros(was.Next))
}

// DropWatch ends one.
func (d *DB) DropWatch(ctx context.Context, repository string) error {
	gone, err := affected(d.write.ExecContext(ctx, `DELETE FROM image_watches WHERE repository = $1`, repository))
	if err == nil && !gone {
		err = ErrNotFound
	}
	return wrap("end a watch", err)
}

// Watches returns all, by repository.
func (d *DB) Watches(ctx context.Context) ([]Watch, error) {
	return all(ctx, d, "list watches", func(r *sql.Rows) (w Watch, err error) {
		var every int64
		var tags string
		err = r.Scan(&w.Repository, &every, &tags, (*micro)(&w.Last), (*micro)(&w.Next), &w.Error, &w.By)
		w.Every = time.Duration(every) * time.Second
		if tags != "" {
			w.Tags = strings.Split(tags, "\n")
		}
		return w, err
	}, `SELECT repository, every, tags, last, next, error, asked_by FROM image_watches ORDER BY repository`)
}

// Hook is a token with which a registry tells of what was pushed.
type Hook struct {
	ID       string
	Registry string // empty: Harbor says which
	Created  time.Time
	Used     time.Time
	By       string
}

// AddHook keeps one. The hash is of its token.
func (d *DB) AddHook(ctx context.Context, h Hook, hash string) error {
	return d.exec(ctx, "store a hook", `INSERT INTO image_hooks (id, hash, registry, created, used, asked_by) VALUES ($1, $2, $3, $4, 0, $5)`,
		h.ID, hash, h.Registry, micros(h.Created), h.By)
}

// UseHook returns the hook of a token, or [ErrNotFound], and notes that it was used.
func (d *DB) UseHook(ctx context.Context, hash string, at time.Time) (Hook, error) {
	list, err := all(ctx, d, "read a hook", scanHook, `SELECT id, registry, created, used, asked_by FROM image_hooks WHERE hash = $1`, hash)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("hook: %w", ErrNotFound)
	}
	if err != nil {
		return Hook{}, err
	}
	if at.Sub(list[0].Used) > time.Minute { // not a write for each of a thousand pushes
		err = d.exec(ctx, "note the use of a hook", `UPDATE image_hooks SET used = $2 WHERE hash = $1`, hash, micros(at))
	}
	return list[0], err
}

// Hooks returns all, by registry.
func (d *DB) Hooks(ctx context.Context) ([]Hook, error) {
	return all(ctx, d, "list hooks", scanHook, `SELECT id, registry, created, used, asked_by FROM image_hooks ORDER BY registry, created`)
}

// DropHook forgets one.
func (d *DB) DropHook(ctx context.Context, id string) error {
	gone, err := affected(d.write.ExecContext(ctx, `DELETE FROM image_hooks WHERE id = $1`, id))
	if err == nil && !gone {
		err = ErrNotFound
	}
	return wrap("remove a hook", err)
}

func scanHook(r *sql.Rows) (h Hook, err error) {
	return h, r.Scan(&h.ID, &h.Registry, (*micro)(&h.Created), (*micro)(&h.Used), &h.By)
}
