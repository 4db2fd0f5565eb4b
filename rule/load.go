package rule

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/rule/document"
)

//go:embed rules/*.yaml
var embedded embed.FS

// The limits of a set. A rule file is read by the root agent and may come from anyone whom the
// control plane trusts with rules, so nothing in it may make the agent large or slow.
const (
	maxFile  = 1 << 20 // the largest of our own files has 30 KB
	maxFiles = 256     // in one directory
	maxRules = 2000    // 40 times the default set
	maxItems = 1000    // in one list
	maxText  = 16 << 10
)

// Default returns the rules that come with Bulkhead.
func Default() (*Set, error) { return build() }

// Load returns the default rules with the files *.yaml and *.yml at the root of fsys laid over
// them: a rule with a known id changes the fields that it names, adds its exceptions, or, with
// `enabled: false`, switches the rule off; any other rule is new. Every problem of every file
// is reported, each as an [*Error]; then there is no Set, and the caller keeps the one it has.
func Load(fsys fs.FS) (*Set, error) { return build(fsys) }

func build(over ...fs.FS) (*Set, error) {
	base, err := fs.Sub(embedded, "rules")
	if err != nil {
		return nil, fmt.Errorf("open the default rules: %w", err)
	}
	b := newBuilder()
	for _, fsys := range append([]fs.FS{base}, over...) {
		if err := b.layer(fsys); err != nil {
			return nil, err
		}
	}
	return b.set()
}

// builder lays layers of files over one another.
type builder struct {
	document.Reader
	drafts map[string]*draft
	lists  map[string][]string
	seen   map[string]string // ids of the layer being read → where
}

func newBuilder() *builder {
	return &builder{drafts: map[string]*draft{}, lists: map[string][]string{}}
}

// layer reads the files of one directory; within it an id may appear once.
func (b *builder) layer(fsys fs.FS) error { return b.layerOf(fsys, b.file) }

func (b *builder) layerOf(fsys fs.FS, read func(name string, data []byte)) error {
	names, err := ruleFiles(fsys)
	if err != nil {
		return err
	}
	b.seen = map[string]string{}
	for _, name := range names {
		data, err := readBounded(fsys, name)
		if err != nil {
			b.Problems = append(b.Problems, err)
			continue
		}
		read(name, data)
	}
	return nil
}

func ruleFiles(fsys fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("list the rule files: %w; check that the directory exists and can be read", err)
	}
	var names []string
	for _, e := range entries {
		// A directory of a Kubernetes config map has "..data" links beside the files.
		ext := path.Ext(e.Name())
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && (ext == ".yaml" || ext == ".yml") {
			names = append(names, e.Name())
		}
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("list the rule files: %d files, the limit is %d; put several rules into one file", len(names), maxFiles)
	}
	return names, nil
}

func readBounded(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the rule file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the rule file %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, tooLarge(name)
	}
	return data, nil
}

func tooLarge(name string) error {
	return &Error{File: name, Line: 1, Column: 1, Problem: fmt.Sprintf("the file is larger than %d bytes", maxFile), Next: "split it into several files"}
}

// set checks and compiles everything that was read.
func (b *builder) set() (*Set, error) {
	if len(b.drafts) > maxRules {
		b.Problems = append(b.Problems, fmt.Errorf("%d rules, the limit is %d; take some away", len(b.drafts), maxRules))
	}
	if err := errors.Join(b.Problems...); err != nil {
		return nil, err
	}
	c, err := newCompiler(b.lists)
	if err != nil {
		return nil, err
	}
	s := &Set{index: map[bulkhead.EventKind]*kindIndex{}, lists: c.values}
	for _, id := range slices.Sorted(maps.Keys(b.drafts)) {
		d := b.drafts[id]
		b.Problems = append(b.Problems, check(d)...)
		b.Problems = append(b.Problems, s.add(c, d)...)
	}
	if err := errors.Join(b.Problems...); err != nil {
		return nil, err
	}
	return s, nil
}
