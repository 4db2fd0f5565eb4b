package agent

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/enforce"
	"bulkhead/enforce/keeper"
	"bulkhead/profile"
	"bulkhead/profile/syscalls"
)

// handle takes one event: it teaches, and it may be an alert. It runs on the sensor's goroutine.
func (a *Agent) handle(e *bulkhead.Event) {
	if runtimeEntering(e) || e.Process.PID == os.Getpid() { // in a container of its own this agent would be told of its own work
		return
	}
	a.name(e)
	a.mu.Lock()
	w := a.workloads[e.Container.Workload.Name]
	learning := w != nil && w.Mode == bulkhead.Learn
	a.mu.Unlock()
	if learning {
		a.learn(w, e)
	}
	if e.Verdict == bulkhead.Allowed && (e.Reason == bulkhead.ReasonForeignScript || e.Reason == bulkhead.ReasonAnonymousCode) {
		e.Reason = "" // learned, and gone against nothing
	}
	a.alerts.event(e)
}

// runtimeEntering knows the container runtime on its way into a container: it starts itself once more in the
// host's namespaces.
func runtimeEntering(e *bulkhead.Event) bool {
	if e.Kind != bulkhead.EventExec || e.Reason != bulkhead.ReasonHostNamespace {
		return false
	}
	name := path.Base(e.Exec.Path)
	return e.Exec.Origin == bulkhead.OriginMemory || strings.HasPrefix(name, "runc") || strings.HasPrefix(name, "crun") ||
		strings.HasPrefix(name, "conmon") || strings.HasPrefix(name, "memfd:runc") || strings.HasPrefix(e.Process.Comm, "runc")
}

func (a *Agent) learn(w *workload, e *bulkhead.Event) {
	if e.Kind == bulkhead.EventExec && profile.Interpreter(e.Exec.Path) {
		a.mu.Lock()
		fresh := !w.interprets[e.Exec.Path]
		w.interprets[e.Exec.Path] = true
		a.mu.Unlock()
		if fresh {
			_ = a.enforcer.LearnInterpreters(e.Container, []string{e.Exec.Path})
		}
	}
	if e.Kind == bulkhead.EventFile && e.Reason == bulkhead.ReasonForeignScript {
		if !shell(e.Process) {
			return
		}
		// A foreign file with the name of a script is one; others are data that the interpreter reads.
		if scriptName(e.File.Path) {
			e = asScript(e)
		}
	}
	if e.Kind == bulkhead.EventListen && e.Network.Protocol == "raw" {
		return
	}
	a.recorder(w).Observe(e)
}

// recorder is the one that learns now: an approval begins another.
func (a *Agent) recorder(w *workload) *profile.Recorder {
	a.mu.Lock()
	defer a.mu.Unlock()
	return w.recorder
}

// shell tells an interpreter from a tool that is in the same file: busybox called as sh, and as tar.
func shell(p bulkhead.Process) bool {
	switch name := path.Base(p.Exe); {
	case name != "busybox" && name != "toybox":
		return true
	case len(p.Args) == 0:
		return true
	default:
		return profile.Interpreter(strings.TrimPrefix(path.Base(p.Args[0]), "-"))
	}
}

// scriptSuffixes are the names under which interpreters look for code.
var scriptSuffixes = []string{".sh", ".bash", ".py", ".pyc", ".pl", ".pm", ".rb", ".php", ".phtml", ".phar", ".inc", ".js", ".mjs", ".cjs", ".lua", ".awk", ".tcl", ".jsp", ".cgi", ".so"}

func scriptName(file string) bool { return slices.Contains(scriptSuffixes, path.Ext(file)) }

func asScript(e *bulkhead.Event) *bulkhead.Event {
	return &bulkhead.Event{
		Time: e.Time, Kind: bulkhead.EventExec, Container: e.Container, Process: e.Process,
		Exec: &bulkhead.Exec{Path: e.Process.Exe, Script: e.File.Path, ScriptOrigin: e.File.Origin, Origin: bulkhead.OriginImage},
	}
}

