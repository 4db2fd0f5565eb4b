package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pidSuffix ends the names of the files that say which process a daemon is.
const pidSuffix = ".process"

// record writes which process a daemon is: its number and, as numbers come again, its start.
func record(file string, pid int) error {
	start, err := startOf(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%d %s\n", pid, start), 0o600)
}

// startOf is when a process was started, in ticks since boot.
func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat is cut short", pid)
	}
	return fields[19], nil
}

// Sweep ends the daemons that a killed program left in dir, undoes their mounts and removes dir.
// It is for directories that nobody works in any more.
func Sweep(dir string) error {
	var errs []error
	for _, name := range []string{"dockerd", "containerd"} { // the last started first
		errs = append(errs, endRecorded(filepath.Join(dir, name+pidSuffix)))
	}
	errs = append(errs, unmountBelow(dir))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// endRecorded ends the process that a file names, if it is still that one.
func endRecorded(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var pid int
	var start string
	if _, err := fmt.Sscan(string(data), &pid, &start); err != nil || pid <= 1 {
		return fmt.Errorf("read %s: it does not name a process", file)
	}
	alive := func() bool {
		now, err := startOf(pid)
		return err == nil && now == start
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if !alive() {
			return nil
		}
		_ = syscall.Kill(pid, s)
		for end := time.Now().Add(10 * time.Second); alive() && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
		}
	}
	if alive() {
		return fmt.Errorf("process %d of %s does not end", pid, file)
	}
	return nil
}
