package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
)

// workload is a workload as scripts read it.
type workload struct {
	Name         string                                     `json:"name"`
	Kind         string                                     `json:"kind"`
	Namespace    string                                     `json:"namespace"`
	Image        string                                     `json:"image"`
	Digest       string                                     `json:"digest"`
	Mode         bulkhead.Mode                              `json:"mode"`
	Nodes        []string                                   `json:"nodes"`
	Containers   int32                                      `json:"containers"`
	Completeness float64                                    `json:"completeness"`
	Ready        bool                                       `json:"ready"`
	BlockedBy    string                                     `json:"blockedBy"` // why it is not ready
	Sections     map[bulkhead.Section]bulkhead.Completeness `json:"sections"`
	Blocked      uint64                                     `json:"blocked"`
	Detected     uint64                                     `json:"detected"`
	LastSeen     time.Time                                  `json:"lastSeen"`
	Enforcement  []enforcement                              `json:"enforcement"`
	Trust        trust                                      `json:"trust"`
	Web          string                                     `json:"web"` // what is done with its requests: off, learn, detect, block
}

// trust is what the trust policies say of the image that runs.
type trust struct {
	Status  string   `json:"status"` // trusted, untrusted, unknown; empty: no policy is about it
	Reasons []string `json:"reasons"`
	Signers []string `json:"signers"`
	Profile string   `json:"profile"` // what is done with the profile that is signed onto it
}

// enforcement says what serves one kind of decision.
type enforcement struct {
	Kind    string `json:"kind"`
	Backend string `json:"backend"`
	Limits  string `json:"limits"`
}

func workloadOf(m *pb.Workload) workload {
	return workload{
		Name: m.Name, Kind: m.Kind, Namespace: m.Namespace, Image: m.Image, Digest: m.Digest,
		Mode: api.FromMode(m.Mode), Nodes: list(m.Nodes), Containers: m.Containers,
		Completeness: m.Completeness, Ready: m.Ready, BlockedBy: m.BlockedBy, Sections: api.FromSections(m.Sections),
		Blocked: m.Blocked, Detected: m.Detected, LastSeen: m.LastSeen.AsTime(), Enforcement: enforcements(m.Enforcement),
		Trust: trust{m.Trust.GetStatus(), list(m.Trust.GetReasons()), list(m.Trust.GetSigners()), m.Trust.GetProfile()},
		Web:   or(m.Web.GetMode(), string(bulkhead.WebOff)),
	}
}

func enforcements(messages []*pb.Enforcement) []enforcement {
	all := make([]enforcement, 0, len(messages))
	for _, m := range messages {
		all = append(all, enforcement{m.Kind, m.Backend, m.Limits})
	}
	return all
}

func newWorkloads(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "workloads [WORKLOAD]",
		Short: "What runs, in which mode, and how complete its profile is",
		Long: "Lists workloads. With a name, tells about that one: each section of its profile, why it may not be protected yet, and what enforces it where.\n" +
			"A name may be shortened to what follows a slash where that is unambiguous: shop for docker/shop.",
		Example: "  bulkhead workloads\n  bulkhead workloads docker/shop --format json",
		Args:    cobra.MaximumNArgs(1),
	}
	c.ValidArgsFunction = a.completeWorkload
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			return a.showWorkload(c.Context(), args[0], format.value)
		}
		return a.showWorkloads(c.Context(), format.value)
	}
	return c
}

