package drift

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
)

// Process is who changed something, as far as it could be looked at.
type Process struct {
	bulkhead.AlertProcess
	Cgroup string // of version 2: "/docker/ID"
	Login  int    // the user who signed in; -1: nobody
}

// The bounds of what is read of a process: what it was called with is its own choice.
const (
	maxLine      = 4 << 10
	maxAncestors = 8
)

// recent remembers processes for a moment: who changes a file has often ended when the event is read, and has mostly made
// another one before, when opening or creating what it then renames.
type recent struct {
	known map[int]remembered
}

type remembered struct {
	Process
	at time.Time
}

const (
	rememberFor = 3 * time.Second
	maxRecent   = 512
)

// of looks at a process, most transient things first.
func (r *recent) of(pid int, now time.Time) (Process, bool) {
	if pid <= 0 || pid == os.Getpid() {
		return Process{}, false
	}
	if p, ok := look(pid); ok {
		if len(r.known) >= maxRecent {
			clear(r.known)
		}
		r.known[pid] = remembered{p, now}
		return p, true
	}
	p, ok := r.known[pid]
	return p.Process, ok && now.Sub(p.at) < rememberFor
}

func look(pid int) (Process, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	exe, _ := os.Readlink(dir + "/exe")
	line := head(dir + "/cmdline")
	status := head(dir + "/status")
	if len(status) == 0 || exe == "" && len(line) == 0 && !bytes.Contains(status, []byte("\nKthread:\t1")) {
		return Process{}, false // ended: what is left of it has no program any more
	}
	p := Process{Login: -1}
	p.PID, p.Exe, p.Args, p.Ancestry = pid, strings.TrimSuffix(exe, " (deleted)"), []string{}, []bulkhead.Ancestor{}
	if len(line) > 0 {
		p.Args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	p.UID = number(status, "\nUid:\t", 1)
	p.Cgroup = cgroup2(head(dir + "/cgroup"))
	if login, err := strconv.ParseUint(strings.TrimSpace(string(head(dir+"/loginuid"))), 10, 32); err == nil && uint32(login) != ^uint32(0) {
		p.Login = int(login)
	}
	p.Ancestry = ancestors(number(status, "\nPPid:\t", 0))
	return p, true
}

func ancestors(pid int) (list []bulkhead.Ancestor) {
	list = []bulkhead.Ancestor{}
	for pid > 0 && len(list) < maxAncestors {
		dir := "/proc/" + strconv.Itoa(pid)
		status := head(dir + "/status")
		name, _, _ := strings.Cut(strings.TrimPrefix(string(status), "Name:\t"), "\n")
		if len(status) == 0 {
			return list
		}
		exe, _ := os.Readlink(dir + "/exe")
		list = append(list, bulkhead.Ancestor{PID: pid, Comm: name, Exe: exe})
		pid = number(status, "\nPPid:\t", 0)
	}
	return list
}

// number reads the nth number of a line of a process's status.
func number(status []byte, line string, nth int) int {
	_, after, _ := bytes.Cut(status, []byte(line))
	fields := bytes.Fields(after[:max(0, bytes.IndexByte(after, '\n'))])
	if nth >= len(fields) {
		return -1
	}
	n, err := strconv.Atoi(string(fields[nth]))
	if err != nil {
		return -1
	}
	return n
}

func cgroup2(text []byte) string {
	for line := range strings.Lines(string(text)) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path.Clean("/" + p)
		}
	}
	return ""
}

// head reads the first bytes of a file that the kernel makes when it is read.
func head(name string) []byte {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	b := make([]byte, maxLine)
	n := 0
	for n < len(b) {
		m, err := unix.Read(fd, b[n:])
		if err != nil || m <= 0 {
			break
		}
		n += m
	}
	return b[:n]
}
