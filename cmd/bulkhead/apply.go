package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/sign"
)

// applied is a document as scripts read it.
type applied struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Change string `json:"change"` // created, changed, unchanged; of a network policy its state: enforced, staged, kept
}

func newApply(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "apply -f FILE…",
		Short: "Put policies in force on every node",
		Long: "Sends documents to the server, which brings every node to them; one that is away gets them when it is back, and keeps them while the server is away.\n" +
			"They are the same documents as the custom resources in a cluster. Kinds: TrustPolicy (docs/trust.md); files that a policy names are sent with it.\n" +
			"NetworkPolicy, CiliumNetworkPolicy and Segment, and Namespace for its labels (docs/topology.md): in files of their own, enforced unless --as says staged or kept.",
		Example: "  bulkhead apply -f trust.yaml\n  bulkhead policies\n  bulkhead apply -f network.yaml --as staged",
		Args:    cobra.NoArgs,
	}
	files := c.Flags().StringArrayP("filename", "f", nil, "`FILE` with documents, divided by ---, or - for standard input; may be repeated")
	state := &choice{value: "enforced", words: []string{"enforced", "staged", "kept"}}
	c.Flags().Var(state, "as", "the `STATE` of network policies: enforced, staged or kept")
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if len(*files) == 0 {
			return usagef("name a file: bulkhead apply -f trust.yaml")
		}
		return a.apply(c.Context(), *files, state.value, format.value)
	}
	return c
}

// written is a file of documents.
type written struct {
	name string
	text []byte
}

func (a *app) apply(ctx context.Context, files []string, state, format string) error {
	var network, others []written
	for _, name := range files {
		text, err := a.documents(name)
		if err != nil {
			return err
		}
		if networkKinds.Match(text) {
			network = append(network, written{name, text})
		} else {
			others = append(others, written{name, text})
		}
	}
	all := []applied{}
	var failed error
	for _, part := range []struct {
		files []written
		apply func() ([]applied, error)
	}{
		{others, func() ([]applied, error) { return a.applyTrust(ctx, others) }},
		{network, func() ([]applied, error) { return a.applyNetwork(ctx, network, state) }},
	} {
		if len(part.files) == 0 {
			continue
		}
		list, err := part.apply()
		all, failed = append(all, list...), errors.Join(failed, err)
	}
	if failed != nil && len(all) == 0 {
		return failed
	}
	return errors.Join(a.tellApplied(all, format), failed)
}

func (a *app) tellApplied(all []applied, format string) error {
	if format == "json" {
		return writeJSON(a.out, all)
	}
	t := &table{head: []string{"KIND", "NAME", "CHANGE"}}
	for _, one := range all {
		t.add(text(one.Kind), text(one.Name), text(one.Change))
	}
	return t.write(a.out, a.screen())
}

// applyTrust applies files of trust policies.
func (a *app) applyTrust(ctx context.Context, files []written) ([]applied, error) {
	var documents [][]byte
	var wrong []error
	for _, file := range files {
		some, err := sign.Portable(file.name, file.text)
		documents, wrong = append(documents, some...), append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	answer, err := c.policies.ApplyPolicies(ctx, request(&pb.ApplyPoliciesRequest{Documents: documents}))
	if err != nil {
		return nil, fmt.Errorf("applying: %w", err)
	}
	for _, note := range answer.Msg.Notes {
		fmt.Fprintln(a.err, "bulkhead:", oneLine(note))
	}
	all := make([]applied, 0, len(answer.Msg.Applied))
	for _, one := range answer.Msg.Applied {
		all = append(all, applied{one.Kind, one.Name, one.Change})
	}
	return all, notEverywhere(answer.Msg.Nodes)
}

// notEverywhere says which nodes do not have it yet.
func notEverywhere(nodes []*pb.NodeAnswer) (err error) {
	for _, n := range nodes {
		if !n.Ok {
			err = errors.Join(err, fmt.Errorf("node %s: %s", n.Node, n.Error))
		}
	}
	if err != nil {
		return fmt.Errorf("it is kept, and not in force everywhere:\n%w", err)
	}
	return nil
}

// policy is an applied document as scripts read it.
type policy struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	By       string    `json:"by"`
	Applied  time.Time `json:"applied"`
	Document string    `json:"document"`
}

func newPolicies(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "policies [NAME]",
		Short:   "Which policies are in force; with a name, that one",
		Long:    "Lists the documents that `bulkhead apply` put in force. With a name, writes that document.",
		Example: "  bulkhead policies\n  bulkhead policies shop > shop.yaml\n  bulkhead policies remove shop",
		Args:    cobra.MaximumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error { return a.listPolicies(c.Context(), args, format.value) }
	c.AddCommand(&cobra.Command{
		Use: "remove NAME", Short: "Take a policy out of force",
		Long:    "Removes a policy from the server, which takes it from every node: what it refused may run again.",
		Example: "  bulkhead policies remove shop", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.removePolicy(c.Context(), args[0]) },
	})
	return c
}

func (a *app) listPolicies(ctx context.Context, names []string, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	answer, err := c.policies.ListPolicies(ctx, request(&pb.ListPoliciesRequest{}))
	if err != nil {
		return fmt.Errorf("listing policies: %w", err)
	}
	all := []policy{}
	for _, p := range answer.Msg.Policies {
		if len(names) == 0 || names[0] == p.Name {
			all = append(all, policy{p.Kind, p.Name, p.By, p.Applied.AsTime(), string(p.Document)})
		}
	}
	slices.SortFunc(all, func(a, b policy) int { return cmp.Compare(a.Name, b.Name) })
	switch {
	case format == "json":
		return writeJSON(a.out, all)
	case len(names) > 0 && len(all) == 0:
		return fmt.Errorf("there is no policy %s: `bulkhead policies` lists those in force", names[0])
	case len(names) > 0:
		fmt.Fprint(a.out, all[0].Document)
		return nil
	case len(all) == 0:
		fmt.Fprintln(a.err, "no policies: put some in force with `bulkhead apply -f FILE`")
		return nil
	}
	t := &table{head: []string{"KIND", "NAME", "BY", "APPLIED"}}
	for _, p := range all {
		t.add(text(p.Kind), text(p.Name), text(p.By), text(ago(time.Now(), p.Applied)))
	}
	return t.write(a.out, a.screen())
}

func (a *app) removePolicy(ctx context.Context, name string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	answer, err := c.policies.RemovePolicy(ctx, request(&pb.RemovePolicyRequest{Kind: sign.PolicyKind, Name: name}))
	if err != nil {
		return fmt.Errorf("removing policy %s: %w", name, err)
	}
	return notEverywhere(answer.Msg.Nodes)
}
