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

	"bulkhead"
)

// dockerd starts an engine of its own, which asks the agent; it may not be the lab's, which others use.
func (p *trial) dockerd() (socket string) {
	p.Helper()
	name := "bulkhead-" + filepath.Base(p.Dir)
	spec := filepath.Join("/etc/docker/plugins", name+".spec")
	p.Check(os.MkdirAll(filepath.Dir(spec), 0o755))
	p.Check(os.WriteFile(spec, []byte("unix://"+p.Path("run", "docker-plugin.sock")), 0o600))
	p.Cleanup(func() { _ = os.Remove(spec) })
	p.Check(os.WriteFile(p.Path("docker.json"), []byte("{}\n"), 0o600))
	socket = p.Path("docker.sock")
	d := p.Program("dockerd",
		"--host", "unix://"+socket, "--containerd", p.lab.Containerd(), "--containerd-namespace", name, "--containerd-plugins-namespace", name+"-plugins",
		"--data-root", p.Path("docker"), "--exec-root", p.Path("exec"), "--pidfile", p.Path("dockerd.pid"), "--config-file", p.Path("docker.json"),
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--authorization-plugin", name)
	d.Start()
	p.Cleanup(func() {
		if p.Failed() {
			p.Logf("dockerd:\n%s", d.Tail())
		}
		d.Stop()
		_ = exec.Command("umount", "-l", p.Path("docker")).Run()
	})
	p.Eventually(60*time.Second, func() error {
		out, err := docker(socket, "version")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	p.Engines("docker "+p.lab.Docker(), "containerd "+p.lab.Containerd(), "docker "+socket)
	return socket
}

func (p *trial) alerts(rule string) []bulkhead.Alert {
	p.Helper()
	list, err := p.Alerts("--rule", rule)
	p.Check(err)
	return list
}

// TestDocker shows what an engine with the plug-in answers.
func TestDocker(t *testing.T) {
	p := start(t)
	p.Start()
	socket := p.dockerd()
	p.Eventually(30*time.Second, func() error {
		var nodes []struct {
			Engines []struct{ Socket, Error string }
		}
		if err := p.Ask(&nodes, "nodes"); err != nil || !strings.Contains(fmt.Sprint(nodes), "{"+socket+" }") {
			return fmt.Errorf("the agent does not know the engine: %v %v", nodes, err)
		}
		return nil
	})
	release, other := p.Key("release"), p.Key("other")
	signed := p.image(socket, "shop/web:v1", "signed")
	unsigned := p.image(socket, "shop/web:v2", "unsigned")
	wrong := p.image(socket, "shop/web:v3", "signed by somebody else")
	p.sign(signed, release)
	p.sign(wrong, other)
	if out, err := docker(socket, "run", "--rm", "--network", "none", unsigned); err != nil || out != "unsigned" {
		t.Fatalf("without a policy: %v %s", err, out)
	}
	made, err := docker(socket, "create", "--network", "none", unsigned)
	p.Check(err)
	p.apply("shop", p.registry.Host+"/shop/**", "  containers:\n    refuse: [privileged, host-pid, engine-socket]\n")

	refused := func(why string, args ...string) {
		t.Helper()
		out, err := docker(socket, args...)
		if err == nil || !strings.Contains(out, why) || !strings.Contains(out, "bulkhead: ") {
			t.Errorf("docker %s: %v, want a refusal that says %q:\n%s", strings.Join(args, " "), err, why, out)
		}
	}
	run := func(args ...string) []string { return append([]string{"run", "--rm", "--network", "none"}, args...) }
	runs := func() {
		t.Helper()
		if out, err := docker(socket, run(signed)...); err != nil || out != "signed" {
			t.Errorf("the signed twin does not run: %v %s", err, out)
		}
	}
	runs()
	refused("shop/signature", run(unsigned)...)
	refused("shop/signature", "start", "-a", made)
	refused("made with another key", run(wrong)...)
	refused("shop/containers/privileged", run("--privileged", signed)...)
	refused("shop/containers/host-pid", run("--pid", "host", signed)...)
	refused("shop/containers/engine-socket", run("-v", "/var/run/docker.sock:/var/run/docker.sock", signed)...)

	if out, err := docker(socket, "tag", unsigned, "harmless:latest"); err != nil {
		t.Fatal(out)
	}
	refused("shop/signature", run("harmless:latest")...)

	// The tag is moved in the registry, to an image with a changed layer.
	p.image(socket, "shop/web:v1", "signed, with a changed layer")
	refused("shop/signature", run(signed)...)
	p.sign(signed, release)
	p.Eventually(10*time.Second, func() error { // a refusal is remembered for two seconds
		out, err := docker(socket, run(signed)...)
		if err == nil && out != "signed, with a changed layer" {
			t.Fatalf("another image ran: %s", out)
		}
		return err
	})

	if list := p.alertsSoon("image/trust"); len(list) == 0 || list[0].Action != bulkhead.ActionBlocked {
		t.Errorf("no alert of what was refused: %+v", list)
	}

	// With the agent away Docker waits, and goes on when it is back; with neither back, it refuses.
	p.Agent.Stop()
	began := time.Now()
	time.AfterFunc(5*time.Second, p.Agent.Start)
	if out, err := docker(socket, run(signed)...); err != nil {
		t.Errorf("a start while the agent was restarted failed: %v %s", err, out)
	}
	t.Logf("a start while the agent was away for 5 s took %v", time.Since(began))
	refused("shop/signature", run(unsigned)...) // kept, though nobody sent it again
}

func (p *trial) alertsSoon(rule string) (list []bulkhead.Alert) {
	p.Helper()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && len(list) == 0; time.Sleep(200 * time.Millisecond) {
		list = p.alerts(rule)
	}
	return list
}

// TestAnyEngine shows that an engine which asks nobody gets no further: the container ends before its first instruction.
func TestAnyEngine(t *testing.T) {
	p := start(t)
	p.Start()
	socket := p.lab.Docker()
	release := p.Key("release")
	signed, unsigned := p.image(socket, "shop/web:v1", "signed"), p.image(socket, "shop/web:v2", "unsigned")
	p.sign(signed, release)
	p.apply("shop", p.registry.Host+"/shop/**", "  containers: {refuse: [host-pid]}\n")

	ctr := func(args ...string) (string, error) {
		out, err := exec.Command("ctr", append([]string{"-n", "bulkhead-trust"}, args...)...).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		for _, ref := range []string{signed, unsigned} {
			_, _ = ctr("images", "rm", ref)
		}
		_, _ = ctr("namespaces", "rm", "bulkhead-trust")
	})
	for _, ref := range []string{signed, unsigned} {
		if out, err := ctr("images", "pull", "--plain-http", ref); err != nil {
			t.Fatal(out)
		}
	}
	engines := map[string]func(ref string, more ...string) (string, error){
		"docker": func(ref string, more ...string) (string, error) {
			return docker(socket, append(append([]string{"run", "--rm", "--network", "none"}, more...), ref)...)
		},
		"ctr": func(ref string, more ...string) (string, error) {
			return ctr(append(append([]string{"run", "--rm"}, more...), ref, fmt.Sprintf("trust-%d", time.Now().UnixNano()))...)
		},
	}
	// Of a namespace of containerd's the kernel learns with its first container.
	if out, err := engines["ctr"](signed); err != nil {
		t.Fatal(out)
	}
	for name, run := range engines {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				if out, err := run(signed); err != nil || !strings.Contains(out, "signed") {
					t.Fatalf("the signed one does not run: %v %s", err, out)
				}
				if out, err := run(unsigned); err == nil || strings.Contains(out, "unsigned") {
					t.Fatalf("the unsigned one ran: %v %s", err, out)
				}
			}
		})
	}
	t.Run("host-pid", func(t *testing.T) {
		if out, err := engines["docker"](signed, "--pid", "host"); err == nil || strings.Contains(out, "signed") {
			t.Errorf("a container with the host's processes ran: %v %s", err, out)
		}
	})
	list := p.alertsSoon("image/trust")
	if len(list) == 0 || list[0].Action != bulkhead.ActionBlocked || !strings.Contains(list[0].Message, "shop/signature") {
		t.Errorf("no alert of what was refused: %+v", list)
	}
}

