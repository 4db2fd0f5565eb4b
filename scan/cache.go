package scan

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bulkhead/image"
)

// DefaultCacheBytes is how much a cache keeps: the layers of some hundred images.
const DefaultCacheBytes = 512 << 20

// Cache keeps records of layers in a directory, so that a layer that many images share is looked at once. Any number
// of scans may use one at the same time, in any number of processes: entries are written whole or not at all, and what
// is not as it was written is not there. A nil Cache keeps nothing.
type Cache struct {
	dir   string
	limit int64
}

// OpenCache makes the directory where it is missing. The cache keeps at most limit bytes, or [DefaultCacheBytes].
func OpenCache(dir string, limit int64) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of layers: %w; name another place with --cache, or do without with --no-cache", err)
	}
	if limit <= 0 {
		limit = DefaultCacheBytes
	}
	return &Cache{dir: dir, limit: limit}, nil
}

// cacheFormat is raised when records are written otherwise.
const cacheFormat = "bulkhead layer 2\n"

// cacheKey is everything that an answer depends on beside the layer.
func (s *Scanner) cacheKey() []byte {
	h := sha256.New()
	fmt.Fprint(h, cacheFormat)
	for _, a := range s.analyzers {
		fmt.Fprintf(h, "%s %d %s\n", a.Name, a.Version, a.Kind)
	}
	fmt.Fprintf(h, "%s\n", s.brought())
	return h.Sum(nil)
}

func (c *Cache) path(key []byte, diffID string) string {
	h := sha256.New()
	h.Write(key)
	h.Write([]byte(diffID))
	return filepath.Join(c.dir, hex.EncodeToString(h.Sum(nil))+entryExt)
}

const entryExt = ".layer"

// known returns what was kept of a layer, or nil. An answer about the DiffID is one about this layer, whoever says that
// it is the layer's: an engine refuses an image in which it is not.
func (c *Cache) known(key []byte, layer *image.Layer) *record {
	r := c.load(key, layer.DiffID)
	if r == nil && layer.Unproved {
		r = c.load(key, keptUnder(layer))
	}
	return r
}

// keptUnder is what names an answer about the layer: its DiffID, or the bytes that were seen where they were not held
// against it. It is empty where nobody can tell whether they are the same the next time.
func keptUnder(layer *image.Layer) string {
	if !layer.Unproved {
		return layer.DiffID
	}
	if layer.Source == nil {
		return ""
	}
	if source := layer.Source(); source != "" {
		return layer.DiffID + " " + source
	}
	return ""
}

// load returns the record of a layer, or nil.
func (c *Cache) load(key []byte, diffID string) *record {
	if c == nil || diffID == "" {
		return nil
	}
	name := c.path(key, diffID)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	r, err := decode(b)
	if err != nil {
		_ = os.Remove(name)
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // used lately; what is not goes first
	return r
}

// save keeps a record. A cache that cannot be written costs time at the next scan and nothing else.
func (c *Cache) save(key []byte, diffID string, r *record) {
	if c == nil || diffID == "" {
		return
	}
	b, err := encode(r)
	if err != nil || int64(len(b)) > c.limit/4 {
		return
	}
	if writeWhole(c.path(key, diffID), b) == nil {
		c.trim()
	}
}

func writeWhole(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// abandoned is when a file that was never finished may go.
const abandoned = time.Hour

// trim removes what was not used for the longest time, down to nine tenths of the limit.
func (c *Cache) trim() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var kept []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
		case strings.HasPrefix(e.Name(), "new-") && time.Since(info.ModTime()) > abandoned:
			_ = os.Remove(filepath.Join(c.dir, e.Name()))
		case filepath.Ext(e.Name()) == entryExt:
			kept, total = append(kept, info), total+info.Size()
		}
	}
	if total <= c.limit {
		return
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, info := range kept {
		if total <= c.limit/10*9 {
			return
		}
		if os.Remove(filepath.Join(c.dir, info.Name())) == nil {
			total -= info.Size()
		}
	}
}

// An entry is the format's name, the SHA-256 of what follows, and then parts, each behind its length: the record as
// JSON, its entries, and what packages own.

func encode(r *record) ([]byte, error) {
	facts, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, len(cacheFormat)+sha256.Size, len(cacheFormat)+sha256.Size+len(facts)+8*len(r.entries)+64)
	copy(b, cacheFormat)
	b = appendBytes(b, facts)
	b = appendMarks(b, r.entries)
	b = binary.AppendUvarint(b, uint64(len(r.owned)))
	for _, o := range r.owned {
		b = appendBytes(b, []byte(o.by))
		b = appendBytes(b, []byte(o.name))
		b = appendMarks(b, o.marks)
	}
	sum := sha256.Sum256(b[len(cacheFormat)+sha256.Size:])
	copy(b[len(cacheFormat):], sum[:])
	return b, nil
}

func appendBytes(b, part []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

func appendMarks(b []byte, marks []mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = binary.LittleEndian.AppendUint64(b, uint64(m))
	}
	return b
}

var errEntry = errors.New("not an entry of this cache")

func decode(b []byte) (*record, error) {
	b, ok := bytes.CutPrefix(b, []byte(cacheFormat))
	if !ok || len(b) < sha256.Size {
		return nil, errEntry
	}
	if sum := sha256.Sum256(b[sha256.Size:]); !bytes.Equal(sum[:], b[:sha256.Size]) {
		return nil, errEntry
	}
	d := decoder{rest: b[sha256.Size:]}
	r := &record{}
	facts := d.bytes()
	r.entries = d.marks()
	for range d.count(3) {
		r.owned = append(r.owned, owned{by: string(d.bytes()), name: string(d.bytes()), marks: d.marks()})
	}
	if d.broken {
		return nil, errEntry
	}
	return r, json.Unmarshal(facts, r)
}

// decoder reads parts; what it reads after something broken is empty.
type decoder struct {
	rest   []byte
	broken bool
}

// count reads how many things follow that have so many bytes at least.
func (d *decoder) count(size int) int {
	n, used := binary.Uvarint(d.rest)
	if used <= 0 || n > uint64((len(d.rest)-used)/size) {
		d.broken, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[used:]
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(1)
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) marks() []mark {
	marks := make([]mark, d.count(8))
	for i := range marks {
		marks[i] = mark(binary.LittleEndian.Uint64(d.rest[8*i:]))
	}
	d.rest = d.rest[8*len(marks):]
	return marks
}
