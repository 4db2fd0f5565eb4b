package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func start(c *exec.Cmd) error {
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
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

// hello proves that this program's instructions ran.
func hello(args []string) error {
	fmt.Println("ran", strings.Join(args, " "))
	return nil
}

func read(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(os.Stdout, f, 4096)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func write(args []string) error {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, strings.Join(args[1:], " "))
	return err
}

// openWrite opens for writing and writes nothing: the file may belong to the kernel.
func openWrite(args []string) error {
	f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fmt.Println("open for writing")
	return f.Close()
}

// listen waits for one caller at a port and answers with a word.
func listen(args []string) error {
	l, err := net.Listen("tcp4", args[0])
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("listening")
	time.Sleep(time.Second)
	return nil
}

func connectUnix(args []string) error {
	c, err := net.DialTimeout("unix", args[0], time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected")
	return nil
}

// numbers are the system calls that steps name.
var numbers = map[string]uintptr{
	"unshare": unix.SYS_UNSHARE, "mount": unix.SYS_MOUNT, "setns": unix.SYS_SETNS, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "finit_module": unix.SYS_FINIT_MODULE, "userfaultfd": unix.SYS_USERFAULTFD,
	"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "personality": unix.SYS_PERSONALITY, "bpf": unix.SYS_BPF, "keyctl": unix.SYS_KEYCTL,
	"add_key": unix.SYS_ADD_KEY, "kexec_load": unix.SYS_KEXEC_LOAD, "getppid": unix.SYS_GETPPID, "umount2": unix.SYS_UMOUNT2,
	"mlockall": unix.SYS_MLOCKALL, "syslog": unix.SYS_SYSLOG, "acct": unix.SYS_ACCT, "sethostname": unix.SYS_SETHOSTNAME,
}

// call makes one system call: numbers, and @TEXT for a pointer to a text. It says "done" if the
// kernel did it; "known" if the kernel only found fault with the arguments.
func call(args []string) error {
	number, ok := numbers[args[0]]
	if !ok {
		return fmt.Errorf("system call %s is not in the table", args[0])
	}
	var a [6]uintptr
	for i, text := range args[1:] {
		value, err := argument(text)
		if err != nil {
			return err
		}
		a[i] = value
	}
	_, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	switch {
	case errno == 0:
		fmt.Println("done")
		return nil
	case errno == unix.EINVAL || errno == unix.EFAULT || errno == unix.EBADF || errno == unix.ENOEXEC || errno == unix.E2BIG:
		fmt.Println("known", errno) // it came as far as the call's own code
		return nil
	}
	return fmt.Errorf("%s: %w", args[0], errno)
}

var kept []*byte // the texts that system calls point to

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
func memfdExec(args []string) error {
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
	c := exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd))
	c.Args = append([]string{"x", "--hello"}, args...)
	return start(c)
}

// anonymousCode makes one page executable, puts a return into it and calls that.
func anonymousCode(args []string) error {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	copy(page, returnInstruction)
	if err := unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC); err != nil {
		return err
	}
	fmt.Println("executable", strings.Join(args, " "))
	return nil
}

// mmapFile maps a file as code.
func mmapFile(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE); err != nil {
		return err
	}
	fmt.Println("mapped", strings.Join(args[1:], " "))
	return nil
}

// writeMemory writes into a child's memory through /proc.
func writeMemory([]string) error {
	child := exec.Command("/bin/sleep", "3")
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	time.Sleep(50 * time.Millisecond)
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", child.Process.Pid))
	if err != nil {
		return err
	}
	address, err := strconv.ParseInt(strings.SplitN(string(maps), "-", 2)[0], 16, 64)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", child.Process.Pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("bulkhead"), address+4096); err != nil {
		return err
	}
	fmt.Println("written")
	return nil
}

// trace attaches to a child, as debuggers and injectors do.
func trace([]string) error {
	child := exec.Command("/bin/sleep", "3")
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _ = child.Process.Kill() }()
	runtime.LockOSThread()
	if err := unix.PtraceSeize(child.Process.Pid); err != nil {
		return err
	}
	fmt.Println("attached")
	return nil
}

// userNamespace makes a user namespace, in which it would be root.
func userNamespace([]string) error {
	c := exec.Command("/bin/true")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}
	if err := c.Run(); err != nil {
		return err
	}
	fmt.Println("made")
	return nil
}

// sniff opens a socket that sees every packet of the container, raw one that sends what it likes.
func sniff([]string) error { return openSocket(unix.AF_PACKET, unix.SOCK_RAW, 0x300) }
func raw([]string) error   { return openSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }

func openSocket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	fmt.Println("open")
	return unix.Close(fd)
}

// ioUring sets a ring up, through which system calls can be made that nobody counts.
func ioUring([]string) error {
	var params [120]byte
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	fmt.Println("ring")
	return unix.Close(int(fd))
}

// handle opens a file by its handle, past the root directory.
func handle(args []string) error {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, args[0], 0)
	if err != nil {
		return err
	}
	mount, err := os.Open("/etc/hostname")
	if err != nil {
		return err
	}
	defer mount.Close()
	fd, err := unix.OpenByHandleAt(int(mount.Fd()), h, unix.O_RDONLY)
	if err != nil {
		return err
	}
	fmt.Println("opened")
	return unix.Close(fd)
}

// threadFlood starts processes until a hundred are there, and ends them.
func threadFlood([]string) error {
	signal.Ignore(syscall.SIGCHLD)
	var all []*exec.Cmd
	defer func() {
		for _, c := range all {
			_ = c.Process.Kill()
		}
	}()
	for range 100 {
		c := exec.Command("/bin/sleep", "2")
		if err := c.Start(); err != nil {
			return err
		}
		all = append(all, c)
	}
	fmt.Println("started", len(all))
	return nil
}
