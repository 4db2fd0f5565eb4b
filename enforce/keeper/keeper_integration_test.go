//go:build integration

package keeper

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

func init() {
	roles["keeper"] = serveRole
	roles["agent"] = agentRole
	roles["app"] = appRole
	roles["idle"] = func() { io.Copy(io.Discard, os.Stdin) }
	roles["once"] = func() { fmt.Println(rmdir()) }
	roles["fork"] = forkRole
}

func serveRole() {
	holds := make(chan Hold)
	go func() {
		f, err := os.OpenFile(os.Getenv("KEEPER_TEST_SOCKET")+".holds", os.O_RDWR, 0)
		if err != nil {
			return
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var h Hold
			fmt.Sscan(s.Text(), &h.PID, &h.CgroupID)
			holds <- h
		}
	}()
	err := Serve(context.Background(), Options{Socket: os.Getenv("KEEPER_TEST_SOCKET"), Holds: holds, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	fmt.Fprintln(os.Stderr, "keeper:", err)
}

func starter(socket string) func(context.Context) error {
	return func(context.Context) error {
		return Start(StartOptions{Dir: filepath.Dir(socket), Log: os.Stderr, Env: []string{"KEEPER_TEST_ROLE=keeper", "KEEPER_TEST_SOCKET=" + socket}})
	}
}

// agentRole protects one cgroup and waits to be killed.
func agentRole() {
	ctx := context.Background()
	socket := os.Getenv("KEEPER_TEST_SOCKET")
	c, err := Dial(ctx, ClientOptions{Socket: socket, Start: starter(socket), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err == nil {
		id, _ := strconv.ParseUint(os.Getenv("KEEPER_TEST_ID"), 10, 64)
		err = c.Protect(ctx, id, os.Getenv("KEEPER_TEST_DIR"), allBut("rmdir"), 0)
	}
	fmt.Println("ready", err)
	select {}
}

func allBut(names ...string) Policy {
	p := Policy{Sockets: []string{"unix", "inet"}}
next:
	for n := range uint32(500) {
		name := seccomp.Name("", n)
		for _, not := range names {
			if name == not {
				continue next
			}
		}
		p.Syscalls = append(p.Syscalls, name)
	}
	return p
}

var nowhere = [...]byte{'/', 'n', 'o', 'n', 'e', 0}

// rmdir gives ENOENT when the call is allowed.
func rmdir() syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_RMDIR, uintptr(unsafe.Pointer(&nowhere)), 0, 0)
	return errno
}

// appRole makes denied calls in four threads until its input ends, and says what it got.
func appRole() {
	var mu sync.Mutex
	counts := map[string]int{}
	var longest atomic.Int64
	var stop atomic.Bool
	var group sync.WaitGroup
	fmt.Println("ready")
	pause := os.Getenv("KEEPER_TEST_PAUSE") != ""
	in := bufio.NewReader(os.Stdin)
	in.ReadString('\n')
	for range 4 {
		group.Go(func() {
			mine := map[syscall.Errno]int{}
			for !stop.Load() {
				began := time.Now()
				mine[rmdir()]++
				if d := int64(time.Since(began)); d > longest.Load() {
					longest.Store(d)
				}
				if pause {
					time.Sleep(50 * time.Microsecond)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for e, n := range mine {
				counts[e.Error()] += n
			}
		})
	}
	in.ReadString('\n')
	stop.Store(true)
	group.Wait()
	fmt.Println(counts, time.Duration(longest.Load()))
}

// forkRole makes children for a while; each says what it got.
func forkRole() {
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	out, _ := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 2000 ]; do (:) & i=$((i+1)); done; wait").CombinedOutput()
	fmt.Println(string(out), rmdir())
}

type cgroup struct {
	dir string
	id  uint64
}

func newCgroup(t *testing.T) cgroup {
	t.Helper()
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[2] != "cgroup2" {
			continue
		}
		dir := filepath.Join(f[1], fmt.Sprintf("bulkhead-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
		var s unix.Stat_t
		unix.Stat(dir, &s)
		return cgroup{dir, s.Ino}
	}
	t.Fatal("no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup")
	return cgroup{}
}

type process struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (g cgroup) start(t *testing.T, role string, env ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), "KEEPER_TEST_ROLE="+role), env...)
	cmd.Stderr = os.Stderr
	if g.dir != "" {
		f, err := os.Open(g.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	}
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return p
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) line() string {
	p.t.Helper()
	got := make(chan string, 1)
	go func() { s, _ := p.out.ReadString('\n'); got <- strings.TrimSpace(s) }()
	select {
	case s := <-got:
		return s
	case <-time.After(20 * time.Second):
		p.t.Fatal("the helper is silent")
		return ""
	}
}

type bench struct {
	t      *testing.T
	socket string
	client *Client
	mu     sync.Mutex
	seen   []Denial
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, socket: filepath.Join(t.TempDir(), "keeper.sock")}
	if err := unix.Mkfifo(b.socket+".holds", 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pid := b.keeper(); pid > 0 {
			unix.Kill(pid, unix.SIGKILL)
		}
	})
	return b
}

