package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// Filter chooses alerts; a zero field does not choose.
type Filter struct {
	Workload  string
	Severity  bulkhead.Severity // at or above
	Action    string
	Rule      string
	Technique string
	Since     time.Time
	Web       bool // only those about requests
	Drift     bool // only those about audited settings
	Node      string
	Limit     int    // 1 to 1000; 0: 100
	Page      string // from [Alerts.Next]
}

// Alerts is one page of alerts, newest first.
type Alerts struct {
	Alerts []bulkhead.Alert
	Next   string // the next page; empty on the last
	Total  int    // that the filter chooses, on all pages
}

// Limits of one page.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// AddAlerts stores alerts in one transaction and returns those that are news: new ones, and known
// ones that were folded further. It may be called again with the same.
func (d *DB) AddAlerts(ctx context.Context, alerts []bulkhead.Alert) ([]bulkhead.Alert, error) {
	var news []bulkhead.Alert
	err := d.change(ctx, "store alerts", func(tx *sql.Tx) error {
		statements, err := prepare(ctx, tx)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			changed, err := statements.add(ctx, a)
			if err != nil {
				return err
			}
			if changed {
				news = append(news, a)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return news, nil
}

type alertStatements struct{ insert, fold *sql.Stmt }

func prepare(ctx context.Context, tx *sql.Tx) (alertStatements, error) {
	insert, err := tx.PrepareContext(ctx, `
		INSERT INTO alerts (id, at, node, workload, rule, technique, severity, action, repeats, heal, healed, body)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`)
	if err != nil {
		return alertStatements{}, err
	}
	fold, err := tx.PrepareContext(ctx, `UPDATE alerts SET repeats = $2, body = $3 WHERE id = $1 AND repeats < $2`)
	return alertStatements{insert, fold}, err
}

func (s alertStatements) add(ctx context.Context, a bulkhead.Alert) (bool, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return false, fmt.Errorf("alert %s: %w", a.ID, err)
	}
	changed, err := affected(s.insert.ExecContext(ctx, a.ID, micros(a.Time), a.Node, a.Workload, a.Rule, a.Technique,
		a.Severity.Rank(), a.Action, int64(a.Count), healKey(a.Heal), bit(a.Healed), string(body)))
	if err != nil || changed {
		return changed, err
	}
	return affected(s.fold.ExecContext(ctx, a.ID, int64(a.Count), string(body)))
}

func affected(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func healKey(a *bulkhead.Approval) string {
	if a == nil {
		return ""
	}
	return string(a.Section) + " " + a.Value
}

// Alerts returns one page.
func (d *DB) Alerts(ctx context.Context, f Filter) (Alerts, error) {
	w, err := f.where()
	if err != nil {
		return Alerts{}, fmt.Errorf("list alerts: %w", err)
	}
	limit := min(max(f.Limit, 0), maxLimit)
	if limit == 0 {
		limit = defaultLimit
	}
	var page Alerts
	if err := d.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM alerts WHERE `+w.all(), w.args...).Scan(&page.Total); err != nil {
		return Alerts{}, wrap("count alerts", err)
	}
	if err := w.page(f.Page); err != nil {
		return Alerts{}, fmt.Errorf("list alerts: %w", err)
	}
	page.Alerts, err = all(ctx, d, "list alerts", scanAlert, `SELECT body, healed FROM alerts WHERE `+w.all()+
		` ORDER BY at DESC, id DESC LIMIT `+strconv.Itoa(limit+1), w.args...)
	if err != nil {
		return Alerts{}, err
	}
	if len(page.Alerts) > limit {
		page.Alerts = page.Alerts[:limit]
		last := page.Alerts[limit-1]
		page.Next = strconv.FormatInt(micros(last.Time), 10) + "_" + last.ID
	}
	return page, nil
}

// Alert returns one alert, or [ErrNotFound].
func (d *DB) Alert(ctx context.Context, id string) (bulkhead.Alert, error) {
	list, err := all(ctx, d, "read alert", scanAlert, `SELECT body, healed FROM alerts WHERE id = $1`, id)
	if err != nil {
		return bulkhead.Alert{}, err
	}
	if len(list) == 0 {
		return bulkhead.Alert{}, fmt.Errorf("alert %.80q: %w", id, ErrNotFound)
	}
	return list[0], nil
}

// Heal marks every alert that an approval answers.
func (d *DB) Heal(ctx context.Context, a bulkhead.Approval) error {
	return d.exec(ctx, "mark alerts as healed", `UPDATE alerts SET healed = 1 WHERE workload = $1 AND heal = $2`, a.Workload, healKey(&a))
}

// Counts are how many alerts a workload has.
type Counts struct{ Blocked, Detected uint64 }

// AlertCounts returns them by workload.
func (d *DB) AlertCounts(ctx context.Context) (map[string]Counts, error) {
	type row struct {
		workload, action string
		n                uint64
	}
	rows, err := all(ctx, d, "count alerts", func(r *sql.Rows) (row row, err error) {
		return row, r.Scan(&row.workload, &row.action, &row.n)
	}, `SELECT workload, action, COUNT(*) FROM alerts GROUP BY workload, action`)
	out := map[string]Counts{}
	for _, r := range rows {
		c := out[r.workload]
		if r.action == bulkhead.ActionBlocked {
			c.Blocked += r.n
		} else {
			c.Detected += r.n
		}
		out[r.workload] = c
	}
	return out, err
}

// PruneAlerts removes alerts older than a moment and, of the rest, the oldest beyond keep. It works
// in small steps, so that writers wait for milliseconds.
func (d *DB) PruneAlerts(ctx context.Context, before time.Time, keep int) (removed int, err error) {
	for {
		n, err := d.pruneStep(ctx, before, keep)
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
	}
}

func (d *DB) pruneStep(ctx context.Context, before time.Time, keep int) (int, error) {
	var total int
	if err := d.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM alerts`).Scan(&total); err != nil {
		return 0, wrap("count alerts", err)
	}
	const step = 1000
	if over := min(total-keep, step); over > 0 {
		return d.remove(ctx, `DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY at, id LIMIT $1)`, over)
	}
	return d.remove(ctx, `DELETE FROM alerts WHERE id IN (SELECT id FROM alerts WHERE at < $1 ORDER BY at, id LIMIT $2)`, micros(before), step)
}

func (d *DB) remove(ctx context.Context, query string, args ...any) (int, error) {
	result, err := d.write.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, wrap("remove old alerts", err)
	}
	n, err := result.RowsAffected()
	return int(n), wrap("remove old alerts", err)
}

func scanAlert(rows *sql.Rows) (bulkhead.Alert, error) {
	var a bulkhead.Alert
	var body string
	var healed bool
	if err := rows.Scan(&body, &healed); err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		return a, fmt.Errorf("an alert in the database cannot be read: %w", err)
	}
	a.Healed = healed
	return a, nil
}

