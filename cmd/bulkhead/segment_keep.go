package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
)

const maxDocuments = 1 << 20 // bytes: what the server takes of one request

// keepOptions name policies: by files, or those that are kept.
type keepOptions struct {
	files     []string
	namespace string
	format    *choice
}

func (o *keepOptions) flags(c *cobra.Command) {
	c.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "`FILE` of policies, - for standard input; may be repeated")
	c.Flags().StringVarP(&o.namespace, "namespace", "n", "default", "`NAMESPACE` of policies that name none")
	o.format = formatFlag(c, "table", "json")
}

func newStage(a *app) *cobra.Command {
	return newKeep(a, "staged", &cobra.Command{
		Use:   "stage [NAME…]",
		Short: "Count live what policies would cut, and cut nothing",
		Long: "Puts policies on trial: packets pass, and what the policies would not let through is counted per edge: WOULD DENY of `bulkhead flows`.\n" +
			"Policies are those of files, or ones that are kept, by NAME or NAMESPACE/NAME. A policy that was enforced is only counted from then on.",
		Example: "  bulkhead segment stage -f policy.yaml\n  bulkhead flows --from 10m --format json | jq '.flows[]|select(.wouldDeny>0)'",
	})
}

func newEnforce(a *app) *cobra.Command {
	return newKeep(a, "enforced", &cobra.Command{
		Use:   "enforce [NAME…]",
		Short: "Cut what policies do not let through",
		Long: "Puts policies in force in the kernel of every node, per container, whatever network plug-in there is. What is connected and not let through is cut at once.\n" +
			"Policies are those of files, or ones that are kept, by NAME or NAMESPACE/NAME: stage and replay them first.",
		Example: "  bulkhead segment enforce api web\n  bulkhead segment enforce -f policy.yaml",
	})
}

func newKeep(a *app, state string, c *cobra.Command) *cobra.Command {
	var o keepOptions
	o.flags(c)
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, names []string) error { return a.keep(c.Context(), &o, names, state) }
	return c
}

// networkKinds tell a file of network policies from one of other documents.
var networkKinds = regexp.MustCompile(`["']?kind["']?\s*:\s*["']?(NetworkPolicy|CiliumNetworkPolicy|CiliumClusterwideNetworkPolicy|Segment|Namespace)\b`)

// ofNetwork reports whether a file has network policies in it.
// applyNetwork applies files of network policies.
func (a *app) applyNetwork(ctx context.Context, files []written, state string) ([]applied, error) {
	documents, err := oneRequest(files)
	if err != nil {
		return nil, err
	}
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	answer, err := c.segments.ApplySegments(ctx, request(&pb.ApplySegmentsRequest{Documents: documents, State: state}))
	if err != nil {
		return nil, fmt.Errorf("applying network policies: %w", err)
	}
	for _, n := range answer.Msg.Notes {
		fmt.Fprintln(a.err, "bulkhead:", oneLine(n))
	}
	var all []applied
	for _, s := range answer.Msg.Segments {
		name := s.Name
		if s.Namespace != "" {
			name = s.Namespace + "/" + s.Name
		}
		all = append(all, applied{s.Kind, name, s.State})
	}
	return all, notEverywhere(answer.Msg.Nodes)
}

func newDefaultDeny(a *app) *cobra.Command {
	var o keepOptions
	var stage bool
	c := &cobra.Command{
		Use:     "default-deny NAMESPACE…",
		Short:   "Close namespaces: nothing passes but what policies let through",
		Long:    "Puts a Segment in force for each namespace that closes both directions of all its workloads. What other policies open stays open; loopback does too.",
		Example: "  bulkhead segment default-deny shop --stage",
		Args:    cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&stage, "stage", false, "count what it would cut, and cut nothing")
	o.format = formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, namespaces []string) error {
		var b strings.Builder
		for _, n := range namespaces {
			fmt.Fprintf(&b, "---\napiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: %q}\nspec:\n  for: {namespace: %q}\n  ingress: []\n  egress: []\n", "default-deny-"+n, n)
		}
		state := "enforced"
		if stage {
			state = "staged"
		}
		return a.putSegments(c.Context(), &pb.ApplySegmentsRequest{Documents: b.String(), State: state}, o.format.value)
	}
	return c
}

func (a *app) keep(ctx context.Context, o *keepOptions, names []string, state string) error {
	if (len(o.files) == 0) == (len(names) == 0) {
		return usagef("give -f FILE, or names of kept policies")
	}
	text, err := a.texts(o.files)
	if err != nil {
		return err
	}
	return a.putSegments(ctx, &pb.ApplySegmentsRequest{Documents: text, Namespace: o.namespace, Names: names, State: state}, o.format.value)
}

// texts reads files of documents as one.
func (a *app) texts(files []string) (string, error) {
	var all []written
	for _, name := range files {
		text, err := a.documents(name)
		if err != nil {
			return "", err
		}
		all = append(all, written{name, text})
	}
	return oneRequest(all)
}

