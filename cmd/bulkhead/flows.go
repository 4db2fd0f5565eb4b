package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/topology"
)

// flowList is what scripts read.
type flowList struct {
	Flows []bulkhead.Flow `json:"flows"`
	Total int             `json:"total"`
	Lost  uint64          `json:"lost"`  // packets whose edge found no room on a node
	Since time.Time       `json:"since"` // how far the history goes back
	// Workloads are what is known of those in the flows: labels and addresses.
	Workloads []topology.Workload `json:"workloads"`
}

type flowOptions struct {
	workload, cluster string
	from, to          moment
	limit             int32
	format            *choice
	file, group       string
	inventory         []string
}

func newFlows(a *app) *cobra.Command {
	var o flowOptions
	c := &cobra.Command{
		Use:   "flows",
		Short: "Who talks to whom",
		Long: "Lists the edges between workloads, hosts and the world that were seen in a window, the busiest first. They are counted in the kernel,\n" +
			"packet by packet; FAILED are connections that were refused, DENIED those that a network policy cut, WOULD DENY those that a staged one would have.",
		Example: "  bulkhead flows\n  bulkhead flows --workload default/ --from 24h\n  bulkhead flows --format json >flows.json\n  bulkhead flows --group namespace --format dot | dot -Tsvg >flows.svg",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&o.workload, "workload", "", "only edges of this workload; with / at its end, of all that begin so")
	c.Flags().StringVar(&o.cluster, "cluster", "", "only of this cluster")
	c.Flags().Var(&o.from, "from", "begin of the window: a time, or how long ago (30m, 2h, 2026-11-23T10:00:00Z); an hour ago")
	c.Flags().Var(&o.to, "to", "end of the window; now")
	c.Flags().Int32Var(&o.limit, "limit", 1000, "at most so many")
	c.Flags().StringVar(&o.file, "flows", "", "`FILE` that `bulkhead flows --format json` wrote, in place of the server; - for standard input")
	c.Flags().StringVar(&o.group, "group", "workload", "what is one node of a drawing: `workload`, namespace, application or label:KEY")
	c.Flags().StringArrayVar(&o.inventory, "inventory", nil, "`FILE` that `kubectl get namespaces,nodes,pods -A -o json` wrote: labels to group by")
	o.format = formatFlag(c, "table", "json", "dot", "mermaid")
	c.AddCommand(newRisks(a), newRequests(a))
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !topology.Grouping(o.group).Valid() {
			return usagef("--group %q is not workload, namespace, application or label:KEY", o.group)
		}
		return a.showFlows(c.Context(), o)
	}
	return c
}

func (a *app) showFlows(ctx context.Context, o flowOptions) error {
	list, err := a.flowsOf(ctx, o)
	if err != nil {
		return err
	}
	if o.format.value == "dot" || o.format.value == "mermaid" {
		return a.draw(o, list)
	}
	if o.format.value == "json" {
		return writeJSON(a.out, list)
	}
	if list.Lost > 0 {
		fmt.Fprintf(a.err, "%d packets belong to edges that found no room on their nodes, and are missing here\n", list.Lost)
	}
	if len(list.Flows) == 0 {
		fmt.Fprintln(a.err, "nothing was seen in that time; `bulkhead nodes` says whether agents are connected, --from 24h looks further back")
		return nil
	}
	if err := flowTable(list.Flows, time.Now()).write(a.out, a.screen()); err != nil {
		return err
	}
	if n := list.Total - len(list.Flows); n > 0 {
		fmt.Fprintf(a.err, "and %d more: --limit %d shows them\n", n, list.Total)
	}
	return nil
}

// flowsOf reads the flows from a file, or asks the server.
func (a *app) flowsOf(ctx context.Context, o flowOptions) (flowList, error) {
	if o.file != "" {
		r, err := a.history(ctx, &windowOptions{o}, 0)
		if err != nil {
			return flowList{}, err
		}
		list := flowList{Flows: []bulkhead.Flow{}, Lost: r.Lost, Since: r.Since, Workloads: append([]topology.Workload{}, r.Workloads...)}
		for _, f := range r.Flows {
			if o.workload == "" || topology.Touches(f.Edge, o.workload) {
				list.Flows = append(list.Flows, f.Flow)
			}
		}
		list.Total = len(list.Flows)
		list.Flows = list.Flows[:min(list.Total, int(max(o.limit, 0)))]
		return list, nil
	}
	c, err := a.connect()
	if err != nil {
		return flowList{}, err
	}
	list, err := c.listFlows(ctx, o, o.format != nil && o.format.value != "table")
	if err != nil {
		return list, fmt.Errorf("listing flows: %w", err)
	}
	return list, nil
}

// draw writes the flows as a graph.
func (a *app) draw(o flowOptions, list flowList) error {
	r := &topology.Record{Workloads: list.Workloads}
	for _, f := range list.Flows {
		r.Flows = append(r.Flows, topology.Flow{Flow: f})
	}
	if err := a.know(r, o.inventory); err != nil {
		return err
	}
	g := topology.NewGraph(r, topology.Grouping(o.group))
	if o.format.value == "dot" {
		return topology.WriteDOT(a.out, g)
	}
	return topology.WriteMermaid(a.out, g)
}

func (c *client) listFlows(ctx context.Context, o flowOptions, workloads bool) (flowList, error) {
	ask := &pb.ListFlowsRequest{Workloads: workloads, Workload: o.workload, Cluster: o.cluster, Limit: o.limit}
	if !o.from.IsZero() {
		ask.From = timestamppb.New(o.from.Time)
	}
	if !o.to.IsZero() {
		ask.To = timestamppb.New(o.to.Time)
	}
	answer, err := c.flows.ListFlows(ctx, request(ask))
	if err != nil {
		return flowList{}, err
	}
	list := flowList{Flows: []bulkhead.Flow{}, Total: int(answer.Msg.Total), Lost: answer.Msg.Lost, Since: answer.Msg.Since.AsTime(), Workloads: []topology.Workload{}}
	for _, w := range answer.Msg.Workloads {
		list.Workloads = append(list.Workloads, known(w))
	}
	for _, m := range answer.Msg.Flows {
		list.Flows = append(list.Flows, api.FromFlow(m))
	}
	return list, nil
}

func known(m *pb.WorkloadAddresses) topology.Workload {
	w := topology.Workload{Name: m.Workload, Namespace: m.Namespace}
	if m.Labelled {
		w.Labels = map[string]string{}
		maps.Copy(w.Labels, m.Labels)
	}
	for _, text := range m.Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			w.Addresses = append(w.Addresses, a)
		}
	}
	return w
}

func flowTable(flows []bulkhead.Flow, now time.Time) *table {
	t := &table{head: []string{"SOURCE", "DESTINATION", "PORT", "SPEAKS", "OPENED", "FAILED", "DENIED", "WOULD DENY", "OUT", "IN", "RTT", "SEEN"}, flex: []int{0, 1}}
	for _, f := range flows {
		t.add(text(f.Source.String()), text(f.Destination.String()), textf("%s/%d", f.Protocol, f.Port), text(or(f.Application, "-")),
			textf("%d", f.Opened), countCell(f.Refused), countCell(f.Denied), countCell(f.WouldDeny), text(bytesOf(f.BytesOut)), text(bytesOf(f.BytesIn)), text(rttText(f.MeanRTT())), text(ago(now, f.Last)))
	}
	return t
}

func rttText(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(10 * time.Microsecond).String()
}
