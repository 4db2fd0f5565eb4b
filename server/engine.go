package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan"
	"bulkhead/store"
	"bulkhead/vuln"
)

// ImageOptions say how images are scanned, and how much is kept of it.
type ImageOptions struct {
	Database  string              // file of the vulnerability database; it may come, change and go while the server runs
	Workers   int                 // scans at the same time; 0: 1
	PlainHTTP []string            // registries that may be spoken to without TLS
	CAs       []string            // files with certificates that are trusted beside the system's
	Mirrors   map[string][]string // of registries, see image.Options
	Keep      int                 // reports, one for each digest; 0: 2,000
	KeepFor   time.Duration       // since an image was last scanned or seen under a name; 0: 180 days
	Running   bool                // scan what workloads run too: its names are asked of their registries
	Look      time.Duration       // how often the database's file is looked at; 0: 15 s
	LookRun   time.Duration       // how often it is looked at what workloads run; 0: 1 min
}

const (
	keepReports   = 2000 // some 100 KiB each
	keepReportFor = 180 * 24 * time.Hour
	keepNewsFor   = 14 * 24 * time.Hour
	keepScansFor  = 7 * 24 * time.Hour
	maxWorkers    = 8
)

func (o ImageOptions) defaults() ImageOptions {
	o.Workers = min(max(o.Workers, 1), maxWorkers)
	if o.Keep <= 0 {
		o.Keep = keepReports
	}
	if o.KeepFor <= 0 {
		o.KeepFor = keepReportFor
	}
	if o.Look <= 0 {
		o.Look = 15 * time.Second
	}
	if o.LookRun <= 0 {
		o.LookRun = time.Minute
	}
	return o
}

func (o ImageOptions) retention() store.Retention {
	return store.Retention{Reports: o.Keep, For: o.KeepFor, News: keepNewsFor, Scans: keepScansFor}
}

// registry is how registries are spoken to.
func (o ImageOptions) registry() image.Options {
	return image.Options{PlainHTTP: o.PlainHTTP, CAs: o.CAs, Mirrors: o.Mirrors}
}

// engine is a scanner with one state of the vulnerability database. It is closed when nobody uses it any more.
type engine struct {
	*scan.Scanner
	db    *vuln.DB
	id    string // of the database's content; empty: there is none
	users sync.WaitGroup
}

// engines hands out the newest engine.
type engines struct {
	s   *Server
	mu  sync.Mutex
	now *engine
	was stamp
}

// stamp tells one state of a file from another without reading it.
type stamp struct {
	size int64
	at   time.Time
}

// use returns an engine and what to call when done with it.
func (e *engines) use() (*engine, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.renew(); err != nil && e.now == nil {
		return nil, nil, err
	}
	now := e.now
	now.users.Add(1)
	return now, now.users.Done, nil
}

// renew makes an engine where there is none, or the database is another than it was.
func (e *engines) renew() error {
	at := stampOf(e.s.images.Database)
	if e.now != nil && at == e.was {
		return nil
	}
	fresh, err := e.s.newEngine()
	if err != nil {
		if e.was != at {
			e.s.log.Error("the vulnerability database cannot be used", "err", err)
		}
		e.was = at // an import that is under way is looked at again when it has changed
		return err
	}
	e.was = at
	e.retire()
	e.now = fresh
	return nil
}

// retire closes the engine in use once nobody uses it.
func (e *engines) retire() {
	if old := e.now; old != nil {
		go func() { old.users.Wait(); old.close() }()
	}
	e.now = nil
}

// close ends it; scans have ended.
func (e *engines) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.now != nil {
		e.now.users.Wait()
		e.now.close()
		e.now = nil
	}
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime()}
}

func (s *Server) newEngine() (*engine, error) {
	o := scan.Options{}
	e := &engine{}
	if s.images.Database != "" {
		db, err := vuln.Open(s.images.Database)
		if err != nil && !errors.Is(err, vuln.ErrMissing) {
			return nil, err
		}
		if err == nil {
			e.db, e.id = db, databaseID(db.Status())
		}
	}
	var err error
	if o.Cache, err = scan.OpenCache(filepath.Join(s.dir, "layers"), 0); err != nil {
		s.log.Warn("layers are looked at again at every scan", "err", err)
	}
	o.Database = e.db
	if e.Scanner, err = scan.New(o); err != nil {
		e.closeDatabase()
		return nil, fmt.Errorf("prepare to scan: %w", err)
	}
	return e, nil
}

// databaseID tells databases of other content apart, also ones that were built of the same feeds at another time.
func databaseID(s vuln.Status) string {
	return fmt.Sprintf("%s %s %d", s.Built.UTC().Format(time.RFC3339), s.Data.UTC().Format(time.RFC3339), s.Records)
}

func (e *engine) close() {
	e.Scanner.Close()
	e.closeDatabase()
}

func (e *engine) closeDatabase() {
	if e.db != nil {
		_ = e.db.Close() // was only read
	}
}

