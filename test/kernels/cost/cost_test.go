//go:build kernels

// Package cost counts the instructions that a protected container costs on kernels with BPF-LSM, which the machines of
// the other benchmarks do not have. Start with TestInstructions; `make bench-instructions` runs it.
//
// Under emulation with a counted clock one instruction is one nanosecond of the machine's own clocks, so everything that
// takes times counts instructions. It promises nothing about time.
package cost

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/bpf"
	"bulkhead/enforce/seccomp"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	profile    = 1
	slotNumber = 7
	requests   = 500 // a turn; the first turn warms up
	turns      = 3
)

// mode is what a container is held to.
type mode struct {
	name           string
	flags          uint32
	learn, confine bool // what the kernel's programs are told; whether it gets the keeper's system call filter
	count          bool // its packets
}

const held = bpf.HoldExec | bpf.HoldFiles | bpf.HoldNet

// modes: the first of them without any program loaded.
var modes = []mode{
	{name: "off"},
	{name: "count", flags: bpf.Anonymous, count: true},
	{name: "learn", flags: bpf.Learn, learn: true},
	{name: "protect", flags: held | bpf.Enforce, confine: true},
}

// load is something whose cost is counted; the result is instructions for one.
type load struct {
	name  string
	count func(t *testing.T, c *container) int
}

var loads = []load{
	{"getppid", func(t *testing.T, c *container) int { return c.work(t, "call", 2000, "-") }},
	{"open and close", func(t *testing.T, c *container) int { return c.work(t, "open", 500, "/etc/motd") }},
	{"fork and exec", func(t *testing.T, c *container) int { return c.work(t, "exec", 60, "/bin/child") }},
	{"nginx, a request", func(t *testing.T, c *container) int {
		return c.serve(t, "127.0.0.1:80", []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), httpAnswer, "/usr/sbin/nginx", "-c", "/etc/nginx.conf")
	}},
	{"redis, a SET and a GET", func(t *testing.T, c *container) int {
		return c.serve(t, "127.0.0.1:6379", []byte("SET key value\r\nGET key\r\n"), redisAnswer, "/usr/bin/redis-server", "--save", "", "--dir", "/tmp")
	}},
}

func TestInstructions(t *testing.T) {
	if os.Getenv("BULKHEAD_COUNT") == "" {
		t.Fatal("this machine's clock counts no instructions: run make bench-instructions")
	}
	c := newContainer(t)
	off := map[string]int{}
	for _, m := range modes {
		c.enter(t, m)
		for _, l := range loads {
			n := l.count(t, c)
			if m.name == "off" {
				off[l.name] = n
				fmt.Printf("COST %-24s %-8s %9d\n", l.name, m.name, n)
				continue
			}
			fmt.Printf("COST %-24s %-8s %9d  %+6.2f %%  %+d\n", l.name, m.name, n, 100*float64(n-off[l.name])/float64(off[l.name]), n-off[l.name])
		}
	}
}

// container is a cgroup and an overlay, as an engine makes them.
type container struct {
	cgroup, root string
	kernel       *bpf.Kernel
	mode         mode
}

