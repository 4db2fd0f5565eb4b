package vuln

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// ErrMissing says that there is no database yet.
var ErrMissing = errors.New("there is no vulnerability database: build one with `bulkhead db import` or `bulkhead db update`")

// DB is an open database. It is safe for use by many at once.
type DB struct {
	file   io.ReaderAt
	close  func() error
	size   int64
	status Status
	toc    *contents
	blocks []byte // lines of lineSize
	index  []byte // entries of entrySize

	mu     sync.Mutex
	opener *zstd.Decoder
	kept   map[uint32]*keptBlock
	clock  uint64
	bytes  int
	known  *factTable
}

type keptBlock struct {
	text string
	used uint64
}

// maxKept bounds the blocks that are held unpacked: enough for the packages of one image to share them.
const maxKept = 16 << 20

// Open opens a database. Where there is none, the error is [ErrMissing].
func Open(path string) (*DB, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", path, ErrMissing)
	}
	if err != nil {
		return nil, fmt.Errorf("open the vulnerability database: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is no regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the vulnerability database %s: %w", path, err), f.Close())
	}
	db, err := openReader(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), f.Close())
	}
	db.close, db.status.Path = f.Close, path
	return db, nil
}

func openReader(f io.ReaderAt, size int64) (*DB, error) {
	c, err := readContents(f, size)
	if err != nil {
		return nil, err
	}
	db := &DB{file: f, size: size, status: c.Status, toc: c, kept: map[uint32]*keptBlock{}, close: func() error { return nil }}
	db.status.Size, db.status.Schema = size, Schema
	if db.blocks, err = readSection(f, size, c.Sections["blocks"], lineSize); err != nil {
		return nil, err
	}
	if db.index, err = readSection(f, size, c.Sections["index"], entrySize); err != nil {
		return nil, err
	}
	db.opener, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
	return db, err
}

// Close closes the file. What was matched stays valid.
func (db *DB) Close() error {
	db.opener.Close()
	return db.close()
}

// Status tells what is in the database.
func (db *DB) Status() Status { return db.status }

// Verify reads the whole file and checks every checksum. It takes a quarter of a second for the public feeds.
func (db *DB) Verify(ctx context.Context) error {
	for i := range len(db.blocks) / lineSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := db.read(uint32(i)); err != nil {
			return err
		}
	}
	_, err := db.facts()
	return err
}

// block returns a block unpacked, which is kept for the next one who wants it.
func (db *DB) block(n uint32) (string, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.clock++
	if k := db.kept[n]; k != nil {
		k.used = db.clock
		return k.text, nil
	}
	text, err := db.read(n)
	if err != nil {
		return "", err
	}
	db.bytes += len(text)
	db.kept[n] = &keptBlock{text, db.clock}
	for db.bytes > maxKept && len(db.kept) > 1 {
		db.forget()
	}
	return text, nil
}

// forget drops the block that was not used for the longest time. There are some 250 at most: looking at all is cheap
// beside unpacking one.
func (db *DB) forget() {
	oldest, at := db.clock+1, uint32(0)
	for n, k := range db.kept {
		if k.used < oldest {
			oldest, at = k.used, n
		}
	}
	db.bytes -= len(db.kept[at].text)
	delete(db.kept, at)
}

// read reads and unpacks a block.
func (db *DB) read(n uint32) (string, error) {
	if int(n) >= len(db.blocks)/lineSize {
		return "", errDamaged
	}
	line := db.blocks[int(n)*lineSize:]
	at := binary.LittleEndian.Uint64(line)
	packed, length, sum := binary.LittleEndian.Uint32(line[8:]), binary.LittleEndian.Uint32(line[12:]), binary.LittleEndian.Uint32(line[16:])
	if packed > maxBlock || length > maxBlock || at > uint64(db.size) || uint64(packed) > uint64(db.size)-at {
		return "", errDamaged
	}
	data := make([]byte, packed)
	if _, err := db.file.ReadAt(data, int64(at)); err != nil {
		return "", fmt.Errorf("read the vulnerability database: %w", err)
	}
	if crc32.Checksum(data, checksum) != sum {
		return "", errDamaged
	}
	text, err := db.opener.DecodeAll(data, make([]byte, 0, length))
	if err != nil || len(text) != int(length) {
		return "", errDamaged
	}
	return string(text), nil
}

// at returns the rest of a block from a place on.
func (db *DB) at(p place) (string, error) {
	text, err := db.block(p.block)
	if err != nil {
		return "", err
	}
	if int(p.offset) > len(text) {
		return "", errDamaged
	}
	return text[p.offset:], nil
}

// places calls yield with each place where the value of a name may lie; the value says whether it is that name's.
func (db *DB) places(ecosystem, name string, yield func(place)) {
	hash := hashName(ecosystem, name)
	n := len(db.index) / entrySize
	i := sort.Search(n, func(i int) bool { return binary.LittleEndian.Uint64(db.index[i*entrySize:]) >= hash })
	for ; i < n && binary.LittleEndian.Uint64(db.index[i*entrySize:]) == hash; i++ {
		e := db.index[i*entrySize+8:]
		yield(place{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])})
	}
}

// value returns the value of a name, behind the name.
func (db *DB) value(ecosystem, name string) (in reader, ok bool, err error) {
	db.places(ecosystem, name, func(at place) {
		var text string
		if text, err = db.at(at); err != nil || ok {
			return
		}
		in = reader{s: text}
		ok = in.text() == ecosystem && in.text() == name
	})
	return in, ok && err == nil, err
}

// facts returns the table of CVEs, which is read when it is first needed.
func (db *DB) facts() (*factTable, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.known == nil {
		rows, err := readSection(db.file, db.size, db.toc.Sections["facts"], factSize)
		if err != nil {
			return nil, err
		}
		db.known = &factTable{rows, db.toc.Vectors}
	}
	return db.known, nil
}
