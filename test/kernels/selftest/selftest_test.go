//go:build kernels

// Package selftest proves that a machine of the kernel tests is what the tests expect: that
// BTF is there, the file systems are mounted, the security modules are the ones asked for.
package selftest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMachine(t *testing.T) {
	if os.Getuid() != 0 {
		t.Error("not root")
	}
	for _, path := range []string{"/sys/kernel/btf/vmlinux", "/sys/fs/bpf", "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/tracing/events", "/proc/self/exe"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if out, err := exec.Command("sh", "-c", "mount -t overlay -o lowerdir=/bin:/etc none /tmp && ls /tmp/busybox && umount /tmp").CombinedOutput(); err != nil {
		t.Errorf("overlay: %v: %s", err, out)
	}
}

func TestSecurityModules(t *testing.T) {
	name := os.Getenv("BULKHEAD_KERNEL")
	lsm, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Contains(string(lsm), "bpf"), !strings.HasSuffix(name, "-nolsm"); got != want {
		t.Errorf("machine %q has security modules %s", name, lsm)
	}
}
