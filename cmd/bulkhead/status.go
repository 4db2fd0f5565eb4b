package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/cmd/bulkhead/supervise"

	pb "bulkhead/api/bulkhead/v1"
)

// status is the state of everything in a few figures, as scripts read it.
type status struct {
	Address    string                `json:"address"`
	Version    string                `json:"version"` // of this command
	Caller     string                `json:"caller"`
	Supervised bool                  `json:"supervised"` // `bulkhead up` runs on this host
	Nodes      nodeCount             `json:"nodes"`
	Workloads  map[bulkhead.Mode]int `json:"workloads"`
	Containers int32                 `json:"containers"`
	Blocked    uint64                `json:"blocked"`
	Detected   uint64                `json:"detected"`
	Problems   []string              `json:"problems"`
}

type nodeCount struct {
	Connected int `json:"connected"`
	Away      int `json:"away"`
}

func newStatus(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Whether everything runs, in a few lines",
		Long:    "Says where the server is, which nodes are connected, how many workloads are in which mode, and what is wrong. Exit code 1 when the server does not answer.",
		Example: "  bulkhead status\n  bulkhead status --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.showStatus(c.Context(), format.value) }
	return c
}

func (a *app) showStatus(ctx context.Context, format string) error {
	s, err := a.status(ctx)
	if err != nil {
		return err
	}
	if format == "json" {
		return writeJSON(a.out, s)
	}
	t := &table{head: []string{"BULKHEAD", s.Version}, wrap: true, flex: []int{1}}
	t.add(text("console"), text(s.Address))
	t.add(text("you are"), text(s.Caller))
	t.add(text("nodes"), textf("%d connected, %d away", s.Nodes.Connected, s.Nodes.Away))
	t.add(text("workloads"), textf("%d learn, %d monitor, %d protect, in %d containers", s.Workloads[bulkhead.Learn],
		s.Workloads[bulkhead.Monitor], s.Workloads[bulkhead.Protect], s.Containers))
	t.add(text("alerts"), textf("%d blocked, %d detected", s.Blocked, s.Detected))
	for _, p := range s.Problems {
		t.add(cell{"problem", red}, text(p))
	}
	return t.write(a.out, a.screen())
}

func (a *app) status(ctx context.Context) (status, error) {
	c, err := a.connect()
	if err != nil {
		return status{}, err
	}
	who, err := c.people.WhoAmI(ctx, request(&pb.WhoAmIRequest{}))
	if err != nil {
		return status{}, err
	}
	nodes, err1 := c.listNodes(ctx)
	workloads, err2 := c.listWorkloads(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return status{}, err
	}
	s := status{Address: c.address, Version: version(), Caller: who.Msg.Name, Problems: []string{}, Supervised: a.supervised()}
	s.Workloads = map[bulkhead.Mode]int{bulkhead.Learn: 0, bulkhead.Monitor: 0, bulkhead.Protect: 0}
	s.countNodes(nodes)
	s.countWorkloads(workloads)
	return s, nil
}

func (s *status) countNodes(nodes []node) {
	for _, n := range nodes {
		if n.Connected {
			s.Nodes.Connected++
		} else {
			s.Nodes.Away++
		}
		for _, p := range n.Problems {
			s.Problems = append(s.Problems, fmt.Sprintf("%s: %s", n.Name, p))
		}
	}
}

func (s *status) countWorkloads(messages []*pb.Workload) {
	for _, m := range messages {
		w := workloadOf(m)
		s.Workloads[w.Mode]++
		s.Containers += w.Containers
		s.Blocked += w.Blocked
		s.Detected += w.Detected
	}
}

// supervised says whether the supervisor of `bulkhead up` lives on this host.
func (a *app) supervised() bool {
	id, err := supervise.ReadIdentity(a.pidFile())
	return err == nil && id.Alive()
}

func (a *app) pidFile() string { return supervise.PIDFile(a.run, "up") }

func newVersion(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "The version of this command",
		Long:    "Writes the version, the commit it was built from, and the version of Go.",
		Example: "  bulkhead version --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	c.RunE = func(*cobra.Command, []string) error {
		info, _ := debug.ReadBuildInfo()
		v := map[string]string{"version": version(), "commit": setting(info, "vcs.revision"), "go": info.GoVersion}
		if format.value == "json" {
			return writeJSON(a.out, v)
		}
		_, err := fmt.Fprintf(a.out, "bulkhead %s (%s, %s)\n", v["version"], or(v["commit"], "no commit recorded"), v["go"])
		return err
	}
	return c
}

// version is what the Go tool recorded when it built this program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
