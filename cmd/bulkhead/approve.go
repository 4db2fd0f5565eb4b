package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
)

func newApprove(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "approve ALERT-ID | approve --workload WORKLOAD --section SECTION --value VALUE",
		Short: "Allow what was blocked, in the running container",
		Long: "Widens the profile of a workload by the one entry that an alert is about, and returns when its running containers have it: nothing restarts.\n" +
			"An id may be shortened to an ending that no other alert has, as `bulkhead alerts` shows it.\n" +
			"Sections: executables, scripts, syscalls, writes, reads, capabilities, listens, peers, memory.",
		Example: "  bulkhead approve 1f3a-1042\n  bulkhead approve --workload docker/shop --section syscalls --value ptrace",
		Args:    cobra.MaximumNArgs(1),
	}
	format := formatFlag(c, "table", "json")
	var byHand bulkhead.Approval
	section := &choice{}
	for _, s := range profile.Sections() {
		section.words = append(section.words, string(s))
	}
	c.Flags().StringVar(&byHand.Workload, "workload", "", "the `WORKLOAD` to widen, where no alert names it")
	c.Flags().VarP(&sectionFlag{section}, "section", "", "the section of its profile")
	c.Flags().StringVar(&byHand.Value, "value", "", "the `ENTRY`: a path, a pattern, a system call, tcp/443")
	c.RunE = func(c *cobra.Command, args []string) error {
		byHand.Section = bulkhead.Section(section.value)
		whole := byHand.Workload != "" && byHand.Section != "" && byHand.Value != ""
		switch {
		case len(args) == 1 && byHand == (bulkhead.Approval{}):
			return a.approveAlert(c.Context(), args[0], format.value)
		case len(args) == 0 && whole:
			return a.approveEntry(c.Context(), byHand, format.value)
		}
		return usagef("give the id of an alert, or all of --workload, --section and --value")
	}
	return c
}

// sectionFlag is a choice whose words are too many to be its type.
type sectionFlag struct{ *choice }

func (sectionFlag) Type() string { return "SECTION" }

func (a *app) approveAlert(ctx context.Context, id, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	alert, err := c.findAlert(ctx, id)
	if err != nil {
		return fmt.Errorf("approving: %w", err)
	}
	if alert.Heal == nil {
		return fmt.Errorf("approving alert %s: nothing can be approved there: rule %s is no matter of the profile", alert.ID, alert.Rule)
	}
	return a.approve(ctx, c, &pb.ApproveRequest{AlertId: alert.ID}, *alert.Heal, format)
}

func (a *app) approveEntry(ctx context.Context, entry bulkhead.Approval, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	w, err := c.findWorkload(ctx, entry.Workload)
	if err != nil {
		return err
	}
	entry.Workload = w.Name
	ask := &pb.ApproveRequest{Workload: entry.Workload, Section: string(entry.Section), Value: entry.Value}
	return a.approve(ctx, c, ask, entry, format)
}

func (a *app) approve(ctx context.Context, c *client, ask *pb.ApproveRequest, entry bulkhead.Approval, format string) error {
	answer, err := c.workloads.Approve(ctx, request(ask))
	if err != nil {
		return fmt.Errorf("approving %s %s of %s: %w", entry.Section, entry.Value, entry.Workload, err)
	}
	nodes := nodeAnswers(answer.Msg.Nodes)
	if format == "json" {
		err = writeJSON(a.out, map[string]any{"workload": entry.Workload, "section": entry.Section, "value": entry.Value, "nodes": nodes})
	} else {
		err = a.tellNodes(fmt.Sprintf("%s: allowed %s %s", entry.Workload, entry.Section, entry.Value), nodes)
	}
	if failed := failedNodes(nodes); failed != nil {
		return fmt.Errorf("approving %s %s of %s: %w", entry.Section, entry.Value, entry.Workload, failed)
	}
	return err
}
