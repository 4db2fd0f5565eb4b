package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/profile"
)

// maxHashed bounds what is read to know an executable's content: the largest in real images are some 200 MiB.
const maxHashed = 512 << 20

// images tells about the executables of running containers: their content's digest and the layer they are in.
type images struct {
	mu   sync.Mutex
	pids map[string]int // a process of each container, by id
}

func newImages() *images { return &images{pids: map[string]int{}} }

func (i *images) know(c bulkhead.Container) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pids[c.ID] = c.PID
}

// describe is the profile's question.
func (i *images) describe(id, path string) profile.Description {
	i.mu.Lock()
	pid := i.pids[id]
	i.mu.Unlock()
	if pid == 0 {
		return profile.Description{}
	}
	f, err := openInside(pid, path)
	if err != nil {
		return profile.Description{}
	}
	defer f.Close()
	if real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err == nil {
		path = real
	}
	return profile.Description{Digest: fileDigest(f), Layer: layerOf(pid, path), Foreign: foreign(pid, f, path)}
}

// openInside opens a regular file as the container's processes see it: its links lead nowhere else.
func openInside(pid int, path string) (*os.File, error) {
	root, err := os.Open(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func fileDigest(f *os.File) string {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxHashed+1))
	if err != nil || n > maxHashed {
		return ""
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// foreign reports whether a file's bytes are not the image's: it lies on another mount than the container's root, or
// in the overlay's upper directory.
func foreign(pid int, f *os.File, path string) bool {
	var file, root unix.Statx_t
	if unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &file) != nil || unix.Statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/root", pid), 0, unix.STATX_MNT_ID, &root) != nil {
		return false
	}
	if file.Mnt_id != root.Mnt_id {
		return true
	}
	upper := upperDir(pid)
	if upper == "" {
		return false
	}
	_, err := os.Lstat(filepath.Join(upper, path))
	return err == nil
}

// layerOf finds the topmost layer of the container's overlay that has the path. Docker keeps the digest of each
// layer beside its directory; for other engines the directory's name is all there is.
func layerOf(pid int, path string) string {
	for _, dir := range lowerDirs(pid) {
		if _, err := os.Lstat(filepath.Join(dir, path)); err != nil {
			continue
		}
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return ""
		}
		return dockerLayer(real)
	}
	return ""
}

func lowerDirs(pid int) []string {
	options := rootOptions(pid)
	for option := range strings.SplitSeq(options, ",") {
		if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
			return absolute(strings.Split(dirs, ":"), options)
		}
	}
	return nil
}

func upperDir(pid int) string {
	for option := range strings.SplitSeq(rootOptions(pid), ",") {
		if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
			return dir
		}
	}
	return ""
}

// rootOptions are those that the file system of the container's root was mounted with.
func rootOptions(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) >= 10 && fields[4] == "/" {
			return fields[len(fields)-1]
		}
	}
	return ""
}

// absolute completes Docker's short names ("l/ABC"), which are relative to its storage directory: the one that
// the upper directory lies in.
func absolute(dirs []string, options string) []string {
	root := ""
	for option := range strings.SplitSeq(options, ",") {
		if upper, ok := strings.CutPrefix(option, "upperdir="); ok {
			root = filepath.Dir(filepath.Dir(upper))
		}
	}
	for i, d := range dirs {
		if !filepath.IsAbs(d) {
			dirs[i] = filepath.Join(root, d)
		}
	}
	return dirs
}

// dockerLayer looks up the layer whose directory ROOT/overlay2/ID/diff is.
func dockerLayer(dir string) string {
	id := filepath.Base(filepath.Dir(dir))
	store := filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(dir))), "image", "overlay2", "layerdb", "sha256")
	layers, _ := filepath.Glob(filepath.Join(store, "*", "cache-id"))
	for _, l := range layers {
		if b, _ := os.ReadFile(l); strings.TrimSpace(string(b)) == id {
			diff, _ := os.ReadFile(filepath.Join(filepath.Dir(l), "diff"))
			return strings.TrimSpace(string(diff))
		}
	}
	return ""
}
