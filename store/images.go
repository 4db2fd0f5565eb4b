package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// maxReport bounds a report as JSON, in bytes. The largest images with some 10,000 packages and as many
// vulnerabilities make 30 MiB.
const maxReport = 128 << 20

// ErrLarge says that a report is too large to be kept.
var ErrLarge = fmt.Errorf("the report has more than %d MiB", maxReport>>20)

// Image is what is known of an image under one name.
type Image struct {
	Reference  string
	Repository string
	Seen       time.Time // last under this name
	ImageReport
	News  int // vulnerabilities that became known after the scan
	Since time.Time
}

// ImageReport is what a scan said in figures; the report itself is [DB.Report].
type ImageReport struct {
	Digest   string
	Scanned  time.Time // its layers were looked at
	Matched  time.Time // its packages were looked up
	Database string    // in which vulnerability database; empty: there was none
	OS       string
	Tally
	Fixable                                           int
	Malware, WebShell, Secret, Misconfig, EOL         int
	Packages, Layers, BaseLayers, BaseVulnerabilities int
	Incomplete                                        bool
}

// Tally counts vulnerabilities that nobody judged away.
type Tally struct{ Critical, High, Medium, Low, Unknown, KEV int }

// Point is how an image fared at one time.
type Point struct {
	At     time.Time
	Digest string
	Tally
	Findings int
}

// News is a vulnerability that became known after the image was scanned.
type News struct {
	ID, Package, Version string
	Severity             bulkhead.Severity
	KEV                  bool
	At                   time.Time
}

// Findings are all kinds together.
func (r ImageReport) Findings() int { return r.Malware + r.WebShell + r.Secret + r.Misconfig + r.EOL }

const reportColumns = `digest, scanned, matched, database, os, critical, high, medium, low, unknown, kev, fixable,
	malware, webshell, secret, misconfig, eol, packages, layers, base_layers, base_vulnerabilities, incomplete`

func (r *ImageReport) fields() []any {
	return []any{
		&r.Digest, (*micro)(&r.Scanned), (*micro)(&r.Matched), &r.Database, &r.OS,
		&r.Critical, &r.High, &r.Medium, &r.Low, &r.Unknown, &r.KEV, &r.Fixable,
		&r.Malware, &r.WebShell, &r.Secret, &r.Misconfig, &r.EOL,
		&r.Packages, &r.Layers, &r.BaseLayers, &r.BaseVulnerabilities, &r.Incomplete,
	}
}

func (r *ImageReport) values() []any {
	return []any{
		r.Digest, micros(r.Scanned), micros(r.Matched), r.Database, r.OS,
		r.Critical, r.High, r.Medium, r.Low, r.Unknown, r.KEV, r.Fixable,
		r.Malware, r.WebShell, r.Secret, r.Misconfig, r.EOL,
		r.Packages, r.Layers, r.BaseLayers, r.BaseVulnerabilities, bit(r.Incomplete),
	}
}

// micro scans a moment.
type micro time.Time

// Scan is called by database/sql.
func (m *micro) Scan(v any) error {
	us, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a moment is %T", v)
	}
	*m = micro(moment(us))
	return nil
}

