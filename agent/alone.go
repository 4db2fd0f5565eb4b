package agent

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// alone makes sure that no other agent has these pins: two would take each other's events, and stop and continue
// each other's containers. The lock ends with the process, however that ends.
func alone(pin string) (*os.File, error) {
	if err := os.MkdirAll(pin, 0o700); err != nil {
		return nil, fmt.Errorf("making %s for the pins: %w", pin, err)
	}
	dir, err := os.Open(pin)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", pin, err)
	}
	err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		dir.Close()
		return nil, fmt.Errorf("another agent runs with the kernel programs in %s: stop that one first, or give this one a --pin, --state and --run of its own", pin)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("locking %s: %w", pin, err)
	}
	return dir, nil
}

// bpffs is where the kernel expects its BPF file system.
const bpffs = "/sys/fs/bpf"

// mountPins brings up the BPF file system where nobody has: on a host without systemd, and in tests.
func mountPins(pin string) error {
	if !strings.HasPrefix(pin, bpffs+"/") {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(bpffs, &fs); err != nil {
		return fmt.Errorf("looking for the BPF file system at %s: %w; mount sysfs at /sys", bpffs, err)
	}
	if fs.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", bpffs, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mounting the BPF file system: %w; mount it: mount -t bpf bpf %s", err, bpffs)
	}
	return nil
}

// needed are the capabilities without which an agent can do nothing, by their numbers.
var needed = []struct {
	bit  int
	name string
}{{12, "CAP_NET_ADMIN"}, {19, "CAP_SYS_PTRACE"}, {21, "CAP_SYS_ADMIN"}}

// privileged says in one line what is missing.
func privileged() error {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return fmt.Errorf("reading this process's capabilities: %w", err)
	}
	if missing := missingCapabilities(string(b)); len(missing) > 0 {
		return fmt.Errorf("this process has no %s: run the agent as root (`sudo bulkhead-agent run`), or in a privileged container", strings.Join(missing, ", "))
	}
	return nil
}

func missingCapabilities(status string) (missing []string) {
	for line := range strings.Lines(status) {
		rest, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		set, _ := strconv.ParseUint(strings.TrimSpace(rest), 16, 64)
		for _, c := range needed {
			if set>>c.bit&1 == 0 {
				missing = append(missing, c.name)
			}
		}
	}
	return missing
}
