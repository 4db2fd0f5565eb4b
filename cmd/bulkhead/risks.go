package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/topology"
)

func newRisks(a *app) *cobra.Command {
	var o windowOptions
	var learned string
	c := &cobra.Command{
		Use:   "risks",
		Short: "What of the flows is risky, and why",
		Long: "Scores what was seen in a window: clear text, metadata services, the API server, scans, beacons, unusual volume, attack paths and more, each with its reasons.\n" +
			"With --learned, what is new against an earlier window too. docs/topology.md says how each is found.",
		Example: "  bulkhead flows risks --from 24h --learned 14d\n  bulkhead flows risks --flows today.json --learned lastweek.json --format json",
		Args:    cobra.NoArgs,
	}
	o.flags(c, "24 hours ago")
	c.Flags().StringVar(&learned, "learned", "", "begin of the window that is taken for normal, as 7d, which ends where the other begins; or a `FILE` of its flows")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.showRisks(c.Context(), &o, learned, format.value) }
	return c
}

func (a *app) showRisks(ctx context.Context, o *windowOptions, learned, format string) error {
	if o.stored() && (learned == "" || isWindow(learned)) {
		return a.storedRisks(ctx, o, learned, format)
	}
	r, err := a.window(ctx, o, 24*time.Hour)
	if err != nil {
		return err
	}
	var before *topology.Record
	if learned != "" {
		if before, err = a.history(ctx, &windowOptions{flowOptions{file: learned}}, 0); err != nil {
			return err
		}
	}
	return a.tellRisks(topology.Assess(r, before), format)
}

// isWindow: --learned may be how long ago the learned window began, as 7d: it ends where the other begins.
func isWindow(learned string) bool {
	var m moment
	return m.Set(learned) == nil
}

// storedRisks asks the server, which has hours and minutes, names of vulnerabilities, and labels.
func (a *app) storedRisks(ctx context.Context, o *windowOptions, learned, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	m := &pb.ListRisksRequest{Cluster: o.cluster}
	if o.from.IsZero() {
		o.from.Time = time.Now().Add(-24 * time.Hour)
	}
	m.From, m.To = o.bounds()
	if learned != "" {
		var begin moment
		if err := begin.Set(learned); err != nil {
			return err
		}
		m.LearnedFrom, m.LearnedTo = timestamppb.New(begin.Time), m.From
	}
	answer, err := c.flows.ListRisks(ctx, request(m))
	if err != nil {
		return fmt.Errorf("assessing flows: %w", err)
	}
	var found []topology.Risk
	if err := json.Unmarshal(answer.Msg.RisksJson, &found); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return a.tellRisks(found, format)
}

func (a *app) tellRisks(found []topology.Risk, format string) error {
	if format == "json" {
		return writeJSON(a.out, list(found))
	}
	t := &table{head: []string{"SCORE", "RISK", "WORKLOAD", "EDGE", "WHY"}, wrap: true, flex: []int{4, 3, 2}}
	for _, f := range found {
		t.add(textf("%.0f", f.Score), text(f.Kind), text(f.Workload), text(edgesText(f)), text(strings.Join(f.Reasons, "; ")))
	}
	return t.write(a.out, a.screen())
}

func edgesText(r topology.Risk) string {
	if len(r.Edges) == 0 {
		return "-"
	}
	return r.Edges[0].String()
}
