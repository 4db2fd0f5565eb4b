// Package product is a control plane and an agent of their own for the test that wants them, as the two programs that
// users run. Start with [New] and [Product.Start].
//
// It promises programs of this tree, folders, addresses and BPF pins that no other has, and that nothing of it is left
// when the test ends. It is not for anything but tests.
package product

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
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

// Product is a control plane and an agent.
type Product struct {
	*testing.T
	Dir, Pin      string
	Server, Agent *Program
}

// New builds the programs, those of the packages in more too; nothing runs yet. BULKHEAD_PROGRAMS names a folder of
// programs to take instead.
func New(t *testing.T, more ...string) *Product {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh-") // a test's own directory has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &Product{T: t, Dir: dir, Pin: "/sys/fs/bpf/" + filepath.Base(dir)}
	p.Server = p.Program(p.Path("bulkhead"), append([]string{"server", "--listen", p.Free(), "--bus-listen", p.Free()}, p.where()...)...)
	p.Agent = p.Program(p.Path("bulkhead-agent"), append([]string{"run"}, p.WithPin()...)...)
	t.Cleanup(p.remove)
	p.build(append([]string{"cmd/bulkhead", "cmd/bulkhead-agent"}, more...))
	p.Check(os.MkdirAll(p.Path("run", "engines.d"), 0o700))
	return p
}

func (p *Product) build(packages []string) {
	p.Helper()
	if from := os.Getenv("BULKHEAD_PROGRAMS"); from != "" {
		for _, name := range packages {
			text, err := os.ReadFile(filepath.Join(from, filepath.Base(name)))
			p.Check(err)
			p.Check(os.WriteFile(p.Path(filepath.Base(name)), text, 0o755))
		}
		return
	}
	args := []string{"build", "-trimpath", "-o", p.Dir}
	for _, name := range packages {
		args = append(args, "bulkhead/"+name)
	}
	cmd := exec.CommandContext(p.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("building the programs: %v\n%s", err, out)
	}
}

// Engines names the container engines that the agent is to watch, each as "docker SOCKET" or "containerd SOCKET".
func (p *Product) Engines(engines ...string) {
	p.Helper()
	p.Check(os.WriteFile(p.Path("run", "engines.d", "test"), []byte(strings.Join(engines, "\n")+"\n"), 0o600))
}

// Start brings up both programs and waits until the agent has reported.
func (p *Product) Start() {
	p.Helper()
	p.Server.Start()
	p.Agent.Start()
	p.Await()
}

// Await waits until the agent that was started last has reported. From then on it has what the keeper has: before, the
// keeper is the only one.
func (p *Product) Await() {
	p.Helper()
	p.Eventually(4*time.Minute, func() error { // under emulation
		n, err := p.Node()
		if err == nil && (!n.Connected || n.LastSeen.Before(p.Agent.began)) {
			err = fmt.Errorf("the node is not connected; its log:\n%s", p.Agent.Tail())
		}
		return err
	})
}

// Node is what the product says of this machine.
type Node struct {
	Name                                                         string
	Connected                                                    bool
	LastSeen                                                     time.Time
	Events, LostEvents, FoldedEvents, DroppedAlerts, MemoryBytes uint64
	SpooledAlerts                                                uint64
	Problems                                                     []string
	Engines                                                      []struct{ Name, Socket, Error string }
}

// Node asks for the one node that there is.
func (p *Product) Node() (Node, error) {
	var nodes []Node
	if err := p.Ask(&nodes, "nodes"); err != nil {
		return Node{}, err
	}
	if len(nodes) != 1 {
		return Node{}, fmt.Errorf("%d nodes", len(nodes))
	}
	return nodes[0], nil
}

// Command prepares a command of the product: bulkhead ARGS.
func (p *Product) Command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.Path("bulkhead"), args...)
	cmd.Env = append(os.Environ(), p.Environment()...)
	return cmd
}

