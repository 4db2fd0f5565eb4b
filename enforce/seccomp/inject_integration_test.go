//go:build integration

package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { // roles of the helper that only these tests need
	roles["waits"] = waits
	roles["probe"] = probe
	roles["storm"] = storm
	roles["strict"] = strict
	roles["leaderless"] = leaderless
	roles["diverged"] = diverged
	roles["listening"] = listening
	roles["workers"] = workers
}

// everything is a policy that allows all but the named calls.
func everything(on OnDeny, but ...string) Policy {
	p := Policy{Sockets: []string{"*"}, OnDeny: on, Mark: 1}
	for n := range uint32(500) {
		if name := Name("", n); !slices.Contains(but, name) {
			p.Syscalls = append(p.Syscalls, name)
		}
	}
	return p
}

type helper struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out chan string
}

func start(t *testing.T, role string, change ...func(*exec.Cmd)) *helper {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SECCOMP_TEST_ROLE="+role)
	cmd.Stderr = os.Stderr
	for _, c := range change {
		c(cmd)
	}
	return run(t, cmd)
}

func run(t *testing.T, cmd *exec.Cmd) *helper {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	s := lines(cmd, t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &helper{t: t, cmd: cmd, in: in, out: make(chan string, 10000)}
	go func() {
		for s.Scan() {
			h.out <- s.Text()
		}
		close(h.out)
	}()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return h
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

func (h *helper) say(line string) { io.WriteString(h.in, line+"\n") }

func (h *helper) hear(want string) {
	h.t.Helper()
	select {
	case got := <-h.out:
		if got != want {
			h.t.Fatalf("helper says %q, want %q", got, want)
		}
	case <-time.After(5 * time.Second):
		h.t.Fatalf("helper is silent, want %q (state %c)", want, h.state())
	}
}

func (h *helper) silent(d time.Duration) {
	h.t.Helper()
	select {
	case got := <-h.out:
		h.t.Fatalf("helper says %q too early", got)
	case <-time.After(d):
	}
}

func (h *helper) state() byte {
	s, _ := readStatus(h.pid(), h.pid())
	return s.state
}

func (h *helper) inject(in Injection) Result {
	h.t.Helper()
	r, err := Inject(h.pid(), in)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range r.Listeners {
		go answer(Listener(l))
		h.t.Cleanup(func() { unix.Close(l) })
	}
	return r
}

// answer denies everything.
func answer(l Listener) {
	for {
		var n Notification
		p := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
		if unix.Poll(p, -1); p[0].Revents&unix.POLLIN == 0 {
			if p[0].Revents != 0 {
				return
			}
			continue
		}
		if err := l.Receive(&n); err == nil {
			l.Deny(n.ID)
		} else if !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

// blocked are the calls in which a thread of the helper waits, and how each ends well.
type waiting struct {
	name string
	wait func() string // blocks, says what came
	free func()
	want string
}

func errnoText(n uintptr, errno syscall.Errno) string {
	if errno != 0 {
		return errno.Error()
	}
	return fmt.Sprint(n)
}

func waitings() []waiting {
	var pipe, events [2]int
	unix.Pipe2(pipe[:], 0)
	unix.Pipe2(events[:], 0)
	epoll, _ := unix.EpollCreate1(0)
	unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, events[0], &unix.EpollEvent{Events: unix.EPOLLIN})
	var word, limited uint32
	l, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	name := fmt.Sprintf("@seccomp-test-%d", os.Getpid())
	unix.Bind(l, &unix.SockaddrUnix{Name: name})
	unix.Listen(l, 1)
	dgram, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	unix.SetsockoptTimeval(dgram[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 60})
	child := exec.Command("/bin/sleep", "1000")
	child.Start()
	semaphore, _, _ := syscall.Syscall(syscall.SYS_SEMGET, 0, 1, 0o600)
	sleep := unix.Timespec{Sec: 3}
	long := unix.Timespec{Sec: 60}
	return []waiting{
		{
			"read", func() string {
				var b [1]byte
				n, _, e := syscall.Syscall(syscall.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Pointer(&b)), 1)
				return errnoText(n, e)
			},
			func() { unix.Write(pipe[1], []byte("x")) }, "1",
		},
		{"epoll_wait", func() string {
			var ev [1]unix.EpollEvent
			n, _, e := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&ev)), 1, ^uintptr(0), 0, 0)
			return errnoText(n, e)
		}, func() { unix.Write(events[1], []byte("x")) }, "1"},
		{
			"futex", func() string {
				n, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 0, 0, 0, 0, 0)
				return errnoText(n, e)
			},
			func() { syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 1, 9, 0, 0, 0) }, "0",
		},
		{"futex with a limit", func() string {
			n, _, e := syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&limited)), 0, 0, uintptr(unsafe.Pointer(&long)), 0, 0)
			return errnoText(n, e)
		}, func() { syscall.Syscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&limited)), 1, 9, 0, 0, 0) }, "0"},
		{
			"accept", func() string {
				_, _, e := syscall.Syscall(syscall.SYS_ACCEPT, uintptr(l), 0, 0)
				return errnoText(0, e)
			},
			func() {
				c, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
				unix.Connect(c, &unix.SockaddrUnix{Name: name})
			}, "0",
		},
		{"recv with a limit", func() string {
			var b [1]byte
			n, _, e := syscall.Syscall6(syscall.SYS_RECVFROM, uintptr(dgram[0]), uintptr(unsafe.Pointer(&b)), 1, 0, 0, 0)
			return errnoText(n, e)
		}, func() { unix.Write(dgram[1], []byte("x")) }, "1"},
		{
			"wait4", func() string {
				_, _, e := syscall.Syscall6(syscall.SYS_WAIT4, uintptr(child.Process.Pid), 0, 0, 0, 0, 0)
				return errnoText(0, e)
			},
			func() { child.Process.Kill() }, "0",
		},
		{
			"nanosleep", func() string {
				n, _, e := syscall.Syscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&sleep)), 0, 0)
				return errnoText(n, e)
			},
			func() {}, "0",
		},
		{"poll", func() string {
			p := [1]unix.PollFd{{Fd: int32(pipe[1] + 1000)}}
			n, _, e := syscall.Syscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&p)), 0, 3000)
			return errnoText(n, e)
		}, func() {}, "0"},
		{"semop", func() string {
			op := [3]int16{0, -1, 0}
			n, _, e := syscall.Syscall(syscall.SYS_SEMOP, semaphore, uintptr(unsafe.Pointer(&op)), 1)
			return errnoText(n, e)
		}, func() {
			op := [3]int16{0, 1, 0}
			syscall.Syscall(syscall.SYS_SEMOP, semaphore, uintptr(unsafe.Pointer(&op)), 1)
			time.AfterFunc(200*time.Millisecond, func() { syscall.Syscall6(syscall.SYS_SEMCTL, semaphore, 0, 0, 0, 0, 0) })
		}, "0"},
		{"sigtimedwait", func() string {
			set := uint64(1) << (unix.SIGUSR2 - 1)
			block := set
			syscall.Syscall6(syscall.SYS_RT_SIGPROCMASK, 0, uintptr(unsafe.Pointer(&block)), 0, 8, 0, 0)
			tid.Store(int64(unix.Gettid()))
			n, _, e := syscall.Syscall6(syscall.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, 0, 8, 0, 0)
			return errnoText(n, e)
		}, func() { unix.Tgkill(os.Getpid(), int(tid.Load()), unix.SIGUSR2) }, "12"},
	}
}

