package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

func newProfileRecord(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "record [flags] -- COMMAND [ARG…]",
		Short: "Run a command, and write the profile of the workload that worked meanwhile",
		Long: "Runs a command, in CI the integration tests, while the agent of this host learns what the containers do, and then writes the profile of the\n" +
			"workload that was at work. Which one that is follows from when it was seen; --workload says it where there are several. The command's own\n" +
			"output goes to standard error. Exit code 1 when the command fails; the profile is written all the same.",
		Example: "  bulkhead profile record --workload docker/shop -o shop.json -- ./integration-tests.sh\n  bulkhead profile check shop.json",
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().SetInterspersed(false) // the command's flags are its own
	name := c.Flags().String("workload", "", "`NAME` of the workload")
	output := c.Flags().StringP("output", "o", "", "write to this `FILE`, as JSON or YAML by its name, instead of standard output")
	format := formatFlag(c, "json", "yaml")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *output != "" && !c.Flags().Changed("format") && isYAML(*output) {
			format.value = "yaml"
		}
		return a.record(c.Context(), *name, args, format.value, *output)
	}
	return c
}

// record asks for the server before the command runs: an hour of tests should not end in a server that was not there.
func (a *app) record(ctx context.Context, name string, command []string, format, output string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	if _, err := c.listWorkloads(ctx); err != nil {
		return fmt.Errorf("recording needs the server and agent of this host: %w", err)
	}
	began := time.Now()
	failed := a.runCommand(ctx, command)
	p, err := a.recorded(ctx, c, name, began)
	if err == nil && output == "" {
		err = writeProfile(a.out, p, format)
	} else if err == nil {
		err = saveProfile(output, p, format)
	}
	return errors.Join(failed, err)
}

func (a *app) runCommand(ctx context.Context, command []string) error {
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Stdin, run.Stdout, run.Stderr = a.in, a.err, a.err
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	run.WaitDelay = 10 * time.Second
	if err := run.Run(); err != nil {
		return fmt.Errorf("running %s: %w", command[0], err)
	}
	return nil
}

func (a *app) recorded(ctx context.Context, c *client, name string, began time.Time) (bulkhead.Profile, error) {
	w, err := c.atWork(ctx, name, began)
	if err != nil {
		return bulkhead.Profile{}, err
	}
	if mode := api.FromMode(w.Mode); mode != bulkhead.Learn {
		fmt.Fprintf(a.err, "bulkhead: %s is in mode %s: nothing was added to its profile\n", oneLine(w.Name), mode)
	}
	return c.profile(ctx, w.Name)
}

// atWork is the workload that was named, or the only one that was seen since.
func (c *client) atWork(ctx context.Context, name string, began time.Time) (*pb.Workload, error) {
	if name != "" {
		return c.findWorkload(ctx, name)
	}
	all, err := c.listWorkloads(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	var found *pb.Workload
	for _, w := range all {
		if w.LastSeen.AsTime().After(began) {
			found, names = w, append(names, w.Name)
		}
	}
	switch len(names) {
	case 0:
		return nil, errors.New("no workload was at work meanwhile: `bulkhead workloads` lists those that are known, --workload names one")
	case 1:
		return found, nil
	}
	return nil, fmt.Errorf("several workloads were at work, say which one with --workload: %s", strings.Join(names, ", "))
}
