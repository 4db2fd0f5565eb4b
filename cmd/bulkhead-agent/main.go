// Command bulkhead-agent runs a node: as root it loads kernel programs, learns what containers do, protects them
// and tells the control plane. Start with `bulkhead-agent run`.
//
// It promises to link no database, no console and no Kubernetes client. It is not for people: `bulkhead` is.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bulkhead/agent"
	"bulkhead/agent/drift"
	"bulkhead/bpf"
	"bulkhead/cmd/resident"
	"bulkhead/enforce/keeper"
)

// Version is set when a release is built.
var version = "dev"

// heap bounds what the garbage collector lets grow before it works harder: the agent's whole budget is 80 MiB.
const heap = 64 << 20

// started is when everything that only the start needs has been done.
const started = 15 * time.Second

func main() {
	keepToOurselves()
	if err := joinHostCgroups(); err != nil {
		fmt.Fprintln(os.Stderr, "bulkhead-agent:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	var usage usageError
	switch {
	case errors.As(err, &usage):
		fmt.Fprintln(os.Stderr, "bulkhead-agent:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bulkhead-agent:", err)
		os.Exit(1)
	}
}

// keepToOurselves marks what was inherited open (a caller's lock, say) as not for the keeper, which outlives us all.
func keepToOurselves() { _ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC) }

type usageError struct{ error }

func command() *cobra.Command {
	root := &cobra.Command{Use: "bulkhead-agent", Short: "Run one node of Bulkhead", SilenceUsage: true, SilenceErrors: true, Version: version}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), sidecarCommand(), inlineCommand(), keeperCommand(), releaseCommand(), resumeCommand(), auditCommand())
	return root
}

func runCommand() *cobra.Command {
	o := agent.Options{Version: version}
	var state string
	var contained, unaudited bool
	c := &cobra.Command{
		Use: "run", Short: "Sense, learn, protect and report, in the foreground", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			debug.SetMemoryLimit(heap)
			o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			o.State = filepath.Join(state, "agent")
			if o.Auditor = "/proc/self/exe"; unaudited {
				o.Auditor = ""
			}
			if o.Credentials == "" {
				o.Credentials = filepath.Join(state, "server", "bus", "agent.json")
			}
			o.Keeper = func() keeper.StartOptions { return keeperStart(o, contained) }
			time.AfterFunc(started, resident.GiveBack)
			for {
				err := agent.Run(c.Context(), o)
				if !agent.EnginesChanged(err) {
					return err
				}
				o.Log.Info("starting again with other container engines")
			}
		},
	}
	f := c.Flags()
	f.StringVar(&state, "state", "/var/lib/bulkhead", "`DIR` of everything that is kept")
	f.StringVar(&o.Run, "run", "/run/bulkhead", "`DIR` of sockets; engines.d in it names further container engines")
	f.StringVar(&o.Node, "node", "", "this node's `NAME` (default: the host's)")
	f.StringVar(&o.Cluster, "cluster", "local", "`NAME` of the cluster this node belongs to")
	f.StringVar(&o.Credentials, "credentials", "", "`FILE` with the way to the control plane (default: the one of the control plane on this host)")
	f.StringVar(&o.Rules, "rules", "", "`DIR` of rule files over the default ones")
	f.StringVar(&o.Pin, "pin", "/sys/fs/bpf/bulkhead", "`DIR` on a BPF file system where programs and maps are kept")
	f.StringSliceVar(&o.Registries.PlainHTTP, "insecure-http", nil, "`REGISTRY` that may be spoken to without TLS for signatures; no other is")
	f.StringVar(&o.NRI, "nri", "/var/run/nri/nri.sock", "`SOCKET` where containerd or CRI-O takes plug-ins; none there is no fault, empty uses none")
	f.StringVar(&o.Cgroup, "cgroup", "", "`PATH` of the cgroup that holds this node's containers, where several nodes share a kernel (default: all are this node's)")
	f.BoolVar(&contained, "contained", false, "this agent is in a container: its keeper leaves that, so that it outlives it")
	f.StringVar(&o.Seccomp, "kubelet-seccomp", "", "`DIR` of the kubelet's seccomp profiles: the profiles that are signed onto the images of this node are written there (default: none are)")
	f.StringSliceVar(&o.ReadAlong, "read-along", nil, "`WORKLOAD` of which is told what it is asked and asks: endpoints of HTTP/1, statements of MySQL and PostgreSQL without their data, how often, how long; * stands for any characters")
	f.StringVar(&o.HostRoot, "host-root", "", "`DIR` where the host's files are, for audits (default: the root of its first process)")
	f.BoolVar(&unaudited, "no-audit", false, "do not audit this node, nor watch what audits look at")
	f.BoolVar(&o.NoLSM, "no-lsm", false, "do not use BPF-LSM, even where the kernel has it")
	f.BoolVar(&o.Kill, "kill", false, "end a process for a system call outside its profile, instead of answering EPERM")
	return c
}

