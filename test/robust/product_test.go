//go:build integration

// Package robust breaks things on purpose: the two programs are killed at random moments, a container floods the
// node, disks are full and files corrupt. Start with [TestKill] and [product].
//
// It promises that the application, the attacker and the programs are real ones, and that each test says its
// figures. It is not for whether an attack is recognised: packages rule and demo have those.
package robust

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/test/lab"
)

// product is a control plane and an agent of their own, as two programs that can be killed.
type product struct {
	dir, pin, engine string
	server, agent    *program
}

type program struct {
	t    *testing.T
	log  string
	args []string
	cmd  *exec.Cmd
	done chan struct{}

	began time.Time
}

// prepare builds the programs; nothing runs yet.
func prepare(t *testing.T) *product {
	t.Helper()
	l := lab.Start(t)
	dir, err := os.MkdirTemp("", "bh-") // a test's own directory has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &product{dir: dir, pin: "/sys/fs/bpf/" + filepath.Base(dir), engine: l.Docker()}
	t.Cleanup(func() { p.remove(t) })
	p.build(t)
	if err := os.MkdirAll(p.path("run", "engines.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.server = &program{t: t, log: p.path("server.log"), args: []string{
		p.path("bulkhead"), "server", "--state", p.path("state"), "--run", p.path("run"),
		"--listen", "127.0.0.1:" + freePort(t), "--bus-listen", "127.0.0.1:" + freePort(t),
	}}
	p.agent = &program{t: t, log: p.path("agent.log"), args: append([]string{p.path("bulkhead-agent"), "run"}, p.where()...)}
	return p
}

// start brings up everything.
func start(t *testing.T) *product {
	t.Helper()
	p := prepare(t)
	p.nameEngine(t)
	p.server.start()
	p.agent.start()
	p.await(t)
	return p
}

func (p *product) nameEngine(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(p.path("run", "engines.d", "lab"), []byte("docker "+p.engine+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (p *product) where() []string {
	return []string{"--state", p.path("state"), "--run", p.path("run"), "--pin", p.pin}
}

func (p *product) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// build makes the programs, or takes those that were built before: BULKHEAD_PROGRAMS names their folder.
func (p *product) build(t *testing.T) {
	t.Helper()
	names := []string{"cmd/bulkhead", "cmd/bulkhead-agent", "test/robust/actor"}
	if from := os.Getenv("BULKHEAD_PROGRAMS"); from != "" {
		for _, name := range names {
			if err := os.Link(filepath.Join(from, filepath.Base(name)), p.path(filepath.Base(name))); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", p.dir, "bulkhead/"+names[0], "bulkhead/"+names[1], "bulkhead/"+names[2])
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l := listenOn(t, "127.0.0.1:0")
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	return port
}

func (p *program) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.began = time.Now()
	p.cmd, p.done = exec.Command(p.args[0], p.args[1:]...), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.cmd, p.done)
}

// kill ends the program as a fault does.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop ends it as an operator does.
func (p *program) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		p.t.Errorf("%s did not end within 15 s", filepath.Base(p.args[0]))
		p.kill()
	}
}

func (p *program) tail() string {
	log, _ := os.ReadFile(p.log)
	return string(log[max(0, len(log)-5000):])
}

// node is what the product says of this one.
type node struct {
	Name                                                         string
	Connected                                                    bool
	LastSeen                                                     time.Time
	Events, LostEvents, FoldedEvents, DroppedAlerts, MemoryBytes uint64
	SpooledAlerts                                                uint64
	Problems                                                     []string
	Engines                                                      []struct{ Name, Socket, Error string }
}

func (p *product) node(ctx context.Context) (node, error) {
	var nodes []node
	if err := p.ask(ctx, &nodes, "nodes"); err != nil {
		return node{}, err
	}
	if len(nodes) != 1 {
		return node{}, fmt.Errorf("%d nodes", len(nodes))
	}
	return nodes[0], nil
}

// await waits until the agent that was started last has reported. From then on it has what the keeper has: before, the
// keeper is the only one.
func (p *product) await(t *testing.T) {
	t.Helper()
	eventually(t, 40*time.Second, func() error {
		n, err := p.node(t.Context())
		if err == nil && (!n.Connected || n.LastSeen.Before(p.agent.began)) {
			err = fmt.Errorf("the node is not connected; its log:\n%s", p.agent.tail())
		}
		return err
	})
}

func eventually(t *testing.T, patience time.Duration, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("not within %v: %v", patience, err)
}

// remove takes protection back and ends the keeper, which outlives its agent by design.
func (p *product) remove(t *testing.T) {
	if t.Failed() {
		keeper, _ := os.ReadFile(p.path("run", "keeper.log"))
		t.Logf("server:\n%s\nagent:\n%s\nkeeper:\n%s", p.server.tail(), p.agent.tail(), keeper[max(0, len(keeper)-2000):])
	}
	p.agent.stop()
	p.server.stop()
	p.release(t)
	for _, pid := range p.keepers() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		t.Error(err)
	}
}

