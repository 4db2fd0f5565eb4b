package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/agent/gate"
	"bulkhead/profile/least"
)

const (
	// mostGrants bounds the containers of one workload that are looked at: they are alike.
	mostGrants = 16
	// mostChanged bounds the files of a container's own layer that are looked at. One with more of them is not looked through, and
	// nothing is said about its root file system.
	mostChanged = 50_000
	// mostHeld bounds the processes of a container whose descriptors are looked at, and the descriptors of each.
	mostHeld = 512
	// grantsTime bounds all of it.
	grantsTime = 10 * time.Second
)

// grantsOf tells what the containers of a workload were granted, as JSON: what their engine says, and what only this node sees.
func (a *Agent) grantsOf(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, grantsTime)
	defer cancel()
	a.mu.Lock()
	w := a.workloads[name]
	watched := a.rules.Needs().Reads
	var p bulkhead.Profile
	var list []bulkhead.Container
	if w != nil {
		p = w.current()
		for _, c := range w.containers {
			list = append(list, c)
		}
	}
	a.mu.Unlock()
	if w == nil {
		return nil, fmt.Errorf("workload %q has never run on this node", name)
	}
	slices.SortFunc(list, func(x, y bulkhead.Container) int { return y.Started.Compare(x.Started) })
	all := []least.Grants{}
	var wrong error
	for _, c := range list[:min(len(list), mostGrants)] {
		g, err := a.grants(ctx, c, p, watched)
		if err != nil {
			wrong = errors.Join(wrong, err)
			continue
		}
		all = append(all, g)
	}
	if len(all) == 0 && wrong != nil {
		return nil, wrong
	}
	return json.Marshal(all)
}

func (a *Agent) grants(ctx context.Context, c bulkhead.Container, p bulkhead.Profile, watched []string) (least.Grants, error) {
	made, err := a.containers.Configuration(ctx, c.ID)
	if err != nil {
		return least.Grants{}, err
	}
	var g least.Grants
	if made.Docker {
		g, err = least.FromDocker(made.JSON)
	} else {
		g, err = least.FromSpec(c.Name, made.JSON)
	}
	if err != nil {
		return g, err
	}
	if g.Started.IsZero() {
		g.Started = c.Started
	}
	g.Watched = watched
	for _, power := range gate.PowersOf(c.PID) {
		if shared, ok := strings.CutPrefix(power, "host-"); ok && !slices.Contains(g.HostNamespaces, shared) {
			g.HostNamespaces = append(g.HostNamespaces, shared)
		}
	}
	if c.Pod != nil {
		for _, other := range a.containers.List() {
			if other.Pod != nil && other.Pod.UID == c.Pod.UID && other.Name != c.Name && other.Name != "POD" && !slices.Contains(g.Others, other.Name) {
				g.Others = append(g.Others, other.Name)
			}
		}
	}
	root, err := cgroupRoot()
	if err != nil || c.Cgroup == "" {
		return g, ctx.Err() // whose processes are whose is not known: nobody looked
	}
	g.OpenDevices = heldDevices(ctx, pidsBelow(filepath.Join(root, c.Cgroup)))
	if layers, changed, ok := layersOf(ctx, c.PID); ok {
		g.Looked = true
		g.Directories = least.Places(p.Writes, changed, g.Mounts, layers)
		g.Setuid = privilegedPrograms(c.PID, p)
	}
	return g, ctx.Err()
}

// layers are the directories of the image that a container's overlay lies over. What is in them is the image's: nobody follows a
// link out of one.
type layers []string

// Has reports whether the image has this directory.
func (l layers) Has(dir string) bool {
	for _, layer := range l {
		root, err := os.OpenRoot(layer)
		if err != nil {
			continue
		}
		info, err := root.Lstat(within(dir))
		_ = root.Close()
		if err == nil {
			return info.IsDir()
		}
	}
	return dir == "/"
}

