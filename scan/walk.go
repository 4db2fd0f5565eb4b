package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"bulkhead/image"
	"bulkhead/scan/look"
)

const (
	// walkers is how many layers are read at the same time. Each has a decompressor and its buffers; more of them
	// than processors only take memory.
	walkers = 2
	// aheadBytes bounds the contents that wait for an analyzer, of all layers together.
	aheadBytes = 16 << 20
	// handOver is how large a file that streams by may be to be looked at while the walk goes on. A larger one is
	// looked at by the walk itself, where package image has it in memory or spooled.
	handOver = 4 << 20
	// wholeFile is how large a file that lies on the disk may be to be read once for all of its analyzers. Those of a
	// larger one read what they need.
	wholeFile = 16 << 20
	// wholeBytes bounds the contents of such files, however many processors look at some.
	wholeBytes = 2 * wholeFile
)

// crew looks at files beside the walks.
type crew struct {
	jobs  chan func()
	ahead *semaphore.Weighted // of what waits in jobs
	whole *semaphore.Weighted // of what jobs read themselves
	kept  buffers
	done  sync.WaitGroup
	ctx   context.Context
}

func newCrew(ctx context.Context) *crew {
	c := &crew{jobs: make(chan func(), 64), ahead: semaphore.NewWeighted(aheadBytes), whole: semaphore.NewWeighted(wholeBytes), ctx: ctx}
	for range runtime.GOMAXPROCS(0) {
		c.done.Go(func() {
			for job := range c.jobs {
				job()
			}
		})
	}
	return c
}

func (c *crew) stop() {
	close(c.jobs)
	c.done.Wait()
}

// walk is one walk over one layer.
type walk struct {
	analyzers []look.Analyzer
	crew      *crew
	ctx       context.Context
	progress  *progress
	own       sync.WaitGroup // jobs of this walk

	wanted []int // scratch: the analyzers that want the current file
	seq    int32
	files  int64

	mu     sync.Mutex
	record *record
	links  map[string][]*image.File // first name → hard links to it that an analyzer wants and it did not
}

// look visits a layer and keeps what it says. What cannot be read is told in the record, which is then not cached.
func (s *Scanner) look(ctx context.Context, c *crew, layer *image.Layer, analyzers []look.Analyzer, p *progress) *record {
	name := keptUnder(layer)
	w := &walk{analyzers: analyzers, crew: c, ctx: ctx, progress: p, record: &record{}, links: map[string][]*image.File{}}
	err := layer.Walk(ctx, w.visit)
	w.own.Wait()
	if err == nil && len(w.links) > 0 {
		err = layer.Walk(ctx, w.visitLinked)
		w.own.Wait()
	}
	r := w.record
	r.seal()
	p.add(func(now *Progress) { now.Done++; now.Files += w.files })
	if err != nil {
		r.omit("", untold(ctx, err))
		return r
	}
	// What could not be seen now may be seen the next time, and what changed meanwhile is something else.
	if len(r.Incomplete) == 0 && name == keptUnder(layer) {
		s.options.Cache.save(s.key, name, r)
	}
	return r
}

func untold(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "the time was over before the end of this layer; give it more with --timeout"
	}
	return err.Error()
}

func (w *walk) visit(f *image.File) error {
	seq := w.seq
	w.seq++
	w.record.note(f)
	switch f.Kind {
	case image.HardLink:
		w.link(f)
	case image.Regular:
		if w.choose(f, nil); len(w.wanted) > 0 {
			return w.offer(f, seq)
		}
	}
	return w.ctx.Err()
}

// choose lists the analyzers that want a file and not the other.
func (w *walk) choose(f, not *image.File) {
	w.wanted = w.wanted[:0]
	for i := range w.analyzers {
		if wants := w.analyzers[i].Wants; wants(f) && (not == nil || !wants(not)) {
			w.wanted = append(w.wanted, i)
		}
	}
}

// maxLinks bounds the hard links that are followed; git has some 150.
const maxLinks = 10_000