// documents reads a file, or standard input.
func (a *app) documents(name string) (text []byte, err error) {
	err = a.opened(name, func(r io.Reader) error {
		text, err = io.ReadAll(io.LimitReader(r, maxDocuments+1))
		if err == nil && len(text) > maxDocuments {
			err = fmt.Errorf("%s: more than %d bytes; apply fewer documents", name, maxDocuments)
		}
		return err
	})
	return text, err
}

// oneRequest joins files to what the server takes at once.
func oneRequest(files []written) (string, error) {
	var b strings.Builder
	for _, file := range files {
		if len(file.text)+b.Len() > maxDocuments-4096 {
			return "", fmt.Errorf("%s: more than %d bytes at once; apply fewer documents", file.name, maxDocuments-4096)
		}
		fmt.Fprintf(&b, "---\n%s\n", file.text)
	}
	return b.String(), nil
}

// putSegments answers with exit code 1 when a node has it not in force.
func (a *app) putSegments(ctx context.Context, m *pb.ApplySegmentsRequest, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	answer, err := c.segments.ApplySegments(ctx, request(m))
	if err != nil {
		return fmt.Errorf("applying network policies: %w", err)
	}
	for _, n := range answer.Msg.Notes {
		fmt.Fprintln(a.err, "note:", oneLine(n))
	}
	if err := a.tellSegments(answer.Msg.Segments, nil, format); err != nil {
		return err
	}
	return notEverywhere(answer.Msg.Nodes)
}

// segmentLine is what scripts read.
type segmentLine struct {
	Kind      string    `json:"kind"`
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Document  string    `json:"document"`
	By        string    `json:"by"`
	At        time.Time `json:"at"`
}

type segmentList struct {
	Segments    []segmentLine `json:"segments"`
	Quarantined []string      `json:"quarantined"`
}

func (a *app) tellSegments(list []*pb.Segment, cut []*pb.Quarantined, format string) error {
	out := segmentList{Segments: []segmentLine{}, Quarantined: []string{}}
	for _, s := range list {
		out.Segments = append(out.Segments, segmentLine{s.Kind, s.Namespace, s.Name, s.State, s.Document, s.By, s.At.AsTime()})
	}
	for _, q := range cut {
		out.Quarantined = append(out.Quarantined, q.Workload)
	}
	if format == "json" {
		return writeJSON(a.out, out)
	}
	t := &table{head: []string{"KIND", "NAMESPACE", "NAME", "STATE", "BY", "SINCE"}, flex: []int{2}}
	for _, s := range out.Segments {
		t.add(text(s.Kind), text(or(s.Namespace, "-")), text(s.Name), segmentCell(s.State), text(s.By), text(ago(time.Now(), s.At)))
	}
	for _, q := range cut {
		t.add(text("quarantine"), text("-"), text(q.Workload), cell{"enforced", red}, text(q.By), text(ago(time.Now(), q.At.AsTime())))
	}
	return t.write(a.out, a.screen())
}

func segmentCell(state string) cell {
	return cell{state, map[string]style{"enforced": green, "staged": yellow}[state]}
}

func newSegmentList(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "list",
		Short:   "Network policies that are kept, staged and enforced",
		Long:    "Lists the policies, and the workloads in quarantine.",
		Example: "  bulkhead segment list\n  bulkhead segment list --format json | jq -r '.segments[].document'",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.segments.ListSegments(c.Context(), request(&pb.ListSegmentsRequest{}))
		if err != nil {
			return fmt.Errorf("listing network policies: %w", err)
		}
		return a.tellSegments(answer.Msg.Segments, answer.Msg.Quarantined, format.value)
	}
	return c
}

func newSegmentRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME…",
		Short:   "Take policies back",
		Long:    "Forgets policies, by NAME or NAMESPACE/NAME. What only they closed is open again.",
		Example: "  bulkhead segment remove shop/api",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			client, err := a.connect()
			if err != nil {
				return err
			}
			answer, err := client.segments.RemoveSegments(c.Context(), request(&pb.RemoveSegmentsRequest{Names: names}))
			if err != nil {
				return fmt.Errorf("removing network policies: %w", err)
			}
			return notEverywhere(answer.Msg.Nodes)
		},
	}
}

func newQuarantine(a *app) *cobra.Command {
	var lift bool
	c := &cobra.Command{
		Use:     "quarantine WORKLOAD",
		Short:   "Cut a workload off from everything, at once",
		Long:    "Lets no packet of the workload's containers in or out, but for loopback, whatever policies say. Connections end. Its processes go on: look at them, then --lift.",
		Example: "  bulkhead segment quarantine shop/deployment/api/main\n  bulkhead segment quarantine --lift shop/deployment/api/main",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&lift, "lift", false, "let it back")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := a.connect()
		if err != nil {
			return err
		}
		answer, err := client.segments.Quarantine(c.Context(), request(&pb.QuarantineRequest{Workload: args[0], Lift: lift}))
		if err != nil {
			return fmt.Errorf("quarantine of %s: %w", oneLine(args[0]), err)
		}
		return notEverywhere(answer.Msg.Nodes)
	}
	return c
}