// Filled reports whether the image has something in a directory: a file, or a directory with something in it. An image of
// nothing but empty directories below is as good as empty.
func (l layers) Filled(dir string) bool {
	return slices.ContainsFunc(l, func(layer string) bool {
		root, err := os.OpenRoot(layer)
		if err != nil {
			return false
		}
		defer root.Close()
		seen := 0
		err = fs.WalkDir(root.FS(), within(dir), func(_ string, d fs.DirEntry, err error) error {
			if seen++; seen > mostChanged || err == nil && !d.IsDir() {
				return errFilled
			}
			return nil
		})
		return errors.Is(err, errFilled)
	})
}

// within is a path of the image as one below its root.
func within(dir string) string { return cmp.Or(strings.Trim(filepath.Clean(dir), "/"), ".") }

var errFilled = errors.New("filled")

// layersOf reads the overlay of a container: the image's directories, and what its own has, without directories that are
// there for what lies in them. It is not ok where there is no overlay, or too much in it.
func layersOf(ctx context.Context, pid int) (l layers, changed []string, ok bool) {
	upper, lower := upperDir(pid), lowerDirs(pid)
	if pid <= 0 || upper == "" || len(lower) == 0 {
		return nil, nil, false
	}
	engine := engineRoot(pid)
	for _, dir := range lower {
		l = append(l, filepath.Join(engine, dir))
	}
	if info, err := os.Stat(l[len(l)-1]); err != nil || !info.IsDir() {
		return nil, nil, false
	}
	root, err := os.OpenRoot(filepath.Join(engine, upper))
	if err != nil {
		return nil, nil, false
	}
	defer root.Close()
	n := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if n++; n > mostChanged || ctx.Err() != nil {
			return fs.ErrInvalid
		}
		if errors.Is(err, fs.ErrNotExist) || name == "." {
			return nil // it was removed meanwhile
		}
		if err != nil {
			return err
		}
		switch {
		case !d.IsDir():
			changed = append(changed, "/"+name)
		case empty(root, name):
			changed = append(changed, "/"+name+"/")
		}
		return nil
	})
	return l, changed, err == nil
}

// engineRoot is where the engine that started a container sees its directories: the parent of the first process is a part of the
// engine, and an agent in a container has another root than it.
func engineRoot(pid int) string {
	if parent := parentOf(pid); parent > 0 {
		return fmt.Sprintf("/proc/%d/root", parent)
	}
	return "/"
}

func empty(root *os.Root, dir string) bool {
	f, err := root.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) == 0
}

// privilegedPrograms are those of a profile that give whoever starts them privileges: by their mode, or by what stands beside it.
func privilegedPrograms(pid int, p bulkhead.Profile) []string {
	list := []string{}
	for _, e := range p.Executables {
		f, err := openInside(pid, e.Path)
		if err != nil {
			continue // it is gone
		}
		info, err := f.Stat()
		size, _ := unix.Fgetxattr(int(f.Fd()), "security.capability", nil)
		if err == nil && info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 || size > 0 {
			list = append(list, e.Path)
		}
		f.Close()
	}
	return list
}

// heldDevices are those that processes have open, without what every container has.
func heldDevices(ctx context.Context, pids []int) []string {
	found := map[string]bool{}
	for _, one := range pids[:min(len(pids), mostHeld)] {
		dir := fmt.Sprintf("/proc/%d/fd", one)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries[:min(len(entries), mostHeld)] {
			if ctx.Err() != nil {
				return nil
			}
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			if err == nil && strings.HasPrefix(target, "/dev/") && !ordinaryDevice(target) {
				found[target] = true
			}
		}
	}
	return append([]string{}, slices.Sorted(maps.Keys(found))...)
}

func ordinaryDevice(name string) bool {
	return strings.HasPrefix(name, "/dev/pts/") || strings.HasPrefix(name, "/dev/shm/") || strings.HasPrefix(name, "/dev/mqueue/") ||
		slices.Contains([]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"}, name)
}
