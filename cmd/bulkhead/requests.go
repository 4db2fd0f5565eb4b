package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

// edgeRequests are what scripts read.
type edgeRequests struct {
	bulkhead.Edge
	Application string `json:"application"`
	bulkhead.Requests
	MeanMicroseconds    int64 `json:"meanMicroseconds"`
	LongestMicroseconds int64 `json:"longestMicroseconds"`
}

func newRequests(a *app) *cobra.Command {
	var o flowOptions
	c := &cobra.Command{
		Use:   "requests",
		Short: "What endpoints and databases are asked, how often, with which errors, how long it takes",
		Long: "Lists the endpoints of HTTP/1 and the statements of MySQL and PostgreSQL that were asked over each edge in a window, the most asked first: of\n" +
			"workloads that agents read along with (bulkhead-agent run --read-along). Data is left out on the node: what of a path is not made of\n" +
			"letters, queries, literals of statements. REJECTED are HTTP's 4xx, FAILED its 5xx and errors of databases.",
		Example: "  bulkhead flows requests\n  bulkhead flows requests --workload shop/ --from 10m --format json",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&o.workload, "workload", "", "only edges of this workload; with / at its end, of all that begin so")
	c.Flags().StringVar(&o.cluster, "cluster", "", "only of this cluster")
	c.Flags().Var(&o.from, "from", "begin of the window: a time, or how long ago (30m, 2h, 2026-11-23T10:00:00Z), at most a day; an hour ago")
	c.Flags().Var(&o.to, "to", "end of the window; now")
	c.Flags().Int32Var(&o.limit, "limit", 1000, "at most so many")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.showRequests(c.Context(), o, format.value) }
	return c
}

func (a *app) showRequests(ctx context.Context, o flowOptions, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	ask := &pb.ListRequestsRequest{Workload: o.workload, Cluster: o.cluster, Limit: o.limit}
	if !o.from.IsZero() {
		ask.From = timestamppb.New(o.from.Time)
	}
	if !o.to.IsZero() {
		ask.To = timestamppb.New(o.to.Time)
	}
	answer, err := c.flows.ListRequests(ctx, request(ask))
	if err != nil {
		return fmt.Errorf("listing requests: %w", err)
	}
	list := []edgeRequests{}
	for _, m := range answer.Msg.Requests {
		list = append(list, requestsOf(m))
	}
	if format == "json" {
		return writeJSON(a.out, list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.err, "nothing was asked in that time of workloads that agents read along with: bulkhead-agent run --read-along names them")
		return nil
	}
	if err := requestTable(list).write(a.out, a.screen()); err != nil {
		return err
	}
	if n := int(answer.Msg.Total) - len(list); n > 0 {
		fmt.Fprintf(a.err, "and %d more: --limit %d shows them\n", n, answer.Msg.Total)
	}
	return nil
}

func requestsOf(m *pb.FlowRequests) edgeRequests {
	flow := api.FromFlow(m.Flow)
	r := bulkhead.Requests{
		Shape: m.Shape, First: m.First.AsTime(), Last: m.Last.AsTime(), Answered: m.Answered, Rejected: m.Rejected, Failed: m.Failed,
		Took: time.Duration(m.TookSumMicroseconds) * time.Microsecond, Longest: time.Duration(m.TookMaxMicroseconds) * time.Microsecond,
	}
	return edgeRequests{flow.Edge, flow.Application, r, r.Mean().Microseconds(), r.Longest.Microseconds()}
}

func requestTable(list []edgeRequests) *table {
	t := &table{head: []string{"SOURCE", "DESTINATION", "REQUEST", "ANSWERED", "REJECTED", "FAILED", "MEAN", "LONGEST"}, flex: []int{2, 0, 1}}
	for _, r := range list {
		failed := countCell(r.Failed)
		t.add(text(r.Source.String()), textf("%s %s/%d", r.Destination, r.Protocol, r.Port), text(r.Shape), textf("%d", r.Answered), countCell(r.Rejected), failed,
			text(r.Mean().Round(10*time.Microsecond).String()), text(r.Longest.Round(10*time.Microsecond).String()))
	}
	return t
}
