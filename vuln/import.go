package vuln

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// ImportOptions are the choices of an import; the zero value is right for most.
type ImportOptions struct {
	Progress func(Progress)   // called often, from one goroutine at a time; nil: nobody looks
	Now      func() time.Time // nil: time.Now
}

// Progress tells how far an import or an update is.
type Progress struct {
	Step  string // "read osv/Debian/all.zip", "write"
	Done  int
	Total int // 0: not known
}

// The limits of an archive. The largest public one, npm's, has 220,000 records; all together unpack to some gigabytes.
const (
	maxEntries  = 4_000_000
	maxUnpacked = 64 << 30
	maxProblems = 20
)

// Import builds a database at dst from feeds: archives of osv.dev (all.zip), CISA's KEV, FIRST's EPSS and endoflife.date,
// given as files or as directories that are searched for them. What a file is, its content tells. The database appears
// at dst whole or not at all. A record that cannot be understood is counted in [Left] and the others are imported.
func Import(ctx context.Context, dst string, sources []string, o ImportOptions) (Status, error) {
	found, err := findSources(ctx, sources)
	if err != nil {
		return Status{}, err
	}
	return importSources(ctx, dst, found, o)
}

// importNamed imports the given files below root under their names there.
func importNamed(ctx context.Context, dst, root string, paths []string, o ImportOptions) (Status, error) {
	found, err := findSources(ctx, paths)
	if err != nil {
		return Status{}, err
	}
	for i := range found {
		if name, err := filepath.Rel(root, found[i].path); err == nil {
			found[i].name = filepath.ToSlash(name)
		}
	}
	return importSources(ctx, dst, found, o)
}

func importSources(ctx context.Context, dst string, found []source, o ImportOptions) (Status, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return Status{}, fmt.Errorf("make the directory of the vulnerability database: %w", err)
	}
	c, err := newCollector(filepath.Dir(dst))
	if err != nil {
		return Status{}, err
	}
	defer c.close()
	for i, s := range found {
		o.Progress(Progress{"read " + s.name, i, len(found)})
		if err := c.source(ctx, s, o); err != nil {
			return Status{}, fmt.Errorf("import %s: %w", s.path, err)
		}
	}
	if c.archives() == 0 {
		return Status{}, fmt.Errorf("import: no archive of osv.dev among %d feeds, so there is nothing to match; add the all.zip files", len(found))
	}
	o.Progress(Progress{"write " + filepath.Base(dst), 0, 0})
	return c.build(ctx, dst, o.Now().UTC())
}

// source reads one file.
func (c *collector) source(ctx context.Context, s source, o ImportOptions) error {
	sum, err := fileSum(s.path)
	if err != nil {
		return err
	}
	told := Source{Name: s.name, Kind: s.kind, SHA256: sum}
	switch s.kind {
	case OSV:
		err = c.archive(ctx, s, &told, o)
	case KEV:
		err = c.kev(s, &told)
	case EPSS:
		err = c.epss(s, &told)
	case EndOfLife:
		err = c.endOfLife(s, &told)
	}
	c.sources = append(c.sources, told)
	return err
}

func (c *collector) kev(s source, told *Source) error {
	f, err := openPlain(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	cves, date, err := readKEV(f)
	if err != nil {
		return err
	}
	for _, cve := range cves {
		known := c.known[cve]
		known.kev = true
		c.known[cve] = known
	}
	told.Records, told.Date = len(cves), date
	return nil
}

func (c *collector) epss(s source, told *Source) error {
	f, err := openPlain(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	told.Records, told.Date, err = readEPSS(f, func(cve uint64, score float32) {
		known := c.known[cve]
		known.epss = score
		c.known[cve] = known
	})
	return err
}

// archive reads the records of one archive on all processors.
func (c *collector) archive(ctx context.Context, s source, told *Source, o ImportOptions) error {
	z, err := zip.OpenReader(s.path)
	if err != nil {
		return fmt.Errorf("open the archive: %w; fetch it again", err)
	}
	defer z.Close()
	if len(z.File) > maxEntries {
		return fmt.Errorf("the archive has %d files, the limit is %d", len(z.File), maxEntries)
	}
	work, results := make(chan *zip.File, 64), make(chan parsed, 64)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go feed(ctx, z.File, work)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { parseFiles(ctx, work, results) })
	}
	go func() { workers.Wait(); close(results) }()
	n := 0
	var unpacked int64
	for p := range results {
		unpacked += p.size
		if unpacked > maxUnpacked && err == nil {
			err = fmt.Errorf("the archive unpacks to more than %d GiB", maxUnpacked>>30)
			stop()
		}
		if err == nil {
			if err = c.add(s, p, told); err != nil {
				stop()
			}
		}
		if n++; n%1000 == 0 {
			o.Progress(Progress{"read " + s.name, n, len(z.File)})
		}
	}
	return errors.Join(err, context.Cause(ctx))
}