func (a *app) showWorkloads(ctx context.Context, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	messages, err := c.listWorkloads(ctx)
	if err != nil {
		return fmt.Errorf("listing workloads: %w", err)
	}
	all := make([]workload, 0, len(messages))
	for _, m := range messages {
		all = append(all, workloadOf(m))
	}
	slices.SortFunc(all, func(a, b workload) int { return strings.Compare(a.Name, b.Name) })
	if format == "json" {
		return writeJSON(a.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no workloads: start a container, it appears here")
		return nil
	}
	return workloadTable(all, time.Now()).write(a.out, a.screen())
}

// workloadTable shows trust where there is a policy about something.
func workloadTable(all []workload, now time.Time) *table {
	t := &table{head: []string{"WORKLOAD", "MODE", "PROFILE", "RUNNING", "BLOCKED", "DETECTED", "SEEN", "IMAGE"}, flex: []int{7, 0}}
	judged := slices.ContainsFunc(all, func(w workload) bool { return w.Trust.Status != "" })
	if judged {
		t.head, t.flex = slices.Insert(t.head, 7, "TRUST"), []int{8, 0}
	}
	looked := slices.ContainsFunc(all, func(w workload) bool { return w.Web != string(bulkhead.WebOff) })
	if looked {
		t.head, t.flex = slices.Insert(t.head, 2, "WEB"), []int{t.flex[0] + 1, 0}
	}
	for _, w := range all {
		row := []cell{
			text(w.Name), modeCell(w.Mode), readyCell(w), textf("%d", w.Containers), textf("%d", w.Blocked),
			textf("%d", w.Detected), text(ago(now, w.LastSeen)), text(w.Image),
		}
		if judged {
			row = slices.Insert(row, 7, trustCell(w.Trust))
		}
		if looked {
			row = slices.Insert(row, 2, webModeCell(bulkhead.WebMode(w.Web)))
		}
		t.add(row...)
	}
	return t
}

func modeCell(m bulkhead.Mode) cell {
	return cell{string(m), map[bulkhead.Mode]style{bulkhead.Monitor: yellow, bulkhead.Protect: green}[m]}
}

func trustCell(t trust) cell {
	return cell{or(t.Status, "-"), map[string]style{"trusted": green, "untrusted": red, "unknown": yellow}[t.Status]}
}

func readyCell(w workload) cell {
	if w.Ready {
		return cell{"ready", green}
	}
	return text(percent(w.Completeness))
}

// percent rounds down: what is not whole is not shown as whole.
func percent(share float64) string { return fmt.Sprintf("%d %%", int(share*100)) }

func (a *app) showWorkload(ctx context.Context, name, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	m, err := c.findWorkload(ctx, name)
	if err != nil {
		return err
	}
	w := workloadOf(m)
	if format == "json" {
		return writeJSON(a.out, w)
	}
	return a.describeWorkload(w)
}

func (a *app) describeWorkload(w workload) error {
	s := a.screen()
	facts := &table{head: []string{"WORKLOAD", w.Name}, wrap: true, flex: []int{1}}
	facts.add(text("mode"), modeCell(w.Mode))
	facts.add(text("requests"), webModeCell(bulkhead.WebMode(w.Web)))
	facts.add(text("image"), text(w.Image))
	facts.add(text("digest"), text(w.Digest))
	if w.Trust.Status != "" {
		facts.add(text("trust"), trustCell(w.Trust))
	}
	for _, reason := range w.Trust.Reasons {
		facts.add(text(""), text(reason))
	}
	facts.add(text("running"), textf("%d on %s", w.Containers, or(strings.Join(w.Nodes, ", "), "no node")))
	facts.add(text("alerts"), textf("%d blocked, %d detected", w.Blocked, w.Detected))
	facts.add(text("protect"), text(protectable(w)))
	if err := facts.write(a.out, s); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	if err := sectionTable(w.Sections).write(a.out, s); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	return enforcementTable(w.Enforcement).write(a.out, s)
}

func protectable(w workload) string {
	if w.Ready {
		return "may be protected"
	}
	return "not yet: " + or(w.BlockedBy, "its profile is not complete")
}

func sectionTable(sections map[bulkhead.Section]bulkhead.Completeness) *table {
	t := &table{head: []string{"SECTION", "ENTRIES", "COMPLETE", "HELD OUT", "READY"}}
	for _, name := range profile.Sections() {
		c, ok := sections[name]
		if !ok {
			continue
		}
		t.add(text(string(name)), textf("%d", c.Items), text(percent(c.Score)), text(percent(c.HeldOut)), yesNo(c.Ready))
	}
	return t
}

func yesNo(b bool) cell {
	if b {
		return cell{"yes", green}
	}
	return cell{"no", yellow}
}

func enforcementTable(all []enforcement) *table {
	t := &table{head: []string{"ENFORCES", "BY", "CANNOT"}, wrap: true, flex: []int{2}}
	for _, e := range all {
		t.add(text(e.Kind), text(e.Backend), text(or(e.Limits, "-")))
	}
	return t
}

// completeWorkload offers the names of workloads to the shell, when the server answers quickly.
func (a *app) completeWorkload(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	client, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	all, _ := client.listWorkloads(ctx)
	names := make([]string, 0, len(all))
	for _, w := range all {
		names = append(names, oneLine(w.Name))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
