package syscalls_test

import (
	"runtime"
	"testing"

	"bulkhead/profile/syscalls"

	"golang.org/x/sys/unix"
)

func TestNumbersOfBothArchitectures(t *testing.T) {
	for _, c := range []struct {
		name         string
		amd64, arm64 int
	}{
		{"read", 0, 63},
		{"openat", 257, 56},
		{"execve", 59, 221},
		{"open", 2, -1},
		{"fork", 57, -1},
		{"newfstatat", 262, 79},
		{"_sysctl", 156, -1},
		{"rt_sigreturn", 15, 139},
		{"io_uring_setup", 425, 425},
		{"mseal", 462, 462},
		{"setxattrat", 463, 463},
		{"getxattrat", 464, 464},
		{"listxattrat", 465, 465},
		{"removexattrat", 466, 466},
		{"open_tree_attr", 467, 467},
		{"file_getattr", 468, 468},
		{"file_setattr", 469, 469},
		{"uretprobe", 335, -1},
		{"arch_specific_syscall", -1, -1},
		{"no_such_call", -1, -1},
		{"", -1, -1},
	} {
		for arch, want := range map[string]int{"amd64": c.amd64, "arm64": c.arm64} {
			got, ok := syscalls.Number(arch, c.name)
			if ok != (want >= 0) || ok && got != want {
				t.Errorf("Number(%s, %q) = %d, %v; want %d", arch, c.name, got, ok, want)
			}
			if ok && syscalls.Name(arch, got) != c.name {
				t.Errorf("Name(%s, %d) = %q; want %q", arch, got, syscalls.Name(arch, got), c.name)
			}
		}
	}
}

func TestOwnMachine(t *testing.T) {
	for name, want := range map[string]int{
		"bpf": unix.SYS_BPF, "connect": unix.SYS_CONNECT, "ptrace": unix.SYS_PTRACE, "seccomp": unix.SYS_SECCOMP,
		"file_setattr": unix.SYS_FILE_SETATTR, "fadvise64": unix.SYS_FADVISE64, "sync_file_range": unix.SYS_SYNC_FILE_RANGE,
	} {
		if got, ok := syscalls.Number(runtime.GOARCH, name); !ok || got != want {
			t.Errorf("Number(%s, %q) = %d, %v; want %d", runtime.GOARCH, name, got, ok, want)
		}
	}
}

func TestOutside(t *testing.T) {
	if got := syscalls.Name("amd64", -1) + syscalls.Name("amd64", 1<<20) + syscalls.Name("mips", 0); got != "" {
		t.Errorf("names outside the tables: %q", got)
	}
	if syscalls.Max("mips") != -1 || syscalls.Max("amd64") < 469 {
		t.Error("Max is wrong")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if n := len(syscalls.Names(arch)); n < 300 {
			t.Errorf("%s has %d names", arch, n)
		}
	}
}
