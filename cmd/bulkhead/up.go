package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/cmd/bulkhead/supervise"
)

const (
	readyMost = 60 * time.Second // from the start to an answering server and a reporting agent
	readyTry  = 100 * time.Millisecond
)

// upOptions are the flags of `up`, with their paths made absolute.
type upOptions struct {
	run, state string
	server     serverOptions
	detach     bool
}

func (o upOptions) logs() string { return filepath.Join(o.state, "log") }

func newUp(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "up",
		Short: "Start the control plane and the agent on this host",
		Long: "Starts `bulkhead server` and `bulkhead-agent run`, starts again whichever dies, and prints the console's address and the first sign-in\n" +
			"once both are at work. It stays in the foreground unless --detach is given. A second `up` says that it runs already.\n" +
			"It waits 60 s for that, or as long as BULKHEAD_READY says. Logs are below the state directory: log/server.log, log/agent.log, log/up.log.",
		Example: "  bulkhead up --detach\n  bulkhead up --listen 0.0.0.0:8443 --insecure-http registry.example:5000",
		Args:    cobra.NoArgs,
	}
	var o upOptions
	c.Flags().BoolVarP(&o.detach, "detach", "d", false, "go to the background once everything is at work")
	a.serverFlags(c, &o.server)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var err1, err2 error
		o.run, err1 = filepath.Abs(a.run)
		o.state, err2 = filepath.Abs(a.state)
		if err := errors.Join(err1, err2, o.server.settle()); err != nil {
			return err
		}
		return a.up(c.Context(), o)
	}
	return c
}

func (a *app) up(ctx context.Context, o upOptions) error {
	if err := checkHost(a.checks); err != nil {
		return fmt.Errorf("this host is not ready:\n%w", err)
	}
	programs, err := o.programs()
	if err != nil {
		return err
	}
	for _, dir := range []string{o.run, o.state, o.logs()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory to work in: %w; --run and --state name others", err)
		}
	}
	lock, err := supervise.Lock(filepath.Join(o.run, "up.lock"))
	if errors.Is(err, supervise.ErrRunning) {
		return a.tellRunning(ctx, o)
	}
	if err != nil {
		return err
	}
	if err := supervise.StopLeftOvers(o.run, programs...); err != nil {
		return errors.Join(err, lock.Close())
	}
	if o.detach {
		_ = lock.Close() // the one in the background takes it
		return a.background(ctx, o)
	}
	defer func() { _ = lock.Close() }()
	return a.foreground(ctx, o, programs)
}

// programs are the two that make up a host, by their privilege.
func (o upOptions) programs() ([]supervise.Program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	agent, err := findAgent()
	if err != nil {
		return nil, err
	}
	dirs := []string{"--run", o.run, "--state", o.state}
	server := append([]string{"bulkhead", "server"}, append(dirs, o.server.flags()...)...)
	return []supervise.Program{
		{Name: "server", Path: self, Args: server},
		{Name: "agent", Path: agent, Args: append(append([]string{"bulkhead-agent", "run"}, dirs...), o.server.plainFlags()...)},
	}, nil
}

// findAgent looks beside this program first: the two are of one version there.
func findAgent() (string, error) {
	const name = "bulkhead-agent"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor on PATH: build it with `make build`, or install it", name)
	}
	return found, nil
}

// foreground supervises until it is asked to end.
func (a *app) foreground(ctx context.Context, o upOptions, programs []supervise.Program) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := supervise.Record(a.pidFile()); err != nil {
		return fmt.Errorf("recording this process: %w", err)
	}
	defer func() { _ = os.Remove(a.pidFile()) }()
	done := make(chan error, 1)
	began := time.Now()
	options := supervise.Options{Run: o.run, Logs: o.logs(), Log: slog.New(slog.NewTextHandler(a.err, nil))}
	go func() { done <- supervise.Run(ctx, options, programs...) }()
	go func() {
		if err := a.tellReady(ctx, o, began); err != nil && ctx.Err() == nil {
			fmt.Fprintln(a.err, "bulkhead:", paragraph(err.Error()))
		}
	}()
	return <-done
}

