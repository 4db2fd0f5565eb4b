package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// lists reads "db/…" as a package database (name version, a line each), "own/NAME" as the files of the package NAME.
func lists(looked *atomic.Int64) look.Analyzer {
	return look.Analyzer{
		Name: "lists", Version: 1, Kind: look.Packages,
		Wants: func(f *image.File) bool {
			return f.Kind == image.Regular && (strings.HasPrefix(f.Path, "db") || strings.HasPrefix(f.Path, "own/"))
		},
		Look: func(_ context.Context, f *image.File) (look.Facts, error) {
			looked.Add(1)
			b, err := f.Bytes(1 << 20)
			if err != nil {
				return look.Facts{}, err
			}
			if strings.HasPrefix(f.Path, "own/") {
				return look.Facts{Owned: map[string][]string{path.Base(f.Path): strings.Fields(string(b))}}, nil
			}
			var facts look.Facts
			for line := range strings.Lines(string(b)) {
				name, version, ok := strings.Cut(strings.TrimSpace(line), " ")
				if !ok {
					return facts, fmt.Errorf("line %q has no version", line)
				}
				facts.Packages = append(facts.Packages, bulkhead.Package{Name: name, Version: version, Type: "pypi", PURL: "pkg:pypi/" + name + "@" + version})
			}
			return facts, nil
		},
	}
}

// words finds secrets and web shells by a word.
func words() look.Analyzer {
	return look.Analyzer{
		Name: "words", Version: 1, Kind: look.Secret,
		Wants: func(f *image.File) bool { return f.Kind == image.Regular && path.Ext(f.Path) == ".txt" },
		Look: func(_ context.Context, f *image.File) (facts look.Facts, err error) {
			b, err := f.Bytes(1 << 20)
			for i, line := range strings.Split(string(b), "\n") {
				switch {
				case strings.Contains(line, "SECRET"):
					facts.Findings = append(facts.Findings, bulkhead.Finding{Kind: bulkhead.FindingSecret, Rule: "word", Severity: bulkhead.High, Line: i + 1, Message: "a word"})
				case strings.Contains(line, "SHELL"):
					facts.Findings = append(facts.Findings, bulkhead.Finding{Kind: bulkhead.FindingWebShell, Rule: "word", Severity: bulkhead.High, Line: i + 1, Message: "a shell"})
				case strings.Contains(line, "PANIC"):
					panic("out of range")
				}
			}
			return facts, err
		},
	}
}

func made(analyzers ...look.Analyzer) *Scanner {
	s := &Scanner{analyzers: analyzers, options: Options{Only: []look.Kind{look.Secret}}} // no database is missed
	s.key = s.cacheKey()
	return s
}

// entry makes a file from "path=content", a directory from "path/", a whiteout from "-path", an opaque directory from
// "!path", a link from "path->target" and a hard link from "path=>first".
func entry(s string) *image.File {
	switch {
	case strings.HasPrefix(s, "-"):
		return &image.File{Path: s[1:], Kind: image.Whiteout}
	case strings.HasPrefix(s, "!"):
		return &image.File{Path: s[1:], Kind: image.Opaque}
	case strings.HasSuffix(s, "/"):
		return &image.File{Path: s[:len(s)-1], Kind: image.Directory, Mode: 0o755}
	}
	if p, first, ok := strings.Cut(s, "=>"); ok {
		return &image.File{Path: p, Kind: image.HardLink, Link: first, Mode: 0o644}
	}
	if p, target, ok := strings.Cut(s, "->"); ok {
		return &image.File{Path: p, Kind: image.Symlink, Link: target}
	}
	p, content, _ := strings.Cut(s, "=")
	return image.Memory(p, fs.FileMode(0o644), []byte(content))
}

func imageOf(layers ...[]string) *image.Image {
	img := &image.Image{Target: "test"}
	for i, entries := range layers {
		info := bulkhead.LayerInfo{DiffID: fmt.Sprintf("sha256:%d", i), Base: i == 0}
		var files []*image.File
		for _, e := range entries {
			files = append(files, entry(e))
		}
		img.Layers = append(img.Layers, image.Made(info, files...))
	}
	return img
}

