// Package supervise keeps the two programs of one host running: it starts them, starts again
// whichever dies, and stops them. Start with [Run] and [Identity].
//
// It promises that a program that dies is back within a fraction of a second, that a program
// which cannot run is tried again ever more slowly, that a process is only ever stopped when its
// start time says that it is the one that was started, and that logs stay within their bound.
// It is not an init system: it knows no dependencies, no users and no other programs.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	firstWait = 50 * time.Millisecond // most deaths are a kill or an upgrade: be back at once
	longWait  = 5 * time.Second       // a program that never comes up costs one try in five seconds
	goodRun   = 2 * time.Second       // it ran this long: the next death counts as the first
	stopGrace = 10 * time.Second      // from the asking signal to the forcing one
)

// Program is one program to keep running.
type Program struct {
	Name string   // of its pid file and log: "server" makes RUN/server.pid and LOGS/server.log
	Path string   // of the executable
	Args []string // with the name of the program first
}

// Options say where a supervisor keeps what it writes.
type Options struct {
	Run  string // directory of the pid files
	Logs string // directory of the log files
	Log  *slog.Logger
}

// Run starts the programs in their order and keeps them running until the context ends; then it
// stops them in reverse order. A program left over from a supervisor that was killed is stopped first,
// so that what runs is what is installed now.
func Run(ctx context.Context, o Options, programs ...Program) error {
	if err := StopLeftOvers(o.Run, programs...); err != nil {
		return err
	}
	keepers := make([]*keeper, len(programs))
	for i, p := range programs {
		k, err := newKeeper(o, p)
		if err != nil {
			return errors.Join(err, stopAll(keepers[:i]))
		}
		keepers[i] = k
		go k.keep()
	}
	boundOwn(ctx, o)
	return stopAll(keepers)
}

// boundOwn keeps the supervisor's own log within its bound, where it has one, until the context ends.
func boundOwn(ctx context.Context, o Options) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if own, err := openRotated(LogFile(o.Logs, "up")); err == nil { // also bounds it
			_ = own.Close()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// StopLeftOvers stops the programs whose pid files name a living process, the last one first.
func StopLeftOvers(run string, programs ...Program) error {
	for i := len(programs) - 1; i >= 0; i-- {
		path := PIDFile(run, programs[i].Name)
		id, err := ReadIdentity(path)
		if err != nil {
			continue // none was recorded, or it cannot be told which process it was: touch nothing
		}
		if err := id.Stop(stopGrace); err != nil {
			return fmt.Errorf("stopping the %s that was left over: %w", programs[i].Name, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// PIDFile is where the process of a program is recorded.
func PIDFile(run, name string) string { return filepath.Join(run, name+".pid") }

// LogFile is where a program's output goes.
func LogFile(logs, name string) string { return filepath.Join(logs, name+".log") }

// keeper keeps one program running.
type keeper struct {
	Program
	pidFile string
	log     *slog.Logger
	output  *rotated
	stopped chan struct{} // closed to ask for the end
	ended   chan struct{} // closed when the program is gone and will not come back
	once    sync.Once
}

func newKeeper(o Options, p Program) (*keeper, error) {
	output, err := openRotated(LogFile(o.Logs, p.Name))
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.Name, err)
	}
	return &keeper{
		Program: p,
		pidFile: PIDFile(o.Run, p.Name),
		log:     o.Log.With("program", p.Name),
		output:  output,
		stopped: make(chan struct{}),
		ended:   make(chan struct{}),
	}, nil
}

func stopAll(keepers []*keeper) error {
	for i := len(keepers) - 1; i >= 0; i-- {
		k := keepers[i]
		k.once.Do(func() { close(k.stopped) })
		<-k.ended
	}
	return nil
}

// keep runs the program again and again until it is asked to stop.
func (k *keeper) keep() {
	defer close(k.ended)
	defer func() { _ = k.output.Close() }()
	wait := firstWait
	for {
		began := time.Now()
		err := k.runOnce()
		if k.asked() {
			_ = os.Remove(k.pidFile)
			return
		}
		wait = nextWait(wait, time.Since(began))
		k.log.Warn("program ended, starting it again", "error", err, "in", wait)
		if !k.sleep(wait) {
			return
		}
	}
}

// nextWait doubles the wait after each short run and starts over after a good one.
func nextWait(last, ran time.Duration) time.Duration {
	if ran >= goodRun {
		return firstWait
	}
	return min(2*last, longWait)
}

// runOnce starts the program, records it and waits for its end.
func (k *keeper) runOnce() error {
	command := exec.Command(k.Path, k.Args[1:]...) //nolint:gosec // the supervisor's own programs
	command.Args[0] = k.Args[0]
	command.Stdout, command.Stderr = k.output.file, k.output.file
	// A group of its own: Ctrl-C at the terminal is the supervisor's to answer, in its order.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return err
	}
	if err := writeIdentity(k.pidFile, command.Process.Pid); err != nil {
		k.log.Error("process not recorded", "error", err)
	}
	return k.wait(command)
}

// wait returns when the program has ended, bounding its log on the way.
func (k *keeper) wait(command *exec.Cmd) error {
	done := make(chan error, 1)
	go func() { done <- command.Wait() }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return describe(command, err)
		case <-tick.C:
			if err := k.output.bound(); err != nil {
				k.log.Warn("log not rotated", "error", err)
			}
		case <-k.stopped:
			return end(command, done)
		}
	}
}

func describe(command *exec.Cmd, err error) error {
	if err == nil {
		return fmt.Errorf("process %d ended by itself", command.Process.Pid)
	}
	return fmt.Errorf("process %d: %w", command.Process.Pid, err)
}

// end asks the process to end, and forces it when it does not within the grace.
func end(command *exec.Cmd, done <-chan error) error {
	_ = command.Process.Signal(syscall.SIGTERM) // it may be gone already: then done says so
	select {
	case <-done:
		return nil
	case <-time.After(stopGrace):
	}
	_ = command.Process.Kill()
	<-done
	return fmt.Errorf("process %d did not end within %s and was killed", command.Process.Pid, stopGrace)
}

func (k *keeper) asked() bool {
	select {
	case <-k.stopped:
		return true
	default:
		return false
	}
}

func (k *keeper) sleep(d time.Duration) bool {
	select {
	case <-k.stopped:
		return false
	case <-time.After(d):
		return true
	}
}