// background starts this program once more, away from the terminal, and waits until it is at work.
func (a *app) background(ctx context.Context, o upOptions) error {
	command, err := o.detached()
	if err != nil {
		return fmt.Errorf("going to the background: %w", err)
	}
	began := time.Now()
	if err := command.Start(); err != nil {
		return fmt.Errorf("going to the background: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := command.Wait(); err != nil {
			cancel(fmt.Errorf("it ended at once: %w\n%s", err, tail(supervise.LogFile(o.logs(), "up"))))
		}
	}()
	return a.tellReady(ctx, o, began)
}

// detached is this command without a terminal. Its standard output would be the first sign-in, which
// the waiting parent prints: it goes nowhere, and never to a log.
func (o upOptions) detached() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(supervise.LogFile(o.logs(), "up"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	args := append([]string{"up", "--run", o.run, "--state", o.state}, o.server.flags()...)
	command := exec.Command(self, args...) //nolint:gosec // this very program
	command.Args[0] = "bulkhead"
	command.Dir = "/"
	command.Stderr = log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return command, nil
}

// tellRunning is the answer of a second `up`.
func (a *app) tellRunning(ctx context.Context, o upOptions) error {
	fmt.Fprintln(a.err, "bulkhead runs already; `bulkhead down` stops it")
	return a.tellReady(ctx, o, time.Time{})
}

// tellReady waits until everything is at work, then prints where the console is and how to sign in.
func (a *app) tellReady(ctx context.Context, o upOptions, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, a.patience())
	defer cancel()
	if err := waitFor(ctx, func() error { return a.serverReady(ctx) }); err != nil {
		return o.notUp("server", err)
	}
	if err := a.printAddress(); err != nil {
		return err
	}
	if err := waitFor(ctx, func() error { return a.agentReady(ctx, began) }); err != nil {
		return o.notUp("agent", err)
	}
	return nil
}

// patience is for slow machines to raise.
func (a *app) patience() time.Duration {
	if d, err := time.ParseDuration(a.env("BULKHEAD_READY")); err == nil {
		return d
	}
	return readyMost
}

// waitFor tries until it succeeds or the context ends; then it says what was wrong last.
func waitFor(ctx context.Context, try func() error) error {
	var last error
	for {
		err := try()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // what fails by the end of time says nothing new
			last = err
		}
		if sleep(ctx, readyTry); ctx.Err() == nil {
			continue
		}
		if cause := context.Cause(ctx); !errors.Is(cause, context.DeadlineExceeded) {
			return cause
		}
		return last
	}
}

func (a *app) localClient() (*client, error) {
	t, err := localTarget(a.run)
	if err != nil {
		return nil, err
	}
	return dial(t), nil
}

func (a *app) serverReady(ctx context.Context) error {
	c, err := a.localClient()
	if err != nil {
		return err
	}
	_, err = c.people.WhoAmI(ctx, request(&pb.WhoAmIRequest{}))
	return err
}

// agentReady wants a report of a node that was made after the start.
func (a *app) agentReady(ctx context.Context, began time.Time) error {
	c, err := a.localClient()
	if err != nil {
		return err
	}
	nodes, err := c.listNodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Connected && !n.LastSeen.Before(began.Truncate(time.Second)) {
			return nil
		}
	}
	return errors.New("it has not reported to the server yet")
}

// notUp says what did not come up, with the last it said.
func (o upOptions) notUp(name string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	log := supervise.LogFile(o.logs(), name)
	return fmt.Errorf("the %s is not at work: %w\nthe end of %s:\n%s\nit is being started again and again; `bulkhead down` stops that", name, err, log, tail(log))
}

// tail reads the last few lines of a log.
func tail(path string) string {
	const most = 2000
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		_, _ = file.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, most))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
