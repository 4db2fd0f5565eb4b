// Package scan looks at an image: one walk over each layer, an explicit list of analyzers, packages, vulnerabilities
// and findings out. Start with [New] and [Scanner.Scan].
//
// It promises that every layer is read once at most and a known one not at all, that each file is read once whoever
// wants it, that what it says is what a container of the image sees (and, for secrets and malware, what lies below it),
// that the same input gives the same report, and that whatever was left out is told in the report. A Scanner may be
// used by many goroutines. It is not the place for an analyzer, which has a folder below, nor for opening an image,
// which package image does, nor for what a vulnerability is: that is vuln.
package scan

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/config"
	"bulkhead/scan/look"
	"bulkhead/scan/secret"
	"bulkhead/vuln"
)

// Options say what to look for and with what. The zero value looks for everything that needs no file beside it.
type Options struct {
	Only   []look.Kind // empty: all
	Rules  []string    // files and directories with YARA rules, beside ours
	Hashes []string    // files and directories with lists of hashes of malware
	ClamAV string      // a daemon: "host:3310", "unix:///run/clamav/clamd.ctl"
	Dev    bool        // packages that are only for development too
	Cache  *Cache      // of answers about layers; nil keeps none

	// Database tells the vulnerabilities of packages. Nil: there is none, which the report then says.
	Database *vuln.DB
	Now      time.Time // against which ends of life and the database's age are held; the zero value is the clock's

	Progress func(Progress) // called now and then, from one goroutine at a time; may be nil
}

// Progress is how far a scan got.
type Progress struct {
	Layers, Known, Done int   // of the image; answered by the cache; looked at
	Files               int64 // looked at
}

// Scanner looks at images.
type Scanner struct {
	options    Options
	analyzers  []look.Analyzer
	declared   []look.Analyzer // beside them, of directories that are no root of a system
	incomplete []bulkhead.Omission
	key        []byte // what makes answers about the same layer different
	close      []func()
}

// New makes a scanner. Rules or lists that were named and cannot be used are an error.
func New(o Options) (*Scanner, error) {
	s := &Scanner{options: o}
	if err := s.addAnalyzers(); err != nil {
		s.Close()
		return nil, err
	}
	s.key = s.cacheKey()
	return s, nil
}

// Close frees what the analyzers hold. No Scan may be running.
func (s *Scanner) Close() {
	for _, f := range slices.Backward(s.close) {
		f()
	}
}

// wants reports whether somebody asked for findings of this kind.
func (s *Scanner) wants(kind look.Kind) bool {
	return len(s.options.Only) == 0 || slices.Contains(s.options.Only, kind)
}

// Scan looks at an image. An error means that there is no report; a part that could not be looked at, or not within
// the context's deadline, is in the report's list of what is incomplete.
func (s *Scanner) Scan(ctx context.Context, img *image.Image) (bulkhead.Report, error) {
	records, err := s.records(ctx, img)
	if err != nil {
		return bulkhead.Report{}, err
	}
	m := newMerge(records, layersOf(img))
	m.declared = namesOf(s.declared)
	r := bulkhead.Report{Target: img.Target, Digest: img.Digest, Layers: m.layers}
	m.into(&r)
	for _, skip := range img.Skipped() {
		if !skip.Expected {
			r.Incomplete = append(r.Incomplete, bulkhead.Omission{Path: skip.Path, Layer: skip.Layer, Message: skip.Message})
		}
	}
	r.Incomplete = append(r.Incomplete, s.incomplete...)
	if img.ID != "" {
		r.Findings = append(r.Findings, s.configured(img.Config)...)
	}
	return r, s.Match(&r)
}

// configured tells what is wrong with how the image says that it is run.
func (s *Scanner) configured(c image.Config) (found []bulkhead.Finding) {
	if s.wants(look.Misconfig) {
		found = append(found, config.Image(c)...)
	}
	if s.wants(look.Secret) {
		found = append(found, secret.Image(c)...)
	}
	return found
}

func namesOf(analyzers []look.Analyzer) map[string]bool {
	names := map[string]bool{}
	for _, a := range analyzers {
		names[a.Name] = true
	}
	return names
}

func layersOf(img *image.Image) []bulkhead.LayerInfo {
	layers := make([]bulkhead.LayerInfo, len(img.Layers))
	for i := range img.Layers {
		layers[i] = img.Layers[i].LayerInfo
	}
	return layers
}

// records returns what is known about each layer, from the cache or by looking. Layers are looked at side by side, as
// many as there are processors.
func (s *Scanner) records(ctx context.Context, img *image.Image) ([]*record, error) {
	records := make([]*record, len(img.Layers))
	p := &progress{tell: s.options.Progress, now: Progress{Layers: len(img.Layers)}}
	crew := newCrew(ctx)
	defer crew.stop()
	analyzers := s.analyzers
	if img.From == "dir" {
		analyzers = slices.Concat(s.analyzers, s.declared)
	}
	var walks sync.WaitGroup
	slots := make(chan struct{}, walkers)
	for i := range img.Layers {
		layer := &img.Layers[i]
		if records[i] = s.options.Cache.known(s.key, layer); records[i] != nil {
			p.known()
			continue
		}
		slots <- struct{}{}
		walks.Go(func() {
			defer func() { <-slots }()
			records[i] = s.look(ctx, crew, layer, analyzers, p)
		})
	}
	walks.Wait()
	// Out of time: what was seen is worth telling. Interrupted: nobody waits for it.
	if err := ctx.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return records, nil
}

// progress counts for all walks.
type progress struct {
	tell func(Progress)
	mu   sync.Mutex
	now  Progress
}

func (p *progress) known() { p.add(func(now *Progress) { now.Known++ }) }

func (p *progress) add(change func(*Progress)) {
	if p.tell == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.now)
	p.tell(p.now)
}
