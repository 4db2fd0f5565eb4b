package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxWatches bounds the directories that are watched: those that hold containers, never those
// below one. A large node has a few hundred services and pods.
const maxWatches = 8192

// watch follows the cgroup v2 hierarchy. A container's directory is made before its first process
// runs, and its name tells whose it is: engines need not be asked all the time.
type watch struct {
	d     *Directory
	fd    int
	file  *os.File
	paths map[int]string // watch descriptor → path below the root
}

func (d *Directory) watchCgroups(ctx context.Context) error {
	if d.root == "" {
		return errors.New(d.problem)
	}
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("watch %s: %w; raise the sysctl fs.inotify.max_user_instances", d.root, err)
	}
	w := &watch{d: d, fd: fd, file: os.NewFile(uintptr(fd), "inotify"), paths: map[int]string{}}
	if err := w.add("/"); err != nil {
		w.file.Close()
		return err
	}
	w.scan(ctx, "/")
	context.AfterFunc(ctx, func() { w.file.Close() })
	go w.run(ctx)
	return nil
}

func (w *watch) add(dir string) error {
	if len(w.paths) >= maxWatches {
		return fmt.Errorf("watch %s: more than %d directories", dir, maxWatches)
	}
	id, err := unix.InotifyAddWatch(w.fd, filepath.Join(w.d.root, dir), unix.IN_CREATE|unix.IN_DELETE|unix.IN_ONLYDIR|unix.IN_EXCL_UNLINK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone again
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w; raise the sysctl fs.inotify.max_user_watches", filepath.Join(w.d.root, dir), err)
	}
	w.paths[id] = dir
	return nil
}

// scan looks at what is below a directory. It comes after the directory's watch, so that nothing
// made in between is missed.
func (w *watch) scan(ctx context.Context, dir string) {
	entries, err := os.ReadDir(filepath.Join(w.d.root, dir))
	if err != nil {
		return
	}
	for _, entry := range entries {
		if entry.IsDir() {
			w.made(ctx, path.Join(dir, entry.Name()))
		}
	}
}

func (w *watch) made(ctx context.Context, dir string) {
	if !below(dir, w.d.within) && !below(w.d.within, dir) {
		return // another node's
	}
	ref, ok := ParseCgroup(dir)
	if ok && ref.Dir == dir {
		if id := cgroupID(w.d.root, dir); id != 0 && w.d.book.appeared(ref, id) {
			go w.d.askLater(ctx, ref)
		}
	}
	if ok && ref.Sure {
		return // what a container does below its directory is its own business
	}
	if err := w.add(dir); err != nil {
		w.d.report(err)
		return
	}
	w.scan(ctx, dir)
}

func (w *watch) run(ctx context.Context) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buffer)
		if err != nil {
			if ctx.Err() == nil {
				w.d.report(fmt.Errorf("watch %s: %w", w.d.root, err))
			}
			return
		}
		w.read(ctx, buffer[:n])
	}
}

func (w *watch) read(ctx context.Context, b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		id := int(int32(binary.NativeEndian.Uint32(b)))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			return
		}
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		w.event(ctx, id, mask, name)
		b = b[end:]
	}
}

func (w *watch) event(ctx context.Context, id int, mask uint32, name string) {
	dir, ok := w.paths[id]
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		w.d.book.check()
		w.scan(ctx, "/")
	case mask&unix.IN_IGNORED != 0:
		delete(w.paths, id)
	case ok && mask&unix.IN_CREATE != 0 && mask&unix.IN_ISDIR != 0:
		w.made(ctx, path.Join(dir, name))
	case ok && mask&unix.IN_DELETE != 0:
		w.d.book.vanished(path.Join(dir, name))
	}
}

// report shows a problem with the hierarchy where people look for the state of engines.
func (d *Directory) report(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.problem == "" {
		d.log.Warn("containers cannot be followed in the kernel", "error", err)
	}
	d.problem = err.Error()
}