func feed(ctx context.Context, files []*zip.File, work chan<- *zip.File) {
	defer close(work)
	for _, f := range files {
		if f.FileInfo().IsDir() || !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		select {
		case work <- f:
		case <-ctx.Done():
			return
		}
	}
}

// parsed is one file of an archive, ready to be kept.
type parsed struct {
	name  string
	size  int64
	err   error
	id    string
	when  time.Time
	cves  []uint64
	text  []byte // the record, encoded
	score string // its vector
	items []parsedItem
}

type parsedItem struct {
	ecosystem, name string
	open, single    bool
	data            []byte
}

func parseFiles(ctx context.Context, work <-chan *zip.File, results chan<- parsed) {
	var buffer []byte
	for f := range work {
		var p parsed
		p, buffer = parseFile(f, buffer)
		select {
		case results <- p:
		case <-ctx.Done():
			return
		}
	}
}

func parseFile(f *zip.File, buffer []byte) (parsed, []byte) {
	p := parsed{name: f.Name}
	buffer, p.err = readEntry(f, buffer)
	p.size = int64(len(buffer))
	if p.err != nil {
		return p, buffer
	}
	r, err := parseRecord(buffer)
	if err != nil {
		p.err = err
		return p, buffer
	}
	p.id, p.when, p.score, p.text = r.id, r.modified, r.vector, encodeRecord(r)
	for _, cve := range r.cves {
		packed, _ := packCVE(cve)
		p.cves = append(p.cves, packed)
	}
	for i := range r.affected {
		a := &r.affected[i]
		p.items = append(p.items, parsedItem{a.ecosystem, a.name, a.open(), len(r.cves) == 1, encodeAffected(a)})
	}
	return p, buffer
}

// readEntry unpacks one file into the buffer, never trusting the size that the archive claims.
func readEntry(f *zip.File, buffer []byte) ([]byte, error) {
	if f.UncompressedSize64 > maxRecord {
		return buffer[:0], fmt.Errorf("is larger than %d bytes", maxRecord)
	}
	in, err := f.Open()
	if err != nil {
		return buffer[:0], err
	}
	defer in.Close()
	buffer = buffer[:0]
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := in.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		switch {
		case errors.Is(err, io.EOF):
			return buffer, nil
		case err != nil:
			return buffer, err
		case len(buffer) > maxRecord:
			return buffer, fmt.Errorf("is larger than %d bytes", maxRecord)
		}
	}
}

// add keeps a record that was read.
func (c *collector) add(s source, p parsed, told *Source) error {
	switch {
	case errors.Is(p.err, errWithdrawn):
		c.left.Withdrawn++
		return nil
	case errors.Is(p.err, errNoSecurity):
		c.left.NoSecurity++
		return nil
	case errors.Is(p.err, errNoVersions):
		c.left.NoVersions++
		return nil
	case p.err != nil:
		c.left.Bad++
		if len(c.left.Problems) < maxProblems {
			c.left.Problems = append(c.left.Problems, fmt.Sprintf("%s: %s: %v", s.name, shorten(p.name, 100), p.err))
		}
		return nil
	case len(c.records) == math.MaxInt32:
		return errors.New("too many records")
	}
	told.Records++
	if p.when.After(told.Date) {
		told.Date = p.when
	}
	return c.keep(p)
}