// link remembers a hard link to something that is looked at otherwise under this name: a web shell called a picture
// is one when PHP finds it as shell.php. Its content is at its first name, which was already passed.
func (w *walk) link(f *image.File) {
	name, first := *f, *f
	name.Kind, name.Size = image.Regular, probeSize
	first.Kind, first.Size, first.Path = image.Regular, probeSize, f.Link
	w.choose(&name, &first)
	switch {
	case len(w.wanted) == 0:
	case len(w.links) >= maxLinks:
		w.mu.Lock()
		w.record.omit(f.Path, fmt.Sprintf("a hard link; more than %d of them are not followed", maxLinks))
		w.mu.Unlock()
	default:
		w.links[f.Link] = append(w.links[f.Link], &name)
	}
}

// probeSize stands for the size that a hard link does not tell: one that any analyzer takes.
const probeSize = 4096

// visitLinked looks at first names under their other names.
func (w *walk) visitLinked(f *image.File) error {
	if f.Kind != image.Regular {
		return w.ctx.Err()
	}
	for _, name := range w.links[f.Path] {
		other := *f
		other.Path = name.Path
		if w.choose(&other, f); len(w.wanted) > 0 {
			if err := w.offer(&other, w.record.position(name.Path)); err != nil {
				return err
			}
		}
	}
	return w.ctx.Err()
}

// offer gives a file to those who want it: to the crew where it lasts or can be copied, or here when it is large.
func (w *walk) offer(f *image.File, seq int32) error {
	w.files++
	wanted := slices.Clone(w.wanted)
	if lasting, ok := f.Lasting(); ok {
		w.give(func() { w.lookAtLasting(lasting, seq, wanted) })
		return nil
	}
	if f.Size > handOver {
		return w.lookAt(w.ctx, f, seq, wanted)
	}
	copied, done, err := w.hold(f, w.crew.ahead)
	if err != nil {
		return err
	}
	w.give(func() {
		defer done()
		_ = w.lookAt(w.ctx, copied, seq, wanted)
	})
	return nil
}

// give hands a job to the crew.
func (w *walk) give(job func()) {
	w.own.Add(1)
	w.crew.jobs <- func() {
		defer w.own.Done()
		job()
	}
}

// lookAtLasting reads a file once for all who read it to its end.
func (w *walk) lookAtLasting(f *image.File, seq int32, wanted []int) {
	if f.Size <= wholeFile && !w.onlyPackages(wanted) {
		held, done, err := w.hold(f, w.crew.whole)
		switch {
		case w.ctx.Err() != nil:
			return
		case err != nil:
			w.mu.Lock()
			defer w.mu.Unlock()
			w.record.omit(f.Path, err.Error())
			return
		}
		defer done()
		f = held
	}
	_ = w.lookAt(w.ctx, f, seq, wanted)
}

// hold takes a file into memory within the bounds of a room, until done is called: what is read of a file is not kept
// after the visit.
func (w *walk) hold(f *image.File, room *semaphore.Weighted) (held *image.File, done func(), err error) {
	size := sizeOf(f.Size)
	if err := room.Acquire(w.ctx, size); err != nil {
		return nil, nil, err
	}
	b := w.crew.kept.lend(f.Size)
	done = func() {
		w.crew.kept.giveBack(b)
		room.Release(size)
	}
	if held, err = read(f, b); err != nil {
		done()
		return nil, nil, fmt.Errorf("read %s: %w", f.Path, err)
	}
	return held, done, nil
}

// onlyPackages reports whether none of the analyzers reads files to their end: those that look for packages read
// little of programs and libraries, which are most of an image.
func (w *walk) onlyPackages(wanted []int) bool {
	return !slices.ContainsFunc(wanted, func(i int) bool { return w.analyzers[i].Kind != look.Packages })
}

// read returns a file that outlives the visit, in a buffer of its size.
func read(f *image.File, b []byte) (*image.File, error) {
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	kept := image.Memory(f.Path, f.Mode, b)
	kept.UID, kept.GID = f.UID, f.GID
	return kept, nil
}

func (w *walk) lookAt(ctx context.Context, f *image.File, seq int32, wanted []int) error {
	for _, i := range wanted {
		facts, err := safely(ctx, &w.analyzers[i], f)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.mu.Lock()
		w.record.add(&w.analyzers[i], f.Path, seq, facts, err)
		w.mu.Unlock()
	}
	return nil
}

// safely keeps a file that breaks an analyzer from ending the scan of everything else.
func safely(ctx context.Context, a *look.Analyzer, f *image.File) (facts look.Facts, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("this file broke the analyzer %s: %v; please report it", a.Name, broken)
		}
	}()
	return a.Look(ctx, f)
}
