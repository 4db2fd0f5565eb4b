// Package unzip reads single files out of large zip archives. Start with [Open] and [File.Read].
//
// It promises that an archive with a million entries costs no memory for those that nobody asked for: archive/zip keeps
// every entry, some 300 bytes each, before it gives out the first, and of a jar with 100,000 classes we want three. It
// is not for encrypted, split or damaged archives, nor for methods that jars and eggs do not have.
package unzip

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The limits of an archive.
const (
	maxDirectory = 256 << 20 // bytes of a central directory: some two million classes
	maxKept      = 20_000    // entries that a filter may take: fifty times the jars of a large application
	maxTail      = 22 + 64<<10
)

// MinSize is the size in bytes of an archive without entries.
const MinSize = 22

// The sizes and signatures of APPNOTE.TXT 4.3 (.ZIP File Format Specification).
const (
	localSize, localSignature     = 30, 0x04034b50
	centralSize, centralSignature = 46, 0x02014b50
	endSignature                  = 0x06054b50
	end64Size, end64Signature     = 56, 0x06064b50
	locator64Size, locator64      = 20, 0x07064b50
)

// The methods by which entries are packed.
const (
	Stored   = 0
	Deflated = 8
)

// ErrFormat says that a file is no zip archive.
var ErrFormat = errors.New("this is no zip archive, or its end is missing")

var (
	errDirectory = errors.New("the zip archive's list of entries is damaged")
	errMany      = fmt.Errorf("the zip archive has more than %d manifests and jars in it", maxKept)
)

// Entry is one file in a zip archive.
type Entry struct {
	Name         string
	Method       uint16
	Size, Packed int64 // as the central directory says; Size is not believed
	offset       int64 // of the local header
}

// File is an opened zip archive.
type File struct {
	r       io.ReaderAt
	Entries []Entry // that were asked for
}

// Open lists the entries that keep takes.
func Open(r io.ReaderAt, size int64, keep func(name []byte) bool) (*File, error) {
	d, err := findDirectory(r, size)
	if err != nil {
		return nil, err
	}
	z := &File{r: r}
	return z, z.list(d, keep)
}

// directory is where the central directory lies. Offsets in it count from base: some archives, as jars that can be
// started like a program, have something in front of them.
type directory struct {
	offset, size, base int64
}

func findDirectory(r io.ReaderAt, size int64) (directory, error) {
	tail, at, err := readEnd(r, size)
	if err != nil {
		return directory{}, err
	}
	end := tail[at:]
	d := directory{size: int64(binary.LittleEndian.Uint32(end[12:])), offset: int64(binary.LittleEndian.Uint32(end[16:]))}
	endAt := size - int64(len(tail)) + int64(at)
	if d.offset == 0xffffffff || d.size == 0xffffffff || binary.LittleEndian.Uint16(end[10:]) == 0xffff {
		if large, start, ok := findDirectory64(r, endAt); ok {
			d, endAt = large, start
		}
	}
	if d.size < 0 || d.offset < 0 || d.size > maxDirectory || d.size > endAt || d.offset > endAt-d.size {
		return directory{}, errDirectory
	}
	d.base = endAt - d.size - d.offset
	return d.settle(r)
}

// readEnd reads the last bytes and finds the end record in them. Few archives have a comment after it.
func readEnd(r io.ReaderAt, size int64) (tail []byte, at int, err error) {
	for _, n := range []int64{1 << 10, maxTail} {
		tail = make([]byte, min(size, n))
		if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
			return nil, 0, err
		}
		if at = findEnd(tail); at >= 0 {
			return tail, at, nil
		}
	}
	return nil, 0, ErrFormat
}

// settle chooses between the place where the directory should be, right before its end, and the one that the end
// names, where a signature follows it.
func (d directory) settle(r io.ReaderAt) (directory, error) {
	if d.base == 0 || d.size == 0 {
		return d, nil
	}
	var b [4]byte
	if _, err := r.ReadAt(b[:], d.offset); err == nil && binary.LittleEndian.Uint32(b[:]) == centralSignature {
		d.base = 0
	}
	return d, nil
}

// findEnd finds the end record: the last one whose comment ends with the archive.
func findEnd(tail []byte) int {
	for at := len(tail) - MinSize; at >= 0; at-- {
		if tail[at] == 'P' && binary.LittleEndian.Uint32(tail[at:]) == endSignature &&
			at+MinSize+int(binary.LittleEndian.Uint16(tail[at+20:])) <= len(tail) {
			return at
		}
	}
	return -1
}

