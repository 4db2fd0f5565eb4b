// Command attack does the deeds of the rule scenarios in a container that is thrown away: raw
// system calls, programs without a file, shells on sockets. Start with main's table. It promises
// that each deed is the real thing and harmless: what it connects to does not answer, what it
// writes is a word, and calls that could do damage get arguments that the kernel refuses. Under
// any other name it is a stand-in for the program of that name, which does nothing unless told
// so by an option. It is not part of the product.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	verbs := map[string]func([]string) error{
		"--run": run, "--as": as, "--read": read, "--write": write, "--open-write": openWrite, "--connect": connect,
		"--connect-unix": connectUnix, "--call": call, "--memfd-exec": memfdExec, "--shell-on-socket": shellOnSocket,
		"--anonymous-code": anonymousCode, "--sleep": sleep,
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		standIn()
		return
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err) // many deeds are meant to be refused
	}
}

// standIn is what a program does of which only the name matters: nothing, unless it is a shell.
func standIn() {
	if os.Args[0] != "bash" {
		return
	}
	if err := unix.Exec("/bin/busybox", append([]string{"sh"}, os.Args[1:]...), os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "attack: start the shell:", err)
	}
}

func start(c *exec.Cmd) error {
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	return c.Run()
}

// run starts a program below this one, so that this one's name is its parent's.
func run(args []string) error { return start(exec.Command(args[0], args[1:]...)) }

// as starts this program under another argv[0].
func as(args []string) error {
	c := exec.Command("/proc/self/exe")
	c.Args = args
	return start(c)
}

func read(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(io.Discard, f, 16)
	return err
}

func write(args []string) error {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("# bulkhead\n")
	return err
}

// openWrite opens for writing and writes nothing: the file may belong to the kernel.
func openWrite(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func connect(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 300*time.Millisecond)
	if err != nil {
		return err
	}
	return c.Close()
}

func connectUnix(args []string) error {
	c, err := net.DialTimeout("unix", args[0], time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func sleep([]string) error { time.Sleep(10 * time.Minute); return nil }

// numbers are the system calls that scenarios name.
var numbers = map[string]uintptr{
	"unshare": unix.SYS_UNSHARE, "mount": unix.SYS_MOUNT, "setns": unix.SYS_SETNS, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
	"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "ptrace": unix.SYS_PTRACE, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "finit_module": unix.SYS_FINIT_MODULE, "userfaultfd": unix.SYS_USERFAULTFD,
	"memfd_create": unix.SYS_MEMFD_CREATE, "io_uring_setup": unix.SYS_IO_URING_SETUP, "perf_event_open": unix.SYS_PERF_EVENT_OPEN,
	"personality": unix.SYS_PERSONALITY, "bpf": unix.SYS_BPF, "utimensat": unix.SYS_UTIMENSAT, "keyctl": unix.SYS_KEYCTL, "socket": unix.SYS_SOCKET,
}

func call(args []string) error {
	number, ok := numbers[args[0]]
	if !ok {
		if number, ok = oldNumbers[args[0]]; !ok {
			return fmt.Errorf("system call %s is not in the table", args[0])
		}
	}
	var a [6]uintptr
	for i, text := range args[1:] {
		value, err := argument(text)
		if err != nil {
			return err
		}
		a[i] = value
	}
	if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return fmt.Errorf("%s: %w", args[0], errno)
	}
	return nil
}

// kept holds the texts that system calls point to.
var kept []*byte

func argument(text string) (uintptr, error) {
	if t, ok := strings.CutPrefix(text, "@"); ok {
		p, err := unix.BytePtrFromString(t)
		kept = append(kept, p)
		return uintptr(unsafe.Pointer(p)), err
	}
	n, err := strconv.ParseInt(text, 0, 64)
	return uintptr(n), err
}

// memfdExec starts a copy of this program that has no file.
func memfdExec([]string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "x")
	defer f.Close()
	if _, err := f.Write(self); err != nil {
		return err
	}
	return start(exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd)))
}

// shellOnSocket gives a shell one end of a connection to itself, and types "exit".
func shellOnSocket([]string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close()
	if _, err := near.WriteString("exit\n"); err != nil {
		return err
	}
	c := exec.Command("/bin/sh")
	c.Stdin = far
	return start(c)
}

// anonymousCode makes one page executable and runs nothing in it.
func anonymousCode([]string) error {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC)
}