// watchDatabase looks up stored packages again whenever the database has changed, without pulling an image.
func (s *Server) watchDatabase() {
	for tick := time.NewTicker(s.images.Look); ; {
		if err := s.rematch(s.running); err != nil && s.running.Err() == nil {
			s.log.Error("stored packages were not looked up again", "err", err)
		}
		select {
		case <-s.running.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

// rematchStep is how many reports are asked for at once.
const rematchStep = 50

// rematch goes on where it was interrupted, as each report says of which database it is.
func (s *Server) rematch(ctx context.Context) error {
	if stampOf(s.images.Database) == (stamp{}) {
		return nil // no database: what an earlier one said stays
	}
	e, done, err := s.engines.use()
	if err != nil || e.id == "" {
		if err == nil {
			done()
		}
		return nil // was logged when it changed
	}
	defer done()
	total := 0
	for {
		digests, err := s.db.OtherDatabase(ctx, e.id, rematchStep)
		if err != nil {
			return err
		}
		for _, digest := range digests {
			if err := s.rematchOne(ctx, e, digest); err != nil {
				return err
			}
		}
		if total += len(digests); len(digests) < rematchStep {
			break
		}
	}
	if total > 0 {
		s.log.Info("stored packages were looked up in the new vulnerability database", "images", total)
	}
	return nil
}

func (s *Server) rematchOne(ctx context.Context, e *engine, digest string) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	figures, old, err := s.db.Report(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil // was removed meanwhile
	}
	if err != nil {
		return err
	}
	report := old
	report.Packages, report.Findings = cloned(old.Packages), cloned(old.Findings)
	report.Incomplete = cloned(old.Incomplete)
	if err := e.Match(&report); err != nil {
		return fmt.Errorf("look up the packages of %s: %w", digest, err)
	}
	return s.keep(ctx, e, report, figures, &old)
}

func cloned[T any](list []T) []T { return append([]T(nil), list...) }

// keep stores a report, with what became known since the one before.
func (s *Server) keep(ctx context.Context, e *engine, report bulkhead.Report, figures store.ImageReport, old *bulkhead.Report) error {
	now := time.Now()
	scanned := figures.Scanned
	if scanned.IsZero() {
		scanned = now
	}
	figures = figuresOf(report)
	figures.Scanned, figures.Matched, figures.Database = scanned, now, e.id
	var news []store.News
	if old != nil && old.Database != nil { // without a database everything would be news
		news = newsOf(*old, report, now)
	}
	if err := s.db.SaveImageReport(ctx, figures, report, news); err != nil {
		return err
	}
	return s.db.MarkImage(ctx, report.Digest, now)
}

// newsOf are vulnerabilities that a report has and an earlier one of the same image had not.
func newsOf(old, report bulkhead.Report, at time.Time) (news []store.News) {
	for _, v := range scan.Diff(old, report).Vulnerabilities.New {
		news = append(news, store.News{ID: v.ID, Package: v.Package, Version: v.Version, Severity: v.Severity, KEV: v.KEV, At: at})
	}
	return news
}

// figuresOf counts what lists show.
func figuresOf(r bulkhead.Report) store.ImageReport {
	f := store.ImageReport{Digest: r.Digest, OS: osName(r.OS), Packages: len(r.Packages), Layers: len(r.Layers), Incomplete: len(r.Incomplete) > 0}
	for _, l := range r.Layers {
		if l.Base {
			f.BaseLayers++
		}
	}
	for _, v := range r.Vulnerabilities {
		if !vuln.Counts(v) {
			continue
		}
		countSeverity(&f.Tally, v.Severity)
		f.KEV += one(v.KEV)
		f.Fixable += one(v.Fixed != "")
		f.BaseVulnerabilities += one(v.Base)
	}
	kinds := map[bulkhead.FindingKind]*int{
		bulkhead.FindingMalware: &f.Malware, bulkhead.FindingWebShell: &f.WebShell, bulkhead.FindingSecret: &f.Secret,
		bulkhead.FindingMisconfig: &f.Misconfig, bulkhead.FindingEOL: &f.EOL,
	}
	for _, found := range r.Findings {
		if n := kinds[found.Kind]; n != nil {
			*n++
		}
	}
	return f
}

func countSeverity(t *store.Tally, s bulkhead.Severity) {
	switch s {
	case bulkhead.Critical:
		t.Critical++
	case bulkhead.High:
		t.High++
	case bulkhead.Medium:
		t.Medium++
	case bulkhead.Low:
		t.Low++
	default:
		t.Unknown++
	}
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// osName is how a list calls a distribution: what its os-release says for people is long.
func osName(o bulkhead.OS) string {
	name := o.ID
	if version := o.Version; version != "" {
		name += " " + version
	} else if o.Codename != "" {
		name += " " + o.Codename
	}
	if len(name) > 80 {
		name = name[:80]
	}
	return name
}