// findDirectory64 reads the records of a large archive, which stand before the end record.
func findDirectory64(r io.ReaderAt, endAt int64) (d directory, start int64, ok bool) {
	locator := make([]byte, locator64Size)
	if _, err := r.ReadAt(locator, endAt-locator64Size); err != nil || binary.LittleEndian.Uint32(locator) != locator64 {
		return d, 0, false
	}
	start = int64(binary.LittleEndian.Uint64(locator[8:]))
	if start < 0 || start > endAt {
		return d, 0, false
	}
	end := make([]byte, end64Size)
	if _, err := r.ReadAt(end, start); err != nil || binary.LittleEndian.Uint32(end) != end64Signature {
		return d, 0, false
	}
	d.size = int64(binary.LittleEndian.Uint64(end[40:]))
	d.offset = int64(binary.LittleEndian.Uint64(end[48:]))
	return d, start, true
}

func (z *File) list(d directory, keep func(name []byte) bool) error {
	r := bufio.NewReaderSize(io.NewSectionReader(z.r, d.base+d.offset, d.size), int(min(d.size+centralSize, 64<<10)))
	names := make([]byte, 0xffff)
	head := make([]byte, centralSize)
	for left := d.size; left != 0; {
		if _, err := io.ReadFull(r, head); err != nil || binary.LittleEndian.Uint32(head) != centralSignature {
			return errDirectory
		}
		n, extra, comment := int(binary.LittleEndian.Uint16(head[28:])), int(binary.LittleEndian.Uint16(head[30:])), int(binary.LittleEndian.Uint16(head[32:]))
		name := names[:n]
		if _, err := io.ReadFull(r, name); err != nil {
			return errDirectory
		}
		if !keep(name) {
			if _, err := r.Discard(extra + comment); err != nil {
				return errDirectory
			}
		} else if err := z.keep(r, head, string(name), d.base, extra, comment); err != nil {
			return err
		}
		left -= int64(centralSize + n + extra + comment)
	}
	return nil
}

func (z *File) keep(r *bufio.Reader, head []byte, name string, base int64, extra, comment int) error {
	if len(z.Entries) == maxKept {
		return errMany
	}
	fields := make([]byte, extra)
	if _, err := io.ReadFull(r, fields); err != nil {
		return errDirectory
	}
	if _, err := r.Discard(comment); err != nil {
		return errDirectory
	}
	e := Entry{
		Name:   name,
		Method: binary.LittleEndian.Uint16(head[10:]),
		Packed: int64(binary.LittleEndian.Uint32(head[20:])),
		Size:   int64(binary.LittleEndian.Uint32(head[24:])),
		offset: int64(binary.LittleEndian.Uint32(head[42:])),
	}
	e.widen(fields)
	e.offset += base
	z.Entries = append(z.Entries, e)
	return nil
}

// widen takes the sizes that do not fit in 32 bits from the extra field for them.
func (e *Entry) widen(fields []byte) {
	for len(fields) >= 4 {
		id, n := binary.LittleEndian.Uint16(fields), int(binary.LittleEndian.Uint16(fields[2:]))
		if fields = fields[4:]; n > len(fields) {
			return
		}
		if id == 1 {
			wide := fields[:n]
			for _, v := range []*int64{&e.Size, &e.Packed, &e.offset} {
				if *v == 0xffffffff && len(wide) >= 8 {
					*v = int64(binary.LittleEndian.Uint64(wide))
					wide = wide[8:]
				}
			}
			return
		}
		fields = fields[n:]
	}
}

// Section is where the bytes of an entry lie, still packed.
func (z *File) Section(e Entry) (*io.SectionReader, error) {
	head := make([]byte, localSize)
	if _, err := z.r.ReadAt(head, e.offset); err != nil || binary.LittleEndian.Uint32(head) != localSignature {
		return nil, fmt.Errorf("%s: the entry is not where the list of entries says", e.Name)
	}
	start := e.offset + localSize + int64(binary.LittleEndian.Uint16(head[26:])) + int64(binary.LittleEndian.Uint16(head[28:]))
	if e.Packed < 0 || start+e.Packed < start {
		return nil, fmt.Errorf("%s: the entry has an impossible size", e.Name)
	}
	return io.NewSectionReader(z.r, start, e.Packed), nil
}

// Open returns the bytes of an entry, unpacked.
func (z *File) Open(e Entry) (io.Reader, error) {
	s, err := z.Section(e)
	if err != nil {
		return nil, err
	}
	switch e.Method {
	case Stored:
		return s, nil
	case Deflated:
		return flate.NewReader(bufio.NewReader(s)), nil
	}
	return nil, fmt.Errorf("%s: packed by method %d, which jars do not have", e.Name, e.Method)
}

// Read returns the bytes of an entry, which may not be more than limit.
func (z *File) Read(e Entry, limit int64) ([]byte, error) {
	r, err := z.Open(e)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: unpack: %w", e.Name, err)
	}
	if n > limit {
		return nil, fmt.Errorf("%s: larger than %d KiB", e.Name, limit>>10)
	}
	return b.Bytes(), nil
}
