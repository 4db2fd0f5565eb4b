//go:build integration

// Package robust breaks things on purpose: the two programs are killed at random moments, a container floods the
// node, disks are full and files corrupt. Start with [TestKill] and [hull].
//
// It promises that the application, the attacker and the programs are real ones, and that each test says its
// figures. It is not for whether an attack is recognised: packages rule and demo have those.
package robust

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/test/lab"
	"bulkhead/test/product"
)

// hull is the product beside the lab's engines.
type hull struct {
	*product.Product
	engine string
}

// prepare builds the programs; nothing runs yet.
func prepare(t *testing.T) *hull {
	t.Helper()
	l := lab.Start(t)
	return &hull{product.New(t, "test/robust/actor"), "docker " + l.Docker()}
}

// start brings up everything.
func start(t *testing.T) *hull {
	t.Helper()
	p := prepare(t)
	p.Engines(p.engine)
	p.Start()
	return p
}

func (p *hull) mode(workload, mode string) {
	p.Helper()
	_, err := p.Decide("mode", workload, mode, "--anyway")
	p.Check(err)
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
func (p *hull) actorImage(t *testing.T) string {
	t.Helper()
	const image = "bulkhead-robust-actor"
	dir := p.Path("image")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"actor", "odd"} {
		b, err := os.ReadFile(p.Path("actor"))
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

func (p *hull) box(t *testing.T, name, image string, args ...string) *box {
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
			err := p.Ask(&doc, "profile", "show", b.workload())
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
func (b *box) learn(p *hull) {
	b.t.Helper()
	p.Eventually(20*time.Second, func() error { return b.get("/do/ping", nil) })
	p.Eventually(20*time.Second, func() error {
		var w struct{ Containers int }
		if err := p.Ask(&w, "workloads", b.workload()); err != nil {
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
