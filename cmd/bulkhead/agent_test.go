package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bus"
	"bulkhead/profile"
)

// fakeAgent is the program bulkhead-agent without a kernel: it speaks the real bus with the real server, and
// puts modes and approvals in force by remembering them.
func fakeAgent() {
	state := os.Args[5] // run --run DIR --state DIR
	switch {
	case os.Args[1] == "release":
		fmt.Fprintln(os.Stderr, "released", strings.Join(os.Args[1:], " "))
		return
	case os.Getenv("TEST_AGENT_FAILS") != "":
		fmt.Fprintln(os.Stderr, "the kernel refused the program")
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := bus.Connect(bus.Options{Credentials: filepath.Join(serverDir(state), "bus", "agent.json"), Node: "a", Retry: 50 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	(&fakeNode{client: client, mode: pb.Mode_MODE_LEARN}).work(ctx)
}

type fakeNode struct {
	client *bus.Client
	mu     sync.Mutex
	mode   pb.Mode
	told   bool
}

func (n *fakeNode) work(ctx context.Context) {
	if err := n.client.Commands(n.obey); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	for ctx.Err() == nil {
		if err := n.report(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func (n *fakeNode) obey(_ context.Context, c *pb.NodeCommand) *pb.NodeCommandAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c, ok := c.Command.(*pb.NodeCommand_SetMode); ok {
		if c.SetMode.Mode == pb.Mode_MODE_PROTECT && !c.SetMode.Anyway {
			return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Error: "executables: still growing"}}
		}
		n.mode = c.SetMode.Mode
	}
	return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: true}}
}

// report tells of one workload, and once of one alert.
func (n *fakeNode) report(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var text bytes.Buffer
	if err := profile.Write(&text, bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/shop", Syscalls: []string{"openat"}}); err != nil {
		return err
	}
	w := &pb.Workload{
		Name: "docker/shop", Kind: "container", Mode: n.mode, Containers: 1, Completeness: 0.5, LastSeen: timestamppb.Now(),
		BlockedBy: "executables: still growing", Nodes: []string{"a"},
	}
	node := &pb.Node{Id: "a", Name: "a", Kernel: "6.12", Connected: true, LastSeen: timestamppb.Now(), Containers: 1}
	err := n.client.Report(ctx, &pb.NodeReport{Node: node, Workloads: []*pb.WorkloadReport{{Workload: w, ProfileJson: text.Bytes()}}})
	if err != nil || n.told {
		return err
	}
	alert := fakeAlert("boot-1a2b-1003", bulkhead.Critical, bulkhead.ActionBlocked, "docker/shop", "/tmp/miner")
	alert.Time = time.Now()
	err = n.client.PublishAlerts(ctx, []bulkhead.Alert{alert})
	n.told = err == nil
	return err
}
