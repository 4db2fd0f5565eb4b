package sign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// The bounds of a cache.
const (
	maxCacheBytes   = 256 << 20
	maxCacheEntries = 20_000 // of images and of tags, some 10 KB each
	// tagKept is how long a tag's last answer may stand in for a registry that is away.
	tagKept = 24 * time.Hour
	// sweepEvery is after how many writes the bounds are looked at.
	sweepEvery = 64
)

// Cache keeps what was attached to images, by their digest, so that verdicts survive a registry that is away. It is a
// directory of files; nothing in it is believed: it is proved again each time. A nil Cache keeps nothing.
type Cache struct {
	dir    string
	mutex  sync.Mutex
	writes int
}

// OpenCache opens a cache in a directory, which is made where it is not there.
func OpenCache(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the cache of attestations: %w", err)
	}
	c := &Cache{dir: dir}
	c.sweep(maxCacheBytes, maxCacheEntries)
	return c, nil
}

// kept is a file of the cache.
type kept struct {
	Version  string    `json:"version"`
	Key      string    `json:"key"` // digest or tag, so that a file that was moved is not taken for another's
	At       time.Time `json:"at"`
	Digest   string    `json:"digest,omitempty"` // of a tag
	Evidence *Evidence `json:"evidence,omitempty"`
}

const cacheVersion = "bulkhead/attestations/v1"

func (c *Cache) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:])+".json")
}

// load returns what is kept of an image, when these kinds of attestations were looked for.
func (c *Cache) load(digest string, types []string) (Evidence, time.Time, bool) {
	k, ok := c.read(digest)
	if !ok || k.Evidence == nil || slices.ContainsFunc(types, func(t string) bool { return !slices.Contains(k.Evidence.Types, t) }) {
		return Evidence{}, time.Time{}, false
	}
	return *k.Evidence, k.At, true
}

func (c *Cache) store(digest string, e Evidence, now time.Time) {
	c.write(kept{Key: digest, At: now, Evidence: &e})
}

func (c *Cache) loadTag(name string, now time.Time) (string, time.Time, bool) {
	k, ok := c.read("tag " + name)
	if !ok || !strings.HasPrefix(k.Digest, "sha256:") || now.Sub(k.At) > tagKept {
		return "", time.Time{}, false
	}
	return k.Digest, k.At, true
}

func (c *Cache) storeTag(name, digest string, now time.Time) {
	c.write(kept{Key: "tag " + name, At: now, Digest: digest})
}

// read reads one file. What cannot be read is as if it were not there.
func (c *Cache) read(key string) (k kept, ok bool) {
	if c == nil {
		return k, false
	}
	raw, err := readBounded(c.path(key), maxCacheBytes)
	if err != nil || json.Unmarshal(raw, &k) != nil || k.Version != cacheVersion || k.Key != key {
		return kept{}, false
	}
	return k, true
}

// write replaces one file whole or not at all. A full disk costs speed and nothing else, so that nobody is told.
func (c *Cache) write(k kept) {
	if c == nil {
		return
	}
	k.Version = cacheVersion
	raw, err := json.Marshal(k)
	if err != nil || len(raw) > maxCacheBytes/4 {
		return
	}
	_ = replaceFile(c.path(k.Key), raw)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.writes++; c.writes%sweepEvery == 0 {
		c.sweep(maxCacheBytes, maxCacheEntries)
	}
}

func replaceFile(name string, raw []byte) error {
	file, err := os.CreateTemp(filepath.Dir(name), "new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(raw)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// tags are the last answers which image a tag is.
type tags struct {
	mutex   sync.Mutex
	by      map[string]tagged
	flights singleflight.Group
}

type tagged struct {
	digest string
	notes  []string
	at     time.Time
}

// resolve lets those who ask for the same tag within a moment share one answer.
func (v *Verifier) resolve(ctx context.Context, reference string) (string, []string, error) {
	t := &v.tags
	t.mutex.Lock()
	have, ok := t.by[reference]
	t.mutex.Unlock()
	if age := v.opt.Now().Sub(have.at); ok && age >= 0 && age < v.opt.TagFresh {
		return have.digest, slices.Clone(have.notes), nil
	}
	answer := t.flights.DoChan(reference, func() (any, error) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.opt.Timeout)
		defer cancel()
		digest, notes, err := v.source.Resolve(own, reference)
		if err != nil {
			return nil, err
		}
		got := tagged{digest, notes, v.opt.Now()}
		t.put(reference, got)
		return got, nil
	})
	select {
	case a := <-answer:
		if a.Err != nil {
			return "", nil, a.Err
		}
		got := a.Val.(tagged)
		return got.digest, slices.Clone(got.notes), nil
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
}

func (t *tags) put(reference string, got tagged) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.by == nil || len(t.by) >= maxVerdicts {
		t.by = map[string]tagged{}
	}
	t.by[reference] = got
}

// sweep removes the oldest files until the bounds hold.
func (c *Cache) sweep(bytes int64, entries int) {
	list, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	for _, entry := range list {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	total := int64(0)
	for i, f := range files {
		if total += f.Size(); total > bytes || i >= entries {
			_ = os.Remove(filepath.Join(c.dir, f.Name()))
		}
	}
}

// verdicts are the last verdicts, in memory: a burst of the same image is one judgment. They last a moment, because ages
// grow and tags move.
type verdicts struct {
	mutex sync.Mutex
	by    map[string]verdict
}

type verdict struct {
	Result
	at time.Time
}

const (
	verdictGood = 30 * time.Second
	verdictBad  = 2 * time.Second // whoever signs now wants to go on
	maxVerdicts = 10_000          // of some 2 KB each
)

func (v *verdicts) get(key string, now time.Time) (Result, bool) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	one, ok := v.by[key]
	lasts := verdictGood
	if !one.satisfied() {
		lasts = verdictBad
	}
	if age := now.Sub(one.at); !ok || age < 0 || age > lasts {
		return Result{}, false
	}
	return one.Result, true
}

func (v *verdicts) put(key string, r Result, now time.Time) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	if v.by == nil {
		v.by = map[string]verdict{}
	}
	if len(v.by) >= maxVerdicts {
		clear(v.by) // all of them are made again within a moment
	}
	v.by[key] = verdict{r, now}
}
