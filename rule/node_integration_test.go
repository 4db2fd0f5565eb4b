//go:build integration

package rule_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"bulkhead"
	"bulkhead/agent"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/enforce/keeper"
	"bulkhead/rule"
	"bulkhead/server"
	"bulkhead/test/lab"
)

// node is a real agent and control plane with a real Docker.
type node struct {
	docker string
	modes  bulkheadv1connect.WorkloadServiceClient

	mu     sync.Mutex
	events map[string][]bulkhead.Event // by container id
	next   int
}

// openNode starts an engine, a control plane and an agent, whose sensor delivers the needs by itself.
func openNode(t *testing.T, _ rule.Needs) Node {
	t.Helper()
	l := lab.Start(t)
	dir := t.TempDir()
	n := &node{docker: "unix://" + l.Docker(), events: map[string][]bulkhead.Event{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	t.Cleanup(func() { cancel(); wait.Wait(); release(t, dir) })

	ready := make(chan server.Address, 1)
	wait.Go(func() {
		err := server.Run(ctx, server.Options{Dir: filepath.Join(dir, "server"), Run: dir, Listen: "127.0.0.1:0", BusListen: "127.0.0.1:0", Ready: func(a server.Address) { ready <- a }})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	address := <-ready
	n.modes = bulkheadv1connect.NewWorkloadServiceClient(address.Client(), address.URL)
	notes := filepath.Join(dir, "engines.d")
	if err := os.MkdirAll(notes, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(notes, "lab"), []byte("docker "+l.Docker()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := buildAgent(t, dir)
	var log bytes.Buffer
	wait.Go(func() {
		err := agent.Run(ctx, agent.Options{
			State: filepath.Join(dir, "agent"), Run: dir, Credentials: filepath.Join(dir, "server", "bus", "agent.json"), Pin: pin(dir),
			Keeper: func() keeper.StartOptions {
				return keeper.StartOptions{Program: program, Args: []string{"keeper", "--socket", filepath.Join(dir, "keeper.sock"), "--pin", pin(dir)}, Dir: dir}
			},
			Events: n.take, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	})
	n.await(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "keeper.sock"))
		answer, lerr := n.modes.ListWorkloads(ctx, connect.NewRequest(&pb.ListWorkloadsRequest{}))
		return err == nil && lerr == nil && answer != nil
	})
	time.Sleep(3 * time.Second) // until the first report
	return n
}

func pin(dir string) string {
	return filepath.Join("/sys/fs/bpf", "rules-"+filepath.Base(filepath.Dir(dir)))
}

func buildAgent(t *testing.T, dir string) string {
	t.Helper()
	program := filepath.Join(dir, "bulkhead-agent")
	build := exec.Command("go", "build", "-o", program, "bulkhead/cmd/bulkhead-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	return program
}

// release takes everything out of the kernel and ends the keeper, which outlives the agent by design.
func release(t *testing.T, dir string) {
	if out, err := exec.Command(filepath.Join(dir, "bulkhead-agent"), "release", "--run", dir, "--pin", pin(dir)).CombinedOutput(); err != nil {
		t.Errorf("release: %v\n%s", err, out)
	}
	keepers, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, k := range keepers {
		line, _ := os.ReadFile(k)
		if strings.Contains(string(line), filepath.Join(dir, "keeper.sock")) {
			_ = exec.Command("kill", strings.Split(k, "/")[2]).Run()
		}
	}
}

func (n *node) take(e *bulkhead.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events[e.Container.ID] = append(n.events[e.Container.ID], *e)
}

func (n *node) await(t *testing.T, done func() bool) {
	t.Helper()
	for range 300 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("waited 15 s in vain")
}

func (n *node) run(stdin []byte, args ...string) (string, error) {
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST="+n.docker)
	c.Stdin = bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (n *node) LoadImage(t *testing.T, archive []byte) {
	t.Helper()
	if _, err := n.run(archive, "load", "-q"); err != nil {
		t.Fatal(err)
	}
}

// Run gives a deed twenty seconds.
func (n *node) Run(t *testing.T, image, command string, o Options) []bulkhead.Event {
	t.Helper()
	n.mu.Lock()
	n.next++
	name := fmt.Sprintf("bulkhead-rule-%d-%d", os.Getpid(), n.next)
	n.mu.Unlock()
	args := append([]string{"run", "-d", "--name", name}, o.Docker...)
	args = append(args, image)
	idle := o.Enter || o.Protect
	if !idle {
		args = append(args, "sh", "-c", command)
	}
	id, err := n.run(nil, args...)
	if err != nil {
		t.Error(err) // not the end of the test: other deeds are under way
		return nil
	}
	defer n.run(nil, "rm", "-f", id)
	if idle {
		n.await(t, func() bool { return n.known("docker/" + name) })
		if o.Protect {
			// A shell, its redirections and the helper are learned: only the deed itself is news.
			n.run(nil, "exec", id, "timeout", "20", "sh", "-c", "echo true > /srv/taught; attack; true")
			time.Sleep(2500 * time.Millisecond) // until the agent has collected the calls
			n.protect(t, "docker/"+name)
		}
		n.run(nil, "exec", id, "timeout", "20", "sh", "-c", command)
	} else {
		exec.Command("timeout", "20", "env", "DOCKER_HOST="+n.docker, "docker", "wait", id).Run()
	}
	time.Sleep(300 * time.Millisecond) // for the last event
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.events[id]
}

func (n *node) known(workload string) bool {
	_, err := n.modes.GetWorkload(context.Background(), connect.NewRequest(&pb.GetWorkloadRequest{Name: workload}))
	return err == nil
}

func (n *node) protect(t *testing.T, workload string) {
	t.Helper()
	_, err := n.modes.SetMode(context.Background(), connect.NewRequest(&pb.SetModeRequest{Workload: workload, Mode: pb.Mode_MODE_PROTECT, Anyway: true}))
	if err != nil {
		t.Error(err)
	}
}
