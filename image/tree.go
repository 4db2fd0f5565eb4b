package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// maxDepth is how deep directories are followed: each level holds one open, and a process may have 1024 on many
	// machines.
	maxDepth = 256
	// batch is how many names of a directory are in memory at once, and in order: so that a walk of the same files
	// finds the same first name of a hard link. A tenth of that is a large directory.
	batch = 1 << 16
	// maxLinked bounds the hard links that are told apart; more are visited as files of their own.
	maxLinked = 1 << 20
)

// tree is a directory that is walked as a layer. Whatever is in it, and whatever changes while it is walked, nothing
// outside is reached: each name is opened relative to its open directory, and no symbolic link is followed.
type tree struct {
	dir     string
	diffID  string
	overlay bool                                           // it is a layer of overlayfs: devices 0,0 and extended attributes delete
	within  bool                                           // stay in the directory's file system
	prune   func(path string) string                       // says why a directory is left out, or ""
	mounted func(path string) (kind string, expected bool) // what is mounted at path
	opt     Options
	skip    func(Skip)
}

// treeWalk is one walk of a tree.
type treeWalk struct {
	*tree
	visit   func(*File) error
	device  uint64
	linked  map[inode]string
	entries int64
	file    File
	content opened
}

type inode struct{ device, number uint64 }

func (t *tree) walk(ctx context.Context, visit func(*File) error) error {
	root, err := os.Open(t.dir)
	if err != nil {
		return &LayerError{DiffID: t.diffID, Err: err}
	}
	defer root.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(root.Fd()), &stat); err != nil {
		return &LayerError{DiffID: t.diffID, Err: fmt.Errorf("look at %s: %w", t.dir, err)}
	}
	w := &treeWalk{tree: t, visit: visit, device: stat.Dev, linked: map[inode]string{}}
	err = w.marks(root, ".")
	if err == nil {
		err = w.directory(ctx, root, "", 0)
	}
	var own *visitError
	switch {
	case errors.As(err, &own):
		return own.error
	case err != nil:
		return &LayerError{DiffID: t.diffID, Err: cause(ctx, err)}
	}
	return nil
}

func (w *treeWalk) left(path, why string, expected bool) {
	w.skip(Skip{Path: path, Layer: w.diffID, Message: why, Expected: expected})
}

// directory visits what is in dir, whose path ends with a slash unless it is the root.
func (w *treeWalk) directory(ctx context.Context, dir *os.File, prefix string, depth int) error {
	for {
		names, err := dir.Readdirnames(batch)
		slices.Sort(names)
		for _, name := range names {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := w.entry(ctx, dir, prefix, name, depth); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			w.left(strings.TrimSuffix(prefix, "/"), "list the directory: "+reason(err), false)
			return nil
		}
	}
}

func (w *treeWalk) entry(ctx context.Context, dir *os.File, prefix, name string, depth int) error {
	if w.entries++; w.entries > w.opt.Limits.Entries {
		return &LimitError{"entries", w.opt.Limits.Entries}
	}
	path := prefix + name
	var stat unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if err != unix.ENOENT { // gone since it was listed
			w.left(path, "look at it: "+reason(err), false)
		}
		return nil
	}
	w.describe(path, &stat)
	if err := w.refine(dir, name, &stat); err != nil {
		w.left(path, err.Error(), false)
		return nil
	}
	if w.file.Kind == Directory {
		return w.enter(ctx, dir, path, name, &stat, depth)
	}
	return w.tell(dir, name)
}

func (w *treeWalk) describe(path string, stat *unix.Stat_t) {
	w.file = File{Path: path, Kind: Other, Mode: modeOf(int64(stat.Mode)), UID: int(stat.Uid), GID: int(stat.Gid)}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		w.file.Kind, w.file.Size = Regular, stat.Size
	case unix.S_IFDIR:
		w.file.Kind = Directory
	case unix.S_IFLNK:
		w.file.Kind = Symlink
	case unix.S_IFCHR:
		if w.overlay && stat.Rdev == 0 {
			w.file.Kind = Whiteout
		}
	}
}

// refine reads what the kind of entry needs beyond its numbers.
func (w *treeWalk) refine(dir *os.File, name string, stat *unix.Stat_t) error {
	switch {
	case w.file.Kind == Symlink:
		target := make([]byte, maxPath)
		n, err := unix.Readlinkat(int(dir.Fd()), name, target)
		if err != nil {
			return fmt.Errorf("read the link: %s", reason(err))
		}
		w.file.Link = string(target[:n])
	case w.file.Kind == Regular && stat.Nlink > 1:
		w.link(inode{stat.Dev, stat.Ino})
	}
	return nil
}