var tid atomic.Int64

func waits() {
	// The first thread gets the signals that are for the process, as that of the killed child: it shall not be
	// one of those that wait.
	runtime.LockOSThread()
	all := waitings()
	results := make([]chan string, len(all))
	for i, w := range all {
		results[i] = make(chan string, 1)
		go func() {
			runtime.LockOSThread()
			results[i] <- w.wait()
		}()
	}
	time.Sleep(200 * time.Millisecond)
	began := time.Now()
	fmt.Println("ready")
	fmt.Scanln()
	time.Sleep(500 * time.Millisecond) // a wake-up finds only who waits again already
	for i, w := range all {
		select {
		case got := <-results[i]:
			if w.name != "nanosleep" && w.name != "poll" {
				fmt.Println(w.name, "ended early with", got)
				continue
			}
			results[i] <- got
		default:
		}
		w.free()
		select {
		case got := <-results[i]:
			if got != w.want {
				fmt.Println(w.name, "gave", got)
			}
		case <-time.After(3500 * time.Millisecond):
			fmt.Println(w.name, "never came back")
		}
	}
	if d := time.Since(began); d > 20*time.Second {
		fmt.Println("sleeps took", d)
	}
	fmt.Println("done")
}

// TestNoCallOfTheProgramFails injects 100 filters into a process whose threads wait in every
// kind of call.
func TestNoCallOfTheProgramFails(t *testing.T) {
	// Go's own signals for preemption would end sigtimedwait for good reason.
	h := start(t, "waits", func(c *exec.Cmd) { c.Env = append(c.Env, "GODEBUG=asyncpreemptoff=1") })
	h.hear("ready")
	prog := compile(t, everything(Errno, "kexec_load"))
	for range 100 {
		h.inject(Injection{Program: prog, Again: true})
	}
	h.inject(Injection{Program: compile(t, everything(Notify, "mkdir")), Listener: true, Again: true})
	h.say("")
	h.hear("done")
}