// summary is a report in short: "package name version @layer (owner)", "finding path:line @layer message".
func summary(r bulkhead.Report) []string {
	var list []string
	for _, p := range r.Packages {
		s := fmt.Sprintf("package %s %s %s @%s", p.Name, p.Version, p.Path, strings.TrimPrefix(p.Layer, "sha256:"))
		if p.Base {
			s += " base"
		}
		if p.Owner != "" {
			s += " of " + p.Owner
		}
		list = append(list, s)
	}
	for _, f := range r.Findings {
		list = append(list, fmt.Sprintf("%s %s:%d @%s %s", f.Kind, f.Path, f.Line, strings.TrimPrefix(f.Layer, "sha256:"), f.Message))
	}
	for _, o := range r.Incomplete {
		list = append(list, fmt.Sprintf("incomplete %s @%s %s", o.Path, strings.TrimPrefix(o.Layer, "sha256:"), o.Message))
	}
	return list
}

func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]string
		want   []string
	}{
		{"a database that is written again says which layer brought what", [][]string{{"db=a 1\nb 1\n"}, {"db=a 1\nb 2\n"}, {"db=a 1\nb 2\nc 1\n"}}, []string{"package a 1 db @0 base", "package b 2 db @1", "package c 1 db @2"}},
		{"a package that came back came with the layer that brought it back", [][]string{{"db=a 1\n"}, {"db="}, {"db=a 1\n"}}, []string{"package a 1 db @2"}},
		{"a file that was deleted and made again is new", [][]string{{"db/x=a 1\n"}, {"-db/x"}, {"db/x=a 1\n"}}, []string{"package a 1 db/x @2"}},
		{"deleted", [][]string{{"db/x=a 1\n", "db/y=b 1\n"}, {"-db/x"}}, []string{"package b 1 db/y @0 base"}},
		{"deleted with its directory", [][]string{{"db/p/x=a 1\n"}, {"-db"}}, nil},
		{"an opaque directory hides what is below it and not itself", [][]string{{"db/p/x=a 1\n", "dbq=q 1\n"}, {"!db", "db/y=b 1\n"}}, []string{"package b 1 db/y @1", "package q 1 dbq @0 base"}},
		{"an opaque root", [][]string{{"db=a 1\n"}, {"!.", "dbx=b 1\n"}}, []string{"package b 1 dbx @1"}},
		{"a whiteout is about lower layers alone", [][]string{{"db/x=a 1\n"}, {"db/x=b 1\n", "-db/x"}}, []string{"package b 1 db/x @1"}},
		{"a file in the place of a directory", [][]string{{"db/x=a 1\n"}, {"db=b 1\n"}}, []string{"package b 1 db @1"}},
		{"a link in the place of a directory", [][]string{{"db/x=a 1\n"}, {"db->/srv"}}, nil},
		{"a directory in the place of a file", [][]string{{"db=a 1\n"}, {"db/"}}, nil},
		{"a directory again is no change", [][]string{{"db/", "db/x=a 1\n"}, {"db/"}}, []string{"package a 1 db/x @0 base"}},
		{"a directory that no entry tells of, in the place of a file", [][]string{{"db=a 1\n"}, {"db/x=b 1\n"}}, []string{"package b 1 db/x @1"}},
		{"the last of two entries of a name counts", [][]string{{"db=a 1\n", "db=b 1\n"}}, []string{"package b 1 db @0 base"}},
		{"a hard link under a name that is looked at", [][]string{{"z=a 1\n", "db=>z"}}, []string{"package a 1 db @0 base"}},
		{"a hard link to what is looked at already", [][]string{{"db=a 1\n", "db2=>db"}}, []string{"package a 1 db @0 base"}},
		{"owned by a distribution package", [][]string{{"own/python3-a=lib/db/x db/x\n", "db/x=a 1\n"}}, []string{"package a 1 db/x @0 base of python3-a"}},
		{"no longer owned when another layer wrote over it", [][]string{{"own/python3-a=db/x\n", "db/x=a 1\n"}, {"db/x=a 2\n"}}, []string{"package a 2 db/x @1"}},
		{"owned again when the distribution's package came again", [][]string{{"own/python3-a=db/x\n", "db/x=a 1\n"}, {"db/x=a 2\n", "own/python3-a=db/x\n"}}, []string{"package a 2 db/x @1 of python3-a"}},
		{"not owned by a package that went", [][]string{{"own/python3-a=db/x\n", "db/x=a 1\n"}, {"-own/python3-a"}}, []string{"package a 1 db/x @0 base"}},
		{"a secret that was deleted is still there", [][]string{{"s.txt=\nSECRET\n"}, {"-s.txt"}}, []string{"secret s.txt:2 @0 a word (deleted in a later layer, still in the image)"}},
		{"a secret that was replaced is still there", [][]string{{"s.txt=SECRET"}, {"s.txt=gone"}}, []string{"secret s.txt:1 @0 a word (replaced in a later layer, still in the image)"}},
		{"a secret that stays is told once, by its first layer", [][]string{{"s.txt=SECRET"}, {"s.txt=SECRET\nmore"}}, []string{"secret s.txt:1 @0 a word"}},
		{"a web shell that was deleted does no harm", [][]string{{"s.txt=SHELL"}, {"-s.txt"}}, nil},
		{"what a distribution ships is no secret", [][]string{{"own/a=doc/s.txt\n", "doc/s.txt=SECRET"}}, nil},
		{"what a distribution ships and another layer deletes is none either", [][]string{{"own/a=doc/s.txt\n", "doc/s.txt=SECRET"}, {"-doc/s.txt"}}, nil},
		{"a secret in the place of what a distribution ships", [][]string{{"own/a=doc/s.txt\n", "doc/s.txt=nothing"}, {"doc/s.txt=SECRET"}}, []string{"secret doc/s.txt:1 @1 a word"}},
		{"a distribution's configuration is written by people", [][]string{{"own/a=etc/s.txt\n", "etc/s.txt=SECRET"}}, []string{"secret etc/s.txt:1 @0 a word"}},
		{"what is below a link that replaced a directory is where the link leads", [][]string{{"db/x=a 1\n"}, {"dbs/x=b 1\n", "db->dbs"}}, []string{"package b 1 dbs/x @1"}},
		{"a directory in the place of that link begins anew", [][]string{{"db/x=a 1\n"}, {"db->srv"}, {"db/y=c 1\n"}}, []string{"package c 1 db/y @2"}},
		{"where a link leads stays when the link goes", [][]string{{"dbs/x=a 1\n", "db->dbs"}, {"-db"}}, []string{"package a 1 dbs/x @0 base"}},
		{"a file that breaks an analyzer", [][]string{{"a.txt=PANIC", "b.txt=SECRET"}}, []string{"secret b.txt:1 @0 a word", "incomplete a.txt @0 this file broke the analyzer words: out of range; please report it"}},
		{"a database that cannot be read", [][]string{{"db=a"}}, []string{`incomplete db @0 line "a" has no version`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := made(lists(new(atomic.Int64)), words()).Scan(t.Context(), imageOf(c.layers...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, summary(r)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCache(t *testing.T) {
	var looked atomic.Int64
	dir := t.TempDir()
	s := made(lists(&looked), words())
	var err error
	if s.options.Cache, err = OpenCache(dir, 0); err != nil {
		t.Fatal(err)
	}
	layers := [][]string{{"db=a 1\n", "own/p=db/x usr/share/doc/p", "s.txt=SECRET"}, {"-s.txt", "db/x=b 1\n"}}
	scan := func() string {
		r, err := s.Scan(t.Context(), imageOf(layers...))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(r)
		return string(b)
	}
	first := scan()
	if n := looked.Load(); n != 3 {
		t.Fatalf("looked at %d files, want 3", n)
	}
	if second := scan(); second != first || looked.Load() != 3 {
		t.Errorf("from the cache: looked %d times; (-first +second):\n%s", looked.Load(), cmp.Diff(first, second))
	}
	layers = append(layers, []string{"db=a 1\nc 1\n"})
	scan()
	if n := looked.Load(); n != 4 {
		t.Errorf("one more layer: looked at %d files, want one more", n-3)
	}
	damage(t, dir)
	if got := scan(); !strings.Contains(got, `"c"`) || looked.Load() != 8 {
		t.Errorf("damaged entries: looked at %d files, want all 4 again: %s", looked.Load()-4, got)
	}
}

// TestUnproved: what was not held against its DiffID is known again only where the bytes are the same.
func TestUnproved(t *testing.T) {
	var looked atomic.Int64
	s := made(lists(&looked))
	var err error
	if s.options.Cache, err = OpenCache(t.TempDir(), 0); err != nil {
		t.Fatal(err)
	}
	for _, scan := range []struct {
		name     string
		unproved bool
		source   func() string
		looks    bool
	}{
		{"first", true, func() string { return "file 1" }, true},
		{"the same file", true, func() string { return "file 1" }, false},
		{"another file", true, func() string { return "file 2" }, true},
		{"a file that was changed lately", true, func() string { return "" }, true},
		{"again", true, func() string { return "" }, true},
		{"no file", true, nil, true},
		{"a file that changes meanwhile", true, func() string { return fmt.Sprint("file ", 10+looked.Load()) }, true},
		{"as it was at its start", true, func() string { return "file 16" }, true},
		{"proved", false, nil, true},
		{"proved before", false, nil, false},
		{"said to be what was proved", true, func() string { return "file 5" }, false},
	} {
		img := imageOf([]string{"db=a 1\n"})
		img.Layers[0].Unproved, img.Layers[0].Source = scan.unproved, scan.source
		before := looked.Load()
		if _, err := s.Scan(t.Context(), img); err != nil {
			t.Fatal(err)
		}
		if looks := looked.Load() > before; looks != scan.looks {
			t.Errorf("%s: looked: %v, want %v", scan.name, looks, scan.looks)
		}
	}
}

// damage changes one byte of every entry.
func damage(t *testing.T, dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"+entryExt))
	if len(names) == 0 {
		t.Fatal("the cache is empty")
	}
	for i, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[(i*37)%len(b)] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCache(dir, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "new-abandoned")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(old, then, then); err != nil {
		t.Fatal(err)
	}
	r := &record{entries: make([]mark, 200)}
	for i := range 50 {
		c.save(nil, fmt.Sprint(i), r)
	}
	var total int64
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, _ := e.Info()
		total += info.Size()
	}
	if total > 10_000 || total < 5_000 {
		t.Errorf("the cache has %d bytes, want nearly 10,000", total)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file that was never finished is still there")
	}
	if c.load(nil, "49") == nil {
		t.Error("the newest entry is gone")
	}
	c.save(nil, "large", &record{entries: make([]mark, 2000)})
	if c.load(nil, "large") != nil {
		t.Error("one entry that takes the whole cache was kept")
	}
}

func TestAnyOrderOfWorkIsTheSameReport(t *testing.T) {
	var layer []string
	for i := range 500 {
		layer = append(layer, fmt.Sprintf("db/%d=a %d\nb %d\n", i%97, i, i), fmt.Sprintf("%d.txt=SECRET\n\nSECRET %s", i, strings.Repeat("x", i*50)))
	}
	var first []byte
	for range 5 {
		r, err := made(lists(new(atomic.Int64)), words()).Scan(t.Context(), imageOf(layer, layer[:300], layer[200:]))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(r)
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			t.Fatal("two scans of the same image differ")
		}
	}
}

func TestTimeIsOver(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	r, err := made(words()).Scan(ctx, imageOf([]string{"s.txt=SECRET"}))
	if err != nil || len(r.Incomplete) != 1 || !strings.Contains(r.Incomplete[0].Message, "--timeout") {
		t.Errorf("out of time: %v, %+v", err, r.Incomplete)
	}
	interrupted, stop := context.WithCancel(t.Context())
	stop()
	if _, err := made(words()).Scan(interrupted, imageOf([]string{"s.txt=SECRET"})); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	b, _ := encode(&record{entries: []mark{1, 2}, owned: []owned{{"db", "p", []mark{3}}}, Whiteouts: []string{"x"}})
	f.Add(b[len(cacheFormat)+32:])
	f.Fuzz(func(_ *testing.T, b []byte) {
		d := decoder{rest: b}
		_ = d.bytes()
		_ = d.marks()
		for range d.count(3) {
			_, _, _ = d.bytes(), d.bytes(), d.marks()
		}
		_, _ = decode(b)
	})
}
