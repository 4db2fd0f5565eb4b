package seccomp

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("SECCOMP_TEST_ROLE"); role != "" {
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// roles are what this test binary does when it is started as a helper.
var roles = map[string]func(){"self": confineSelf}

// web is about what a web server needs.
var web = strings.Fields(`read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask ioctl
	pread64 pwrite64 readv writev madvise nanosleep getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg
	bind listen getsockname socketpair setsockopt getsockopt clone execve wait4 kill uname fcntl ftruncate getdents64 getcwd
	umask gettimeofday getrlimit sysinfo getuid getgid geteuid getegid setgroups statfs prctl arch_prctl gettid futex
	sched_yield sched_getaffinity set_tid_address epoll_ctl epoll_pwait tgkill openat newfstatat set_robust_list utimensat accept4 eventfd2
	epoll_create1 pipe2 prlimit64 getrandom statx rseq clone3 io_setup io_submit faccessat2 sigaltstack pselect6 unlinkat`)

func compile(t testing.TB, p Policy) []unix.SockFilter {
	t.Helper()
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

// TestCompileEveryNumber compares the filter with the policy for every number by every entry.
func TestCompileEveryNumber(t *testing.T) {
	deny := map[OnDeny]uint32{Notify: unix.SECCOMP_RET_USER_NOTIF, Errno: unix.SECCOMP_RET_ERRNO | 1, Kill: unix.SECCOMP_RET_KILL_PROCESS}
	for _, a := range []*arch{amd64, arm64} {
		for on, want := range deny {
			prog := compile(t, Policy{Syscalls: web, Sockets: []string{"unix", "inet", "inet6"}, OnDeny: on, Arch: a.name})
			allow := map[uint32]bool{}
			for _, name := range append(Always(), web...) {
				if n, ok := a.numbers[name]; ok {
					allow[n] = true
				}
			}
			most := 0
			check := func(audit, number uint32, family uint64, allowed bool) {
				got, steps, err := eval(prog, Data{Number: int32(number), Arch: audit, Args: [6]uint64{family}})
				expect := want
				if allowed {
					expect = unix.SECCOMP_RET_ALLOW
				}
				if err != nil || got != expect {
					t.Fatalf("%s, answer %d, audit arch %#x, number %#x, first argument %#x: got %#x %v, want %#x", a.name, on, audit, number, family, got, err, expect)
				}
				most = max(most, steps)
			}
			for n := range uint32(2000) {
				check(a.audit, n, unix.AF_INET, allow[n])
				check(a.audit, x32Bit|n, unix.AF_INET, a.x32 && (n == unix.SYS_EXIT || n == unix.SYS_EXIT_GROUP))
				check(a.audit, 0x80000000|n, unix.AF_INET, false)
				check(a.compat, n, unix.AF_INET, n == 1 || n == a.compatExitGroup)
				check(unix.AUDIT_ARCH_S390X, n, unix.AF_INET, false)
			}
			check(a.audit, ^uint32(0), 0, false)
			for family := range uint64(100) {
				ok := family == unix.AF_UNIX || family == unix.AF_INET || family == unix.AF_INET6
				check(a.audit, a.numbers["socket"], family, ok)
				check(a.audit, a.numbers["socketpair"], 7<<32|family, ok)
			}
			if most > 20 {
				t.Errorf("%s: %d instructions for one call, want at most 20", a.name, most)
			}
			t.Logf("%s: %d instructions, at most %d for one call", a.name, len(prog), most)
		}
	}
}

func TestCompileRandomSets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		allow, names := map[uint32]bool{}, []string{}
		for range random.IntN(400) {
			n := uint32(random.IntN(600))
			allow[n] = true
			names = append(names, fmt.Sprintf("syscall_%d", n))
		}
		for _, name := range Always() {
			allow[amd64.numbers[name]] = true
		}
		prog := compile(t, Policy{Syscalls: names, Sockets: []string{"*"}, OnDeny: Errno, Arch: "amd64"})
		for n := range uint32(700) {
			got, _, err := eval(prog, Data{Number: int32(n), Arch: amd64.audit})
			if err != nil || (got == unix.SECCOMP_RET_ALLOW) != allow[n] {
				t.Fatalf("number %d: got %#x %v, allowed %v", n, got, err, allow[n])
			}
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, p := range []Policy{
		{Syscalls: []string{"opneat"}},
		{Sockets: []string{"inet7"}},
		{Arch: "mips"},
		{OnDeny: 9},
		{Syscalls: []string{"syscall_1073741824"}},
		{Syscalls: []string{"syscall_"}},
		{Sockets: []string{"family_-1"}},
	} {
		if prog, err := Compile(p); err == nil {
			t.Errorf("%+v: compiled to %d instructions", p, len(prog))
		}
	}
	if _, err := Compile(Policy{Syscalls: []string{"open"}, Arch: "arm64"}); err != nil {
		t.Errorf("a call that only the other machine has: %v", err)
	}
}

func TestMarked(t *testing.T) {
	prog := compile(t, Policy{Syscalls: web, Mark: 77})
	if mark, ok := Marked(prog); !ok || mark != 77 {
		t.Errorf("Marked = %d, %v", mark, ok)
	}
	for _, other := range [][]unix.SockFilter{nil, prog[:len(prog)-1], {ret(1), ret(2), ret(3)}} {
		if _, ok := Marked(other); ok {
			t.Errorf("a filter of %d instructions is taken for ours", len(other))
		}
	}
}

func TestNames(t *testing.T) {
	got := []string{
		Name("amd64", 257), Name("arm64", 56), Name("", 9999), FamilyName(16), FamilyName(99), Entry("amd64", unix.AUDIT_ARCH_X86_64, 3),
		Entry("amd64", unix.AUDIT_ARCH_I386, 3), Entry("amd64", unix.AUDIT_ARCH_X86_64, x32Bit|3), Entry("arm64", unix.AUDIT_ARCH_ARM, 3),
	}
	want := []string{"openat", "openat", "syscall_9999", "netlink", "family_99", "", "i386", "x32", "arm"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// trampolines are the kernel's own way back from probes: newer kernels let them pass every
// filter, and raise SIGILL for anybody else.
var trampolines = map[string]bool{"uretprobe": true, "uprobe": true, "syscall_335": true, "syscall_336": true}

// confineSelf loads an Errno filter and tries every denied number on the real kernel.
func confineSelf() {
	runtime.LockOSThread()
	needed := strings.Fields("read write futex nanosleep rt_sigaction rt_sigprocmask sigaltstack mmap munmap madvise clone gettid getpid tgkill sched_yield epoll_pwait fcntl socket sched_getaffinity close openat clock_gettime mprotect timer_create timer_settime timer_delete clone3 set_robust_list")
	if runtime.GOARCH == "amd64" {
		needed = append(needed, "arch_prctl")
	}
	prog, err := Compile(Policy{Syscalls: needed, Sockets: []string{"unix"}, OnDeny: Errno})
	if err != nil {
		panic(err)
	}
	allow := map[uint32]bool{}
	for _, name := range append(Always(), needed...) {
		n, _ := Number("", name)
		allow[n] = true
	}
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		panic(errno)
	}
	tried, wrong := 0, 0
	try := func(nr uintptr, args ...uintptr) {
		a := append(args, 0, 0, 0)
		_, _, errno := unix.RawSyscall(nr, a[0], a[1], a[2])
		tried++
		if !errors.Is(errno, unix.EPERM) {
			wrong++
			fmt.Println("number", nr, "gave", errno)
		}
	}
	for n := range uintptr(600) {
		if name := Name("", uint32(n)); !allow[uint32(n)] && !trampolines[name] {
			try(n)
		}
	}
	if runtime.GOARCH == "amd64" {
		for n := range uintptr(600) {
			if n != unix.SYS_EXIT && n != unix.SYS_EXIT_GROUP {
				try(x32Bit | n)
			}
		}
	}
	socket, _ := Number("", "socket")
	try(uintptr(socket), unix.AF_NETLINK, unix.SOCK_RAW, 0)
	try(uintptr(socket), unix.AF_PACKET, unix.SOCK_RAW, 0)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		wrong++
		fmt.Println("allowed family gave", err)
	}
	unix.Close(fd)
	fmt.Println("tried", tried, "wrong", wrong)
}

func TestFilterOnRealKernel(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SECCOMP_TEST_ROLE=self")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "wrong 0\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func FuzzMarked(f *testing.F) {
	f.Add([]byte{6, 0, 0, 0, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		prog := make([]unix.SockFilter, len(b)/8)
		for i := range prog {
			prog[i] = *(*unix.SockFilter)(unsafe.Pointer(&b[i*8]))
		}
		Marked(prog)
	})
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		compile(b, Policy{Syscalls: web, Sockets: []string{"inet"}})
	}
}

// lines reads a helper's output.
func lines(cmd *exec.Cmd, t testing.TB) *bufio.Scanner {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(out)
}