// probe makes a directory whenever it is told, on a thread that exists already, and a socket.
func probe() {
	ask, got := make(chan bool), make(chan string)
	go func() {
		runtime.LockOSThread()
		for range ask {
			got <- errnoText(0, forbidden())
		}
	}()
	fmt.Println("ready")
	for {
		var line string
		if _, err := fmt.Scanln(&line); err != nil {
			return
		}
		ask <- true
		fmt.Println(errnoText(0, forbidden()), <-got)
	}
}

// forbidden makes the call that the tests forbid: removing a directory that is not there.
func forbidden() syscall.Errno {
	path := [...]byte{'/', 'n', 'o', 'n', 'e', 0}
	_, _, errno := syscall.Syscall(syscall.SYS_RMDIR, uintptr(unsafe.Pointer(&path)), 0, 0)
	if errno == syscall.ENOENT {
		return 0
	}
	return errno
}

const eperm = "operation not permitted operation not permitted"

func as(uid uint32) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

func TestDenied(t *testing.T) {
	for _, user := range []uint32{0, 65534} {
		for _, listener := range []bool{false, true} {
			t.Run(fmt.Sprintf("uid %d listener %v", user, listener), func(t *testing.T) {
				h := start(t, "probe", as(user))
				h.hear("ready")
				h.say("x")
				h.hear("0 0")
				on := Errno
				if listener {
					on = Notify
				}
				r := h.inject(Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
				h.say("x")
				h.hear(eperm)
				if r.NoNewPrivs != (user != 0) {
					t.Errorf("no_new_privs set: %v", r.NoNewPrivs)
				}
				again, err := Inject(h.pid(), Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
				if !errors.Is(err, ErrCovered) || again.Mark != 1 {
					t.Errorf("a second time: %v, mark %d", err, again.Mark)
				}
				t.Logf("stopped %v, %d threads", r.Stopped, r.Threads)
			})
		}
	}
}

func TestKilled(t *testing.T) {
	h := start(t, "probe")
	h.hear("ready")
	h.inject(Injection{Program: compile(t, everything(Kill, "rmdir"))})
	h.say("x")
	err := h.cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGSYS {
		t.Errorf("ended with %v, want SIGSYS", err)
	}
}

func TestStoppedProcessStaysStopped(t *testing.T) {
	for _, listener := range []bool{false, true} {
		h := start(t, "probe")
		h.hear("ready")
		unix.Kill(h.pid(), unix.SIGSTOP)
		time.Sleep(20 * time.Millisecond)
		on := map[bool]OnDeny{true: Notify, false: Errno}[listener]
		h.inject(Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
		time.Sleep(20 * time.Millisecond)
		if h.state() != 'T' {
			t.Errorf("state %c, want T", h.state())
		}
		h.say("x")
		h.silent(50 * time.Millisecond)
		unix.Kill(h.pid(), unix.SIGCONT)
		h.hear(eperm)
	}
}

// storm changes state all the time: signals, threads that come and go, sleeps.
func storm() {
	for range 4 {
		go func() {
			for {
				done := make(chan bool)
				go func() { runtime.LockOSThread(); close(done) }()
				<-done
				ts := unix.Timespec{Nsec: 50000}
				if err := unix.Nanosleep(&ts, nil); err != nil && err != unix.EINTR {
					fmt.Println("nanosleep", err)
				}
			}
		}()
	}
	go func() {
		for {
			unix.Kill(os.Getpid(), unix.SIGURG)
			time.Sleep(100 * time.Microsecond)
		}
	}()
	probe()
}

func TestUnderSignalsAndNewThreads(t *testing.T) {
	h := start(t, "storm")
	h.hear("ready")
	prog := compile(t, everything(Errno, "kexec_load"))
	for range 100 {
		h.inject(Injection{Program: prog, Again: true})
	}
	h.inject(Injection{Program: compile(t, everything(Notify, "rmdir")), Listener: true, Again: true})
	h.say("x")
	h.hear(eperm)
}

// TestStopsDuringInjection stops and continues the process while filters are injected.
func TestStopsDuringInjection(t *testing.T) {
	h := start(t, "probe")
	h.hear("ready")
	stop := make(chan bool)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				unix.Kill(h.pid(), unix.SIGSTOP)
				time.Sleep(300 * time.Microsecond)
				unix.Kill(h.pid(), unix.SIGCONT)
				time.Sleep(300 * time.Microsecond)
			}
		}
	}()
	prog := compile(t, everything(Errno, "rmdir"))
	for range 200 {
		h.inject(Injection{Program: prog, Again: true})
	}
	close(stop)
	<-ended
	unix.Kill(h.pid(), unix.SIGSTOP)
	h.inject(Injection{Program: prog, Again: true})
	time.Sleep(10 * time.Millisecond)
	if h.state() != 'T' {
		t.Errorf("stopped last: state %c", h.state())
	}
	unix.Kill(h.pid(), unix.SIGCONT)
	h.say("x")
	h.hear(eperm)
}