func newContainer(t *testing.T) *container {
	t.Helper()
	dir := t.TempDir()
	check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "")) // the first file system cannot be the upper one
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	c := &container{cgroup: filepath.Join(cgroupRoot, "cost"), root: filepath.Join(dir, "root")}
	image := filepath.Join(dir, "image")
	for _, d := range []string{image, c.root, filepath.Join(dir, "upper"), filepath.Join(dir, "work"), c.cgroup} {
		check(t, os.Mkdir(d, 0o755))
	}
	fill(t, image)
	check(t, unix.Mount("overlay", c.root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", image, dir, dir)))
	t.Cleanup(func() { _ = unix.Unmount(c.root, unix.MNT_DETACH) })
	check(t, unix.Mount("/dev", c.root+"/dev", "", unix.MS_BIND, ""))
	check(t, unix.Mount("proc", c.root+"/proc", "proc", 0, ""))
	return c
}

const nginxConf = `daemon off; worker_processes 1; user root; pid /tmp/nginx.pid; error_log /tmp/error.log;
events {}
http { access_log /tmp/access.log; keepalive_requests 1000000; client_body_temp_path /tmp/b; server { listen 80; location / { root /srv; } } }`

// fill makes the image: our program, and what `make bench-instructions` took out of real images.
func fill(t *testing.T, image string) {
	t.Helper()
	for _, d := range []string{"bin", "dev", "proc", "tmp", "etc", "srv", "var/log/nginx", "var/lib/nginx", "run"} {
		check(t, os.MkdirAll(filepath.Join(image, d), 0o755))
	}
	for _, server := range []string{"/bin/nginx.tar", "/bin/redis.tar"} {
		if out, err := exec.Command("/bin/tar", "-xf", server, "-C", image).CombinedOutput(); err != nil {
			t.Fatalf("unpacking %s: %v: %s", server, err, out)
		}
	}
	for path, text := range map[string]string{"etc/motd": "hello", "etc/nginx.conf": nginxConf, "srv/index.html": strings.Repeat("x", 600), "etc/passwd": "root:x:0:0:root:/:/bin/sh\n", "etc/group": "root:x:0:\n"} {
		check(t, os.WriteFile(filepath.Join(image, path), []byte(text), 0o644))
	}
	for _, name := range []string{"work", "child"} {
		data, err := os.ReadFile(filepath.Join("built", name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(image, "bin", name), data, 0o755))
	}
}

// enter loads the programs when the first mode needs them and says what the container is held to.
func (c *container) enter(t *testing.T, m mode) {
	t.Helper()
	c.mode = m
	if m.flags == 0 {
		return
	}
	if c.kernel == nil {
		k, err := bpf.Load(bpf.Options{CgroupRoot: cgroupRoot})
		check(t, err)
		t.Cleanup(k.Close)
		if !k.Features().LSM {
			t.Fatalf("no BPF-LSM here: %v", k.Features().Refused)
		}
		c.kernel = k
		check(t, k.PutPolicy(profile, policy(k.Hasher())))
		check(t, k.PutPeers(profile, nil))
	}
	check(t, c.kernel.CountFlows(m.count))
	check(t, c.kernel.Need(m.learn, m.confine))
	check(t, c.kernel.SetSlot(slotNumber, c.slot(t, m)))
	check(t, c.kernel.Bind(inode(t, c.cgroup), slotNumber))
}

func (c *container) slot(t *testing.T, m mode) bpf.Slot {
	var root, ns syscall.Stat_t
	check(t, syscall.Stat(c.root, &root))
	check(t, syscall.Stat("/proc/self/ns/mnt", &ns))
	return bpf.Slot{Cgroup: inode(t, c.cgroup), Profile: profile, Flags: m.flags, RootDev: bpf.KernelDev(root.Dev), RuntimeMntNS: uint32(ns.Ino) + 1}
}

func policy(h bpf.Hasher) (entries []bpf.Entry) {
	for _, path := range []string{"/bin/work", "/bin/child", "/usr/sbin/nginx", "/usr/bin/redis-server", "/usr/bin/redis-check-rdb", "/lib64/ld-linux-x86-64.so.2"} {
		entries = append(entries, bpf.Entry{Kind: bpf.PolicyExec, Hash: h.Path(path)})
	}
	return append(entries,
		bpf.Entry{Kind: bpf.PolicyWrite, Hash: h.Path("/tmp"), Flags: bpf.EntryDeep | bpf.EntryChild},
		bpf.Entry{Kind: bpf.PolicyWrite, Hash: h.Path("/var/log/nginx"), Flags: bpf.EntryDeep | bpf.EntryChild},
		bpf.Entry{Kind: bpf.PolicyListen, Hash: 6<<16 | 80}, bpf.Entry{Kind: bpf.PolicyListen, Hash: 6<<16 | 6379})
}

// start runs a program of the image in the container: it begins where a runtime does, and has a mount namespace of its own
// before it is executed.
func (c *container) start(t *testing.T, in *os.File, argv ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	dir, err := os.Open(c.cgroup)
	check(t, err)
	defer dir.Close()
	var said bytes.Buffer
	cmd := &exec.Cmd{Path: filepath.Join("built", "enter"), Args: append([]string{"enter", c.root}, argv...), Stdin: in, Stdout: &said, Stderr: &said, Env: []string{"PATH=/bin"}}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	check(t, cmd.Start()) // without a death signal: it is sent when the thread ends that started it, as one of an injection does
	for range 1000 {      // it may do what the filter forbids until it is the program
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid)); strings.TrimSpace(string(comm)) == filepath.Base(argv[0]) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return cmd, &said
}

