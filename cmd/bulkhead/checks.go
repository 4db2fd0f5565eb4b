package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// check is one thing that `up` needs of the host. Its error is one line with the next step.
type check struct {
	name string
	run  func() error
}

const btfFile = "/sys/kernel/btf/vmlinux"

// hostChecks are what a person can mend. What the agent mends itself, as the BPF file system, it also checks.
func hostChecks() []check {
	return []check{
		{"root", checkRoot},
		{"kernel types (BTF)", checkBTF},
		{"cgroup v2", checkCgroup},
	}
}

// checkHost runs all checks and tells all that fails, so that a person mends it once. Without root
// the others say nothing of use.
func checkHost(checks []check) error {
	var failed []error
	for i, c := range checks {
		err := c.run()
		if err == nil {
			continue
		}
		failed = append(failed, fmt.Errorf("%s: %w", c.name, err))
		if i == 0 {
			break
		}
	}
	return errors.Join(failed...)
}

func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the agent loads programs into the kernel; start it with sudo, or start the control plane alone with `bulkhead server`")
	}
	return nil
}

func checkBTF() error {
	if _, err := os.Stat(btfFile); err != nil {
		return fmt.Errorf("%s is missing; boot a kernel that is built with CONFIG_DEBUG_INFO_BTF (5.10 or newer), as those of the distributions are", btfFile)
	}
	return nil
}

func checkCgroup() error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("reading the mounts: %w; mount /proc", err)
	}
	defer func() { _ = file.Close() }()
	if !mounted(file, "cgroup2") {
		return errors.New("not mounted; mount it: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified")
	}
	return nil
}

// mounted looks for a file system of the kind in the form of /proc/self/mountinfo.
func mounted(mountinfo io.Reader, kind string) bool {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		_, after, _ := strings.Cut(lines.Text(), " - ")
		if have, _, _ := strings.Cut(after, " "); have == kind {
			return true
		}
	}
	return false
}
