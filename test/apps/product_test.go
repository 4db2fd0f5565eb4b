//go:build integration

package apps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead"
)

// product is a control plane and an agent of their own, as two programs.
type product struct {
	dir, pin string
}

// startProduct builds and starts both; engine is the socket of the Docker that the agent is to watch.
func startProduct(t *testing.T, engine string) *product {
	t.Helper()
	dir, err := os.MkdirTemp("", "bulkhead-apps-") // a test's own directory has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &product{dir: dir, pin: "/sys/fs/bpf/" + filepath.Base(dir)}
	t.Cleanup(func() { p.remove(t) })
	p.build(t)
	if err := os.MkdirAll(p.path("run", "engines.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path("run", "engines.d", "lab"), []byte("docker "+engine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t, "bulkhead", "server", "--state", p.path("state"), "--run", p.path("run"), "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0")
	p.start(t, "bulkhead-agent", "run", "--state", p.path("state"), "--run", p.path("run"), "--pin", p.pin)
	p.waitReady(t)
	return p
}

func (p *product) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *product) build(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", p.dir, "bulkhead/cmd/bulkhead", "bulkhead/cmd/bulkhead-agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the programs: %v\n%s", err, out)
	}
}

// start runs a program of the product until the test ends.
func (p *product) start(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create(p.path(name + ".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(p.path(name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { p.stop(t, name, cmd, done) })
}

func (p *product) stop(t *testing.T, name string, cmd *exec.Cmd, done <-chan error) {
	select {
	case err := <-done:
		t.Errorf("%s ended by itself: %v", name, err)
	default:
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
	}
	if log, err := os.ReadFile(p.path(name + ".log")); err == nil && t.Failed() {
		t.Logf("%s:\n%s", name, log[max(0, len(log)-6000):])
	}
}

func (p *product) waitReady(t *testing.T) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		var nodes []struct{ Connected bool }
		if err = p.ask(t.Context(), &nodes, "nodes"); err == nil && len(nodes) == 1 && nodes[0].Connected {
			return
		}
	}
	t.Fatalf("no node within 30 s: %v", err)
}

// remove takes protection back and ends the keeper, which outlives its agent by design.
func (p *product) remove(t *testing.T) {
	out, err := exec.Command(p.path("bulkhead-agent"), "release", "--state", p.path("state"), "--run", p.path("run"), "--pin", p.pin).CombinedOutput()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lifting the protection: %v\n%s", err, out)
	}
	keepers, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, k := range keepers {
		line, _ := os.ReadFile(k)
		if !bytes.Contains(line, []byte(p.path("run", "keeper.sock"))) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(k))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Error(err)
	}
}

// ask runs a command of the product and decodes its JSON.
func (p *product) ask(ctx context.Context, into any, args ...string) error {
	args = append(args, "--format", "json", "--state", p.path("state"), "--run", p.path("run"))
	cmd := exec.CommandContext(ctx, p.path("bulkhead"), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("bulkhead %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return json.Unmarshal(out, into)
}

// workload is what the product says of one.
type workload struct {
	Mode      bulkhead.Mode
	Ready     bool
	BlockedBy string
	Sections  map[bulkhead.Section]bulkhead.Completeness
}

func (p *product) workload(ctx context.Context, name string) (w workload, err error) {
	return w, p.ask(ctx, &w, "workloads", name)
}

// protect switches the mode and says how long that took on the node. It does not ask for more than the gate gives.
func (p *product) protect(ctx context.Context, name string, more ...string) (time.Duration, error) {
	var answer struct {
		Nodes []struct {
			OK           bool
			Error        string
			Microseconds int64
		}
	}
	if err := p.ask(ctx, &answer, append([]string{"mode", name, "protect"}, more...)...); err != nil {
		return 0, err
	}
	if len(answer.Nodes) != 1 || !answer.Nodes[0].OK {
		return 0, fmt.Errorf("protecting %s: %+v", name, answer.Nodes)
	}
	return time.Duration(answer.Nodes[0].Microseconds) * time.Microsecond, nil
}

func (p *product) alerts(ctx context.Context, name string) (list []bulkhead.Alert, err error) {
	return list, p.ask(ctx, &list, "alerts", "--workload", name, "--limit", "0")
}

// text runs a command of the product that needs no decoding.
func (p *product) text(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, p.path("bulkhead"), append(args, "--state", p.path("state"), "--run", p.path("run"))...).Output()
}
