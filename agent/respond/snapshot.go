package respond

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What is kept is bounded: it is written by what we look at.
const (
	mostKept      = 20       // snapshots
	mostProcesses = 512      // of a container
	mostChanged   = 20000    // files
	largestProc   = 1 << 20  // of one file of /proc
	largestHashed = 16 << 20 // file whose content is hashed
)

// snapshot packs what can be seen of a container without touching it: its processes with their memory maps and open
// files, its connections, its mounts, and the files that are changed against the image.
func (r *Responder) snapshot(ctx context.Context, j job) error {
	dir := filepath.Join(r.Dir, "snapshots")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000")+"-"+safeName(j.c.Name)+".tar.gz")
	out, err := os.OpenFile(name+".new", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	zip := gzip.NewWriter(io.MultiWriter(out, sum))
	p := &pack{tar: tar.NewWriter(zip)}
	p.json("alert.json", j.a)
	p.json("container.json", j.c)
	r.packProcesses(ctx, p, j)
	err = errors.Join(p.err, p.tar.Close(), zip.Close(), out.Close())
	if err != nil {
		return errors.Join(err, os.Remove(name+".new"))
	}
	if err := os.WriteFile(name+".sha256", []byte(hex.EncodeToString(sum.Sum(nil))+"  "+filepath.Base(name)+"\n"), 0o600); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), forgetOld(dir))
}

// safeName keeps of a container's name what may be in a file's name.
func safeName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 64)]
}

func forgetOld(dir string) error {
	kept, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil {
		return err
	}
	slices.Sort(kept)
	for _, old := range kept[:max(0, len(kept)-mostKept)] {
		if err := errors.Join(os.Remove(old), os.Remove(old+".sha256")); err != nil {
			return err
		}
	}
	return nil
}

// pack writes a tar and keeps the first error.
type pack struct {
	tar *tar.Writer
	err error
}

func (p *pack) add(name string, data []byte) {
	if p.err != nil {
		return
	}
	p.err = p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: time.Now()})
	if p.err == nil {
		_, p.err = p.tar.Write(data)
	}
}

func (p *pack) json(name string, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		p.err = errors.Join(p.err, err)
		return
	}
	p.add(name, data)
}

// process is one line of processes.json.
type process struct {
	PID    int      `json:"pid"`
	Exe    string   `json:"exe"`
	Cwd    string   `json:"cwd"`
	Args   []string `json:"args"`
	Status string   `json:"status"`
	Files  []string `json:"files"` // open ones
}

func (r *Responder) packProcesses(ctx context.Context, p *pack, j job) {
	pids := r.pidsOf(j.c.Cgroup)
	list := []process{}
	for _, pid := range pids {
		if ctx.Err() != nil {
			return
		}
		dir := fmt.Sprintf("/proc/%d", pid)
		list = append(list, look(pid, dir))
		p.add(fmt.Sprintf("maps/%d", pid), readSome(dir+"/maps"))
	}
	p.json("processes.json", list)
	if len(pids) == 0 {
		return
	}
	first := fmt.Sprintf("/proc/%d", pids[0])
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "unix", "raw"} {
		p.add("connections/"+table, readSome(first+"/net/"+table))
	}
	mounts := readSome(first + "/mountinfo")
	p.add("mountinfo", mounts)
	p.add("changed.txt", changed(ctx, upper(string(mounts))))
}

func (r *Responder) pidsOf(cgroup string) []int {
	var pids []int
	for line := range strings.Lines(string(readSome(filepath.Join(r.CgroupRoot, cgroup, "cgroup.procs")))) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 && len(pids) < mostProcesses {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

func look(pid int, dir string) process {
	one := process{PID: pid, Args: []string{}, Files: []string{}, Status: string(readSome(dir + "/status"))}
	one.Exe, _ = os.Readlink(dir + "/exe")
	one.Cwd, _ = os.Readlink(dir + "/cwd")
	if line := strings.TrimSuffix(string(readSome(dir+"/cmdline")), "\x00"); line != "" {
		one.Args = strings.Split(line, "\x00")
	}
	open, _ := os.ReadDir(dir + "/fd")
	for _, f := range open[:min(len(open), 1024)] {
		if to, err := os.Readlink(dir + "/fd/" + f.Name()); err == nil {
			one.Files = append(one.Files, f.Name()+" "+to)
		}
	}
	return one
}

func readSome(name string) []byte {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, largestProc))
	return data
}

// upper finds the directory of what a container changed, in the options of its root's overlay.
func upper(mountinfo string) string {
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	lines.Buffer(nil, largestProc)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || fields[4] != "/" || !strings.HasPrefix(after, "overlay ") {
			continue
		}
		for _, option := range strings.Split(after, ",") {
			if dir, ok := strings.CutPrefix(option, "upperdir="); ok {
				return strings.ReplaceAll(dir, `\040`, " ")
			}
		}
	}
	return ""
}

// changed lists the files of a directory, with the hashes of those that are not large. The directory cannot be left.
func changed(ctx context.Context, dir string) []byte {
	if dir == "" {
		return []byte("the container's root is no overlay: what it changed is not known\n")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return []byte(err.Error() + "\n")
	}
	defer root.Close()
	var text strings.Builder
	n := 0
	_ = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if n++; n > mostChanged || ctx.Err() != nil {
			text.WriteString("… and more\n")
			return fs.SkipAll
		}
		if info, err := d.Info(); err == nil {
			fmt.Fprintf(&text, "%s %s %d %s %q\n", info.Mode(), info.ModTime().UTC().Format(time.RFC3339), info.Size(), digest(root, name, info), name)
		}
		return nil
	})
	return []byte(text.String())
}

func digest(root *os.Root, name string, info fs.FileInfo) string {
	if !info.Mode().IsRegular() || info.Size() > largestHashed {
		return "-"
	}
	f, err := root.Open(name)
	if err != nil {
		return "-"
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, largestHashed)); err != nil {
		return "-"
	}
	return hex.EncodeToString(sum.Sum(nil))
}
