package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"
)

// format is one kind of archive. Adding one is a line in formats and a function.
type format struct {
	name   string
	offset int
	magic  string
	open   func(w *walk, name string, r *io.SectionReader, depth int) error
}

// formats is in the order in which they are tried. It is a function, as its entries open entries.
func formats() []format {
	return []format{
		{"zip", 0, "PK\x03\x04", openZip},
		{"zip", 0, "PK\x05\x06", openZip},
		{"gzip", 0, "\x1f\x8b\x08", stream(gunzip)},
		{"bzip2", 0, "BZh", stream(bunzip)},
		{"xz", 0, "\xfd7zXZ\x00", stream(unxz)},
		{"zstandard", 0, "\x28\xb5\x2f\xfd", stream(unzstd)},
		{"tar", 257, "ustar", openTar},
		{"ar", 0, "!<arch>\n", openAr},
		{"rpm", 0, "\xed\xab\xee\xdb", openRPM},
		{"cpio", 0, "070701", openCpio},
		{"cpio", 0, "070702", openCpio},
		{"7z", 0, "7z\xbc\xaf\x27\x1c", unsupported("7z")},
		{"rar", 0, "Rar!\x1a\x07", unsupported("rar")},
	}
}

func formatOf(head []byte) *format {
	for _, f := range formats() {
		if len(head) >= f.offset && bytes.HasPrefix(head[f.offset:], []byte(f.magic)) {
			return &f
		}
	}
	return nil
}

// suffixes are the names under which archives lie inside images. Only for files whose bytes nobody has read yet.
var suffixes = map[string]bool{
	".zip": true, ".jar": true, ".war": true, ".ear": true, ".aar": true, ".whl": true, ".egg": true, ".nupkg": true,
	".phar": false, // PHP's own format, which the web-shell analyzer reads as text
	".tar":  true, ".tgz": true, ".tbz2": true, ".txz": true, ".tzst": true, ".gz": true, ".bz2": true, ".xz": true, ".zst": true,
	".gem": true, ".crate": true, ".deb": true, ".udeb": true, ".a": false, // static libraries: nothing runs from them
	".rpm": true, ".cpio": true, ".7z": true, ".rar": true, ".apk": true, ".vsix": true, ".xpi": true,
}

// named reports whether the name is one that archives have.
func named(name string) bool { return suffixes[strings.ToLower(path.Ext(name))] }

// errUnsupported is told as an omission by damaged.
func unsupported(name string) func(*walk, string, *io.SectionReader, int) error {
	return func(*walk, string, *io.SectionReader, int) error {
		return errors.New(name + " is a format that is not opened; unpack it to have it looked at")
	}
}

// stream opens a format that holds one file: a tar, or a single file whose name is that of the archive without suffix.
func stream(decompress func(io.Reader) (io.Reader, func(), error)) func(*walk, string, *io.SectionReader, int) error {
	return func(w *walk, name string, r *io.SectionReader, depth int) error {
		plain, done, err := decompress(bufio.NewReaderSize(r, 64<<10))
		if err != nil {
			return err
		}
		defer done()
		out := bufio.NewReaderSize(&meter{w: w, r: plain, name: name}, 64<<10)
		head, err := out.Peek(headSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if f := formatOf(head); f != nil && f.name == "tar" {
			return readTar(w, name, out, depth)
		}
		if f := formatOf(head); f != nil && f.name == "cpio" {
			return readCpio(w, name, out, depth)
		}
		return w.single(name, out, depth)
	}
}

// single visits the one file of a compressed stream. Its size is not known before it is read.
func (w *walk) single(name string, r io.Reader, depth int) error {
	b, err := io.ReadAll(io.LimitReader(r, w.limits.EntryBytes+1)) // r is metered
	if err != nil {
		return err
	}
	inner := strings.TrimSuffix(path.Base(name), path.Ext(name))
	return w.entry(name, inner, 0o644, int64(len(b)), depth, func() (io.Reader, error) { return unmetered(w, b), nil })
}

// unmetered gives back what entry will count a second time.
func unmetered(w *walk, b []byte) io.Reader {
	w.bytes += int64(len(b))
	return bytes.NewReader(b)
}

func nothing() {}

func gunzip(r io.Reader) (io.Reader, func(), error) {
	z, err := gzip.NewReader(r)
	return z, nothing, err
}

func bunzip(r io.Reader) (io.Reader, func(), error) { return bzip2.NewReader(r), nothing, nil }

// dictionaryLimit is the largest window that a decompressor may ask for: xz -9 and zstd -19 use 64 and 8 MiB.
const dictionaryLimit = 64 << 20

func unxz(r io.Reader) (io.Reader, func(), error) {
	z, err := xz.NewReader(r, dictionaryLimit)
	return z, nothing, err
}

func unzstd(r io.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(dictionaryLimit))
	if err != nil {
		return nil, nothing, err
	}
	return z, z.Close, nil
}

func openTar(w *walk, name string, r *io.SectionReader, depth int) error {
	return readTar(w, name, bufio.NewReaderSize(&meter{w: w, r: r, name: name}, 64<<10), depth)
}

// readTar reads a tar whose bytes are counted already.
func readTar(w *walk, name string, r io.Reader, depth int) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content := func() (io.Reader, error) { return &refund{w, t}, nil }
		if err := w.entry(name, h.Name, h.FileInfo().Mode(), h.Size, depth, content); err != nil {
			return err
		}
	}
}

// refund reads what is counted below it already, so that an entry of a tar counts once. A hole of a sparse file, for
// which nothing is read, is given back too: an entry's own limit bounds it.
type refund struct {
	w *walk
	r io.Reader
}

func (r *refund) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.w.bytes += int64(n)
	return n, err
}

// maxDirectory is how many bytes of a zip's directory are read: at 46 bytes or more for each entry, as many as there
// may be, with names of 80 bytes.
const maxDirectory = 24 << 20

func openZip(w *walk, name string, r *io.SectionReader, depth int) error {
	bounded := &boundedAt{r: r, left: maxDirectory}
	z, err := zip.NewReader(bounded, r.Size())
	if err != nil {
		return err
	}
	bounded.left = -1
	for _, f := range z.File {
		if f.FileInfo().IsDir() || !f.Mode().IsRegular() {
			continue
		}
		if f.Flags&1 != 0 {
			w.omit(name, "entries of the zip archive are encrypted: they were not looked at")
			continue
		}
		if err := zipEntry(w, name, f, depth); err != nil {
			return err
		}
	}
	return nil
}

// zipEntry looks at one entry; a damaged one does not keep from the others.
func zipEntry(w *walk, name string, f *zip.File, depth int) error {
	size := int64(min(f.UncompressedSize64, 1<<62))
	err := w.entry(name, f.Name, f.Mode(), size, depth, func() (io.Reader, error) { return f.Open() })
	var stop *stopError
	if err == nil || errors.Is(err, errSpent) || errors.As(err, &stop) || w.ctx.Err() != nil {
		return err
	}
	w.omit(name+separator+clean(f.Name), fmt.Sprintf("the entry cannot be read: %v", err))
	return nil
}

// boundedAt lets a zip's directory be read up to a limit; afterwards (left < 0) it does not count.
type boundedAt struct {
	r    io.ReaderAt
	left int
}

func (b *boundedAt) ReadAt(p []byte, off int64) (int, error) {
	if b.left >= 0 {
		if b.left -= len(p); b.left < 0 {
			return 0, fmt.Errorf("its directory is larger than %d bytes", maxDirectory)
		}
	}
	return b.r.ReadAt(p, off)
}