func (w *treeWalk) link(number inode) {
	if first, ok := w.linked[number]; ok {
		w.file.Kind, w.file.Size, w.file.Link = HardLink, 0, first
	} else if len(w.linked) < maxLinked {
		w.linked[number] = w.file.Path
	}
}

func (w *treeWalk) tell(dir *os.File, name string) error {
	if w.file.Kind == Regular {
		w.content = opened{dir: int(dir.Fd()), name: name, path: w.file.Path, size: w.file.Size, metacopy: w.overlay}
		w.file.content = &w.content
	}
	err := w.visit(&w.file)
	w.content.release()
	if err != nil {
		return &visitError{err}
	}
	return nil
}

// enter visits a directory and then what is in it, unless something is mounted there.
func (w *treeWalk) enter(ctx context.Context, dir *os.File, path, name string, stat *unix.Stat_t, depth int) error {
	if err := w.tell(dir, name); err != nil {
		return err
	}
	if w.within && stat.Dev != w.device {
		kind, expected := w.mounted(path)
		w.left(path, "another file system ("+kind+") is mounted there", expected)
		return nil
	}
	if why := w.prune(path); why != "" {
		w.left(path, why, true)
		return nil
	}
	if depth == maxDepth {
		w.left(path, fmt.Sprintf("it is more than %d directories deep", maxDepth), false)
		return nil
	}
	below, err := openBelow(int(dir.Fd()), name, unix.O_DIRECTORY)
	if err != nil {
		if err != unix.ENOENT {
			w.left(path, "open the directory: "+reason(err), false)
		}
		return nil
	}
	defer below.Close()
	if err := w.marks(below, path); err != nil {
		return err
	}
	return w.directory(ctx, below, path+"/", depth+1)
}

// The extended attributes of overlayfs: of root's mounts, and of those in a user's namespace.
var overlayNames = []string{"trusted.overlay.", "user.overlay."}

// marks tells what overlayfs has written at a directory: that it hides what is below, or that it was moved there, which
// cannot be shown as a layer.
func (w *treeWalk) marks(dir *os.File, path string) error {
	if !w.overlay {
		return nil
	}
	if value := attribute(dir, "redirect"); value != "" {
		return fmt.Errorf("the engine's file system moved %s from %q (redirect_dir): ask for the image through the registry or an archive", path, value)
	}
	if attribute(dir, "opaque") != "y" {
		return nil
	}
	w.file = File{Path: path, Kind: Opaque}
	if err := w.visit(&w.file); err != nil {
		return &visitError{err}
	}
	return nil
}

func attribute(f *os.File, name string) string {
	value := make([]byte, 256)
	for _, prefix := range overlayNames {
		if n, err := unix.Fgetxattr(int(f.Fd()), prefix+name, value); err == nil {
			return string(value[:n])
		}
	}
	return ""
}

// openBelow opens a name in an open directory: never through a symbolic link, never waiting for a pipe's other end.
func openBelow(dir int, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// opened is the content of a file in a directory: opened when the first reader asks for it.
type opened struct {
	dir      int
	name     string
	path     string
	size     int64
	metacopy bool
	f        *os.File
}

func (o *opened) file() (*os.File, error) {
	if o.f != nil {
		return o.f, nil
	}
	f, err := openBelow(o.dir, o.name, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %s", o.path, reason(err))
	}
	if err := o.check(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", o.path, err)
	}
	o.f = f
	return f, nil
}

// check makes sure that it is still a file with its own bytes.
func (o *opened) check(f *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it was replaced meanwhile by something that is no file")
	}
	if o.metacopy && stat.Blocks == 0 && o.size > 0 && attributed(f, "metacopy") {
		return errors.New("the engine's file system keeps its bytes in a lower layer (metacopy)")
	}
	return nil
}

func attributed(f *os.File, name string) bool {
	return slices.ContainsFunc(overlayNames, func(prefix string) bool {
		_, err := unix.Fgetxattr(int(f.Fd()), prefix+name, nil)
		return err == nil
	})
}

func (o *opened) reader() (io.Reader, error) {
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, o.size), nil
}

func (o *opened) readerAt() (io.ReaderAt, error) {
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, o.size), nil
}

func (o *opened) release() {
	if o.f != nil {
		o.f.Close()
		o.f = nil
	}
}

// reason is what went wrong, without the path that the message has already.
func reason(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return err.Error()
}
