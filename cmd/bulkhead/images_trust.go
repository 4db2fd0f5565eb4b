package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
)

// trusted is an image held against the policies, as scripts read it.
type trusted struct {
	Reference    string          `json:"reference"`
	Digest       string          `json:"digest"`
	State        string          `json:"state"`
	Allowed      bool            `json:"allowed"`
	Policies     []policyVerdict `json:"policies"`
	Signatures   []signature     `json:"signatures"`
	Attestations []signature     `json:"attestations"`
	Notes        []string        `json:"notes"`
	Problem      string          `json:"problem"`
	Workloads    []string        `json:"workloads"`
}

type policyVerdict struct {
	Name       string        `json:"name"`
	Met        bool          `json:"met"`
	BreakGlass string        `json:"breakGlass,omitempty"`
	Reasons    []trustReason `json:"reasons"`
}

type trustReason struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
	Action  string `json:"action"`
}

type signature struct {
	Kind     string     `json:"kind"`
	Signer   string     `json:"signer"`
	Identity string     `json:"identity"`
	Issuer   string     `json:"issuer"`
	Time     *time.Time `json:"time,omitempty"`
	Digest   string     `json:"digest"`
}

func newImagesTrust(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust [REF]",
		Short: "Who signed the scanned images, what is attested, which policies they meet",
		Long: "Holds images that the server scanned against the trust policies that are applied (`bulkhead policies`). A signature counts where a policy\n" +
			"knows its signer. `bulkhead verify` tells the same of any image and needs no server.",
		Example: "  bulkhead images trust\n  bulkhead images trust registry.example/shop:v2 --format json",
		Args:    cobra.MaximumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	filter := c.Flags().String("filter", "", "only those with this `TEXT` in the name or digest")
	c.RunE = func(c *cobra.Command, args []string) error {
		all, err := a.listTrust(c.Context(), &pb.ListTrustRequest{Filter: *filter, Reference: strings.Join(args, ""), Limit: 500})
		if err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(a.out, all)
		}
		return trustTable(all).write(a.out, a.screen())
	}
	return c
}

// trustPatience is how often the server is asked again about images whose registries take their time.
const (
	trustPatience = 15
	trustAgain    = time.Second
)

func (a *app) listTrust(ctx context.Context, ask *pb.ListTrustRequest) ([]trusted, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	all := []trusted{}
	for try := 0; ; {
		answer, err := c.images.ListTrust(ctx, request(ask))
		if err != nil {
			return nil, fmt.Errorf("listing what images are trusted: %w", err)
		}
		if try++; try < trustPatience && isAsking(answer.Msg.Images) {
			sleep(ctx, trustAgain)
			continue
		}
		try = 0
		for _, m := range answer.Msg.Images {
			all = append(all, trustedOf(m))
		}
		if ask.Page = answer.Msg.NextPage; ask.Page == "" {
			return all, nil
		}
	}
}

func isAsking(list []*pb.TrustedImage) bool {
	for _, m := range list {
		if m.State == "asking" {
			return true
		}
	}
	return false
}

func trustedOf(m *pb.TrustedImage) trusted {
	t := trusted{
		Reference: m.Reference, Digest: m.Digest, State: m.State, Allowed: m.Allowed, Problem: m.Problem, Policies: []policyVerdict{},
		Signatures: signedOf(m.Signatures), Attestations: signedOf(m.Attestations), Notes: append([]string{}, m.Notes...), Workloads: []string{},
	}
	for _, p := range m.Policies {
		v := policyVerdict{p.Name, p.Met, p.BreakGlass, []trustReason{}}
		for _, r := range p.Reasons {
			v.Reasons = append(v.Reasons, trustReason{r.Rule, r.Message, r.Action})
		}
		t.Policies = append(t.Policies, v)
	}
	for _, w := range m.Workloads {
		t.Workloads = append(t.Workloads, w.Name)
	}
	return t
}

func signedOf(list []*pb.TrustedImage_ImageSignature) []signature {
	out := []signature{}
	for _, s := range list {
		out = append(out, signature{s.Kind, s.Signer, s.Identity, s.Issuer, timeOf(s.Time), s.Digest})
	}
	return out
}

func trustTable(all []trusted) *table {
	t := &table{head: []string{"IMAGE", "TRUST", "SIGNED BY", "ATTESTED", "POLICIES"}, flex: []int{0, 4}, wrap: true}
	colour := map[string]style{"met": green, "not-met": red}
	for _, i := range all {
		t.add(text(i.Reference), cell{i.State, colour[i.State]}, text(once(i.Signatures, func(s signature) string { return s.Signer })),
			text(once(i.Attestations, func(s signature) string { return s.Kind })), text(i.verdicts()))
	}
	return t
}

// verdicts are the policies that are about an image, with the reasons of those that it does not meet.
func (t trusted) verdicts() string {
	var all []string
	for _, p := range t.Policies {
		line := p.Name + ": met"
		if !p.Met {
			line = p.Name + ": not met"
		}
		for _, r := range p.Reasons {
			line += "; " + r.Rule + ": " + r.Message
		}
		all = append(all, line)
	}
	if t.Problem != "" {
		all = append(all, t.Problem)
	}
	return strings.Join(all, " | ")
}

// once joins words, each once.
func once(list []signature, word func(signature) string) string {
	var all []string
	seen := map[string]bool{}
	for _, s := range list {
		if w := word(s); !seen[w] {
			seen[w] = true
			all = append(all, w)
		}
	}
	return strings.Join(all, ", ")
}
