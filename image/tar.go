package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxPath is the longest path that a kernel takes (PATH_MAX): no container has a longer one.
const maxPath = 4096

// tarWalk visits the entries of a tar.
type tarWalk struct {
	limits Limits
	temp   string
	skip   func(path, why string)
	window *window // over the tar, where it lies in a local file

	file    File
	links   links
	content streamed
	entries int64
	bytes   int64 // as the entries say, holes included
}

// visitError is an error of the caller's visit, which is returned as it is.
type visitError struct{ error }

func (w *tarWalk) run(ctx context.Context, r io.Reader, visit func(*File) error) error {
	t := tar.NewReader(r)
	w.content = streamed{tar: t, memory: w.limits.Memory, temp: w.temp}
	for ctx.Err() == nil {
		header, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // paths are made harmless here
			return broken(err)
		}
		if err := w.count(header); err != nil {
			return err
		}
		if !w.entry(header) {
			continue
		}
		if err := w.visit(visit); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it ends in the middle: %w", err)
	}
	return err
}

func (w *tarWalk) count(header *tar.Header) error {
	w.entries++
	w.bytes += max(0, header.Size)
	switch {
	case w.entries > w.limits.Entries:
		return &LimitError{"entries", w.limits.Entries}
	case w.bytes > w.limits.LayerBytes || w.bytes < 0:
		return &LimitError{"uncompressed bytes", w.limits.LayerBytes}
	}
	return nil
}

func (w *tarWalk) visit(visit func(*File) error) error {
	w.content.next(w.file.Path, w.file.Size)
	err := visit(&w.file)
	if failed := w.content.release(); failed != nil {
		return failed
	}
	if err != nil {
		return &visitError{err}
	}
	return nil
}

// entry makes the file that is visited, and reports whether there is one.
func (w *tarWalk) entry(header *tar.Header) bool {
	name, ok := inside(header.Name)
	if !ok {
		w.skip(name[:64]+"…", fmt.Sprintf("the path has %d bytes; no container has one of more than %d", len(name), maxPath))
		return false
	}
	name = w.links.resolve(name)
	w.file = File{Path: name, Kind: kindOf(header.Typeflag), Mode: modeOf(header.Mode), UID: header.Uid, GID: header.Gid}
	if w.whiteout() {
		return w.file.Kind == Whiteout || w.file.Kind == Opaque
	}
	switch w.file.Kind {
	case Regular:
		w.file.Size, w.file.content = header.Size, w.contentOf(header)
	case Symlink:
		w.file.Link = header.Linkname
	case HardLink:
		w.file.Link, ok = inside(header.Linkname)
		w.file.Link = w.links.resolve(w.file.Link)
	}
	if ok {
		w.links.note(&w.file)
	}
	return ok && name != "."
}

// contentOf is what streams by, or the place in the local file. A sparse file is not stored as it is read.
func (w *tarWalk) contentOf(header *tar.Header) content {
	if w.window == nil || header.Typeflag == tar.TypeGNUSparse || header.PAXRecords["GNU.sparse.major"] != "" || header.PAXRecords["GNU.sparse.map"] != "" || header.PAXRecords["GNU.sparse.size"] != "" {
		return &w.content
	}
	return placed{io.NewSectionReader(w.window.at, w.window.offset, header.Size)}
}

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // what AUFS keeps for itself
)

// whiteout turns names that delete into what they mean, and reports whether this is one.
func (w *tarWalk) whiteout() bool {
	dir, base := split(w.file.Path)
	if !strings.HasPrefix(base, whiteoutPrefix) {
		return false
	}
	deleted := base[len(whiteoutPrefix):]
	switch {
	case base == whiteoutOpaque:
		w.file.Path, w.file.Kind = dir, Opaque
	case strings.HasPrefix(base, whiteoutMeta), deleted == "", deleted == ".", deleted == "..":
		w.file.Kind = Other
	default:
		w.file.Path, w.file.Kind = path.Join(dir, deleted), Whiteout
	}
	return true
}

// split cuts a clean path; the directory of "a" is ".".
func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return ".", name
	}
	return name[:i], name[i+1:]
}

// inside makes a path of an archive relative and clean, as if the root were the archive's own: "../../etc/passwd" is
// etc/passwd, where a runtime that stays inside puts it, too. It is false for one that is too long.
func inside(name string) (string, bool) {
	if len(name) > maxPath {
		return name, false
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if clean(name) {
		return name, true
	}
	name = path.Clean("/" + name)[1:]
	if name == "" {
		name = "."
	}
	return name, true
}

// clean reports whether path.Clean would leave a path as it is. Nearly all are clean, and this allocates nothing.
func clean(name string) bool {
	for rest, more := name, true; more; {
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

func kindOf(flag byte) Kind {
	switch flag {
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		return Regular
	case tar.TypeDir:
		return Directory
	case tar.TypeSymlink:
		return Symlink
	case tar.TypeLink:
		return HardLink
	}
	return Other
}

// Bits of a file's mode as Unix has them.
const (
	unixSetuid = 0o4000
	unixSetgid = 0o2000
	unixSticky = 0o1000
)

// modeOf takes permissions and the three special bits from a mode of Unix.
func modeOf(unix int64) fs.FileMode {
	mode := fs.FileMode(unix) & fs.ModePerm
	for _, special := range [...]struct {
		bit  int64
		flag fs.FileMode
	}{{unixSetuid, fs.ModeSetuid}, {unixSetgid, fs.ModeSetgid}, {unixSticky, fs.ModeSticky}} {
		if unix&special.bit != 0 {
			mode |= special.flag
		}
	}
	return mode
}
