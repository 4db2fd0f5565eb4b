package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/incident"
)

// incidentFilter says which incidents are wanted.
type incidentFilter struct {
	workload string
	since    moment
	gap      time.Duration
}

func newIncidents(a *app) *cobra.Command {
	f := incidentFilter{since: moment{time.Now().Add(-24 * time.Hour)}}
	c := &cobra.Command{
		Use:   "incidents [ID]",
		Short: "Alerts of one cause as one thing to look into",
		Long: "Puts alerts together that have one cause: one container, one line of processes, a connection from one to the other, the same deed\n" +
			"in containers of the same image. The newest incident comes first. With an ID, or an ending of it, one incident with the path of\n" +
			"the attack and what was stopped where. See docs/incidents.md.",
		Example: "  bulkhead incidents --since 2h\n  bulkhead incidents --format json | jq '.[0].path'",
		Args:    cobra.MaximumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.Flags().StringVar(&f.workload, "workload", "", "only those that have to do with this `WORKLOAD`")
	c.Flags().Var(&f.since, "since", "of alerts after: a time, or how long ago")
	c.Flags().Lookup("since").DefValue = "24h"
	c.Flags().DurationVar(&f.gap, "gap", 30*time.Minute, "for so long nothing may happen within an incident")
	c.RunE = func(c *cobra.Command, args []string) error {
		all, err := a.incidents(c.Context(), f)
		if err != nil {
			return fmt.Errorf("listing incidents: %w", err)
		}
		if len(args) == 1 {
			return a.showIncident(all, args[0], format.value)
		}
		return a.listIncidents(all, format.value)
	}
	return c
}

func (a *app) incidents(ctx context.Context, f incidentFilter) ([]incident.Incident, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	ask := &pb.ListIncidentsRequest{Since: timestamppb.New(f.since.Time), Workload: f.workload, GapSeconds: int64(f.gap / time.Second)}
	answer, err := c.alerts.ListIncidents(ctx, request(ask))
	if err != nil {
		return nil, err
	}
	if answer.Msg.Cut {
		fmt.Fprintln(a.err, "there are more alerts than are put together at once: the oldest are left out, --since asks for fewer")
	}
	var all []incident.Incident
	if err := json.Unmarshal(answer.Msg.Json, &all); err != nil {
		return nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	return all, nil
}

func (a *app) listIncidents(all []incident.Incident, format string) error {
	if format == "json" {
		return writeJSON(a.out, list(all))
	}
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no incidents")
		return nil
	}
	t := &table{head: []string{"FIRST", "LAST", "SEVERITY", "ALERTS", "WHAT", "ID"}, flex: []int{4, 5}}
	now := time.Now()
	for _, in := range all {
		t.add(text(clock(in.First, now)), text(clock(in.Last, now)), cell{string(in.Severity), severityStyle(in.Severity)},
			textf("%d", len(in.Alerts)), text(in.Title), cell{ending(in.ID, 24), faint})
	}
	return t.write(a.out, a.screen())
}

func (a *app) showIncident(all []incident.Incident, id, format string) error {
	found := slices.DeleteFunc(slices.Clone(all), func(in incident.Incident) bool { return !strings.HasSuffix(in.ID, id) })
	switch {
	case len(found) == 0:
		return fmt.Errorf("no incident has an id that ends in %q: `bulkhead incidents` lists them, --since reaches further back", id)
	case len(found) > 1:
		return fmt.Errorf("%d incidents have an id that ends in %q: give more of it", len(found), id)
	case format == "json":
		return writeJSON(a.out, found[0])
	}
	return writeIncident(a.out, found[0], a.screen())
}

// writeIncident tells the story of one incident.
func writeIncident(w io.Writer, in incident.Incident, s screen) error {
	fmt.Fprintf(w, "%s\n%s, %d alerts from %s to %s on %s\n\n", oneLine(in.Title), in.Severity, len(in.Alerts), in.First.Local().Format(time.DateTime), in.Last.Local().Format(time.TimeOnly), oneLine(strings.Join(in.Nodes, ", ")))
	path := &table{head: []string{"TIME", "TACTIC", "TECHNIQUE", "WHAT", "TIMES", "END"}, flex: []int{3}}
	for _, p := range in.Path {
		end := cell{"went on", yellow}
		if p.Blocked {
			end = cell{"blocked", green}
		}
		path.add(text(p.Time.Local().Format(time.TimeOnly)), text(p.Tactic), text(p.Technique), text(p.Title), textf("%d", p.Times), end)
	}
	if err := path.write(w, s); err != nil || len(in.Stopped) == 0 {
		return err
	}
	fmt.Fprintln(w)
	stops := &table{head: []string{"STOPPED AT", "TIMES", "FIRST"}, flex: []int{2}}
	for _, stop := range in.Stopped {
		stops.add(text(stop.Where), textf("%d", stop.Times), text(stop.What))
	}
	return stops.write(w, s)
}
