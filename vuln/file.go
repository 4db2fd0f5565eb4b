package vuln

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// The file: a head of fixed size, blocks of values (compressed, each with its checksum), sections (the list of blocks,
// the index of names, the facts of CVEs), and a table of contents in JSON that the head points to. A reader holds the
// index in memory and reads blocks as it needs them.
const (
	magic     = "bulkvuln"
	headSize  = 48
	blockSize = 64 << 10 // values are collected up to this size before they are compressed together
	entrySize = 16       // of the index
	lineSize  = 24       // of the list of blocks

	// The limits of a reader, several times what the public feeds need.
	maxContents = 16 << 20
	maxBlocks   = 1 << 20
	maxBlock    = 64 << 20
	maxSection  = 1 << 30
)

var checksum = crc32.MakeTable(crc32.Castagnoli)

// contents is the table of contents.
type contents struct {
	Status   Status             `json:"status"`
	Sections map[string]section `json:"sections"`
	Vectors  []string           `json:"vectors"`
}

type section struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Sum    uint32 `json:"sum"`
}

// place is where a value lies.
type place struct{ block, offset uint32 }

// writer writes a database beside its final place and puts it there when it is whole.
type writer struct {
	file    *os.File
	out     *bufio.Writer
	path    string
	at      int64
	packer  *zstd.Encoder
	pending []byte
	blocks  []byte
	count   uint32
	index   []indexEntry
}

type indexEntry struct {
	hash uint64
	at   place
}

func newWriter(path string) (*writer, error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".vuln-*")
	if err != nil {
		return nil, fmt.Errorf("write the vulnerability database: %w", err)
	}
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("write the vulnerability database: %w", err), f.Close(), os.Remove(f.Name()))
	}
	w := &writer{file: f, out: bufio.NewWriterSize(f, 1<<20), path: path, packer: packer}
	return w, w.write(make([]byte, headSize))
}

func (w *writer) write(b []byte) error {
	n, err := w.out.Write(b)
	w.at += int64(n)
	if err != nil {
		return fmt.Errorf("write the vulnerability database: %w", err)
	}
	return nil
}

// add puts one value into the block that is being filled.
func (w *writer) add(value []byte) (place, error) {
	if len(w.pending) > 0 && len(w.pending)+len(value) > blockSize {
		if err := w.flush(); err != nil {
			return place{}, err
		}
	}
	p := place{w.count, uint32(len(w.pending))}
	w.pending = append(w.pending, value...)
	return p, nil
}

// flush compresses and writes the block that is being filled.
func (w *writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	packed := w.packer.EncodeAll(w.pending, nil)
	w.blocks = binary.LittleEndian.AppendUint64(w.blocks, uint64(w.at))
	w.blocks = binary.LittleEndian.AppendUint32(w.blocks, uint32(len(packed)))
	w.blocks = binary.LittleEndian.AppendUint32(w.blocks, uint32(len(w.pending)))
	w.blocks = binary.LittleEndian.AppendUint32(w.blocks, crc32.Checksum(packed, checksum))
	w.blocks = binary.LittleEndian.AppendUint32(w.blocks, 0)
	w.count++
	w.pending = w.pending[:0]
	return w.write(packed)
}

// name lets a value be found by a name.
func (w *writer) name(hash uint64, at place) { w.index = append(w.index, indexEntry{hash, at}) }

func (w *writer) section(data []byte) (section, error) {
	s := section{w.at, int64(len(data)), crc32.Checksum(data, checksum)}
	return s, w.write(data)
}

// finish writes sections, contents and head, and puts the file into its place at once: whoever has the old one open
// goes on with that.
func (w *writer) finish(status Status, known []byte, vectors []string) error {
	err := w.flush()
	c := contents{Status: status, Sections: map[string]section{}, Vectors: vectors}
	for _, s := range []struct {
		name string
		data []byte
	}{{"blocks", w.blocks}, {"index", w.encodeIndex()}, {"facts", known}} {
		if err == nil {
			c.Sections[s.name], err = w.section(s.data)
		}
	}
	if err != nil {
		return err
	}
	toc, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write the vulnerability database: %w", err)
	}
	at := w.at
	if err := w.write(toc); err != nil {
		return err
	}
	return w.place(encodeHead(at, toc, w.at))
}

