package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
		Example: "  bulkhead flows risks --from 24h\n  bulkhead flows risks --flows today.json --learned lastweek.json --format json",
		Args:    cobra.NoArgs,
	}
	o.flags(c, "24 hours ago")
	c.Flags().StringVar(&learned, "learned", "", "`FILE` of flows of an earlier window, to compare with")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.showRisks(c.Context(), &o, learned, format.value) }
	return c
}

func (a *app) showRisks(ctx context.Context, o *windowOptions, learned, format string) error {
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
	found := topology.Assess(r, before)
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
