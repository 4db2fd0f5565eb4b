// Package tree reads the files of a host: of this one, of one that is mounted somewhere, or of an example. Start with
// [Open] and [Tree.Read].
//
// It promises that links are followed as in a root of their own (an absolute link never leads out of the tree), that
// nothing larger than a bound is read, and that pipes and devices are not opened. It is not for writing: that is
// package repair's.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// The limits. The largest configuration that people have is a sudoers or audit file of some 100 KiB; a list of all
// packages of a distribution's desktop has 15 MiB.
const (
	MaxFile    = 2 << 20
	MaxList    = 32 << 20
	maxLinks   = 40     // as the kernel's
	maxEntries = 20_000 // of a directory
)

// Tree is a host's files. Paths begin with "/".
type Tree struct {
	files fs.FS
	dir   string
}

// Open takes a directory as the root.
func Open(dir string) *Tree { return &Tree{os.DirFS(dir), path.Clean(dir)} }

// New takes any file system that can tell of links, as an example in memory.
func New(files fs.FS) *Tree { return &Tree{files: files} }

// Dir is the directory that was opened; empty for what is not on a disk.
func (t *Tree) Dir() string { return t.dir }

// Live reports whether these are the files of the running host.
func (t *Tree) Live() bool { return t.dir == "/" }

// Info is what is known of a file.
type Info struct {
	Mode     fs.FileMode
	Size     int64
	UID, GID int
	Device   uint64
}

// Resolve follows all links of a path.
func (t *Tree) Resolve(name string) (string, error) {
	rest := strings.Split(strings.Trim(path.Clean("/"+name), "/"), "/")
	done, links := "", 0
	for len(rest) > 0 {
		next := rest[0]
		rest = rest[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			done = strings.TrimSuffix(path.Dir("/"+done), "/")
			done = strings.TrimPrefix(done, "/")
			continue
		}
		at := path.Join(done, next)
		info, err := fs.Lstat(t.files, at)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			done = at
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		target, err := fs.ReadLink(t.files, at)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			done = ""
		}
		rest = append(strings.Split(strings.Trim(target, "/"), "/"), rest...)
	}
	return "/" + done, nil
}

// Stat tells of a file, links followed.
func (t *Tree) Stat(name string) (Info, error) {
	real, err := t.Resolve(name)
	if err != nil {
		return Info{}, err
	}
	return t.Lstat(real)
}

// Lstat tells of a file, and of a link itself.
func (t *Tree) Lstat(name string) (Info, error) {
	info, err := fs.Lstat(t.files, inside(name))
	if err != nil {
		return Info{}, err
	}
	i := Info{Mode: info.Mode(), Size: info.Size()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		i.UID, i.GID, i.Device = int(s.Uid), int(s.Gid), s.Dev
	}
	return i, nil
}

// Exists reports whether there is such a file. What cannot be asked is not there: where that matters use Stat.
func (t *Tree) Exists(name string) bool {
	_, err := t.Stat(name)
	return err == nil
}

// Missing reports whether an error says that there is no such file, as opposed to one that could not be read.
func Missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// Read reads a file that people write.
func (t *Tree) Read(name string) ([]byte, error) { return t.ReadUpTo(name, MaxFile) }

// ReadUpTo reads a file of so many bytes at most.
func (t *Tree) ReadUpTo(name string, limit int64) ([]byte, error) {
	real, err := t.Resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := fs.Lstat(t.files, inside(real))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	file, err := t.files.Open(inside(real))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB, which is all that is read of it", name, limit>>10)
	}
	return b, nil
}

// Text reads a file of one line; empty where there is none.
func (t *Tree) Text(name string) string {
	b, err := t.Read(name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Link is where a link points.
func (t *Tree) Link(name string) (string, error) { return fs.ReadLink(t.files, inside(name)) }

// List names the entries of a directory, in order.
func (t *Tree) List(dir string) ([]string, error) {
	real, err := t.Resolve(dir)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(t.files, inside(real))
	if err != nil {
		return nil, err
	}
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%s has more than %d entries", dir, maxEntries)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// Glob lists the files that a pattern names; "*", "?" and "[…]" may be in every part of it.
func (t *Tree) Glob(pattern string) ([]string, error) {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.Trim(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			names, err := t.match(dir, part)
			if err != nil {
				return nil, err
			}
			next = append(next, names...)
		}
		found = next
	}
	return found, nil
}

func (t *Tree) match(dir, part string) (found []string, err error) {
	if !strings.ContainsAny(part, "*?[") {
		if t.Exists(path.Join(dir, part)) {
			return []string{path.Join(dir, part)}, nil
		}
		return nil, nil
	}
	names, err := t.List(dir)
	if Missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		hidden := strings.HasPrefix(name, ".") && !strings.HasPrefix(part, ".")
		ok, err := path.Match(part, name)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", part, err)
		}
		if ok && !hidden {
			found = append(found, path.Join(dir, name))
		}
	}
	return found, nil
}

func inside(name string) string {
	name = strings.Trim(path.Clean("/"+name), "/")
	if name == "" {
		return "."
	}
	return name
}
