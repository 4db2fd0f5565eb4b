//go:build integration

// Package trust shows that a node refuses what the trust policies refuse, with real engines: Docker with its
// authorization plug-in, Docker and containerd without any. Start with [TestDocker] and [TestAnyEngine].
//
// It promises that the images are of a real registry and signed by the product's own program. It is not for what a
// policy can say: package sign has that.
package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/test/lab"
	"bulkhead/test/registry"
)

// product is a control plane and an agent of their own, a registry, and a key pair.
type product struct {
	*testing.T
	lab           *lab.Lab
	dir, pin      string
	registry      *registry.Registry
	server, agent *program
}

type program struct {
	t    *testing.T
	log  string
	args []string
	cmd  *exec.Cmd
	done chan struct{}
}

func start(t *testing.T) *product {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh-") // a test's own directory has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	p := &product{T: t, lab: lab.Start(t), dir: dir, pin: "/sys/fs/bpf/" + filepath.Base(dir), registry: registry.Start(true)}
	t.Cleanup(p.registry.Close)
	p.build()
	p.server = &program{t: t, log: p.path("server.log"), args: append([]string{
		p.path("bulkhead"), "server", "--listen", p.free(), "--bus-listen", p.free(),
	}, p.where()...)}
	p.agent = &program{t: t, log: p.path("agent.log"), args: append([]string{
		p.path("bulkhead-agent"), "run", "--pin", p.pin, "--insecure-http", p.registry.Host,
	}, p.where()...)}
	t.Cleanup(p.remove)
	p.check(os.MkdirAll(p.path("run", "engines.d"), 0o700))
	p.check(os.WriteFile(p.path("run", "engines.d", "lab"), []byte("docker "+p.lab.Docker()+"\ncontainerd "+p.lab.Containerd()+"\n"), 0o600))
	return p
}

func (p *product) up() {
	p.Helper()
	p.server.start()
	p.agent.start()
	p.eventually(40*time.Second, func() error {
		var nodes []struct{ Connected bool }
		if err := p.ask(&nodes, "nodes"); err != nil || len(nodes) != 1 || !nodes[0].Connected {
			return fmt.Errorf("the node is not there: %v %v; its log:\n%s", nodes, err, p.agent.tail())
		}
		return nil
	})
}

func (p *product) where() []string {
	return []string{"--state", p.path("state"), "--run", p.path("run")}
}

func (p *product) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *product) check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// build makes the programs, or takes those that were built before: BULKHEAD_PROGRAMS names their folder.
func (p *product) build() {
	p.Helper()
	if from := os.Getenv("BULKHEAD_PROGRAMS"); from != "" {
		for _, name := range []string{"bulkhead", "bulkhead-agent"} {
			text, err := os.ReadFile(filepath.Join(from, name))
			p.check(err)
			p.check(os.WriteFile(p.path(name), text, 0o755))
		}
		return
	}
	cmd := exec.Command("go", "build", "-o", p.dir, "bulkhead/cmd/bulkhead", "bulkhead/cmd/bulkhead-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("building: %v\n%s", err, out)
	}
}

func (p *product) free() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.check(err)
	defer l.Close()
	return l.Addr().String()
}

// remove takes protection back and ends the keeper, which outlives its agent by design.
func (p *product) remove() {
	if p.Failed() {
		p.Logf("server:\n%s\nagent:\n%s", p.server.tail(), p.agent.tail())
	}
	p.agent.stop()
	p.server.stop()
	if out, err := exec.Command(p.path("bulkhead-agent"), append([]string{"release", "--pin", p.pin}, p.where()...)...).CombinedOutput(); err != nil {
		p.Errorf("lifting the protection: %v\n%s", err, out)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, k := range all {
		var pid int
		line, _ := os.ReadFile(k)
		if _, err := fmt.Sscanf(k, "/proc/%d/", &pid); err == nil && bytes.Contains(line, []byte(p.path("run", "keeper.sock"))) {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
	p.check(os.RemoveAll(p.dir))
}

func (p *program) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd, p.done = exec.Command(p.args[0], p.args[1:]...), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.cmd, p.done)
}

func (p *program) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end", filepath.Base(p.args[0]))
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *program) tail() string {
	log, _ := os.ReadFile(p.log)
	return string(log[max(0, len(log)-4000):])
}

func (p *product) eventually(patience time.Duration, try func() error) {
	p.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	p.Fatalf("not within %v: %v", patience, err)
}

// bulkhead runs a command of the product.
func (p *product) bulkhead(args ...string) (string, error) {
	cmd := exec.Command(p.path("bulkhead"), args...)
	cmd.Env = append(os.Environ(), "BULKHEAD_STATE="+p.path("state"), "BULKHEAD_RUN="+p.path("run"), "BULKHEAD_KEY_PASSPHRASE=secret", "HOME="+p.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("bulkhead %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

func (p *product) must(args ...string) string {
	p.Helper()
	out, err := p.bulkhead(args...)
	p.check(err)
	return out
}

// ask decodes the JSON of a command.
func (p *product) ask(into any, args ...string) error {
	out, err := p.bulkhead(append(args, "--format", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// key makes a key pair NAME.key, NAME.pub.
func (p *product) key(name string) string {
	p.Helper()
	p.must("sign", "keygen", p.path(name))
	return p.path(name + ".key")
}

func (p *product) sign(ref, key string) {
	p.Helper()
	p.must("sign", ref, "--key", key, "--insecure-http", p.registry.Host)
}

// apply puts a policy in force; more is the rest of its spec.
func (p *product) apply(name, images, more string) {
	p.Helper()
	text := fmt.Sprintf("apiVersion: bulkhead/v1\nkind: TrustPolicy\nmetadata: {name: %s}\nspec:\n  images: [%q]\n  signers:\n    - {name: release, keyFile: release.pub}\n%s", name, images, more)
	p.check(os.WriteFile(p.path(name+".yaml"), []byte(text), 0o600))
	p.must("apply", "-f", p.path(name+".yaml"))
}

// docker runs the client of one engine.
func docker(socket string, args ...string) (string, error) {
	out, err := exec.Command("docker", append([]string{"--host", "unix://" + socket}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// image makes an image of busybox that says something, and pushes it.
func (p *product) image(socket, as, says string) string {
	p.Helper()
	ref := p.registry.Host + "/" + as
	p.check(os.MkdirAll(p.path("build"), 0o700))
	box, err := os.ReadFile("/bin/busybox")
	p.check(err)
	p.check(os.WriteFile(p.path("build", "busybox"), box, 0o755))
	p.check(os.WriteFile(p.path("build", "says"), []byte(says), 0o644))
	p.check(os.WriteFile(p.path("build", "Dockerfile"), []byte("FROM scratch\nCOPY busybox /bin/\nCOPY says /\nCMD [\"/bin/busybox\", \"cat\", \"/says\"]\n"), 0o600))
	for _, args := range [][]string{{"build", "-q", "-t", ref, p.path("build")}, {"push", "-q", ref}} {
		if out, err := docker(socket, args...); err != nil {
			p.Fatalf("docker %v: %v\n%s", args, err, out)
		}
	}
	p.Cleanup(func() { _, _ = docker(socket, "rmi", "-f", ref) })
	return ref
}