// SaveImageReport keeps a report, in place of an older one of the same digest, with what is news in it.
func (d *DB) SaveImageReport(ctx context.Context, figures ImageReport, report bulkhead.Report, news []News) error {
	body, err := pack(report)
	if err != nil {
		return fmt.Errorf("store the report of %.80q: %w", figures.Digest, err)
	}
	return d.change(ctx, "store a report", func(tx *sql.Tx) error {
		values := append(figures.values(), body)
		names := strings.Split(strings.Join(strings.Fields(reportColumns), ""), ",")
		var marks, sets []string
		for i, name := range append(names, "body") {
			marks = append(marks, "$"+strconv.Itoa(i+1))
			if name != "digest" {
				sets = append(sets, name+" = excluded."+name)
			}
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO image_reports (`+reportColumns+`, body) VALUES (`+strings.Join(marks, ", ")+`)
			ON CONFLICT (digest) DO UPDATE SET `+strings.Join(sets, ", "), values...)
		if err != nil {
			return err
		}
		return saveNews(ctx, tx, figures.Digest, report, news)
	})
}

// saveNews adds news and forgets those that are no longer true.
func saveNews(ctx context.Context, tx *sql.Tx, digest string, report bulkhead.Report, news []News) error {
	there := map[[3]string]bool{}
	for _, v := range report.Vulnerabilities {
		there[[3]string{v.ID, v.Package, v.Version}] = true
	}
	known, err := newsOf(ctx, tx, digest)
	if err != nil {
		return err
	}
	for _, n := range known {
		if there[[3]string{n.ID, n.Package, n.Version}] {
			continue
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM image_news WHERE digest = $1 AND id = $2 AND package = $3 AND version = $4`, digest, n.ID, n.Package, n.Version); err != nil {
			return err
		}
	}
	for _, n := range news {
		_, err := tx.ExecContext(ctx, `INSERT INTO image_news (digest, id, package, version, severity, kev, at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT DO NOTHING`, digest, n.ID, n.Package, n.Version, string(n.Severity), bit(n.KEV), micros(n.At))
		if err != nil {
			return err
		}
	}
	return nil
}

type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

func newsOf(ctx context.Context, q querier, digest string) (out []News, err error) {
	rows, err := q.QueryContext(ctx, `SELECT id, package, version, severity, kev, at FROM image_news WHERE digest = $1 ORDER BY at DESC, id, package`, digest)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n News
		if err := rows.Scan(&n.ID, &n.Package, &n.Version, &n.Severity, &n.KEV, (*micro)(&n.At)); err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

// News returns what became known of a digest after it was scanned, newest first.
func (d *DB) News(ctx context.Context, digest string) ([]News, error) {
	out, err := newsOf(ctx, d.read, digest)
	return out, wrap("list news of an image", err)
}

// NameImage notes that a name is of a digest whose report is there, and how it fares.
func (d *DB) NameImage(ctx context.Context, reference, repository, digest string, at time.Time) error {
	return d.change(ctx, "store an image's name", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO images (reference, repository, digest, seen) VALUES ($1, $2, $3, $4)
			ON CONFLICT (reference) DO UPDATE SET digest = excluded.digest, seen = excluded.seen`, reference, repository, digest, micros(at))
		if err != nil {
			return err
		}
		return addPoint(ctx, tx, reference, at)
	})
}

// MarkImage notes how every name of a digest fares now.
func (d *DB) MarkImage(ctx context.Context, digest string, at time.Time) error {
	return d.change(ctx, "store how an image fares", func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT reference FROM images WHERE digest = $1`, digest)
		if err != nil {
			return err
		}
		var names []string
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				rows.Close()
				return err
			}
			names = append(names, name)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		for _, name := range names {
			if err := addPoint(ctx, tx, name, at); err != nil {
				return err
			}
		}
		return nil
	})
}

// keepPoints bounds the points of one name: what a curve can show.
const keepPoints = 60

// addPoint adds one when something has changed, or a day has passed.
func addPoint(ctx context.Context, tx *sql.Tx, reference string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO image_points (reference, at, digest, critical, high, medium, low, unknown, kev, findings)
		SELECT i.reference, $2, i.digest, r.critical, r.high, r.medium, r.low, r.unknown, r.kev, r.malware + r.webshell + r.secret + r.misconfig + r.eol
		FROM images i JOIN image_reports r ON r.digest = i.digest
		WHERE i.reference = $1 AND NOT EXISTS (
			SELECT 1 FROM image_points p WHERE p.reference = $1 AND p.at > $3 AND p.at = (SELECT MAX(at) FROM image_points WHERE reference = $1)
				AND p.digest = i.digest AND p.critical = r.critical AND p.high = r.high AND p.medium = r.medium AND p.low = r.low
				AND p.unknown = r.unknown AND p.kev = r.kev AND p.findings = r.malware + r.webshell + r.secret + r.misconfig + r.eol)
		ON CONFLICT DO NOTHING`, reference, micros(at), micros(at.Add(-24*time.Hour)))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM image_points WHERE reference = $1 AND at <=
		COALESCE((SELECT at FROM image_points WHERE reference = $1 ORDER BY at DESC LIMIT 1 OFFSET `+strconv.Itoa(keepPoints)+`), 0)`, reference)
	return err
}