// work counts the instructions of one call, open or exec.
func (c *container) work(t *testing.T, what string, n int, path string) int {
	t.Helper()
	wait, begin, err := os.Pipe()
	check(t, err)
	defer begin.Close()
	cmd, said := c.start(t, wait, "/bin/work", what, strconv.Itoa(n), path)
	wait.Close()
	c.confine(t, cmd.Process.Pid)
	_, err = begin.Write([]byte{1})
	check(t, err)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v: %s", what, err, said)
	}
	got, err := strconv.Atoi(strings.TrimSpace(said.String()))
	check(t, err)
	return got
}

// serve counts the instructions that a server executes for one request, its system calls and what the kernel does in them included.
func (c *container) serve(t *testing.T, address string, request []byte, answer func(*bufio.Reader) error, argv ...string) int {
	t.Helper()
	cmd, said := c.start(t, nil, argv...)
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	conn := dial(t, address, said)
	defer conn.Close()
	pids := c.processes(t)
	for _, pid := range pids {
		c.confine(t, pid)
	}
	in := bufio.NewReader(conn)
	least := 0
	for turn := range turns + 1 {
		before := running(t, pids)
		for range requests {
			_, err := conn.Write(request)
			check(t, err)
			check(t, answer(in))
		}
		if n := (running(t, pids) - before) / requests; turn > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	return least
}

// confine gives a process the filter that an engine puts on every container, and in mode protect the one that the keeper
// adds to it.
func (c *container) confine(t *testing.T, pid int) {
	t.Helper()
	c.inject(t, pid, append(slices.Clone(calls), "ptrace", "mount", "reboot")...)
	if c.mode.confine {
		c.inject(t, pid, calls...)
	}
}

func (c *container) inject(t *testing.T, pid int, calls ...string) {
	t.Helper()
	program, err := seccomp.Compile(seccomp.Policy{Syscalls: calls, Sockets: []string{"inet", "unix"}, OnDeny: seccomp.Errno})
	check(t, err)
	for range 50 { // right after exec there is no code to borrow yet
		if _, err = seccomp.Inject(pid, seccomp.Injection{Program: program, Again: true}); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(err)
}

// calls is a profile as long as a learned one.
var calls = strings.Fields(`accept accept4 arch_prctl bind brk clone clone3 close connect dup dup2 epoll_create epoll_create1 epoll_ctl epoll_pwait
	epoll_wait eventfd2 execve exit exit_group fcntl fdatasync fstat fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getpeername getpid
	getppid getrandom getrlimit getrusage getsockname getsockopt gettid getuid ioctl listen lseek madvise mkdir mmap mprotect mremap munmap nanosleep
	clock_nanosleep newfstatat open openat pipe2 poll prctl pread64 prlimit64 pwrite64 read readlink readv recvfrom recvmsg rename rt_sigaction rt_sigprocmask
	rt_sigreturn rt_sigsuspend sched_getaffinity sched_yield sendfile sendmsg sendto set_robust_list set_tid_address setitimer setsockopt shutdown sigaltstack
	socket socketpair stat statfs sysinfo umask uname unlink vfork wait4 write writev rseq`)

func dial(t *testing.T, address string, said *bytes.Buffer) net.Conn {
	t.Helper()
	var last error
	for range 200 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn
		}
		last = err
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%v: %s", last, said)
	return nil
}

func (c *container) processes(t *testing.T) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.cgroup, "cgroup.procs"))
	check(t, err)
	for _, field := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(field)
		check(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// running is the processor time of processes, in nanoseconds of the machine's clock: instructions.
func running(t *testing.T, pids []int) (total int) {
	t.Helper()
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			check(t, err)
			first, _, _ := strings.Cut(string(text), " ")
			n, err := strconv.Atoi(first)
			check(t, err)
			total += n
		}
	}
	return total
}

func httpAnswer(r *bufio.Reader) error {
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(n)); err != nil {
				return err
			}
		}
		if line == "\r\n" {
			_, err := r.Discard(length)
			return err
		}
	}
}

func redisAnswer(r *bufio.Reader) error {
	for range 3 { // +OK, $5, value
		if _, err := r.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var s syscall.Stat_t
	check(t, syscall.Stat(path, &s))
	return s.Ino
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
