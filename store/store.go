// Package store keeps what the control plane knows: SQLite in one file by default, PostgreSQL by
// URL. Start with [Open] and [DB.AddAlerts].
//
// It promises that what a method returned without error survives kill -9 and a power cut, that an
// alert is kept once however often it is added, and that the tables of alerts and audit entries stay
// below a stated bound. It is the only importer of database/sql, and no place for decisions.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrFull says that the disk is full. Nothing was changed; the same call works once there is room.
	ErrFull = errors.New("the disk is full: make room and it goes on by itself")
)

// DB is an open database.
type DB struct {
	write *sql.DB // SQLite has one writer at a time: queueing here is fairer than its busy loop
	read  *sql.DB

	pieces *pieces
}

// Open opens and brings up to date a database: "postgres://…", or the path of an SQLite file that is made when absent.
func Open(ctx context.Context, where string) (*DB, error) {
	db, dialect, err := connect(where)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := db.migrate(ctx, dialect); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database %s: %w", name(where), explain(err))
	}
	return db, nil
}

// Close ends it once running calls are done.
func (d *DB) Close() error {
	return errors.Join(d.write.Close(), d.read.Close())
}

// Ready reports why it could not be used now.
func (d *DB) Ready(ctx context.Context) error {
	return wrap("reach the database", d.read.PingContext(ctx))
}

func connect(where string) (*DB, goose.Dialect, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		pool, err := sql.Open("pgx", where)
		if err != nil {
			return nil, "", fmt.Errorf("PostgreSQL: %w", err)
		}
		pool.SetMaxOpenConns(16)
		return &DB{write: pool, read: pool, pieces: newPieces()}, goose.DialectPostgres, nil
	}
	if err := private(where); err != nil {
		return nil, "", err
	}
	write, err := sqliteOpen(where, 1, "immediate")
	if err != nil {
		return nil, "", err
	}
	read, err := sqliteOpen(where, 4, "deferred")
	if err != nil {
		return nil, "", errors.Join(err, write.Close())
	}
	return &DB{write: write, read: read, pieces: newPieces()}, goose.DialectSQLite3, nil
}

// private makes the file before SQLite would, readable by its owner alone: it holds password hashes.
func private(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func sqliteOpen(path string, connections int, lock string) (*sql.DB, error) {
	query := url.Values{"_pragma": {
		"journal_mode(WAL)",
		"synchronous(FULL)", // an acknowledged alert outlives a power cut
		"busy_timeout(10000)",
		"foreign_keys(1)",
		"journal_size_limit(67108864)",
	}, "_txlock": {lock}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func (d *DB) migrate(ctx context.Context, dialect goose.Dialect) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(dialect, d.write, files)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// name is where a database is, without a password.
func name(where string) string {
	if u, err := url.Parse(where); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	return where
}

// change runs f in one transaction.
func (d *DB) change(ctx context.Context, doing string, f func(*sql.Tx) error) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return wrap(doing, err)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return wrap(doing, err)
	}
	return wrap(doing, tx.Commit())
}

func (d *DB) exec(ctx context.Context, doing, query string, args ...any) error {
	_, err := d.write.ExecContext(ctx, query, args...)
	return wrap(doing, err)
}

// all reads every row of a query.
func all[T any](ctx context.Context, d *DB, doing string, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := d.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrap(doing, err)
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		row, err := scan(rows)
		if err != nil {
			return nil, wrap(doing, err)
		}
		out = append(out, row)
	}
	return out, wrap(doing, rows.Err())
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, explain(err))
}

func explain(err error) error {
	var failed *sqlite.Error
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.As(err, &failed) && failed.Code()&0xff == sqliteFull:
		return fmt.Errorf("%w (%v)", ErrFull, err)
	case errors.As(err, &failed) && (failed.Code()&0xff == sqliteCorrupt || failed.Code()&0xff == sqliteNotADB):
		return fmt.Errorf("the file is damaged: restore it from a backup, or move it away to start empty (%w)", err)
	}
	return err
}

// Primary result codes of SQLite.
const (
	sqliteCorrupt = 11
	sqliteFull    = 13
	sqliteNotADB  = 26
)

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
