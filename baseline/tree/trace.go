package tree

import (
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// maxTraced bounds the paths of a trace: a host has some 1,500 that are worth watching.
const maxTraced = 20_000

// Trace is what was looked at, by the fact that it was looked at for: files and directories, also where there was nothing:
// what is not there yet decides checks too. A directory that was listed ends in "/".
type Trace struct {
	mu    sync.Mutex
	paths map[string]map[string]bool // fact → path
	total int
	fact  string
}

// Traced is the same tree, which notes in a trace what is looked at.
func (t *Tree) Traced(trace *Trace) *Tree {
	return &Tree{&traced{t.files, trace}, t.dir}
}

// For names the fact that is collected from now on.
func (t *Tree) For(fact string) {
	if f, ok := t.files.(*traced); ok {
		f.trace.mu.Lock()
		f.trace.fact = fact
		f.trace.mu.Unlock()
	}
}

// unwatched are file systems of the kernel, where changes have no events; settings below /proc/sys have.
var unwatched = []string{"proc", "sys", "dev"}

func (t *Trace) note(name string) {
	first, rest, _ := strings.Cut(name, "/")
	if name == "." || name == "./" || slices.Contains(unwatched, first) && !strings.HasPrefix(rest, "sys/") {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths == nil {
		t.paths = map[string]map[string]bool{}
	}
	of := t.paths[t.fact]
	if of == nil {
		of = map[string]bool{}
		t.paths[t.fact] = of
	}
	if name = "/" + name; !of[name] && t.total < maxTraced {
		of[name] = true
		t.total++
	}
}

// Paths are those of each fact, in order.
func (t *Trace) Paths() map[string][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string][]string, len(t.paths))
	for fact, paths := range t.paths {
		for p := range paths {
			all[fact] = append(all[fact], p)
		}
		slices.Sort(all[fact])
	}
	return all
}

// traced notes every path that somebody asks for.
type traced struct {
	fs.FS
	trace *Trace
}

func (f *traced) Open(name string) (fs.File, error) {
	f.trace.note(name)
	return f.FS.Open(name)
}

func (f *traced) ReadDir(name string) ([]fs.DirEntry, error) {
	f.trace.note(name + "/")
	return fs.ReadDir(f.FS, name)
}

func (f *traced) Lstat(name string) (fs.FileInfo, error) {
	f.trace.note(name)
	return fs.Lstat(f.FS, name)
}

func (f *traced) ReadLink(name string) (string, error) {
	f.trace.note(name)
	return fs.ReadLink(f.FS, name)
}

// SysctlPath turns net.ipv4.conf.eth0/1.x into /proc/sys/net/ipv4/conf/eth0.1/x, as sysctl does.
func SysctlPath(name string) string {
	return "/proc/sys/" + strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}