func (b *bench) dial(unknown func(uint64, int)) *Client {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := Dial(ctx, ClientOptions{
		Socket: b.socket, Start: starter(b.socket), Unknown: unknown, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Denied: func(list []Denial) { b.mu.Lock(); b.seen = append(b.seen, list...); b.mu.Unlock() },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.client = c
	b.t.Cleanup(func() { c.Close() })
	return c
}

// keeper finds the keeper of this test by its file.
func (b *bench) keeper() int {
	files, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, f := range files {
		if exe, _ := os.Readlink(f); strings.TrimSuffix(exe, " (deleted)") == filepath.Join(filepath.Dir(b.socket), Name) {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			return pid
		}
	}
	return 0
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) denied(match func(Denial) bool) bool {
	for range 200 {
		b.mu.Lock()
		for _, d := range b.seen {
			if match(d) {
				b.mu.Unlock()
				return true
			}
		}
		b.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestProtectWidenMonitor(t *testing.T) {
	ctx := context.Background()
	g, b := newCgroup(t), newBench(t)
	app := g.start(t, "app", "KEEPER_TEST_PAUSE=1")
	app.line()
	c := b.dial(nil)
	b.must(c.Protect(ctx, g.id, g.dir, allBut("rmdir"), 0))
	b.must(c.Protect(ctx, g.id, g.dir, allBut("rmdir"), 0)) // again: nothing more happens
	io.WriteString(app.in, "\n")
	if !b.denied(func(d Denial) bool {
		return d.Verdict == Denied && d.Syscall == "rmdir" && d.PID == app.pid() && d.CgroupID == g.id
	}) {
		t.Errorf("no denial is told: %+v", b.seen)
	}
	b.must(c.SetEnforcing(ctx, g.id, false))
	if !b.denied(func(d Denial) bool { return d.Verdict == WouldDeny }) {
		t.Error("nothing is told while monitoring")
	}
	b.must(c.SetEnforcing(ctx, g.id, true))
	began := time.Now()
	b.must(c.Widen(ctx, g.id, []string{"rmdir"}, nil))
	t.Log("widened in", time.Since(began))
	late := g.start(t, "once")
	if got := late.line(); got != "no such file or directory" {
		t.Errorf("after widening a new process gets %q", got)
	}
	s, err := c.State(ctx)
	if err != nil || len(s.Wards) != 1 || s.Wards[0].Listeners != 1 || s.Wards[0].Covered < 1 || len(s.Wards[0].Failures) != 0 {
		t.Errorf("%+v %v", s, err)
	}
	io.WriteString(app.in, "\n")
	got := app.line()
	if !strings.Contains(got, "operation not permitted") || !strings.Contains(got, "no such file") || strings.Contains(got, "implemented") {
		t.Error(got)
	}
	t.Log(got)
	b.report(b.keeper())
}

// report says what a keeper costs.
func (b *bench) report(pid int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Name") || strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") {
			b.t.Log(strings.TrimSpace(line))
		}
	}
}

// verdictOf ends the app and looks at what it got.
func verdictOf(t *testing.T, app *process) {
	t.Helper()
	io.WriteString(app.in, "\n")
	got := app.line()
	t.Log(got)
	if !strings.HasPrefix(got, "map[operation not permitted:") || strings.Count(got, ":") != 1 {
		t.Errorf("the application saw %s, want EPERM alone", got)
	}
	_, text, _ := strings.Cut(got, "] ")
	if longest, err := time.ParseDuration(text); err != nil || longest > time.Second {
		t.Errorf("one call took %v %v", longest, err)
	}
}

func TestKeeperKilled(t *testing.T) {
	g, b := newCgroup(t), newBench(t)
	app := g.start(t, "app")
	app.line()
	c := b.dial(nil)
	b.must(c.Protect(context.Background(), g.id, g.dir, allBut("rmdir"), 0))
	io.WriteString(app.in, "\n")
	const kills = 50
	for i := range kills {
		time.Sleep(time.Duration(i%7) * 3 * time.Millisecond)
		pid := b.keeper()
		if pid == 0 {
			t.Fatal("no keeper runs")
		}
		unix.Kill(pid, unix.SIGKILL)
		for range 500 {
			if n := b.keeper(); c.Takeovers() > uint64(i) && n != 0 && n != pid {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if _, err := c.State(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	if n := c.Takeovers(); n != kills {
		t.Errorf("%d takeovers, want %d", n, kills)
	}
	verdictOf(t, app)
	b.must(c.Widen(context.Background(), g.id, []string{"rmdir"}, nil))
}

// TestSignals: a signal that comes while the kernel looks at a listener is no end of the listener.
func TestSignals(t *testing.T) {
	g, b := newCgroup(t), newBench(t)
	app := g.start(t, "app")
	app.line()
	c := b.dial(nil)
	b.must(c.Protect(context.Background(), g.id, g.dir, allBut("rmdir"), 0))
	io.WriteString(app.in, "\n")
	keeper := b.keeper()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", keeper))
		b.must(err)
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			unix.Tgkill(keeper, tid, unix.SIGURG) // what the runtime sends itself all the time
		}
	}
	verdictOf(t, app)
}

func TestAgentKilled(t *testing.T) {
	g, b := newCgroup(t), newBench(t)
	app := g.start(t, "app")
	app.line()
	env := []string{"KEEPER_TEST_SOCKET=" + b.socket, "KEEPER_TEST_DIR=" + g.dir, fmt.Sprintf("KEEPER_TEST_ID=%d", g.id)}
	first := cgroup{}.start(t, "agent", env...)
	if got := first.line(); got != "ready <nil>" {
		t.Fatal(got)
	}
	keeper := b.keeper()
	io.WriteString(app.in, "\n")
	first.cmd.Process.Kill()
	for i := range 49 {
		agent := cgroup{}.start(t, "agent", env...)
		if i%2 == 0 {
			agent.line()
		}
		time.Sleep(time.Duration(i%7) * 3 * time.Millisecond)
		agent.cmd.Process.Kill()
		agent.cmd.Wait()
	}
	if b.keeper() != keeper {
		t.Error("the keeper did not survive")
	}
	c := b.dial(nil)
	s, err := c.State(context.Background())
	if err != nil || len(s.Wards) != 1 || s.Wards[0].Listeners != 1 {
		t.Errorf("%+v %v", s, err)
	}
	verdictOf(t, app)
}

func TestHold(t *testing.T) {
	ctx := context.Background()
	g, other, b := newCgroup(t), newCgroup(t), newBench(t)
	var c *Client
	c = b.dial(func(id uint64, pid int) { c.Protect(ctx, id, other.dir, allBut("rmdir"), 0) })
	b.must(c.Protect(ctx, g.id, g.dir, allBut("rmdir"), 0))
	pipe, err := os.OpenFile(b.socket+".holds", os.O_WRONLY, 0)
	b.must(err)
	defer pipe.Close()
	for i, in := range []cgroup{g, g, g, other} {
		p := in.start(t, "app", "KEEPER_TEST_PAUSE=1")
		p.line()
		unix.Kill(p.pid(), unix.SIGSTOP)
		began := time.Now()
		fmt.Fprintln(pipe, p.pid(), in.id)
		for {
			if n, stopped, _ := seccomp.Filters(p.pid()); n > 0 && !stopped {
				break
			}
			if time.Since(began) > 5*time.Second {
				t.Fatal("it was not let go")
			}
			time.Sleep(100 * time.Microsecond)
		}
		t.Log("hold", i, "took", time.Since(began))
		io.WriteString(p.in, "\n")
		time.Sleep(20 * time.Millisecond)
		verdictOf(t, p)
	}
	s, _ := c.State(ctx)
	if s.Late != 0 {
		t.Errorf("%+v", s)
	}
}

func TestForksDuringProtect(t *testing.T) {
	ctx := context.Background()
	g, b := newCgroup(t), newBench(t)
	c := b.dial(nil)
	p := g.start(t, "fork")
	p.line()
	io.WriteString(p.in, "\n")
	time.Sleep(20 * time.Millisecond)
	b.must(c.Protect(ctx, g.id, g.dir, allBut("rmdir"), 0))
	for _, pid := range processes(g.dir) {
		if n, _, err := seccomp.Filters(pid); err == nil && n == 0 {
			t.Errorf("process %d has no filter", pid)
		}
	}
	if got := p.line(); !strings.HasSuffix(got, "operation not permitted") {
		t.Errorf("%q", got)
	}
}

func TestKill(t *testing.T) {
	g, b := newCgroup(t), newBench(t)
	app := g.start(t, "app", "KEEPER_TEST_PAUSE=1")
	app.line()
	c := b.dial(nil)
	policy := allBut("rmdir")
	policy.Kill = true
	b.must(c.Protect(context.Background(), g.id, g.dir, policy, 0))
	io.WriteString(app.in, "\n")
	if err := app.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("ended with %v", err)
	}
	if !b.denied(func(d Denial) bool { return d.Verdict == Killed }) {
		t.Error("it is not told")
	}
}

// TestCost measures the answer to a denied call, and what a container that does nothing else
// takes from its neighbour.
func TestCost(t *testing.T) {
	ctx := context.Background()
	loud, quiet, b := newCgroup(t), newCgroup(t), newBench(t)
	one, two := loud.start(t, "app"), quiet.start(t, "app", "KEEPER_TEST_PAUSE=1")
	one.line()
	two.line()
	c := b.dial(nil)
	b.must(c.Protect(ctx, loud.id, loud.dir, allBut("rmdir"), 0))
	b.must(c.Protect(ctx, quiet.id, quiet.dir, allBut("rmdir"), 0))
	before := cpu(b.keeper())
	began := time.Now()
	io.WriteString(one.in, "\n")
	io.WriteString(two.in, "\n")
	time.Sleep(2 * time.Second)
	io.WriteString(one.in, "\n")
	io.WriteString(two.in, "\n")
	took := time.Since(began)
	t.Log("loud: ", one.line())
	t.Log("quiet:", two.line())
	t.Logf("keeper: %.1f %% of a processor", 100*(cpu(b.keeper())-before).Seconds()/took.Seconds())
	b.report(b.keeper())
}

func cpu(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