func (p *product) release(t *testing.T) {
	if out, err := exec.Command(p.path("bulkhead-agent"), append([]string{"release"}, p.where()...)...).CombinedOutput(); err != nil {
		t.Errorf("lifting the protection: %v\n%s", err, out)
	}
}

// keepers are the processes that hold this product's listeners.
func (p *product) keepers() (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, k := range all {
		line, _ := os.ReadFile(k)
		if !bytes.Contains(line, []byte(p.path("run", "keeper.sock"))) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(k))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
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

type decision struct {
	Nodes []struct {
		OK           bool
		Error        string
		Microseconds int64
	}
}

func (p *product) mode(t *testing.T, workload, mode string) {
	t.Helper()
	var d decision
	if err := p.ask(t.Context(), &d, "mode", workload, mode, "--anyway"); err != nil {
		t.Fatal(err)
	}
	if len(d.Nodes) != 1 || !d.Nodes[0].OK {
		t.Fatalf("%s of %s: %+v", mode, workload, d.Nodes)
	}
}

func (p *product) alerts(ctx context.Context, workload string) (list []bulkhead.Alert, err error) {
	return list, p.ask(ctx, &list, "alerts", "--workload", workload, "--limit", "0")
}

// box is a container with the actor in it.
type box struct {
	t    *testing.T
	name string
	ip   string
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// actorImage has the actor, and the same under another name that nothing ever learns.
func (p *product) actorImage(t *testing.T) string {
	t.Helper()
	const image = "bulkhead-robust-actor"
	dir := p.path("image")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"actor", "odd"} {
		b, err := os.ReadFile(p.path("actor"))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text := "FROM scratch\nCOPY actor odd /\nWORKDIR /var/lib/app\nCMD [\"/actor\", \"serve\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	docker(t, "build", "-q", "-t", image, dir)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", image).Run() })
	return image
}

func (p *product) box(t *testing.T, name, image string, args ...string) *box {
	t.Helper()
	b := &box{t: t, name: "bulkhead-robust-" + name}
	_ = exec.Command("docker", "rm", "-f", b.name).Run()
	t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", b.name).Run() })
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("docker", "logs", "--tail", "20", b.name).CombinedOutput()
			state, _ := exec.Command("docker", "inspect", "-f", "{{json .State}}", b.name).Output()
			t.Logf("%s: %s\n%s", b.name, state, out)
			var doc struct{ Syscalls []string }
			err := p.ask(context.Background(), &doc, "profile", "show", b.workload())
			filters, _ := exec.Command("grep", "-h", "Seccomp", "/proc/"+docker(t, "inspect", "-f", "{{.State.Pid}}", b.name)+"/status").Output()
			t.Logf("%s", filters)
			t.Logf("%s may call %v %v", b.name, doc.Syscalls, err)
		}
	})
	docker(t, append(append([]string{"run", "-d", "--name", b.name}, args...), image)...)
	b.ip = docker(t, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", b.name)
	return b
}

func (b *box) workload() string { return "docker/" + b.name }

var client = &http.Client{Timeout: 10 * time.Second}

func (b *box) get(path string, into any) error {
	answer, err := client.Get("http://" + b.ip + ":8080" + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// answer is the actor's.
type answer struct {
	Done   bool
	Error  string
	NoCall bool
	PID    int
	Took   time.Duration
}

func (b *box) do(deed, arg string) answer {
	b.t.Helper()
	var a answer
	if err := b.get("/do/"+deed+"?arg="+url.QueryEscape(arg), &a); err != nil {
		b.t.Fatalf("asking for %s: %v", deed, err)
	}
	return a
}

// learn lets the actor do for a while what it may do later.
func (b *box) learn(p *product) {
	b.t.Helper()
	eventually(b.t, 20*time.Second, func() error { return b.get("/do/ping", nil) })
	eventually(b.t, 20*time.Second, func() error {
		var w struct{ Containers int }
		if err := p.ask(b.t.Context(), &w, "workloads", b.workload()); err != nil {
			return err
		}
		if w.Containers != 1 {
			return fmt.Errorf("%d containers", w.Containers)
		}
		return nil
	})
	for range 2 {
		if a := b.do("warm", ""); !a.Done {
			b.t.Fatalf("while learning: %+v", a)
		}
		b.do("alive", "")
	}
	time.Sleep(1500 * time.Millisecond) // until the kernel's set of calls was read
}