// TestMarked shows that what runs already is marked and told of, and goes on, when it no longer satisfies the policy.
func TestMarked(t *testing.T) {
	p := start(t)
	p.Start()
	socket := p.lab.Docker()
	p.Key("release")
	ref := p.image(socket, "shop/web:v1", "hello")
	const name = "bulkhead-trust-marked"
	t.Cleanup(func() { _, _ = docker(socket, "rm", "-f", name) })
	if out, err := docker(socket, "run", "-d", "--name", name, "--network", "none", ref, "/bin/busybox", "sleep", "1000"); err != nil {
		t.Fatal(out)
	}
	status := func(want string) {
		t.Helper()
		p.Eventually(20*time.Second, func() error {
			var w struct {
				Containers int
				Trust      struct {
					Status  string
					Reasons []string
				}
			}
			if err := p.Ask(&w, "workloads", name); err != nil || w.Trust.Status != want || w.Containers != 1 {
				return fmt.Errorf("%+v %v, want %q", w, err, want)
			}
			return nil
		})
	}
	status("")
	p.apply("shop", p.registry.Host+"/shop/**", "")
	status("untrusted")
	list := p.alertsSoon("image/trust")
	if len(list) != 1 || list[0].Action != bulkhead.ActionDetected {
		t.Errorf("the alerts are %+v", list)
	}
	if out := p.Must("workloads"); !strings.Contains(out, "untrusted") {
		t.Errorf("the list does not show it:\n%s", out)
	}
	p.sign(ref, p.Path("release.key"))
	p.apply("shop", p.registry.Host+"/shop/**", "  signatures: 1\n") // another document: judged again at once
	status("trusted")
	p.Must("policies", "remove", "shop")
	status("")
}
