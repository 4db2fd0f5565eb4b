//go:build integration

package trust

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

const server = "bulkhead-trust-chain"

// TestChain goes the way of docs/chain.md: from docker build to a container that is held, from its first instruction, to
// what the tests in CI made the image do.
func TestChain(t *testing.T) {
	p := start(t)
	p.Start()
	socket := p.lab.Docker()
	release := p.Key("release")
	other := p.Key("other")
	ref := p.registry.Host + "/shop/chain:v1"
	t.Cleanup(func() {
		_, _ = docker(socket, "rm", "-f", server)
		_, _ = docker(socket, "rmi", "-f", ref)
	})
	p.Chain(p.registry.Host, ref, release, "one")

	policy := "  attestations:\n" +
		"    - name: scan\n      type: scan\n      conditions:\n        - {name: recent, when: 'age < duration(\"168h\")'}\n" +
		"    - name: behaviour\n      type: profile\n      conditions:\n        - {name: complete, when: 'predicate.completeness.all(s, predicate.completeness[s].score >= 0.95)'}\n" +
		"  containers:\n    profile: protect\n"
	p.apply("shop", p.registry.Host+"/shop/**", policy)

	t.Run("an image without the proof is refused", func(t *testing.T) {
		bare := p.image(socket, "shop/bare:v1", "bare")
		p.sign(bare, release)
		out, err := docker(socket, "run", "--rm", "--network", "none", bare)
		if err == nil || strings.Contains(out, "bare") {
			t.Errorf("it ran: %s", out)
		}
		p.Eventually(15*time.Second, func() error {
			for _, a := range p.alerts("image/trust") {
				if strings.Contains(a.Message, "no profile attestation") && strings.Contains(a.Message, "no scan attestation") {
					return nil
				}
			}
			return fmt.Errorf("no alert says why: %+v", p.alerts("image/trust"))
		})
	})
	t.Run("its first instruction is held to the profile", func(t *testing.T) {
		for range starts(t) {
			if out, err := docker(socket, "run", "--rm", "--network", "none", ref, "/bin/never", "echo", "it ran"); err == nil || strings.Contains(out, "it ran") {
				t.Fatalf("a program that CI never saw ran as the first: %v %s", err, out)
			}
		}
	})
	t.Run("the server works, and does nothing else", func(t *testing.T) {
		if out, err := docker(socket, "run", "-d", "--name", server, ref); err != nil {
			t.Fatal(out)
		}
		ip, err := docker(socket, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", server)
		p.Check(err)
		p.Eventually(20*time.Second, func() error {
			var w struct {
				Mode  string
				Trust struct{ Status, Profile string }
			}
			if err := p.Ask(&w, "workloads", server); err != nil || w.Mode != "protect" || w.Trust.Status != "trusted" || w.Trust.Profile != "protect" {
				return fmt.Errorf("%+v %v", w, err)
			}
			return nil
		})
		for range 20 {
			if out, err := exec.Command("curl", "-sS", "--max-time", "5", "http://"+ip+":8080/").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("hello one")) {
				t.Fatalf("the server: %v %s", err, out)
			}
		}
		if out, err := docker(socket, "exec", server, "/bin/never", "echo", "it ran"); err == nil || strings.Contains(out, "it ran") {
			t.Errorf("a program that CI never saw ran: %v %s", err, out)
		}
		var list []bulkhead.Alert
		p.Eventually(15*time.Second, func() error {
			p.Check(p.Ask(&list, "alerts", "--workload", "docker/"+server, "--limit", "0"))
			if len(list) == 0 || list[0].Action != bulkhead.ActionBlocked {
				return fmt.Errorf("%+v", list)
			}
			return nil
		})
	})
	t.Run("a profile that was changed, or is of another image, is refused", func(t *testing.T) {
		raw, err := os.ReadFile(p.Path("work", "profile.json"))
		p.Check(err)
		twin := p.image(socket, "shop/twin:v1", "twin")
		p.sign(twin, release)
		if out, err := p.Bulkhead("profile", "attach", twin, p.Path("work", "profile.json"), "--key", release, "--insecure-http", p.registry.Host); err == nil || !strings.Contains(err.Error(), "another image") {
			t.Errorf("it was attached to another image: %v %s", err, out)
		}
		p.Check(os.WriteFile(p.Path("work", "wide.json"), bytes.Replace(raw, []byte(`"syscalls": [`), []byte(`"syscalls": ["ptrace",`), 1), 0o600))
		p.Must("profile", "attach", ref, p.Path("work", "wide.json"), "--key", other, "--insecure-http", p.registry.Host)
		p.Must("profile", "pull", ref, "--policy", p.Path("shop.yaml"), "--insecure-http", p.registry.Host, "--no-cache", "-o", p.Path("pulled.json"))
		pulled, err := os.ReadFile(p.Path("pulled.json"))
		p.Check(err)
		if bytes.Contains(pulled, []byte(`"ptrace"`)) {
			t.Error("the profile that somebody else signed counts")
		}
	})
	t.Run("the pull request sees what is new", func(t *testing.T) {
		p.Check(os.WriteFile(p.Path("work", "old.json"), must(os.ReadFile(p.Path("work", "profile.json"))), 0o600))
		if _, err := p.Bulkhead("profile", "diff", p.Path("work", "old.json"), p.Path("work", "wide.json"), "--fail-on-added"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("a new system call was not told: %v", err)
		}
	})
}

// starts is how many containers are started: BULKHEAD_STARTS, or a few.
func starts(t *testing.T) int {
	text := os.Getenv("BULKHEAD_STARTS")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