// Points returns how names fared, oldest first.
func (d *DB) Points(ctx context.Context, references []string) (map[string][]Point, error) {
	out := map[string][]Point{}
	for some := range slices.Chunk(references, 100) {
		w := &where{}
		var marks []string
		for _, r := range some {
			w.args = append(w.args, r)
			marks = append(marks, "$"+strconv.Itoa(len(w.args)))
		}
		_, err := all(ctx, d, "list how images fared", func(r *sql.Rows) (p Point, err error) {
			var reference string
			err = r.Scan(&reference, (*micro)(&p.At), &p.Digest, &p.Critical, &p.High, &p.Medium, &p.Low, &p.Unknown, &p.KEV, &p.Findings)
			out[reference] = append(out[reference], p)
			return p, err
		}, `SELECT reference, at, digest, critical, high, medium, low, unknown, kev, findings FROM image_points
			WHERE reference IN (`+strings.Join(marks, ", ")+`) ORDER BY reference, at`, w.args...)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ImageFilter chooses images and their order; a zero field does not choose.
type ImageFilter struct {
	Text       string // part of the name or the digest
	Reference  string
	Repository string
	Digest     string
	Having     []string // keys of imageTraits: all of them
	Among      []string // names or digests: one of them; nil: any image
	Sort       string   // a key of imageOrders; empty: urgency
	Limit      int      // 1 to 1000; 0: 100
	Page       string   // from [Images.Next]
}

// imageOrders are the orders in which images are listed.
var imageOrders = map[string]string{
	"urgency":   "(r.malware + r.webshell > 0) DESC, r.kev DESC, r.critical DESC, r.high DESC, r.medium DESC, r.low DESC",
	"reference": "i.reference",
	"scanned":   "r.scanned DESC",
	"seen":      "i.seen DESC",
	"fresh":     "news DESC, r.kev DESC, r.critical DESC",
	"findings":  "r.malware + r.webshell + r.secret + r.misconfig + r.eol DESC",
}

// imageTraits are what images can be chosen by.
var imageTraits = map[string]string{
	"critical":  "r.critical > 0",
	"high":      "r.critical + r.high > 0",
	"fix":       "r.fixable > 0",
	"kev":       "r.kev > 0",
	"malware":   "r.malware > 0",
	"webshell":  "r.webshell > 0",
	"secret":    "r.secret > 0",
	"misconfig": "r.misconfig > 0",
	"eol":       "r.eol > 0",
	"fresh":     "EXISTS (SELECT 1 FROM image_news n WHERE n.digest = i.digest)",
}

// maxAmong bounds the parameters of one query, which SQLite allows 32,766.
const maxAmong = 30_000

// ErrTrait says that images cannot be chosen by this.
var ErrTrait = errors.New("use critical, high, fix, kev, malware, webshell, secret, misconfig, eol, fresh or running")

// Images is one page of images.
type Images struct {
	Images []Image
	Next   string // the next page; empty on the last
	Total  int
}

// Images lists what is known.
func (d *DB) Images(ctx context.Context, f ImageFilter) (page Images, err error) {
	w, err := f.where()
	if err != nil {
		return page, err
	}
	from := ` FROM images i JOIN image_reports r ON r.digest = i.digest WHERE ` + w.all()
	if err := d.read.QueryRowContext(ctx, `SELECT COUNT(*)`+from, w.args...).Scan(&page.Total); err != nil {
		return page, wrap("count images", err)
	}
	order, ok := imageOrders[f.Sort]
	if !ok {
		order = imageOrders["urgency"]
	}
	limit := min(max(f.Limit, 0), maxLimit)
	if limit == 0 {
		limit = defaultLimit
	}
	offset := 0
	if f.Page != "" {
		if offset, err = strconv.Atoi(f.Page); err != nil || offset < 0 {
			return page, fmt.Errorf("list images: %w", ErrPage)
		}
	}
	columns := "r." + strings.Join(strings.Split(strings.Join(strings.Fields(reportColumns), ""), ","), ", r.")
	page.Images, err = all(ctx, d, "list images", scanImage, `SELECT i.reference, i.repository, i.seen, `+columns+`,
		(SELECT COUNT(*) FROM image_news n WHERE n.digest = i.digest) AS news,
		(SELECT COALESCE(MIN(n.at), 0) FROM image_news n WHERE n.digest = i.digest)`+from+
		` ORDER BY `+order+`, i.reference LIMIT `+strconv.Itoa(limit+1)+` OFFSET `+strconv.Itoa(offset), w.args...)
	if len(page.Images) > limit {
		page.Images = page.Images[:limit]
		page.Next = strconv.Itoa(offset + limit)
	}
	return page, err
}

func (f ImageFilter) where() (*where, error) {
	w := &where{}
	for _, equal := range []struct{ column, value string }{
		{"i.reference", f.Reference}, {"i.repository", f.Repository}, {"i.digest", f.Digest},
	} {
		if equal.value != "" {
			w.add(equal.column+" = ?", equal.value)
		}
	}
	if f.Text != "" {
		escape := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
		pattern := "%" + strings.ToLower(escape.Replace(f.Text)) + "%"
		w.add(`LOWER(i.reference || ' ' || i.digest) LIKE ? ESCAPE '\'`, pattern)
	}
	for _, name := range f.Having {
		trait, ok := imageTraits[name]
		if !ok {
			return nil, fmt.Errorf("list images with %.40q: %w", name, ErrTrait)
		}
		w.terms = append(w.terms, trait)
	}
	if f.Among != nil {
		w.among(f.Among[:min(len(f.Among), maxAmong)])
	}
	return w, nil
}

// among adds that an image's name or digest is one of these.
func (w *where) among(list []string) {
	marks := []string{"''"} // of no image, so that an empty list is one
	for _, one := range list {
		w.args = append(w.args, one)
		marks = append(marks, "$"+strconv.Itoa(len(w.args)))
	}
	in := " IN (" + strings.Join(marks, ", ") + ")"
	w.terms = append(w.terms, "(i.digest"+in+" OR i.reference"+in+")")
}

func scanImage(rows *sql.Rows) (i Image, err error) {
	fields := append([]any{&i.Reference, &i.Repository, (*micro)(&i.Seen)}, i.ImageReport.fields()...)
	return i, rows.Scan(append(fields, &i.News, (*micro)(&i.Since))...)
}

// Report returns the report of a digest and its figures, or [ErrNotFound].
func (d *DB) Report(ctx context.Context, digest string) (figures ImageReport, report bulkhead.Report, err error) {
	var body []byte
	row := d.read.QueryRowContext(ctx, `SELECT `+reportColumns+`, body FROM image_reports WHERE digest = $1`, digest)
	if err := row.Scan(append(figures.fields(), &body)...); err != nil {
		return figures, report, wrap(fmt.Sprintf("read the report of %.80q", digest), err)
	}
	raw, err := unpack(body)
	if err == nil {
		err = json.Unmarshal(raw, &report)
	}
	return figures, report, wrap("read a report", err)
}

// ReportJSON returns the report of a digest as it is kept, or [ErrNotFound].
func (d *DB) ReportJSON(ctx context.Context, digest string) ([]byte, error) {
	var body []byte
	if err := d.read.QueryRowContext(ctx, `SELECT body FROM image_reports WHERE digest = $1`, digest).Scan(&body); err != nil {
		return nil, wrap(fmt.Sprintf("read the report of %.80q", digest), err)
	}
	return unpack(body)
}

// HasReport tells when a digest was scanned; the zero time: never.
func (d *DB) HasReport(ctx context.Context, digest string) (at time.Time, err error) {
	err = d.read.QueryRowContext(ctx, `SELECT scanned FROM image_reports WHERE digest = $1`, digest).Scan((*micro)(&at))
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, nil
	}
	return at, wrap("look for a report", err)
}

// OtherDatabase returns digests whose packages were not looked up in this database, the newest first.
func (d *DB) OtherDatabase(ctx context.Context, database string, limit int) ([]string, error) {
	return all(ctx, d, "list reports of another database", func(r *sql.Rows) (digest string, err error) {
		return digest, r.Scan(&digest)
	}, `SELECT digest FROM image_reports WHERE database <> $1 ORDER BY scanned DESC LIMIT `+strconv.Itoa(limit), database)
}

// Retention bounds what is kept of images.
type Retention struct {
	Reports int           // at most so many digests
	For     time.Duration // since they were last scanned or seen under a name
	News    time.Duration // how long something new is news
	Scans   time.Duration // entries of the queue that ended
}

// PruneImages removes what is over the bounds.
func (d *DB) PruneImages(ctx context.Context, now time.Time, r Retention) error {
	for _, step := range []struct {
		query string
		arg   any
	}{
		{`DELETE FROM image_reports WHERE scanned < $1 AND NOT EXISTS (SELECT 1 FROM images i WHERE i.digest = image_reports.digest AND i.seen >= $1)`, micros(now.Add(-r.For))},
		{`DELETE FROM image_reports WHERE digest IN (SELECT digest FROM image_reports ORDER BY scanned DESC, digest LIMIT 1000000 OFFSET $1)`, r.Reports},
		{`DELETE FROM image_news WHERE at < $1`, micros(now.Add(-r.News))},
		{`DELETE FROM image_scans WHERE state IN ('done', 'failed') AND ended < $1`, micros(now.Add(-r.Scans))},
	} {
		if err := d.exec(ctx, "remove old reports", step.query, step.arg); err != nil {
			return err
		}
	}
	return nil
}

// pack writes a report as compressed JSON.
func pack(r bulkhead.Report) ([]byte, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return packed(raw)
}

func packed(raw []byte) ([]byte, error) {
	if len(raw) > maxReport {
		return nil, ErrLarge
	}
	var err error
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err = z.Write(raw); err == nil {
		err = z.Close()
	}
	return out.Bytes(), err
}

func unpack(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("a report in the database cannot be read: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxReport+1))
	if err != nil {
		return nil, fmt.Errorf("a report in the database cannot be read: %w", err)
	}
	return raw, nil
}