// Environment makes bulkhead, however it is called, a client of this product; key files have the passphrase "secret".
func (p *Product) Environment() []string {
	return []string{"BULKHEAD_STATE=" + p.Path("state"), "BULKHEAD_RUN=" + p.Path("run"), "BULKHEAD_KEY_PASSPHRASE=secret", "HOME=" + p.Dir}
}

// Bulkhead runs a command of the product and returns what it writes; the error has what it writes beside that.
func (p *Product) Bulkhead(args ...string) (string, error) {
	cmd := p.Command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("bulkhead %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Must is [Product.Bulkhead] where a failure ends the test.
func (p *Product) Must(args ...string) string {
	p.Helper()
	out, err := p.Bulkhead(args...)
	p.Check(err)
	return out
}

// Ask runs a command and decodes its JSON.
func (p *Product) Ask(into any, args ...string) error {
	out, err := p.Bulkhead(append(args, "--format", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// Alerts asks for all that the filters, as the command alerts takes them, let through.
func (p *Product) Alerts(filters ...string) (list []bulkhead.Alert, err error) {
	return list, p.Ask(&list, append([]string{"alerts", "--limit", "0"}, filters...)...)
}

// Decide runs a command that a node must carry out, such as mode and approve, and says how long that took there.
func (p *Product) Decide(args ...string) (time.Duration, error) {
	var answer struct {
		Nodes []struct {
			OK           bool
			Error        string
			Microseconds int64
		}
	}
	if err := p.Ask(&answer, args...); err != nil {
		return 0, err
	}
	if len(answer.Nodes) != 1 || !answer.Nodes[0].OK {
		return 0, fmt.Errorf("bulkhead %s: %+v", strings.Join(args, " "), answer.Nodes)
	}
	return time.Duration(answer.Nodes[0].Microseconds) * time.Microsecond, nil
}

// Path is a path in the folder of this product.
func (p *Product) Path(parts ...string) string {
	return filepath.Join(append([]string{p.Dir}, parts...)...)
}

func (p *Product) where() []string {
	return []string{"--state", p.Path("state"), "--run", p.Path("run")}
}

// WithPin are the flags of an agent's command that make it one of this product.
func (p *Product) WithPin() []string {
	return append(p.where(), "--pin", p.Pin)
}

// Free is an address of loopback where nobody listens.
func (p *Product) Free() string {
	p.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.Check(err)
	defer l.Close()
	return l.Addr().String()
}

// Check ends the test where something went wrong.
func (p *Product) Check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// Eventually waits until try has no error.
func (p *Product) Eventually(patience time.Duration, try func() error) {
	p.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	p.Fatalf("not within %v: %v", patience, err)
}

// remove takes protection back and ends the keeper, which outlives its agent by design.
func (p *Product) remove() {
	if p.Failed() {
		keeper, _ := os.ReadFile(p.Path("run", "keeper.log"))
		p.Logf("server:\n%s\nagent:\n%s\nkeeper:\n%s", p.Server.Tail(), p.Agent.Tail(), keeper[max(0, len(keeper)-2000):])
	}
	p.Agent.Stop()
	p.Server.Stop()
	p.Release()
	for _, pid := range p.Keepers() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err := os.RemoveAll(p.Dir); err != nil {
		p.Error(err)
	}
}

// Release lifts all protection, of an agent that does not run.
func (p *Product) Release() {
	out, err := exec.Command(p.Path("bulkhead-agent"), append([]string{"release"}, p.WithPin()...)...).CombinedOutput()
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no program was built
		p.Errorf("lifting the protection: %v\n%s", err, out)
	}
}

// Keepers are the processes that hold this product's listeners.
func (p *Product) Keepers() []int { return KeepersOf(p.Path("run", "keeper.sock")) }

// KeepersOf are the keepers with something in their command line: a socket, or pins.
func KeepersOf(mark string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, k := range all {
		line, _ := os.ReadFile(k)
		if !bytes.Contains(line, []byte("keeper\x00")) || !bytes.Contains(line, []byte(mark+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(k))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