func (w *writer) place(head []byte) error {
	err := w.out.Flush()
	if err == nil {
		_, err = w.file.WriteAt(head, 0)
	}
	if err := errors.Join(err, w.file.Chmod(0o644), w.file.Sync(), w.file.Close()); err != nil {
		return fmt.Errorf("write the vulnerability database: %w", err)
	}
	if err := os.Rename(w.file.Name(), w.path); err != nil {
		return fmt.Errorf("put the vulnerability database in its place: %w", err)
	}
	return syncDirectory(filepath.Dir(w.path))
}

// abandon removes what was written so far. After finish it does nothing.
func (w *writer) abandon() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("put the vulnerability database in its place: %w", err)
	}
	defer d.Close()
	_ = d.Sync() // not every file system can; the rename is done all the same
	return nil
}

func (w *writer) encodeIndex() []byte {
	slices.SortFunc(w.index, func(a, b indexEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at.block, b.at.block), cmp.Compare(a.at.offset, b.at.offset))
	})
	b := make([]byte, 0, len(w.index)*entrySize)
	for _, e := range w.index {
		b = binary.LittleEndian.AppendUint64(b, e.hash)
		b = binary.LittleEndian.AppendUint32(b, e.at.block)
		b = binary.LittleEndian.AppendUint32(b, e.at.offset)
	}
	return b
}

func encodeHead(at int64, toc []byte, size int64) []byte {
	b := append(make([]byte, 0, headSize), magic...)
	b = binary.LittleEndian.AppendUint32(b, Schema)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(toc, checksum))
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(toc)))
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, checksum))
}

// hashName is FNV-1a over the ecosystem, a zero and the name. Equal hashes are told apart by the names in the values.
func hashName(ecosystem, name string) uint64 {
	const prime = 1099511628211
	h := uint64(14695981039346656037)
	for i := 0; i < len(ecosystem); i++ {
		h = (h ^ uint64(ecosystem[i])) * prime
	}
	h *= prime
	for i := 0; i < len(name); i++ {
		h = (h ^ uint64(name[i])) * prime
	}
	return h
}

// readContents reads and checks head and table of contents of a file of the given size.
func readContents(f io.ReaderAt, size int64) (*contents, error) {
	head := make([]byte, headSize)
	if n, err := f.ReadAt(head, 0); n < len(magic)+4 || string(head[:len(magic)]) != magic {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errors.New("is no vulnerability database of Bulkhead: name another file with --db, or build one with `bulkhead db import`")
	}
	if err := checkSchema(binary.LittleEndian.Uint32(head[8:])); err != nil {
		return nil, err
	}
	at, length := binary.LittleEndian.Uint64(head[16:]), binary.LittleEndian.Uint64(head[24:])
	if crc32.Checksum(head[:headSize-4], checksum) != binary.LittleEndian.Uint32(head[headSize-4:]) {
		return nil, errDamaged
	}
	if want := binary.LittleEndian.Uint64(head[32:]); want != uint64(size) {
		return nil, fmt.Errorf("has %d bytes and should have %d, as after a copy that was cut off: copy it again, or build it with `bulkhead db import`", size, want)
	}
	if length > maxContents || at > uint64(size) || at+length > uint64(size) {
		return nil, errDamaged
	}
	toc := make([]byte, length)
	if _, err := f.ReadAt(toc, int64(at)); err != nil {
		return nil, err
	}
	var c contents
	if crc32.Checksum(toc, checksum) != binary.LittleEndian.Uint32(head[12:]) || json.Unmarshal(toc, &c) != nil {
		return nil, errDamaged
	}
	return &c, nil
}

func checkSchema(schema uint32) error {
	switch {
	case schema < Schema:
		return fmt.Errorf("has format %d, from an older Bulkhead; this one needs %d: build it again with `bulkhead db import` or `bulkhead db update`", schema, Schema)
	case schema > Schema:
		return fmt.Errorf("has format %d, from a newer Bulkhead; this one reads %d: update Bulkhead, or build the database with this one (`bulkhead db import`)", schema, Schema)
	}
	return nil
}

// readSection reads a section whole and checks it.
func readSection(f io.ReaderAt, size int64, s section, unit int64) ([]byte, error) {
	if s.Offset < 0 || s.Length < 0 || s.Length > maxSection || s.Offset > size || s.Length > size-s.Offset || s.Length%unit != 0 {
		return nil, errDamaged
	}
	data := make([]byte, s.Length)
	if _, err := f.ReadAt(data, s.Offset); err != nil {
		return nil, fmt.Errorf("read the vulnerability database: %w", err)
	}
	if crc32.Checksum(data, checksum) != s.Sum {
		return nil, errDamaged
	}
	return data, nil
}
