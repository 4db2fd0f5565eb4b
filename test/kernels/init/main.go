// Command init is the first and only program of a virtual machine for kernel tests. Start
// with main.
//
// It promises to mount what kernel tests use, to load the modules beside it, to run every
// test below /tests as root, to say on the serial line how each ended, and to switch the
// machine off. It is not for machines that should keep running.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	defer unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	mountAll()
	loadModules()
	environment()
	fmt.Printf("KERNEL %s\n", release())
	tests, err := os.ReadFile("/tests/list")
	if err != nil {
		fmt.Println("init:", err)
		return
	}
	for line := range strings.Lines(string(tests)) {
		runTest(strings.Fields(line))
	}
	fmt.Println("DONE")
	unix.Sync()
}

func mountAll() {
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"tmpfs", "/tmp"},
		{"tmpfs", "/run"},
		{"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"tracefs", "/sys/kernel/tracing"},
		{"debugfs", "/sys/kernel/debug"},
		{"securityfs", "/sys/kernel/security"},
	} {
		os.MkdirAll(m.path, 0o755) // the file systems of the kernel have theirs already
		if err := unix.Mount(m.kind, m.path, m.kind, 0, ""); err != nil {
			fmt.Printf("init: mounting %s: %v\n", m.path, err)
		}
	}
	os.Chmod("/tmp", 0o1777)
	for link, target := range map[string]string{"fd": "self/fd", "stdin": "self/fd/0", "stdout": "self/fd/1", "stderr": "self/fd/2"} {
		os.Symlink("/proc/"+target, "/dev/"+link)
	}
}

// loadModules loads the files that /modules/order names, in that order.
func loadModules() {
	order, err := os.Open("/modules/order")
	if err != nil {
		return
	}
	defer order.Close()
	for lines := bufio.NewScanner(order); lines.Scan(); {
		f, err := os.Open(filepath.Join("/modules", lines.Text()))
		if err != nil {
			fmt.Println("init:", err)
			continue
		}
		if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
			fmt.Printf("init: loading %s: %v\n", lines.Text(), err)
		}
		f.Close()
	}
}

func environment() {
	os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
	os.Setenv("HOME", "/root")
	os.Setenv("TMPDIR", "/tmp")
	unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	unix.Sethostname([]byte("kernel-test"))
	exec.Command("/bin/ip", "link", "set", "lo", "up").Run()
}

// runTest runs one line of the list: the folder below /tests, then the test's arguments.
func runTest(fields []string) {
	if len(fields) == 0 {
		return
	}
	start := time.Now()
	cmd := exec.Command("./test", fields[1:]...)
	cmd.Dir = filepath.Join("/tests", fields[0])
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Println("init:", err)
	}
	fmt.Printf("EXIT %s %d %.1f\n", fields[0], cmd.ProcessState.ExitCode(), time.Since(start).Seconds())
}

func release() string {
	var name unix.Utsname
	unix.Uname(&name)
	return unix.ByteSliceToString(name.Release[:])
}
