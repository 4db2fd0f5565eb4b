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

	"bulkhead"
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
func (i *images) describe(id, path string) (digest, layer string, multicall bool) {
	i.mu.Lock()
	pid := i.pids[id]
	i.mu.Unlock()
	if pid == 0 {
		return "", "", false
	}
	return fileDigest(fmt.Sprintf("/proc/%d/root%s", pid, path)), layerOf(pid, path), false
}

func fileDigest(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxHashed+1))
	if err != nil || n > maxHashed {
		return ""
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
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
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[4] != "/" {
			continue
		}
		for option := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
				return absolute(strings.Split(dirs, ":"), fields[len(fields)-1])
			}
		}
	}
	return nil
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