// denied turns the keeper's reports into events.
func (a *Agent) denied(list []keeper.Denial) {
	for _, d := range list {
		if c, ok := a.lookup(d.CgroupID); ok {
			a.alerts.event(a.denial(c, d))
		}
	}
}

func (a *Agent) denial(c bulkhead.Container, d keeper.Denial) *bulkhead.Event {
	e := &bulkhead.Event{
		Boot: "keeper", Seq: uint64(time.Now().UnixNano()), Time: time.Now(), Node: a.options.Node, Kind: bulkhead.EventSyscall,
		Container: c, Process: processNow(d.PID), Backend: "seccomp", Repeats: int(d.Count) - 1,
		Verdict: bulkhead.Blocked, Reason: bulkhead.ReasonSyscall, Syscall: &bulkhead.Syscall{Name: d.Syscall, Args: d.Args, Path2: d.Family, ABI: d.Entry},
	}
	if d.Verdict == keeper.WouldDeny {
		e.Verdict = bulkhead.WouldBlock
	}
	if d.Entry != "" {
		e.Reason = bulkhead.ReasonForeignABI
	}
	return e
}

// cut tells of a connection that was there before the policy that does not allow it.
func (a *Agent) cut(c bulkhead.Container, cut enforce.Cut) {
	e := &bulkhead.Event{
		Boot: "cut", Seq: uint64(time.Now().UnixNano()), Time: time.Now(), Node: a.options.Node, Kind: bulkhead.EventConnect,
		Container: c, Process: processNow(cut.PID), Backend: "sock_diag", Verdict: bulkhead.Blocked, Reason: bulkhead.ReasonConnect,
		Network: &bulkhead.Network{Protocol: cut.Protocol, Address: cut.Address.String(), Port: cut.Port},
	}
	if cut.Listens {
		e.Kind, e.Reason = bulkhead.EventListen, bulkhead.ReasonListen
	}
	a.alerts.event(e)
}

// processNow describes a living process.
func processNow(pid int) bulkhead.Process {
	p := bulkhead.Process{PID: pid, Args: []string{}, Ancestry: []bulkhead.Ancestor{}}
	if pid == 0 {
		return p
	}
	dir := "/proc/" + strconv.Itoa(pid)
	p.Exe, _ = os.Readlink(dir + "/exe")
	if b, err := os.ReadFile(dir + "/cmdline"); err == nil && len(b) > 0 {
		p.Args = strings.Split(strings.TrimSuffix(string(b[:min(len(b), 512)]), "\x00"), "\x00")
	}
	p.Comm = commOf(pid)
	for up := parentOf(pid); up > 1 && len(p.Ancestry) < 6; up = parentOf(up) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", up))
		p.Ancestry = append(p.Ancestry, bulkhead.Ancestor{PID: up, Comm: commOf(up), Exe: exe})
	}
	return p
}

func commOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

func parentOf(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(b), ") ")
	if !ok {
		return 0
	}
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
}

// clock does what is done by time: what the kernel collected is learned, and everything is saved and reported.
func (a *Agent) clock(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		a.collect(time.Second)
		if n%10 == 0 {
			a.saveAll()
		}
	}
}

// collect teaches every learning workload what the kernel has seen of its containers.
func (a *Agent) collect(d time.Duration) {
	for _, l := range a.learners() {
		busy := false
		for _, c := range l.containers {
			seen, err := a.enforcer.Seen(c.CgroupID)
			if err != nil {
				continue
			}
			l.recorder.ObserveSyscalls(seen.Syscalls)
			l.recorder.ObserveSockets(seen.Sockets)
			for _, name := range seen.Capabilities {
				l.recorder.Observe(&bulkhead.Event{Time: time.Now(), Kind: bulkhead.EventCapability, Container: c, Capability: name})
			}
			busy = a.usedProcessor(l.w, c) || busy
		}
		switch {
		case busy:
			l.recorder.Tick(d)
		case len(l.containers) > 0:
			l.recorder.Idle(d)
		}
	}
}

type learner struct {
	w          *workload
	recorder   *profile.Recorder
	containers []bulkhead.Container
}

