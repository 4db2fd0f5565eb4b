//go:build integration

package trust

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestContainedAgent runs the agent as a DaemonSet does, in a container of its own, and takes that away: what it protects goes
// on being held by its keeper, whose container is gone.
func TestContainedAgent(t *testing.T) {
	p := start(t)
	socket := p.lab.Docker()
	agent, app := "bulkhead-trust-agent", "bulkhead-trust-held"
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := docker(socket, "logs", agent)
			t.Logf("agent:\n%s", out)
		}
		_, _ = docker(socket, "rm", "-f", agent, app)
		_, _ = docker(socket, "rmi", "-f", "bulkhead-trust-agent:test")
	})
	p.Server.Start()
	p.Check(os.MkdirAll(p.Path("agentimage"), 0o700))
	p.Check(os.Link(p.Path("bulkhead-agent"), p.Path("agentimage", "bulkhead-agent")))
	p.Check(os.WriteFile(p.Path("agentimage", "Dockerfile"), []byte("FROM scratch\nCOPY bulkhead-agent /\nENTRYPOINT [\"/bulkhead-agent\"]\n"), 0o600))
	if out, err := docker(socket, "build", "-q", "-t", "bulkhead-trust-agent:test", p.Path("agentimage")); err != nil {
		t.Fatal(out)
	}
	run := []string{
		// What --privileged is, on a machine that may itself not have every capability.
		"run", "-d", "--name", agent, "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--pid", "host", "--network", "host", "--cgroupns", "private", "-v", "/sys:/sys", "-v", "/sys/fs/bpf:/sys/fs/bpf", "-v", "/sys/fs/cgroup:/sys/fs/cgroup",
		"-v", p.Dir + ":" + p.Dir, "-v", p.lab.Dir() + ":" + p.lab.Dir(), "bulkhead-trust-agent:test", "run", "--contained",
	}
	run = append(run, p.WithPin()...)
	if out, err := docker(socket, run...); err != nil {
		t.Fatal(out)
	}
	p.Eventually(40*time.Second, func() error {
		var nodes []struct{ Connected bool }
		if err := p.Ask(&nodes, "nodes"); err != nil || len(nodes) != 1 || !nodes[0].Connected {
			return fmt.Errorf("the node is not there: %v %v", nodes, err)
		}
		return nil
	})
	var nodes []struct{ MemoryBytes uint64 }
	p.Check(p.Ask(&nodes, "nodes"))
	t.Logf("the agent has %d MiB", nodes[0].MemoryBytes>>20)
	image := p.image(socket, "shop/held:v1", "")
	// Keeping times and owner are calls that a plain copy does not make.
	loop := "while :; do if [ -e /go ]; then /bin/busybox cp -p /says /a; echo tried; else /bin/busybox cp /says /a; fi; /bin/busybox sleep 0.2; done"
	if out, err := docker(socket, "run", "-d", "--name", app, "--network", "none", image, "/bin/busybox", "sh", "-c", loop); err != nil {
		t.Fatal(out)
	}
	p.Eventually(20*time.Second, func() error { _, err := p.Bulkhead("workloads", app); return err })
	time.Sleep(3 * time.Second)
	p.Must("mode", app, "protect", "--anyway")
	if out, err := docker(socket, "rm", "-f", agent); err != nil {
		t.Fatal(out)
	}
	p.Check(os.WriteFile(p.Path("go"), nil, 0o644))
	if out, err := docker(socket, "cp", p.Path("go"), app+":/go"); err != nil {
		t.Fatal(out)
	}
	time.Sleep(3 * time.Second)
	said, _ := docker(socket, "logs", app)
	if !strings.Contains(said, "Operation not permitted") || strings.Contains(said, "not implemented") || !strings.Contains(said, "tried") {
		t.Errorf("without the agent's container a denied call gets:\n%s", said)
	}
	keepers, _ := exec.Command("sh", "-c", "grep -l "+p.Path("run", "keeper.sock")+" /proc/[0-9]*/cmdline").Output()
	for k := range strings.FieldsSeq(string(keepers)) {
		if text, _ := os.ReadFile(filepath.Join(filepath.Dir(k), "cgroup")); strings.Contains(string(text), "docker") {
			t.Errorf("the keeper is still in the container's cgroup:\n%s", text)
		}
	}
	if out, err := docker(socket, run...); err != nil {
		t.Fatal(out)
	}
	p.Eventually(40*time.Second, func() error {
		var w struct {
			Mode       string
			Containers int
		}
		if err := p.Ask(&w, "workloads", app); err != nil || w.Mode != "protect" || w.Containers != 1 {
			return fmt.Errorf("%+v %v", w, err)
		}
		return nil
	})
}
