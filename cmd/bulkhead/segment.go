package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/topology"
)

const (
	allFlows = 50_000 // as many as the server gives at once
)

func newSegment(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "segment",
		Short:   "Network policy: propose, replay, stage, enforce",
		Long:    "Proposes the smallest network policy that a window of flows needs, replays any policy on the stored history, counts live what it would cut, and enforces it. See docs/topology.md.",
		Example: "  bulkhead segment propose --from 7d >policy.yaml\n  bulkhead segment replay -f policy.yaml --from 30d\n  bulkhead segment stage -f policy.yaml\n  bulkhead segment enforce -f policy.yaml",
		RunE:    needsCommand,
	}
	c.AddCommand(newPropose(a), newReplay(a), newStage(a), newEnforce(a), newSegmentList(a), newSegmentRemove(a), newDefaultDeny(a), newQuarantine(a))
	return c
}

// windowOptions say which history.
type windowOptions struct{ flowOptions }

func (o *windowOptions) flags(c *cobra.Command, from string) {
	c.Flags().Var(&o.from, "from", "begin of the window: a time, or how long ago (2h, 7d, 2026-11-23T10:00:00Z); "+from)
	c.Flags().Var(&o.to, "to", "end of the window; now")
	c.Flags().StringVar(&o.cluster, "cluster", "", "only of this cluster")
	c.Flags().StringVar(&o.file, "flows", "", "`FILE` that `bulkhead flows --format json` wrote, in place of the server; - for standard input")
	c.Flags().StringArrayVar(&o.inventory, "inventory", nil, "`FILE` that `kubectl get namespaces,nodes,pods -A -o json` wrote: labels, addresses and names of ports")
}

func newPropose(a *app) *cobra.Command {
	var o windowOptions
	var workloads []string
	c := &cobra.Command{
		Use:   "propose",
		Short: "The smallest policy that a window needs",
		Long: "Writes one policy for each workload: what was seen in the window passes, all else does not. Peers are called by labels and namespaces, ports by number,\n" +
			"the world by network or name. Replayed on its own window, a proposal cuts nothing. What could not be said as narrowly as it was seen is told on standard error.\n" +
			"Kubernetes and Cilium call workloads by labels: --inventory has them. Bulkhead's own form calls them by name, and the world by domain name.",
		Example: "  bulkhead segment propose --from 7d --workload shop/ --format kubernetes --inventory cluster.json\n  bulkhead segment propose --flows flows.json --format bulkhead",
		Args:    cobra.NoArgs,
	}
	o.flags(c, "7 days ago")
	c.Flags().StringArrayVar(&workloads, "workload", nil, "only for this `WORKLOAD`; * stands for any characters, and / at its end for all that begin so; may be repeated")
	format := formatFlag(c, "kubernetes", "cilium", "bulkhead")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.stored() {
			return a.proposeStored(c.Context(), &o, topology.Wish{Workloads: stars(workloads), Kind: policyKinds[format.value]})
		}
		r, err := a.window(c.Context(), &o, 7*24*time.Hour)
		if err != nil {
			return err
		}
		return a.propose(r, topology.Wish{Workloads: stars(workloads), Kind: policyKinds[format.value]})
	}
	return c
}

var policyKinds = map[string]string{"kubernetes": topology.KindKubernetes, "cilium": topology.KindCilium, "bulkhead": topology.KindSegment}

// stars writes "shop/" as "shop/*".
func stars(workloads []string) []string {
	for i, w := range workloads {
		if strings.HasSuffix(w, "/") {
			workloads[i] = w + "*"
		}
	}
	return workloads
}

func (a *app) propose(r *topology.Record, w topology.Wish) error {
	p := topology.Propose(r, w)
	for _, n := range p.Notes {
		fmt.Fprintln(a.err, "note:", oneLine(n))
	}
	if len(p.Policies) == 0 {
		return errNothingMeant
	}
	return topology.WritePolicies(a.out, p.Policies)
}

var errNothingMeant = errors.New("proposing policies: no workload with flows is meant; `bulkhead flows` lists who was seen, --from looks further back")

