//go:build integration

package browser

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bus"
	"bulkhead/console"
	"bulkhead/server"
)

// plane is a running control plane with the console.
type plane struct {
	server.Address
	dir      string
	password string
	stop     func()
}

// serve starts one; listen is an address to take again, or empty for a free one.
func serve(t *testing.T, dir, listen string) *plane {
	t.Helper()
	return serveImages(t, dir, listen, server.ImageOptions{})
}

// serveImages starts one that scans images.
func serveImages(t *testing.T, dir, listen string, images server.ImageOptions) *plane {
	t.Helper()
	if !console.Built() {
		t.Fatal("the console was not built: make build")
	}
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{dir: dir}
	ready, done := make(chan server.Address, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Options{
			Dir: dir, Listen: listen, BusListen: "127.0.0.1:0", Console: console.Handler(), Images: images,
			FirstSignIn: func(_, password string) { p.password = password },
			Ready:       func(a server.Address) { ready <- a },
		})
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("the control plane ended with: ", err)
		}
	})
	t.Cleanup(p.stop)
	select {
	case p.Address = <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return p
}

// node speaks the bus's real protocol, and puts things in force by remembering them.
type node struct {
	*bus.Client
	mu        sync.Mutex
	report    *pb.NodeReport
	anyway    map[string]bool
	approvals []bulkhead.Approval
	network   atomic.Pointer[pb.NetworkState] // what it was told last
	webs      atomic.Pointer[pb.SetWebs]
	portrait  atomic.Pointer[pb.GetPortraitResponse]
}

// join connects a node that reports again whenever its state changes, as the agent does.
func join(t *testing.T, dir string, report *pb.NodeReport) *node {
	t.Helper()
	client, err := bus.Connect(bus.Options{Credentials: filepath.Join(dir, "bus", "agent.json"), Node: report.Node.Id, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	n := &node{Client: client, report: report, anyway: map[string]bool{}}
	if err := client.Commands(n.obey); err != nil {
		t.Fatal(err)
	}
	n.tell(t)
	return n
}

func (n *node) tell(t *testing.T) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Log("the last report: ", err)
		}
	}()
	eventually(t, "the node's report arrives", func() bool { err = n.send(t.Context()); return err == nil })
}

func (n *node) send(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Report(ctx, n.report)
}

func (n *node) obey(_ context.Context, c *pb.NodeCommand) *pb.NodeCommandAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch c := c.Command.(type) {
	case *pb.NodeCommand_SetMode:
		n.setMode(c.SetMode)
	case *pb.NodeCommand_Approve:
		n.approvals = append(n.approvals, api.FromApproval(c.Approve))
	case *pb.NodeCommand_Network:
		n.network.Store(c.Network)
	case *pb.NodeCommand_SetWebs:
		n.webs.Store(c.SetWebs)
	case *pb.NodeCommand_GetPortrait:
		return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: true}, Portrait: n.portrait.Load()}
	}
	go func() { _ = n.send(context.Background()) }() // a test that ends does not wait for it
	return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: true}}
}

func (n *node) setMode(r *pb.SetModeRequest) {
	n.anyway[r.Workload] = r.Anyway
	for _, w := range n.report.Workloads {
		if w.Workload.Name == r.Workload {
			w.Workload.Mode = r.Mode
		}
	}
}

// approved is what came, once each: the control plane asks again when it is not sure, and a node does the same thing again.
func (n *node) approved() []bulkhead.Approval {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Compact(slices.Clone(n.approvals))
}

// state is a workload's mode, and whether it was set anyway.
func (n *node) state(workload string) (mode pb.Mode, anyway bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.report.Workloads {
		if w.Workload.Name == workload {
			mode = w.Workload.Mode
		}
	}
	return mode, n.anyway[workload]
}

func (n *node) publish(t *testing.T, list ...bulkhead.Alert) {
	t.Helper()
	eventually(t, "alerts are published", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return n.PublishAlerts(ctx, list) == nil
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen within %v: %s", patient, what)
		}
	}
}