func (a *Agent) learners() []learner {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []learner
	for _, w := range a.workloads {
		if w.Mode == bulkhead.Learn {
			list = append(list, learner{w, w.recorder, w.list()})
		}
	}
	return list
}

// usedProcessor reports whether a container ran since it was last asked about.
func (a *Agent) usedProcessor(w *workload, c bulkhead.Container) bool {
	root, _ := cgroupRoot()
	b, _ := os.ReadFile(filepath.Join(root, c.Cgroup, "cpu.stat"))
	var usage uint64
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "usage_usec "); ok {
			usage, _ = strconv.ParseUint(strings.TrimSpace(rest), 10, 64)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := w.usage[c.CgroupID]
	w.usage[c.CgroupID] = usage
	return usage > before
}

// pathCalls are system calls whose path arguments are told along with them, with the arguments that are paths.
var pathCalls = map[string]uint32{
	"mount": bpf.WatchPath0 | bpf.WatchPath1, "umount2": bpf.WatchPath0, "pivot_root": bpf.WatchPath0 | bpf.WatchPath1, "chroot": bpf.WatchPath0,
	"unlink": bpf.WatchPath0, "truncate": bpf.WatchPath0, "rename": bpf.WatchPath0 | bpf.WatchPath1, "chmod": bpf.WatchPath0,
	"symlink": bpf.WatchPath0 | bpf.WatchPath1, "link": bpf.WatchPath0 | bpf.WatchPath1, "mknod": bpf.WatchPath0, "swapon": bpf.WatchPath0,
	"unlinkat": bpf.WatchPath1, "fchmodat": bpf.WatchPath1, "fchmodat2": bpf.WatchPath1, "utimensat": bpf.WatchPath1, "mknodat": bpf.WatchPath1,
	"renameat": bpf.WatchPath1 | bpf.WatchPath3, "renameat2": bpf.WatchPath1 | bpf.WatchPath3, "linkat": bpf.WatchPath1 | bpf.WatchPath3,
	"symlinkat": bpf.WatchPath0 | bpf.WatchPath2, "open_tree": bpf.WatchPath1, "memfd_create": bpf.WatchPath0, "move_mount": bpf.WatchPath1 | bpf.WatchPath3,
	"fsopen": bpf.WatchPath0, "chown": bpf.WatchPath0, "lchown": bpf.WatchPath0, "fchownat": bpf.WatchPath1, "setxattr": bpf.WatchPath0, "utime": bpf.WatchPath0, "utimes": bpf.WatchPath0, "futimesat": bpf.WatchPath1,
}

// special are calls that the kernel side looks at in its own way.
var special = map[string]uint32{
	"mmap": bpf.WatchCode, "mprotect": bpf.WatchCode, "pkey_mprotect": bpf.WatchCode, "shmat": bpf.WatchCode,
	"open": bpf.WatchOpen, "openat": bpf.WatchOpen, "openat2": bpf.WatchOpen, "creat": bpf.WatchOpen,
	"clone": bpf.WatchTell | bpf.WatchClone, "clone3": bpf.WatchTell | bpf.WatchClone,
	"socket": bpf.WatchTell | bpf.WatchSocket, "connect": bpf.WatchTell | bpf.WatchConnect,
}

// watchCalls tells the kernel which system calls the rules and the guards want to see.
func (a *Agent) watchCalls() error {
	flags := map[string]uint32{}
	for _, name := range a.rules.Needs().Syscalls {
		flags[name] = bpf.WatchTell | pathCalls[name]
	}
	for name, f := range special {
		if a.kernel.Features().LSM && f&(bpf.WatchCode|bpf.WatchOpen) != 0 {
			continue
		}
		flags[name] = f
	}
	for name, f := range flags {
		if nr, ok := syscalls.Number(runtime.GOARCH, name); ok && nr < 512 {
			if err := a.kernel.Watch(uint32(nr), f); err != nil {
				return err
			}
		}
	}
	return enforce.Sensitive(a.kernel, a.rules.Needs().Reads)
}