func newReplay(a *app) *cobra.Command {
	var o windowOptions
	var files []string
	var namespace string
	c := &cobra.Command{
		Use:   "replay -f FILE…",
		Short: "What a policy would have cut",
		Long: "Judges every edge of the stored history by policies (NetworkPolicy, CiliumNetworkPolicy, Segment; ours or hand-written) as if they had been in force, and\n" +
			"lists what would have been cut: by which side and policy, how many connections, when, and how rare it is. UNCERTAIN is what the record does not decide.\n" +
			"How much of the window the history covers is told. Exit code 3 when anything would have been cut.",
		Example: "  bulkhead segment replay -f policy.yaml --from 30d\n  bulkhead segment replay -f policies/shop.yaml --flows flows.json --inventory cluster.json --format json",
		Args:    cobra.ArbitraryArgs,
	}
	o.flags(c, "30 days ago")
	c.Flags().StringArrayVarP(&files, "filename", "f", nil, "`FILE` of policies, - for standard input; more may follow as arguments")
	c.Flags().StringVarP(&namespace, "namespace", "n", "default", "`NAMESPACE` of policies that name none")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if files = append(files, args...); len(files) == 0 {
			return usagef("segment replay needs -f FILE")
		}
		policies, err := a.readPolicies(files, namespace)
		if err != nil {
			return err
		}
		if o.stored() {
			return a.replayStored(c.Context(), &o, policies, namespace, format.value)
		}
		return a.replay(c.Context(), &o, policies, format.value)
	}
	return c
}

func (a *app) readPolicies(files []string, namespace string) (*topology.Documents, error) {
	all := &topology.Documents{}
	for _, file := range files {
		var d *topology.Documents
		err := a.opened(file, func(r io.Reader) (err error) {
			d, err = topology.ReadPolicies(file, r, namespace)
			return err
		})
		if err != nil {
			return nil, err
		}
		all.Policies, all.Namespaces, all.Skipped = append(all.Policies, d.Policies...), append(all.Namespaces, d.Namespaces...), append(all.Skipped, d.Skipped...)
	}
	if len(all.Skipped) > 0 {
		fmt.Fprintf(a.err, "%d documents are no network policies and were left out\n", len(all.Skipped))
	}
	if len(all.Policies) == 0 {
		return nil, fmt.Errorf("reading policies: there is none in %s", strings.Join(files, ", "))
	}
	return all, nil
}

