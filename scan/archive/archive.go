// Package archive opens archives that lie inside an image, so that what looks at files also sees the files inside
// them. Start with [Inside] and [Walk].
//
// It promises that an archive costs bounded time and memory, however it was made: depth, entries, bytes and time have
// limits, nothing is written anywhere, names come out clean, and whatever was left out is told as an omission. Formats
// are known by their first bytes, never by a name. It is not for the layers of an image: that is package image.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/image"
)

// Limits bound what one archive may cost. All of them count over everything that is nested in it.
type Limits struct {
	Depth      int           // of archives in archives; a compressed tar counts once
	Entries    int           // that are looked at, over all levels
	EntryBytes int64         // of one entry, which is held in memory
	Bytes      int64         // that come out of all decompressors
	Ratio      int64         // of Bytes to the size of the archive, which decides alone beyond Free bytes
	Free       int64         // bytes that may come out whatever the ratio says
	Time       time.Duration // for one archive
}

// Default returns the limits that a scan uses. The reasons: a Spring jar in a war in an ear has depth 3; the largest
// real archives in images (node_modules caches, offline package mirrors) have some 50,000 entries; deflate cannot
// honestly exceed a ratio of about 1,000, and real software stays below 20.
func Default() Limits {
	return Limits{Depth: 5, Entries: 200_000, EntryBytes: 32 << 20, Bytes: 2 << 30, Ratio: 100, Free: 64 << 20, Time: 2 * time.Minute}
}

// separator stands between the name of an archive and the name inside it.
const separator = "!"

// headSize is how many first bytes tell every format that is known here: a tar says so at byte 257.
const headSize = 512

// Visitor looks at the entries.
type Visitor struct {
	// Wants says by path, mode and size whether Visit is to see the entry. What nobody wants is not decompressed.
	Wants func(*image.File) bool
	// Visit gets an entry whose content is in memory. Its error ends the walk.
	Visit func(*image.File) error
}

// Walk opens f and everything nested in it, and visits the regular files inside. A file that is no archive is no
// error: it has no entries. What could not be looked at is returned as omissions; an error is the context's or Visit's.
func Walk(ctx context.Context, f *image.File, l Limits, v Visitor) ([]bulkhead.Omission, error) {
	at, err := f.ReaderAt()
	if err != nil {
		return nil, err
	}
	deadline, cancel := context.WithTimeout(ctx, l.Time)
	defer cancel()
	w := &walk{ctx: deadline, limits: l, visitor: v, bytes: min(l.Bytes, max(l.Free, l.Ratio*f.Size)), entries: l.Entries}
	err = w.open(f.Path, io.NewSectionReader(at, 0, f.Size), 1)
	if ctx.Err() != nil {
		return w.omitted, ctx.Err()
	}
	if deadline.Err() != nil {
		w.omit(f.Path, fmt.Sprintf("opening it took longer than %v: the rest of it was not looked at", l.Time))
		return w.omitted, nil
	}
	if errors.Is(err, errSpent) {
		return w.omitted, nil
	}
	return w.omitted, err
}

// walk is the state of one call of Walk: what is left to spend, and what was left out.
type walk struct {
	ctx     context.Context
	limits  Limits
	visitor Visitor
	bytes   int64
	entries int
	omitted []bulkhead.Omission
	spent   bool
}

// errSpent ends a walk whose limits are used up. It was told as an omission before.
var errSpent = errors.New("the limits of this archive are used up")

// maxOmissions is how many omissions one archive may add to a report: one with 100,000 broken entries says it in few.
const maxOmissions = 20

func (w *walk) omit(path, message string) {
	if len(w.omitted) < maxOmissions {
		w.omitted = append(w.omitted, bulkhead.Omission{Path: path, Message: message})
	}
}

// spend ends the walk: nothing more of this archive is read.
func (w *walk) spend(path, message string) error {
	if !w.spent {
		w.spent = true
		w.omit(path, message+": the rest of it was not looked at")
	}
	return errSpent
}