func TestTraced(t *testing.T) {
	h := start(t, "probe")
	h.hear("ready")
	tracing, done := make(chan bool), make(chan bool)
	go func() {
		runtime.LockOSThread()
		ptraceValue(unix.PTRACE_SEIZE, h.pid(), 0)
		close(tracing)
		<-done
	}()
	<-tracing
	_, err := Inject(h.pid(), Injection{Program: compile(t, everything(Errno))})
	close(done)
	if !errors.Is(err, ErrTraced) {
		t.Errorf("got %v", err)
	}
}

func TestEnded(t *testing.T) {
	cmd := exec.Command("/bin/true")
	cmd.Start()
	time.Sleep(50 * time.Millisecond)
	defer cmd.Wait()
	if _, err := Inject(cmd.Process.Pid, Injection{Program: compile(t, everything(Errno))}); !errors.Is(err, ErrGone) {
		t.Errorf("a process that ended: %v", err)
	}
	if _, err := Inject(2, Injection{Program: compile(t, everything(Errno))}); err == nil {
		t.Error("a thread of the kernel was injected into")
	}
}

func strict() {
	runtime.LockOSThread()
	fmt.Println("ready")
	unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_STRICT, 0, 0, 0)
	var b [1]byte
	syscall.RawSyscall(syscall.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1)
	syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&[]byte("alive\n")[0])), 6)
	for {
		syscall.RawSyscall(syscall.SYS_READ, 0, uintptr(unsafe.Pointer(&b)), 1)
	}
}

func TestStrictThread(t *testing.T) {
	h := start(t, "strict")
	h.hear("ready")
	time.Sleep(20 * time.Millisecond)
	r, err := Inject(h.pid(), Injection{Program: compile(t, everything(Errno, "rmdir"))})
	t.Logf("%+v %v", r, err)
	h.say("")
	h.hear("alive")
}

// leaderless ends its first thread and goes on in another.
func leaderless() {
	runtime.LockOSThread()
	ready := make(chan bool)
	go func() { close(ready); time.Sleep(50 * time.Millisecond); probe() }()
	<-ready
	if unix.Gettid() == os.Getpid() {
		syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
	}
	select {}
}

