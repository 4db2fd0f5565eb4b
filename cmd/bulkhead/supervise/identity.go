package supervise

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Identity says which process a pid file means. A pid alone is given again to another process;
// with the start time and the boot it is unique.
type Identity struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot, field 22 of /proc/PID/stat
	Boot    string `json:"boot"`    // the kernel's boot id
}

// Identify says who the living process pid is.
func Identify(pid int) (Identity, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Identity{}, fmt.Errorf("reading the start of process %d: %w", pid, err)
	}
	state, started, err := parseStat(stat)
	if err != nil {
		return Identity{}, fmt.Errorf("reading the start of process %d: %w", pid, err)
	}
	if state == "Z" || state == "X" {
		return Identity{}, fmt.Errorf("process %d has ended: %w", pid, os.ErrProcessDone)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Identity{}, fmt.Errorf("reading the boot id: %w", err)
	}
	return Identity{PID: pid, Started: started, Boot: strings.TrimSpace(string(boot))}, nil
}

// parseStat takes the state and the start time from /proc/PID/stat. The name of the program is
// in brackets, may hold anything, and is passed over by its last bracket.
func parseStat(stat []byte) (state string, started uint64, err error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 20 {
		return "", 0, errors.New("not the form of a stat file")
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0], started, err
}

// ReadIdentity reads a pid file.
func ReadIdentity(path string) (Identity, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Identity{}, err
	}
	var id Identity
	if err := json.Unmarshal(data, &id); err != nil || id.PID <= 1 {
		return Identity{}, fmt.Errorf("%s is not a pid file of this program", path)
	}
	return id, nil
}

// Record writes the pid file of the calling process.
func Record(path string) error { return writeIdentity(path, os.Getpid()) }

func writeIdentity(path string, pid int) error {
	id, err := Identify(pid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return replace(path, append(data, '\n'))
}

// replace writes the file whole or not at all.
func replace(path string, data []byte) error {
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// Alive says whether the very process still runs.
func (id Identity) Alive() bool {
	now, err := Identify(id.PID)
	return err == nil && now == id
}

// Stop ends the very process: it is asked, given the grace, then forced. A process that is gone is no error.
func (id Identity) Stop(grace time.Duration) error {
	if err := id.Signal(syscall.SIGTERM); err != nil {
		return ignoreGone(err)
	}
	if id.waitGone(grace) {
		return nil
	}
	if err := id.Signal(syscall.SIGKILL); err != nil {
		return ignoreGone(err)
	}
	if !id.waitGone(grace) {
		return fmt.Errorf("process %d does not end, not even when killed", id.PID)
	}
	return nil
}

// Signal sends a signal to the very process. The process is held by a descriptor before its start time is
// compared, so that the pid cannot become another process in between.
func (id Identity) Signal(signal syscall.Signal) error {
	process, err := os.FindProcess(id.PID)
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }()
	if !id.Alive() {
		return os.ErrProcessDone
	}
	return process.Signal(signal)
}

func ignoreGone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (id Identity) waitGone(within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if !id.Alive() {
			return true
		}
	}
	return !id.Alive()
}
