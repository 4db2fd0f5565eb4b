package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

// nodeAnswer is what a node said to a change, as scripts read it.
type nodeAnswer struct {
	Node         string `json:"node"`
	OK           bool   `json:"ok"`
	Error        string `json:"error"`
	Microseconds int64  `json:"microseconds"`
}

func nodeAnswers(messages []*pb.NodeAnswer) []nodeAnswer {
	all := make([]nodeAnswer, 0, len(messages))
	for _, m := range messages {
		all = append(all, nodeAnswer{m.Node, m.Ok, m.Error, m.Microseconds})
	}
	return all
}

func newMode(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "mode WORKLOAD learn|monitor|protect",
		Short: "Say what is done with behaviour outside a workload's profile",
		Long: "Switches a workload, live and on every node that runs it, and returns when it is in force:\n" +
			"learn adds to the profile, monitor tells what would be blocked, protect blocks it in the kernel.\n" +
			"A profile that is not complete may not protect yet (exit code 3, with the reason); --anyway does it all the same.",
		Example: "  bulkhead mode docker/shop protect\n  bulkhead mode shop learn --format json",
		Args:    cobra.ExactArgs(2),
	}
	c.ValidArgsFunction = func(c *cobra.Command, args []string, part string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			return []string{"learn", "monitor", "protect"}, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeWorkload(c, args, part)
	}
	format := formatFlag(c, "table", "json")
	anyway := c.Flags().Bool("anyway", false, "protect although the profile is not complete")
	c.RunE = func(c *cobra.Command, args []string) error {
		mode := bulkhead.Mode(args[1])
		if !mode.Valid() {
			return usagef("mode %q: want learn, monitor or protect", args[1])
		}
		return a.setMode(c.Context(), args[0], mode, *anyway, format.value)
	}
	return c
}

func (a *app) setMode(ctx context.Context, name string, mode bulkhead.Mode, anyway bool, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	w, err := c.findWorkload(ctx, name)
	if err != nil {
		return err
	}
	answer, err := c.workloads.SetMode(ctx, request(&pb.SetModeRequest{Workload: w.Name, Mode: api.ToMode(mode), Anyway: anyway}))
	if err != nil {
		return refusedMode(w, mode, anyway, err)
	}
	nodes := nodeAnswers(answer.Msg.Nodes)
	if format == "json" {
		err = writeJSON(a.out, map[string]any{"workload": w.Name, "mode": mode, "nodes": nodes})
	} else {
		err = a.tellNodes(fmt.Sprintf("%s: %s", w.Name, mode), nodes)
	}
	if refused := failedNodes(nodes); refused != nil {
		return refusedMode(w, mode, anyway, refused)
	}
	return err
}

// refusedMode names the override where the refusal is the completeness gate's.
func refusedMode(w *pb.Workload, mode bulkhead.Mode, anyway bool, err error) error {
	err = fmt.Errorf("switching %s to %s: %w", w.Name, mode, err)
	var policy policyError
	if mode != bulkhead.Protect || anyway || !errors.As(err, &policy) && w.Ready {
		return err
	}
	if strings.Contains(err.Error(), "--anyway") {
		return policyError{err}
	}
	return policyError{fmt.Errorf("%w; let it learn longer, or give --anyway", err)}
}

// tellNodes writes what was done and where, one line a node.
func (a *app) tellNodes(done string, nodes []nodeAnswer) error {
	for _, n := range nodes {
		if !n.OK {
			continue
		}
		took := time.Duration(n.Microseconds) * time.Microsecond
		if _, err := fmt.Fprintf(a.out, "%s (on %s, in force after %s)\n", oneLine(done), oneLine(n.Node), took); err != nil {
			return err
		}
	}
	if len(nodes) == 0 {
		_, err := fmt.Fprintf(a.out, "%s (no node runs it now; it holds when one does)\n", oneLine(done))
		return err
	}
	return nil
}

func failedNodes(nodes []nodeAnswer) error {
	var failed []error
	for _, n := range slices.DeleteFunc(slices.Clone(nodes), func(n nodeAnswer) bool { return n.OK }) {
		failed = append(failed, fmt.Errorf("node %s: %s", n.Node, or(n.Error, "it did not say why not")))
	}
	return errors.Join(failed...)
}