func TestFirstThreadEnded(t *testing.T) {
	for _, listener := range []bool{false, true} {
		h := start(t, "leaderless")
		h.hear("ready")
		on := map[bool]OnDeny{true: Notify, false: Errno}[listener]
		h.inject(Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
		h.say("x")
		h.hear(eperm)
	}
}

// diverged gives one thread a filter of its own, so that the kernel cannot give all the same.
func diverged() {
	ready := make(chan bool)
	go func() {
		runtime.LockOSThread()
		prog, _ := Compile(everything(Errno, "kexec_load"))
		prog = prog[:len(prog)-2]
		fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if _, _, e := syscall.Syscall(unix.SYS_SECCOMP, 1, 0, uintptr(unsafe.Pointer(&fprog))); e != 0 {
			panic(e)
		}
		close(ready)
		select {}
	}()
	<-ready
	probe()
}

func TestThreadsWithDifferentFilters(t *testing.T) {
	for _, listener := range []bool{false, true} {
		h := start(t, "diverged")
		h.hear("ready")
		on := map[bool]OnDeny{true: Notify, false: Errno}[listener]
		r := h.inject(Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
		if !r.PerThread || listener != (len(r.Listeners) > 1) {
			t.Errorf("%+v", r)
		}
		h.say("x")
		h.hear(eperm)
		_, err := Inject(h.pid(), Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
		if !errors.Is(err, ErrCovered) {
			t.Errorf("a second time: %v", err)
		}
	}
}

func listening() {
	runtime.LockOSThread()
	prog, _ := Compile(everything(Notify, "kexec_load"))
	prog = prog[:len(prog)-2]
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, e := syscall.Syscall(unix.SYS_SECCOMP, 1, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		panic(e)
	}
	probe()
}

func TestListenerOfAnother(t *testing.T) {
	h := start(t, "listening")
	h.hear("ready")
	if _, err := Inject(h.pid(), Injection{Program: compile(t, everything(Notify, "rmdir")), Listener: true}); !errors.Is(err, ErrListener) {
		t.Fatalf("got %v", err)
	}
	h.inject(Injection{Program: compile(t, everything(Errno, "rmdir"))})
	h.say("x")
	h.hear(eperm)
}

// workers has io_uring's threads open a named pipe to which nobody writes.
func workers() {
	const opens = 8 // io_uring takes four such threads for each processor, at most as many as there are entries
	fifo, ok := syscall.BytePtrFromString(fmt.Sprintf("%s/seccomp-test-%d", os.TempDir(), os.Getpid()))
	if ok != nil || syscall.Mkfifo(unix.BytePtrToString(fifo), 0o600) != nil {
		panic("no named pipe")
	}
	var params struct {
		_  [10]uint32
		sq struct{ head, tail, mask, entries, flags, dropped, array, _ uint32 }
		_  [6]uint64
	}
	fd, _, e := syscall.Syscall(unix.SYS_IO_URING_SETUP, opens, uintptr(unsafe.Pointer(&params)), 0)
	if e != 0 {
		panic(e)
	}
	const offEntries, size, opOpen, async = 0x10000000, 64, 18, 1 << 4
	ring, err := unix.Mmap(int(fd), 0, int(params.sq.array)+4*opens, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	entries, err := unix.Mmap(int(fd), offEntries, opens*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	for i := range opens {
		binary.NativeEndian.PutUint32(ring[int(params.sq.array)+4*i:], uint32(i))
		entry := entries[i*size:]
		entry[0], entry[1] = opOpen, async
		binary.NativeEndian.PutUint64(entry[16:], uint64(uintptr(unsafe.Pointer(fifo))))
	}
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&ring[params.sq.tail])), opens)
	if _, _, e := syscall.Syscall6(unix.SYS_IO_URING_ENTER, fd, opens, 0, 0, 0, 0); e != 0 {
		panic(e)
	}
	for running := 0; running < opens/2; time.Sleep(time.Millisecond) {
		running = 0
		tids, _ := threads(os.Getpid())
		for _, tid := range tids {
			if worker(os.Getpid(), tid) {
				running++
			}
		}
	}
	os.Remove(unix.BytePtrToString(fifo))
	probe()
	runtime.KeepAlive(fifo)
}

// TestKernelsOwnThreads injects into a process with threads that the kernel runs in its name, and never come out of it.
func TestKernelsOwnThreads(t *testing.T) {
	for _, listener := range []bool{false, true} {
		h := start(t, "workers")
		h.hear("ready")
		on := map[bool]OnDeny{true: Notify, false: Errno}[listener]
		r := h.inject(Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener})
		h.say("x")
		h.hear(eperm)
		if t.Logf("stopped %v, %d threads", r.Stopped, r.Threads); r.Stopped > time.Second {
			t.Error("the process stood still until its threads of the kernel ended")
		}
		if _, err := Inject(h.pid(), Injection{Program: compile(t, everything(on, "rmdir")), Listener: listener}); !errors.Is(err, ErrCovered) {
			t.Errorf("a second time: %v", err)
		}
		if mark, err := Examine(h.pid()); err != nil || mark != 1 {
			t.Errorf("examined: mark %d, %v", mark, err)
		}
	}
}

// TestOwnFilterThatKills injects into a process whose own filter would end it for our calls.
func TestOwnFilterThatKills(t *testing.T) {
	h := start(t, "probe")
	h.hear("ready")
	h.inject(Injection{Program: compile(t, everything(Kill, "seccomp", "prctl", "kexec_load"))})
	h.inject(Injection{Program: compile(t, everything(Notify, "rmdir")), Listener: true, Again: true})
	h.say("x")
	h.hear(eperm)
}

// TestStopTimes measures 1,000 injections into busy programs.
func TestStopTimes(t *testing.T) {
	const rounds = 170 // of six kinds: 1,020
	programs := map[string]func() *helper{
		"go": func() *helper { return start(t, "storm") },
		"node": func() *helper {
			return run(t, exec.Command("node", "-e", `const h=require('http');h.createServer((q,r)=>r.end('x')).listen(0,'127.0.0.1',function(){const p=this.address().port;console.log('ready');
				(function f(){h.get({port:p,host:'127.0.0.1'},r=>{r.resume();r.on('end',f)}).on('error',e=>{console.log(e.code);f()})})()})`))
		},
		"java": func() *helper {
			dir := t.TempDir()
			os.WriteFile(dir+"/B.java", []byte(`public class B { public static void main(String[] a) throws Exception {
				for (int i = 0; i < 20; i++) new Thread(() -> { while (true) try { Thread.sleep(1); synchronized (B.class) { new byte[100].hashCode(); } } catch (Exception e) { System.out.println(e); } }).start();
				System.out.println("ready"); } }`), 0o644)
			return run(t, exec.Command("java", dir+"/B.java"))
		},
	}
	for name, begin := range programs {
		for _, listener := range []bool{false, true} {
			times := []time.Duration{}
			threads := 0
			h := begin()
			select {
			case <-h.out:
			case <-time.After(20 * time.Second):
				t.Fatal(name, "does not start")
			}
			time.Sleep(300 * time.Millisecond)
			for i := range rounds {
				if listener && i > 0 { // one listener a process: the others are stopped alike and then refused
					r, err := Inject(h.pid(), Injection{Program: compile(t, everything(Notify, "kexec_load")), Listener: true, Again: true})
					if !errors.Is(err, ErrListener) {
						t.Fatal(err)
					}
					times, threads = append(times, r.Stopped), r.Threads
					continue
				}
				on := map[bool]OnDeny{true: Notify, false: Errno}[listener]
				r := h.inject(Injection{Program: compile(t, Policy{Syscalls: everything(on, "kexec_load").Syscalls, Sockets: []string{"*"}, OnDeny: on}), Listener: listener, Again: true})
				times, threads = append(times, r.Stopped), r.Threads
			}
			slices.Sort(times)
			t.Logf("%-5s listener %-5v threads stopped %2d: median %v, 90 %% %v, 99 %% %v, most %v", name, listener, threads,
				times[len(times)/2], times[len(times)*9/10], times[len(times)*99/100], times[len(times)-1])
			for len(h.out) > 0 {
				if line := <-h.out; !strings.HasPrefix(line, "ready") {
					t.Errorf("%s says %q", name, line)
				}
			}
			if h.state() == 'Z' || h.state() == 't' || h.state() == 'T' {
				t.Errorf("%s: state %c", name, h.state())
			}
		}
	}
}
