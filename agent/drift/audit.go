package drift

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/baseline"
	"bulkhead/baseline/engine"
	"bulkhead/baseline/tree"
)

// task is what the child is told.
type task struct {
	Root    string   `json:"root"`
	Docker  string   `json:"docker"`
	Last    string   `json:"last"` // the report before; there may be none
	Into    string   `json:"into"` // where to put this one
	Version string   `json:"version"`
	Changed []string `json:"changed"` // paths
}

// outcome is what it answers; the report itself is in a file.
type outcome struct {
	Score   float64            `json:"score"`
	Layers  map[string]float64 `json:"layers"`
	Counts  baseline.Counts    `json:"counts"`
	Changes []baseline.Change  `json:"changes"`
	Paths   []string           `json:"paths"` // to watch
}

// kept is a report on disk.
type kept struct {
	Version string          `json:"version"` // of the program, and so of the checks
	Report  baseline.Report `json:"report"`
}

const (
	maxTask    = 4 << 20
	maxOutcome = 32 << 20
	childHeap  = 48 << 20
	auditTime  = 2 * time.Minute
)

// Audit is the whole life of the child: it reads what to do, audits at the lowest priority, and answers.
func Audit(ctx context.Context, in io.Reader, out io.Writer) error {
	yield()
	var t task
	if err := json.NewDecoder(io.LimitReader(in, maxTask)).Decode(&t); err != nil {
		return fmt.Errorf("reading what to audit: %w; the agent itself starts this", err)
	}
	trace := &baseline.Trace{}
	o := baseline.Options{Root: tree.Open(t.Root), Trace: trace}
	if t.Docker != "" {
		o.Docker = engine.Socket(t.Docker)
	}
	report, err := baseline.Run(ctx, o)
	if err != nil {
		return fmt.Errorf("auditing %s: %w", t.Root, err)
	}
	answer := outcome{Score: report.Score, Layers: report.Layers, Counts: report.Counts, Changes: []baseline.Change{}, Paths: trace.Paths()}
	before, err := readReport(t.Last)
	if err != nil {
		return err
	}
	if before != nil && before.Version == t.Version { // other checks are no drift
		answer.Changes = baseline.Compare(before.Report.Checks, report.Checks, trace.About(t.Changed))
	}
	if err := writeReport(t.Into, kept{t.Version, report}); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answer)
}

// yield lets everything else on the host go first, on the processor and at the disk, and keeps the heap small.
func yield() {
	debug.SetMemoryLimit(childHeap)
	debug.SetGCPercent(50)
	runtime.GOMAXPROCS(1)
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 19)
			const idle = 3 << 13
			_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, 1, uintptr(tid), idle)
		}
	}
}

func readReport(name string) (*kept, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit before: %w", err)
	}
	defer f.Close()
	k := &kept{}
	z, err := gzip.NewReader(f)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, maxOutcome)).Decode(k)
	}
	if err != nil {
		return nil, nil // torn by a full disk: there is nothing to compare with
	}
	return k, nil
}

func writeReport(name string, k kept) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the audit: %w", err)
	}
	z := gzip.NewWriter(f)
	err = json.NewEncoder(z).Encode(k)
	if err = errors.Join(err, z.Close(), f.Close()); err != nil {
		return fmt.Errorf("keeping the audit in %s: %w; free room there", filepath.Dir(name), err)
	}
	return nil
}

// child runs an audit in a process of its own: what its collectors need is given back whole when it ends.
func child(ctx context.Context, program string, t task) (answer outcome, cost time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTime)
	defer cancel()
	in, err := json.Marshal(t)
	if err != nil {
		return outcome{}, 0, err
	}
	c := exec.CommandContext(ctx, program, "audit")
	c.Env = append(os.Environ(), "GOMAXPROCS=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	said := &bounded{most: 4 << 10}
	c.Stderr = said
	stdin, err := c.StdinPipe()
	if err != nil {
		return outcome{}, 0, err
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		return outcome{}, 0, err
	}
	runtime.LockOSThread() // a child that is to end with us ends with the thread that started it
	defer runtime.UnlockOSThread()
	if err := c.Start(); err != nil {
		return outcome{}, 0, fmt.Errorf("starting the audit: %w", err)
	}
	go func() { _, _ = stdin.Write(in); _ = stdin.Close() }()
	err = json.NewDecoder(io.LimitReader(stdout, maxOutcome)).Decode(&answer)
	if ended := c.Wait(); ended != nil {
		return outcome{}, 0, fmt.Errorf("auditing this host: %w: %s", ended, said.text)
	}
	return answer, c.ProcessState.UserTime() + c.ProcessState.SystemTime(), err
}

// bounded keeps the first bytes of what is written to it.
type bounded struct {
	text []byte
	most int
}

func (b *bounded) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), b.most-len(b.text))]...)
	return len(p), nil
}
