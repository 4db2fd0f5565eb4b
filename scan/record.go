package scan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// record is what one layer says, as plain data: the same wherever the layer is used.
type record struct {
	Facts      []fact              `json:"facts"`
	Whiteouts  []string            `json:"whiteouts,omitempty"`
	Opaque     []string            `json:"opaque,omitempty"`
	Incomplete []bulkhead.Omission `json:"incomplete,omitempty"`

	// entries are the marks of everything in the layer: a million files are 8 MB so. In the order of the layer until
	// the record is sealed, and sorted from then on.
	entries []mark
	owned   []owned

	// implied are directories that entries are in, whether or not the layer tells of them; last is one that is kept
	// already: most entries follow another of the same directory, or the directory itself.
	implied map[mark]bool
	last    string

	facts int // packages and findings so far
	// omitted is how many omissions there were beyond the limit.
	omitted int
}

// fact is what one analyzer said of one file.
type fact struct {
	Path     string `json:"path"`
	Analyzer string `json:"analyzer"`
	look.Facts
	seq int32 // which entry of the layer
}

// owned are the files that a distribution package says are its own.
type owned struct {
	by    string // path of the database file that says so
	name  string
	marks []mark
}

// The limits of a record. A file of a few bytes can say a lot, and there may be millions of them.
const (
	maxFacts     = 500_000 // packages and findings of one layer; the largest node_modules have some 10,000
	maxOmissions = 200     // of one layer; the rest is counted
	maxWhiteouts = 200_000
)

// mark stands for a path: the first bytes of its SHA-256, so that nobody can make a path that is taken for another,
// and in the last bit whether it is a directory.
type mark uint64

func markOf(p string) mark {
	sum := sha256.Sum256([]byte(p))
	return mark(binary.LittleEndian.Uint64(sum[:])) &^ 1
}

func (m mark) directory() mark { return m | 1 }

// note keeps what the layer does to those below it.
func (r *record) note(f *image.File) {
	r.imply(path.Dir(f.Path))
	switch f.Kind {
	case image.Whiteout:
		r.hide(&r.Whiteouts, f.Path)
		r.entries = append(r.entries, 0) // keeps positions right
	case image.Opaque:
		r.hide(&r.Opaque, f.Path)
		r.entries = append(r.entries, 0)
	case image.Directory:
		r.entries = append(r.entries, markOf(f.Path).directory())
		r.last = f.Path
	default:
		r.entries = append(r.entries, markOf(f.Path))
	}
}

// imply keeps that there are the directories of an entry: they hide a file of a lower layer like those with an entry.
func (r *record) imply(dir string) {
	if dir == r.last {
		return
	}
	r.last = dir
	if r.implied == nil {
		r.implied = map[mark]bool{}
	}
	for ; dir != "." && dir != "/"; dir = path.Dir(dir) {
		m := markOf(dir).directory()
		if r.implied[m] {
			return
		}
		r.implied[m] = true
	}
}

func (r *record) hide(list *[]string, p string) {
	if len(*list) < maxWhiteouts {
		*list = append(*list, p)
	}
}

// position is the place of the last entry of this path.
func (r *record) position(p string) int32 {
	m := markOf(p)
	for i, entry := range slices.Backward(r.entries) {
		if entry == m {
			return int32(i)
		}
	}
	return 0
}

// add keeps what an analyzer said of a file, and completes it with what only the walk knows.
func (r *record) add(a *look.Analyzer, p string, seq int32, facts look.Facts, err error) {
	if err != nil {
		r.omit(p, err.Error())
	}
	for _, o := range facts.Incomplete {
		r.omit(cmp.Or(o.Path, p), o.Message)
	}
	for name, paths := range facts.Owned {
		r.owned = append(r.owned, owned{by: p, name: name, marks: marksOf(paths)})
	}
	facts.Incomplete, facts.Owned = nil, nil
	if facts.OS == nil && len(facts.Packages)+len(facts.Findings) == 0 {
		return
	}
	if r.facts += len(facts.Packages) + len(facts.Findings); r.facts > maxFacts {
		r.omit(p, fmt.Sprintf("the layer says more than %d things: the rest was left out", maxFacts))
		return
	}
	for i := range facts.Packages {
		facts.Packages[i].Path = cmp.Or(facts.Packages[i].Path, p)
	}
	for i := range facts.Findings {
		facts.Findings[i].Path = cmp.Or(facts.Findings[i].Path, p)
	}
	r.Facts = append(r.Facts, fact{Path: p, Analyzer: a.Name, Facts: facts, seq: seq})
}

func (r *record) omit(p, message string) {
	if len(r.Incomplete) >= maxOmissions {
		r.omitted++
		return
	}
	r.Incomplete = append(r.Incomplete, bulkhead.Omission{Path: p, Message: message})
}

// seal puts the record in order, whichever file was looked at first.
func (r *record) seal() {
	r.dropEarlier()
	slices.SortFunc(r.Facts, func(a, b fact) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Analyzer, b.Analyzer)) })
	slices.SortFunc(r.owned, func(a, b owned) int { return cmp.Or(cmp.Compare(a.by, b.by), cmp.Compare(a.name, b.name)) })
	slices.SortFunc(r.Incomplete, compareOmissions)
	if r.omitted > 0 {
		r.Incomplete = append(r.Incomplete, bulkhead.Omission{Message: fmt.Sprintf("%d more things of this layer were left out", r.omitted)})
	}
	r.entries = slices.AppendSeq(r.entries, maps.Keys(r.implied))
	r.implied = nil
	slices.Sort(r.entries)
	r.entries = slices.Compact(r.entries)
}

// dropEarlier forgets what was said of a file that the layer itself replaces later.
func (r *record) dropEarlier() {
	last := make(map[mark]int32, len(r.Facts))
	for i := range r.Facts {
		last[markOf(r.Facts[i].Path)] = 0
	}
	for i, m := range r.entries {
		if _, ok := last[m]; ok {
			last[m] = int32(i)
		}
	}
	r.Facts = slices.DeleteFunc(r.Facts, func(f fact) bool { return f.seq < last[markOf(f.Path)] })
}

func (r *record) has(m mark) bool {
	_, found := slices.BinarySearch(r.entries, m)
	return found
}

// marksOf takes /bin and /usr/bin for one place: a package that names the one owns what is stored at the other.
func marksOf(paths []string) []mark {
	marks := make([]mark, 0, len(paths))
	for _, p := range paths {
		if mayOwn(p) {
			marks = append(marks, ownMark(p))
		}
	}
	return slices.Compact(marks)
}

func ownMark(p string) mark {
	first, _, _ := strings.Cut(p, "/")
	switch first {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		p = "usr/" + p
	}
	return markOf(p)
}

// mayOwn leaves out what no analyzer of packages ever looks at: half of all files of a distribution.
func mayOwn(p string) bool {
	return !strings.HasPrefix(p, "usr/share/doc/") && !strings.HasPrefix(p, "usr/share/man/") &&
		!strings.HasPrefix(p, "usr/share/locale/") && path.Ext(p) != ".h"
}

func compareOmissions(a, b bulkhead.Omission) int {
	return cmp.Or(cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
}
