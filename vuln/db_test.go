package vuln

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestImport(t *testing.T) {
	db := open(t, build(t))
	s := db.Status()
	if s.Records != 13 || s.KEV != 1 || s.EPSS != 2 || s.Products != 2 || len(s.Sources) != 12 {
		t.Errorf("records %d, kev %d, epss %d, products %d, sources %d", s.Records, s.KEV, s.EPSS, s.Products, len(s.Sources))
	}
	want := Left{Withdrawn: 1, Twice: 1, NoSecurity: 1, Bad: 1}
	if diff := cmp.Diff(want, s.Left, cmpopts.IgnoreFields(Left{}, "Problems")); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if len(s.Left.Problems) != 1 || !strings.Contains(s.Left.Problems[0], "osv/PyPI/all.zip: bad.json: is no OSV record") {
		t.Errorf("problems %q", s.Left.Problems)
	}
	if s.Data.Format(time.DateOnly) != "2026-08-20" {
		t.Errorf("data of %s: a record from 2027 counts, or the newest does not", s.Data)
	}
	if !s.Stale(now, 0) || s.Stale(now, 100*24*time.Hour) || s.Age(now) != "97 days" {
		t.Errorf("age %s", s.Age(now))
	}
	if err := db.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestImportTwice: the same feeds make the same file, whatever order the processors had.
func TestImportTwice(t *testing.T) {
	root := feeds(t)
	var files [2][]byte
	for i := range files {
		dst := filepath.Join(t.TempDir(), "db")
		if _, err := Import(t.Context(), dst, []string{root}, ImportOptions{Now: func() time.Time { return now }}); err != nil {
			t.Fatal(err)
		}
		files[i], _ = os.ReadFile(dst)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two imports of the same feeds differ")
	}
}

func TestImportRefuses(t *testing.T) {
	root := feeds(t)
	put(t, filepath.Join(root, "broken.zip"), []byte("PK\x03\x04 cut off"))
	dst := filepath.Join(t.TempDir(), "db")
	put(t, dst, []byte("the old one"))
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"missing":    {[]string{filepath.Join(root, "nothing")}, "no such file"},
		"no feed":    {[]string{filepath.Join(root, "attack/matrix.json")}, "is no feed: give all.zip"},
		"empty":      {[]string{filepath.Join(root, "attack")}, "look for feeds: none in"},
		"no archive": {[]string{filepath.Join(root, "kev")}, "add the all.zip files"},
		"broken":     {[]string{filepath.Join(root, "broken.zip")}, "fetch it again"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Import(t.Context(), dst, c.paths, ImportOptions{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Import(ctx, dst, []string{root}, ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, _ := os.ReadFile(dst); string(left) != "the old one" {
		t.Error("an import that failed has touched the old database")
	}
	if names, _ := filepath.Glob(filepath.Join(filepath.Dir(dst), ".*")); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}
}

// head changes the head of a database and makes its checksum right again.
func head(data []byte, change func([]byte)) []byte {
	data = bytes.Clone(data)
	change(data)
	binary.LittleEndian.PutUint32(data[headSize-4:], crc32.Checksum(data[:headSize-4], checksum))
	return data
}

func TestOpenRefuses(t *testing.T) {
	whole, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		data := bytes.Clone(whole)
		data[at] ^= 0x40
		return data
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":      {nil, "no vulnerability database of Bulkhead"},
		"other file": {bytes.Repeat([]byte("SQLite format 3\x00"), 100), "no vulnerability database of Bulkhead"},
		"cut off":    {whole[:len(whole)-100], "cut off"},
		"cut early":  {whole[:20], "build it again"},
		"longer":     {append(bytes.Clone(whole), 0), "copy it again"},
		"older":      {head(whole, func(b []byte) { b[8] = 0 }), "from an older Bulkhead"},
		"newer":      {head(whole, func(b []byte) { b[8] = 99 }), "from a newer Bulkhead"},
		"head":       {flip(20), "damaged"},
		"contents":   {flip(len(whole) - 5), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			put(t, path, c.data)
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bulkhead db") && name != "longer" {
				t.Errorf("error %v, want %q and the next step", err, c.want)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrMissing) {
		t.Errorf("missing: %v", err)
	}
	// A block is checked when it is read.
	path := filepath.Join(t.TempDir(), "db")
	put(t, path, flip(headSize+10))
	if err := open(t, path).Verify(t.Context()); !errors.Is(err, errDamaged) {
		t.Errorf("damaged block: %v", err)
	}
}

func TestEndOfLife(t *testing.T) {
	db := open(t, build(t))
	for _, c := range []struct {
		product, version, cycle string
		over                    bool
	}{
		{"debian", "12", "12", true}, {"debian", "11.4", "11", true}, {"python", "3.8.1", "3.8", true}, {"python", "3.80", "3", false}, {"debian", "120", "", false}, {"perl", "5", "", false},
	} {
		got, ok, err := db.EndOfLife(c.product, c.version)
		if err != nil || ok != (c.cycle != "") || got.Name != c.cycle || got.Over(now) != c.over {
			t.Errorf("%s %s: %+v %v %v", c.product, c.version, got, ok, err)
		}
	}
}

// FuzzOpen: whatever the file, there is an answer or an error.
func FuzzOpen(f *testing.F) {
	whole, err := os.ReadFile(build(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, 0, byte(0))
	f.Add(whole, headSize+3, byte(7))
	f.Fuzz(func(t *testing.T, data []byte, at int, to byte) {
		if len(data) > 1<<20 {
			return
		}
		data = bytes.Clone(data)
		if at >= 0 && at < len(data) {
			data[at] = to
		}
		if len(data) >= headSize { // get past the first door
			data = head(data, func([]byte) {})
		}
		db, err := openReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		defer db.Close()
		_ = db.Verify(t.Context())
		_, _ = db.Match(debian12, everything, Options{})
		_, _, _ = db.EndOfLife("python", "3.8.1")
	})
}

// FuzzEntry reads what lies in a block as if its checksum were right.
func FuzzEntry(f *testing.F) {
	a := affected{ranges: [][]event{{{introduced, "0"}, {lastAffected, "1"}}}, versions: []string{"2"}, modules: []string{"a:1"}}
	f.Add(string(encodeAffected(&a)), "1.0")
	f.Add(string(encodeRecord(&record{id: "X", aliases: []string{"Y"}, urls: []string{"https://x"}})), "1")
	f.Fuzz(func(t *testing.T, text, v string) {
		_, _ = decodeRecord(text)
		in := reader{s: text}
		evaluate(&in, &question{target: target{version: v, order: 1}})
	})
}
