package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "bulkhead/api/bulkhead/v1"
)

// node is a node as scripts read it.
type node struct {
	ID            string        `json:"id"`
	Name          string        `json:"name"`
	Cluster       string        `json:"cluster"`
	Kernel        string        `json:"kernel"`
	Version       string        `json:"version"`
	LastSeen      time.Time     `json:"lastSeen"`
	Connected     bool          `json:"connected"`
	Containers    int32         `json:"containers"`
	Backends      []enforcement `json:"backends"`
	Engines       []engine      `json:"engines"`
	Events        uint64        `json:"events"`
	LostEvents    uint64        `json:"lostEvents"`
	FoldedEvents  uint64        `json:"foldedEvents"`
	DroppedAlerts uint64        `json:"droppedAlerts"`
	SpooledAlerts uint64        `json:"spooledAlerts"`
	MemoryBytes   uint64        `json:"memoryBytes"`
	Problems      []string      `json:"problems"`
}

// engine is a container engine of a node.
type engine struct {
	Name    string `json:"name"`
	Socket  string `json:"socket"`
	Version string `json:"version"`
	Error   string `json:"error"`
}

func nodeOf(m *pb.Node) node {
	n := node{
		ID: m.Id, Name: m.Name, Cluster: m.Cluster, Kernel: m.Kernel, Version: m.Version,
		LastSeen: m.LastSeen.AsTime(), Connected: m.Connected, Containers: m.Containers,
		Backends: enforcements(m.Backends), Engines: []engine{},
		Events: m.Events, LostEvents: m.LostEvents, FoldedEvents: m.FoldedEvents, DroppedAlerts: m.DroppedAlerts, SpooledAlerts: m.SpooledAlerts,
		MemoryBytes: m.MemoryBytes, Problems: list(m.Problems),
	}
	for _, e := range m.Engines {
		n.Engines = append(n.Engines, engine{e.Name, e.Socket, e.Version, e.Error})
	}
	return n
}

func newNodes(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "nodes",
		Short: "The hosts, what enforces on each, and what it cannot do",
		Long: "Lists nodes; below each, its container engines, the back end that serves each kind of decision with what it cannot do there, and its problems.\n" +
			"LOST counts events the kernel could not hand over (enforcement never depends on them), DROPPED alerts the full spool let go, SPOOLED alerts that wait for the server.",
		Example: "  bulkhead nodes\n  bulkhead nodes --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.showNodes(c.Context(), format.value) }
	return c
}

func (a *app) showNodes(ctx context.Context, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	all, err := c.listNodes(ctx)
	if err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	if format == "json" {
		return writeJSON(a.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(a.err, "no nodes: `bulkhead-agent run` on a host makes it one")
		return nil
	}
	if err := nodeTable(all, time.Now()).write(a.out, a.screen()); err != nil {
		return err
	}
	for _, n := range all {
		if err := a.describeNode(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) listNodes(ctx context.Context) ([]node, error) {
	answer, err := c.nodes.ListNodes(ctx, request(&pb.ListNodesRequest{}))
	if err != nil {
		return nil, err
	}
	all := make([]node, 0, len(answer.Msg.Nodes))
	for _, m := range answer.Msg.Nodes {
		all = append(all, nodeOf(m))
	}
	slices.SortFunc(all, func(a, b node) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func nodeTable(all []node, now time.Time) *table {
	t := &table{head: []string{"NODE", "STATE", "KERNEL", "RUNNING", "EVENTS", "LOST", "DROPPED", "SPOOLED", "MEMORY"}, flex: []int{0, 2}}
	for _, n := range all {
		t.add(text(n.Name), stateCell(n, now), text(n.Kernel), textf("%d", n.Containers), textf("%d", n.Events),
			countCell(n.LostEvents), countCell(n.DroppedAlerts), countCell(n.SpooledAlerts), text(bytesOf(n.MemoryBytes)))
	}
	return t
}

func stateCell(n node, now time.Time) cell {
	if n.Connected {
		return cell{"connected", green}
	}
	return cell{"away, seen " + ago(now, n.LastSeen), red}
}

func countCell(n uint64) cell {
	if n == 0 {
		return text("0")
	}
	return cell{fmt.Sprint(n), yellow}
}

// describeNode tells what serves a node's decisions, its engines and its problems.
func (a *app) describeNode(n node) error {
	t := &table{head: []string{oneLine(n.Name), "BY", "CANNOT"}, wrap: true, flex: []int{2}}
	for _, e := range n.Backends {
		t.add(text(e.Kind), text(e.Backend), text(or(e.Limits, "-")))
	}
	for _, e := range n.Engines {
		t.add(text("engine"), text(e.Name), text(or(e.Error, strings.TrimSpace(e.Version+" at "+e.Socket))))
	}
	for _, p := range n.Problems {
		t.add(cell{"problem", red}, text(""), text(p))
	}
	if len(t.rows) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return t.write(a.out, a.screen())
}
