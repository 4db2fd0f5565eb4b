package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cmd/bulkhead/supervise"
)

// downMost is longer than the supervisor gives its two programs one after the other.
const downMost = 25 * time.Second

func newDown(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop what `up` started",
		Long: "Stops the supervisor, the agent and the server, by the processes that were recorded.\n" +
			"What is protected stays protected by the kernel, also with nothing of Bulkhead running; --release lifts that.",
		Example: "  bulkhead down\n  bulkhead down --release",
		Args:    cobra.NoArgs,
	}
	release := c.Flags().Bool("release", false, "lift the protection from all containers of this host too")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.down(c.Context(), *release) }
	return c
}

func (a *app) down(ctx context.Context, release bool) error {
	stopped, err := a.stopAll()
	if err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	if release {
		return a.release(ctx)
	}
	if !stopped {
		fmt.Fprintln(a.err, "bulkhead is not running here")
		return nil
	}
	fmt.Fprintln(a.err, "stopped; protected containers stay protected, `bulkhead down --release` lifts that")
	return nil
}

// stopAll stops the supervisor, which stops its programs, and then whatever a killed supervisor left over.
func (a *app) stopAll() (stopped bool, err error) {
	if id, err := supervise.ReadIdentity(a.pidFile()); err == nil && id.Alive() {
		stopped = true
		if err := id.Stop(downMost); err != nil {
			return stopped, err
		}
	}
	left := []supervise.Program{{Name: "server"}, {Name: "agent"}}
	for _, p := range left {
		id, err := supervise.ReadIdentity(supervise.PIDFile(a.run, p.Name))
		stopped = stopped || err == nil && id.Alive()
	}
	return stopped, supervise.StopLeftOvers(a.run, left...)
}

// release asks the agent's program to take everything out of the kernel.
func (a *app) release(ctx context.Context) error {
	agent, err := findAgent()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, agent, "release", "--run", a.run, "--state", a.state) //nolint:gosec // found beside this program
	command.Stdout, command.Stderr = a.err, a.err
	if err := command.Run(); err != nil {
		return fmt.Errorf("lifting the protection: `bulkhead-agent release`: %w", err)
	}
	fmt.Fprintln(a.err, "stopped, and nothing is protected any more")
	return nil
}
