package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/demo"
)

// discovery is how long a container may take from its start to the list of workloads.
const discovery = 20 * time.Second

func newDemo(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "A vulnerable shop in a container: learn, protect, attack, report",
		Long: "Starts a deliberately vulnerable web shop in a container, lets customers teach its behaviour, attacks it twenty ways in each mode\n" +
			"while other customers keep shopping, and reports. What it starts it ends. It needs `bulkhead up`, and a container engine or the\n" +
			"programs of one (it starts its own then). Exit code 3 when an attack got through or a customer was disturbed.",
		Example: "  bulkhead demo\n  bulkhead demo --format json > report.json",
		Args:    cobra.NoArgs,
	}
	o := demo.Options{Out: a.out, Err: a.err}
	format := formatFlag(c, "text", "json")
	c.Flags().StringVar(&o.Engine, "engine", "", "`SOCKET` of the Docker engine to use")
	c.Flags().DurationVar(&o.LearnFor, "learn-for", 0, "how long customers teach, at least (default 20s)")
	c.Flags().BoolVar(&o.Keep, "keep", false, "leave the shop running after the report, until interrupted")
	verbose := c.Flags().Bool("verbose", false, "tell every step on standard error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.Format = format.value
		if *verbose {
			o.Log = slog.New(slog.NewTextHandler(a.err, nil))
		}
		return a.demo(c.Context(), o)
	}
	return c
}

func (a *app) demo(ctx context.Context, o demo.Options) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	if _, err := c.listWorkloads(ctx); err != nil {
		return err // before a shop is built for nothing
	}
	note := filepath.Join(a.run, "engines.d", "demo")
	defer func() { _ = os.Remove(note) }()
	o.Product = product{c}
	o.OnEngine = func(socket string) error { return noteEngine(note, socket) }
	err = demo.Run(ctx, o)
	if errors.Is(err, demo.ErrNotProtected) {
		return policyError{err}
	}
	return err
}

// noteEngine tells the agent of this host about an engine that it does not know: one file an engine, with
// its kind and its socket.
func noteEngine(note, socket string) error {
	if err := os.MkdirAll(filepath.Dir(note), 0o700); err != nil {
		return err
	}
	temporary := filepath.Join(filepath.Dir(filepath.Dir(note)), ".engine.new")
	if err := os.WriteFile(temporary, []byte("docker "+socket+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, note)
}

// product shows the control plane to the demo.
type product struct{ *client }

func (p product) SetMode(ctx context.Context, workload string, mode bulkhead.Mode) error {
	if err := p.appear(ctx, workload); err != nil {
		return err
	}
	// The report says how complete the profile was; a demo that stopped there would show nothing.
	ask := &pb.SetModeRequest{Workload: workload, Mode: api.ToMode(mode), Anyway: true}
	answer, err := p.workloads.SetMode(ctx, request(ask))
	if err != nil {
		return err
	}
	return failedNodes(nodeAnswers(answer.Msg.Nodes))
}

// appear waits until a node has reported the workload.
func (p product) appear(ctx context.Context, workload string) error {
	ctx, cancel := context.WithTimeout(ctx, discovery)
	defer cancel()
	return waitFor(ctx, func() error {
		_, err := p.workloads.GetWorkload(ctx, request(&pb.GetWorkloadRequest{Name: workload}))
		if err != nil {
			return fmt.Errorf("waiting for workload %s (see `bulkhead nodes` for the engines that are known): %w", workload, err)
		}
		return nil
	})
}

func (p product) Completeness(ctx context.Context, workload string) (float64, bool, error) {
	answer, err := p.workloads.GetWorkload(ctx, request(&pb.GetWorkloadRequest{Name: workload}))
	if err != nil {
		return 0, false, err
	}
	return answer.Msg.Workload.GetCompleteness(), answer.Msg.Workload.GetReady(), nil
}

func (p product) Alerts(ctx context.Context, since time.Time) ([]bulkhead.Alert, error) {
	return p.listAlerts(ctx, alertFilter{since: moment{since}})
}

func (p product) Profile(ctx context.Context, workload string) (bulkhead.Profile, error) {
	return p.profile(ctx, workload)
}