func (a *app) opened(file string, read func(io.Reader) error) error {
	if file == "-" {
		return read(a.in)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return read(f)
}

func (a *app) replay(ctx context.Context, o *windowOptions, d *topology.Documents, format string) error {
	r, err := a.window(ctx, o, 30*24*time.Hour)
	if err != nil {
		return err
	}
	r.Namespaces = append(r.Namespaces, d.Namespaces...)
	outcome := topology.Replay(r, d.Policies, r.Hours())
	return a.conclude(outcome, format)
}

// conclude tells an outcome; anything cut is a "no".
func (a *app) conclude(outcome *topology.Outcome, format string) error {
	if err := a.tellOutcome(outcome, format); err != nil {
		return err
	}
	if n := len(outcome.Cut); n > 0 {
		return policyError{fmt.Errorf("%d of %d edges would have been cut", n, outcome.Edges)}
	}
	return nil
}

// window reads the history from a file or asks the server for it.
func (a *app) window(ctx context.Context, o *windowOptions, back time.Duration) (*topology.Record, error) {
	r, err := a.history(ctx, o, back)
	if err != nil {
		return nil, err
	}
	return r, a.know(r, o.inventory)
}

// know adds to a record what inventories tell of its workloads.
func (a *app) know(r *topology.Record, inventories []string) error {
	for _, file := range inventories {
		err := a.opened(file, func(from io.Reader) error {
			more, err := topology.ReadInventory(file, from)
			if err == nil {
				r.Add(more)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) history(ctx context.Context, o *windowOptions, back time.Duration) (r *topology.Record, err error) {
	if o.file != "" {
		err = a.opened(o.file, func(from io.Reader) error {
			r, err = topology.ReadRecord(o.file, from)
			return err
		})
		if err == nil {
			r.Within(o.from.Time, o.to.Time)
		}
		return r, err
	}
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	if o.to.IsZero() {
		o.to.Time = time.Now()
	}
	if o.from.IsZero() {
		o.from.Time = o.to.Add(-back)
	}
	o.limit = allFlows
	list, err := c.listFlows(ctx, o.flowOptions, true)
	if err != nil {
		return nil, fmt.Errorf("listing flows: %w", err)
	}
	if n := list.Total - len(list.Flows); n > 0 {
		return nil, fmt.Errorf("listing flows: there are %d more than the %d that are given at once; choose a shorter window, or a --cluster", n, allFlows)
	}
	r = &topology.Record{From: o.from.Time, To: o.to.Time, Since: list.Since, Lost: list.Lost, Partial: true, Workloads: list.Workloads}
	for _, f := range list.Flows {
		r.Flows = append(r.Flows, topology.Flow{Flow: f})
	}
	return r, nil
}

// stored reports whether the server is to look at its own history: it needs no inventory, as nodes told it labels.
func (o *windowOptions) stored() bool { return o.file == "" && len(o.inventory) == 0 }

func (o *windowOptions) bounds() (from, to *timestamppb.Timestamp) {
	if !o.from.IsZero() {
		from = timestamppb.New(o.from.Time)
	}
	if !o.to.IsZero() {
		to = timestamppb.New(o.to.Time)
	}
	return from, to
}

func (a *app) proposeStored(ctx context.Context, o *windowOptions, w topology.Wish) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	m := &pb.ProposeSegmentsRequest{Cluster: o.cluster, Workloads: w.Workloads, Kind: w.Kind}
	m.From, m.To = o.bounds()
	answer, err := c.segments.ProposeSegments(ctx, request(m))
	if err != nil {
		return fmt.Errorf("proposing policies: %w", err)
	}
	for _, n := range answer.Msg.Notes {
		fmt.Fprintln(a.err, "note:", oneLine(n))
	}
	if answer.Msg.Documents == "" {
		return errNothingMeant
	}
	_, err = io.WriteString(a.out, answer.Msg.Documents)
	return err
}

func (a *app) replayStored(ctx context.Context, o *windowOptions, d *topology.Documents, namespace, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	m := &pb.ReplaySegmentsRequest{Cluster: o.cluster, Documents: d.Join(), Namespace: namespace}
	m.From, m.To = o.bounds()
	answer, err := c.segments.ReplaySegments(ctx, request(m))
	if err != nil {
		return fmt.Errorf("replaying policies: %w", err)
	}
	outcome := &topology.Outcome{}
	if err := json.Unmarshal(answer.Msg.OutcomeJson, outcome); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return a.conclude(outcome, format)
}

func (a *app) tellOutcome(o *topology.Outcome, format string) error {
	if format == "json" {
		return writeJSON(a.out, o)
	}
	for _, n := range o.Notes {
		fmt.Fprintln(a.err, "note:", oneLine(n))
	}
	c := o.Coverage
	covered := "the hours that are covered are not known"
	if c.Covered > 0 {
		covered = fmt.Sprintf("%d of %d hours are covered", c.Covered, c.Hours)
	}
	fmt.Fprintf(a.err, "%d edges from %s to %s; %s\n", o.Edges, c.From.UTC().Format(time.RFC3339), c.To.UTC().Format(time.RFC3339), covered)
	if len(o.Cut)+len(o.Uncertain) == 0 {
		fmt.Fprintln(a.err, "nothing would have been cut")
		return nil
	}
	return outcomeTable(o).write(a.out, a.screen())
}

func outcomeTable(o *topology.Outcome) *table {
	t := &table{head: []string{"VERDICT", "SOURCE", "DESTINATION", "PORT", "OPENED", "HOURS", "RHYTHM", "LAST SEEN", "WHY"}, wrap: true, flex: []int{8, 1, 2}}
	for _, c := range o.Cut {
		t.add(cutCells(cell{"cut", red}, c)...)
	}
	for _, c := range o.Uncertain {
		t.add(cutCells(cell{"uncertain", yellow}, c)...)
	}
	return t
}

func cutCells(verdict cell, c topology.Cut) []cell {
	why := c.Side + " of " + or(strings.Join(c.Policies, ", "), "a policy")
	if verdict.style == yellow {
		why = c.Reason
	}
	if !c.Answered {
		why = "never answered; " + why
	}
	last := "-"
	if !c.Last.IsZero() {
		last = c.Last.UTC().Format("2006-01-02 15:04")
	}
	return []cell{
		verdict, text(c.Source.String()), text(c.Destination.String()), textf("%s/%d", c.Protocol, c.Port), textf("%d", c.Opened), textf("%d", c.Hours),
		text(or(c.Rhythm, "-")), text(last), text(why),
	}
}