// open looks into one archive, which is not nested deeper than depth. A damaged archive is an omission.
func (w *walk) open(name string, r *io.SectionReader, depth int) error {
	head := make([]byte, headSize)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the start of %s: %w", name, err)
	}
	f := formatOf(head[:n])
	if f == nil {
		return nil
	}
	if depth > w.limits.Depth {
		w.omit(name, fmt.Sprintf("archives are nested deeper than %d: it was not opened", w.limits.Depth))
		return nil
	}
	return w.damaged(name, f, f.open(w, name, r, depth))
}

// damaged makes an omission of an error that the bytes of the archive are to blame for.
func (w *walk) damaged(name string, f *format, err error) error {
	var stop *stopError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSpent), w.ctx.Err() != nil:
		return err
	case errors.As(err, &stop):
		return stop.err
	}
	w.omit(name, fmt.Sprintf("the %s archive cannot be read to its end: %v", f.name, err))
	return nil
}

// stopError carries an error of Visit through the readers of formats.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// entry looks at one entry of an archive: visits it, and opens it when it is an archive itself. content is called at
// most once. size is what the archive says; it is believed only as a reason to leave the entry out.
func (w *walk) entry(outer, name string, mode fs.FileMode, size int64, depth int, content func() (io.Reader, error)) error {
	if w.entries--; w.entries < 0 {
		return w.spend(outer, fmt.Sprintf("it has more than %d entries", w.limits.Entries))
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	file := image.File{Path: outer + separator + clean(name), Mode: mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), Size: size}
	wanted := w.visitor.Wants(&file)
	if size <= 0 || !wanted && !named(name) {
		return nil
	}
	if size > w.limits.EntryBytes {
		w.omit(file.Path, fmt.Sprintf("it has %d bytes, more than the %d that are read of an entry of an archive", size, w.limits.EntryBytes))
		return nil
	}
	r, err := content()
	if err != nil {
		return err
	}
	return w.look(file, r, wanted, depth)
}

// look reads an entry, visits it and opens it.
func (w *walk) look(file image.File, r io.Reader, wanted bool, depth int) error {
	b, err := w.read(file.Path, r)
	if err != nil {
		return err
	}
	if b == nil {
		return nil
	}
	if wanted {
		if err := w.visitor.Visit(image.Memory(file.Path, file.Mode, b)); err != nil {
			return &stopError{err}
		}
	}
	return w.nested(file.Path, b, depth)
}

// nested opens an entry that is an archive itself.
func (w *walk) nested(name string, b []byte, depth int) error {
	err := w.open(name, io.NewSectionReader(readerAt(b), 0, int64(len(b))), depth+1)
	if err != nil && !errors.Is(err, errSpent) && w.ctx.Err() == nil {
		return &stopError{err} // open has made omissions of all errors but those that end the walk
	}
	return err
}

// read takes one entry into memory, nil when it is larger than it said and than what is read of one.
func (w *walk) read(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(&meter{w: w, r: r, name: name}, w.limits.EntryBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > w.limits.EntryBytes {
		w.omit(name, fmt.Sprintf("it has more than the %d bytes that are read of an entry of an archive", w.limits.EntryBytes))
		return nil, nil
	}
	return b, nil
}

// meter counts what comes out of a decompressor.
type meter struct {
	w    *walk
	r    io.Reader
	name string
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	if m.w.bytes -= int64(n); m.w.bytes < 0 {
		return 0, m.w.spend(m.name, "it grows too large when it is opened")
	}
	return n, err
}

// clean makes the name of an entry harmless: relative, valid text, without parts that climb.
func clean(name string) string {
	name = strings.ToValidUTF8(strings.ReplaceAll(name, `\`, "/"), "\uFFFD")
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\uFFFD'
		}
		return r
	}, name)
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[len(name)-maxName:], "")
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// maxName is the longest name that is kept of an entry; its end is what tells a file's type.
const maxName = 1024

type readerAt []byte

func (b readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