// where is a condition with its arguments.
type where struct {
	terms []string
	args  []any
}

func (w *where) add(term string, arg any) {
	w.args = append(w.args, arg)
	w.terms = append(w.terms, strings.ReplaceAll(term, "?", "$"+strconv.Itoa(len(w.args))))
}

func (w *where) all() string { return strings.Join(append([]string{"1 = 1"}, w.terms...), " AND ") }

func (f Filter) where() (*where, error) {
	w := &where{}
	for _, equal := range []struct{ column, value string }{
		{"workload", f.Workload}, {"action", f.Action}, {"rule", f.Rule}, {"technique", f.Technique}, {"node", f.Node},
	} {
		if equal.value != "" {
			w.add(equal.column+" = ?", equal.value)
		}
	}
	if f.Severity != "" {
		if f.Severity.Rank() == 0 {
			return nil, fmt.Errorf("severity %.40q: use low, medium, high or critical", f.Severity)
		}
		w.add("severity >= ?", f.Severity.Rank())
	}
	if !f.Since.IsZero() {
		w.add("at >= ?", micros(f.Since))
	}
	if f.Web {
		w.terms = append(w.terms, "rule LIKE '"+bulkhead.WebRules+"%'")
	}
	if f.Drift {
		w.terms = append(w.terms, driftRules)
	}
	return w, nil
}

// ErrPage says that a page is none that a listing returned.
var ErrPage = errors.New("no such page: use the next page of an earlier answer")

func (w *where) page(page string) error {
	if page == "" {
		return nil
	}
	at, id, ok := strings.Cut(page, "_")
	us, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return ErrPage
	}
	w.args = append(w.args, us, us, id)
	n := len(w.args)
	w.terms = append(w.terms, fmt.Sprintf("(at < $%d OR (at = $%d AND id < $%d))", n-2, n-1, n))
	return nil
}
