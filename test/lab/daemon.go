package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// daemon is a program of the lab that runs in the background. Its pid file also holds the
// start time, so that a pid which went to another process meanwhile is never signalled.
type daemon struct {
	name  string
	args  []string
	ready func(context.Context) error
}

// start runs d in the cgroup at cgroup and waits until it answers.
func (l *Lab) start(ctx context.Context, d daemon, cgroup *os.File) error {
	log, err := os.Create(l.logFile(d.name))
	if err != nil {
		return fmt.Errorf("making the log of %s: %w", d.name, err)
	}
	defer log.Close()
	cmd := exec.Command(d.args[0], d.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", d.name, err)
	}
	if err := l.writePID(d.name, cmd.Process.Pid); err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	return l.waitReady(ctx, d, gone)
}

func (l *Lab) waitReady(ctx context.Context, d daemon, gone <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		err := d.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-gone:
			return fmt.Errorf("%s ended at its start; see %s", d.name, l.logFile(d.name))
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer (%w); see %s", d.name, err, l.logFile(d.name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop asks the daemon to end, and ends it after ten seconds.
func (l *Lab) stop(name string) {
	defer os.Remove(l.pidFile(name))
	for attempt := range 120 {
		pid, ok := l.alive(name)
		switch {
		case !ok:
			return
		case attempt == 0:
			syscall.Kill(pid, syscall.SIGTERM)
		case attempt == 100:
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// alive returns the pid of the daemon if it runs.
func (l *Lab) alive(name string) (int, bool) {
	text, err := os.ReadFile(l.pidFile(name))
	if err != nil {
		return 0, false
	}
	pidText, start, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err := strconv.Atoi(pidText)
	if err != nil || start == "" || startTime(pid) != start {
		return 0, false
	}
	return pid, true
}

func (l *Lab) writePID(name string, pid int) error {
	text := fmt.Sprintf("%d %s\n", pid, startTime(pid))
	if err := os.WriteFile(l.pidFile(name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("noting the pid of %s: %w", name, err)
	}
	return nil
}

func (l *Lab) pidFile(name string) string { return l.path(name + ".pid") }
func (l *Lab) logFile(name string) string { return l.path("log", name+".log") }

// startTime is the 22nd field of /proc/PID/stat; "" for a process that is gone or a zombie.
func startTime(pid int) string {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	// The second field, the name, is in brackets and may hold blanks and brackets itself.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