// keeperStart starts this program's keeper with neither its name nor its path.
func keeperStart(o agent.Options, contained bool) keeper.StartOptions {
	log, _ := os.OpenFile(filepath.Join(o.Run, "keeper.log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	return keeper.StartOptions{Args: []string{"keeper", "--socket", filepath.Join(o.Run, "keeper.sock"), "--pin", o.Pin}, Dir: o.Run, Leave: contained, Log: log}
}

func keeperCommand() *cobra.Command {
	var socket, pin string
	c := &cobra.Command{
		Use: "keeper", Short: "Hold the system call listeners of protected containers; the agent starts it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			desk, err := bpf.OpenDesk(pin)
			if err != nil {
				return err
			}
			defer desk.Close()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			time.AfterFunc(started, resident.GiveBack)
			over := make(chan struct{})
			go func() { beat(c.Context(), desk); close(over) }()
			rest := func() {
				<-over // no beat comes after it
				_ = desk.Rest()
			}
			return keeper.Serve(c.Context(), keeper.Options{Socket: socket, Holds: holds(desk), Rest: rest, Log: log})
		},
	}
	c.Flags().StringVar(&socket, "socket", "/run/bulkhead/keeper.sock", "where the agent connects")
	c.Flags().StringVar(&pin, "pin", "/sys/fs/bpf/bulkhead", "`DIR` on a BPF file system")
	return c
}

// beat tells the kernel that stopped processes will be continued.
func beat(ctx context.Context, desk *bpf.Desk) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = desk.Beat()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func holds(desk *bpf.Desk) <-chan keeper.Hold {
	c := make(chan keeper.Hold, 256)
	go func() {
		defer close(c)
		for {
			h, err := desk.Next()
			if err != nil {
				return
			}
			c <- keeper.Hold{PID: int(h.PID), CgroupID: h.Cgroup}
		}
	}()
	return c
}

func releaseCommand() *cobra.Command {
	var run, state, pin string
	c := &cobra.Command{
		Use: "release", Short: "Lift all protection on this host: take every program out of the kernel", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return errors.Join(agent.ReleaseKeeper(c.Context(), filepath.Join(run, "keeper.sock")), bpf.ReleaseAll(pin))
		},
	}
	f := c.Flags()
	f.StringVar(&run, "run", "/run/bulkhead", "`DIR` of sockets")
	f.StringVar(&state, "state", "/var/lib/bulkhead", "`DIR` of everything that is kept; nothing in it changes")
	f.StringVar(&pin, "pin", "/sys/fs/bpf/bulkhead", "`DIR` on a BPF file system")
	return c
}

func auditCommand() *cobra.Command {
	return &cobra.Command{
		Use: "audit", Short: "Audit this node once; the agent starts it, and `bulkhead audit` is for people", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error { return drift.Audit(c.Context(), os.Stdin, os.Stdout) },
	}
}

func resumeCommand() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use: "resume", Short: "Let every container go on that a rule had held still or cut off the network", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return agent.Resume(filepath.Join(state, "agent")) },
	}
	c.Flags().StringVar(&state, "state", "/var/lib/bulkhead", "`DIR` of everything that is kept")
	return c
}
