//go:build integration

package robust

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/topology"
)

// edges lists who talked to whom over TCP, but for the host and for who asks itself.
func (p *hull) edges(t *testing.T) map[string]bulkhead.Flow {
	t.Helper()
	var list struct{ Flows []bulkhead.Flow }
	if err := p.Ask(&list, "flows"); err != nil {
		t.Fatal(err)
	}
	found := map[string]bulkhead.Flow{}
	for _, f := range list.Flows {
		if f.Source.Kind != bulkhead.EndHost && f.Source != f.Destination && f.Protocol == "tcp" {
			found[f.Edge.String()] = f
		}
	}
	return found
}

// run does a command of the product and gives its exit code.
func (p *hull) run(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := p.Command(args...)
	cmd.Env = append(cmd.Env, "COLUMNS=300") // names are not shortened
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return code, string(text)
}

// translate makes the host answer for a container under another address, as a service does, and hide who asks.
func translate(t *testing.T, service, backend string) {
	t.Helper()
	address, port, _ := strings.Cut(service, ":")
	for _, rule := range [][]string{
		{"PREROUTING", "-d", address, "-p", "tcp", "--dport", port, "-j", "DNAT", "--to-destination", backend},
		{"POSTROUTING", "-d", strings.Split(backend, ":")[0], "-p", "tcp", "-m", "conntrack", "--ctorigdst", address, "-j", "MASQUERADE"},
	} {
		change := func(how string) error {
			out, err := exec.Command("iptables", append([]string{"-w", "-t", "nat", how}, rule...)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("iptables %s %v: %w: %s", how, rule, err, out)
			}
			return nil
		}
		if err := change("-I"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := change("-D"); err != nil {
				t.Error(err)
			}
		})
	}
}

const segment = `apiVersion: bulkhead/v1
kind: Segment
metadata: {name: db}
spec:
  for: {labels: {app: db}}
  ingress:
  - from: [{labels: {app: web}}, {host: true}]
    ports: [tcp/8080]
---
apiVersion: bulkhead/v1
kind: Segment
metadata: {name: web}
spec:
  for: {labels: {app: web}}
  egress:
  - to: [{labels: {app: db}}, {host: true}]
    ports: [tcp/8080]
`

// TestSegment goes with real containers from what was seen to what is enforced: a service is its backend, labels come from
// the engine, a stranger is cut off, a container that starts is right from its first packet.
func TestSegment(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	web, db := p.box(t, "web", image, "--label", "app=web"), p.box(t, "db", image, "--label", "app=db")
	stranger := p.box(t, "stranger", image)
	for _, b := range []*box{web, db, stranger} {
		b.learn(p)
	}
	const service = "10.99.77.1:80"
	translate(t, service, db.ip+":8080")
	for range 5 {
		if a := web.do("connect", service); !a.Done {
			t.Fatalf("by the service: %+v", a)
		}
	}
	if a := stranger.do("open", db.ip+":8080"); !a.Done {
		t.Fatalf("nothing is in force: %+v", a)
	}
	toDB := func(b *box) string { return fmt.Sprintf("%s -> %s tcp/8080", b.workload(), db.workload()) }
	p.Eventually(30*time.Second, func() error {
		found := p.edges(t)
		if f := found[toDB(web)]; f.Opened != 5 || len(found) != 2 || found[toDB(stranger)].Opened != 1 {
			return fmt.Errorf("the edges are %+v", found)
		}
		return nil
	})

	file := p.Path("segment.yaml")
	if err := os.WriteFile(file, []byte(segment), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out := p.run(t, "segment", "replay", "-f", file, "--from", "1h", "--format", "table")
	if code != 3 || !strings.Contains(out, "cut        "+stranger.workload()) || !strings.Contains(out, "1 of 8 edges would have been cut") {
		t.Errorf("replay: exit code %d: %s", code, out)
	}
	code, out = p.run(t, "segment", "propose", "--from", "1h", "--format", "bulkhead", "--workload", db.workload())
	if code != 0 || !strings.Contains(out, "workload: "+web.workload()) {
		t.Errorf("propose: exit code %d: %s", code, out)
	}
	var risks []topology.Risk
	if err := p.Ask(&risks, "flows", "risks"); err != nil {
		t.Error(err)
	}

	p.Must("segment", "stage", "-f", file)
	if a := stranger.do("connect", db.ip+":8080"); !a.Done {
		t.Errorf("a staged policy cuts: %+v", a)
	}
	p.Eventually(30*time.Second, func() error {
		if f := p.edges(t)[toDB(stranger)]; f.WouldDeny == 0 || f.Denied != 0 {
			return fmt.Errorf("would deny %d, denied %d", f.WouldDeny, f.Denied)
		}
		return nil
	})

	p.Must("segment", "enforce", "db", "web")
	began := time.Now()
	if a := stranger.do("alive", db.ip+":8080"); a.Done {
		p.Eventually(2*time.Second, func() error {
			if stranger.do("alive", db.ip+":8080").Done {
				return errors.New("a connection of before lives")
			}
			return nil
		})
	}
	t.Logf("a connection of before was cut within %v of the answer", time.Since(began).Round(time.Millisecond))
	for _, w := range []struct {
		what string
		got  answer
		want bool
	}{
		{"a stranger", stranger.do("connect", db.ip+":8080"), false},
		{"who may", web.do("connect", db.ip+":8080"), true},
		{"by the service", web.do("connect", service), true},
		{"who may, to somebody else", web.do("connect", stranger.ip+":8080"), false},
		{"itself", web.do("connect", "127.0.0.1:8080"), true},
	} {
		if w.got.Done != w.want {
			t.Errorf("%s: %+v", w.what, w.got)
		}
	}
	p.firstPackets(t, image, db, stranger)
	p.Eventually(30*time.Second, func() error {
		if f := p.edges(t)[toDB(stranger)]; f.Denied == 0 {
			return errors.New("what was denied is not counted")
		}
		alerts, err := p.Alerts("--workload", db.workload())
		if err == nil && !slices.ContainsFunc(alerts, func(a bulkhead.Alert) bool { return a.Rule == "network/policy" && a.Action == bulkhead.ActionBlocked }) {
			err = errors.New("what was denied is not told")
		}
		return err
	})

	p.Must("segment", "quarantine", db.workload())
	if a := web.do("connect", db.ip+":8080"); a.Done {
		t.Error("a workload in quarantine is reached")
	}
	p.Must("segment", "quarantine", "--lift", db.workload())
	p.Agent.Kill()
	if a := stranger.do("connect", db.ip+":8080"); a.Done {
		t.Error("with the agent gone a stranger gets through")
	}
	p.Agent.Start()
	p.Await()
	for range 20 {
		if a := stranger.do("connect", db.ip+":8080"); a.Done {
			t.Error("while the agent starts a stranger gets through")
		}
		if a := web.do("connect", db.ip+":8080"); !a.Done {
			t.Errorf("while the agent starts who may is cut: %+v", a)
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.Must("segment", "remove", "db", "web")
	if a := stranger.do("connect", db.ip+":8080"); !a.Done {
		t.Errorf("it was taken back: %+v", a)
	}
}

// firstPackets starts containers whose first act is to connect.
func (p *hull) firstPackets(t *testing.T, image string, db, stranger *box) {
	t.Helper()
	reach := func(label, address string) bool {
		err := exec.Command("docker", "run", "--rm", "--label", "app="+label, image, "/actor", "reach", address).Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !slices.Contains([]int{1, 42}, exit.ExitCode()) {
			t.Fatalf("a container's first act: %v", err)
		}
		return exit.ExitCode() == 42
	}
	for range 5 {
		if !reach("web", db.ip+":8080") {
			t.Error("the first connection of a container that may is cut")
		}
		if reach("web", stranger.ip+":8080") {
			t.Error("the first connection of a container that may not gets through")
		}
		if reach("other", db.ip+":8080") {
			t.Error("the first connection of a stranger gets through")
		}
	}
}

// TestLateAddress: an address that a container gets while it runs is its workload's at once.
func TestLateAddress(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	web, db := p.box(t, "web", image, "--label", "app=web"), p.box(t, "db", image, "--label", "app=db")
	web.learn(p)
	db.learn(p)
	file := p.Path("segment.yaml")
	if err := os.WriteFile(file, []byte(segment), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Must("apply", "-f", file)
	pid := docker(t, "inspect", "-f", "{{.State.Pid}}", db.name)
	late := db.ip[:strings.LastIndexByte(db.ip, '.')] + ".251"
	if a := web.do("connect", late+":8080"); a.Done {
		t.Fatal("nobody has the address, and it answers")
	}
	if out, err := exec.Command("nsenter", "-t", pid, "-n", "ip", "addr", "add", late+"/32", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	time.Sleep(100 * time.Millisecond)
	a := web.do("connect", late+":8080")
	t.Logf("100 ms after the address came, a connection to it took %v", a.Took.Round(time.Millisecond))
	if !a.Done {
		t.Errorf("at its late address: %+v", a)
	}
	if out, err := exec.Command("nsenter", "-t", pid, "-n", "ip", "addr", "del", late+"/32", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	other := p.box(t, "other", image)
	otherPID := docker(t, "inspect", "-f", "{{.State.Pid}}", other.name)
	p.Eventually(20*time.Second, func() error { return other.get("/do/ping", nil) })
	if out, err := exec.Command("nsenter", "-t", otherPID, "-n", "ip", "addr", "add", late+"/32", "dev", "eth0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	time.Sleep(100 * time.Millisecond)
	if a := web.do("connect", late+":8080"); a.Done {
		t.Error("whoever has the address now is reached as the one that had it")
	}
}

// TestRuleCutsOff: a rule takes a workload off the network, and it comes back when it is let go and with the next agent.
func TestRuleCutsOff(t *testing.T) {
	p := prepare(t)
	p.Check(os.MkdirAll(p.Path("rules"), 0o700))
	p.Check(os.WriteFile(p.Path("rules", "own.yaml"), []byte("rules:\n  - {id: kubelet-asked, action: quarantine}\n"), 0o600))
	p.Agent.Args = append(p.Agent.Args, "--rules", p.Path("rules"))
	p.Engines(p.engine)
	p.Start()
	image := p.actorImage(t)
	web, db := p.box(t, "web", image), p.box(t, "db", image)
	web.learn(p)
	db.learn(p)
	reaches := func(from, to *box, want bool) func() error {
		return func() error { // by docker exec: the host does not reach who is cut off
			err := exec.Command("docker", "exec", from.name, "/actor", "reach", to.ip+":8080").Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || (exit.ExitCode() == 42) != want {
				return fmt.Errorf("%s to %s: %v", from.name, to.name, err)
			}
			return nil
		}
	}
	p.Check(reaches(web, db, true)())
	for address, end := range map[string]func(){ // another each time: equal events of half a minute are one
		"127.0.0.1:10250": func() {
			if out, err := exec.Command(p.Path("bulkhead-agent"), "resume", "--state", p.Path("state")).CombinedOutput(); err != nil {
				t.Errorf("resume: %v: %s", err, out)
			}
		},
		"127.0.0.1:10255": func() { p.Agent.Kill(); p.Agent.Start(); p.Await() },
	} {
		_ = exec.Command("docker", "exec", web.name, "/odd", "reach", address).Run() // nobody listens there
		p.Eventually(5*time.Second, reaches(web, db, false))
		p.Check(reaches(db, web, false)())
		end()
		p.Eventually(5*time.Second, reaches(web, db, true))
	}
	p.Eventually(10*time.Second, func() error {
		alerts, err := p.Alerts("--workload", web.workload())
		if err == nil && !slices.ContainsFunc(alerts, func(a bulkhead.Alert) bool { return strings.Contains(a.Message, "cut off the network") }) {
			err = errors.New("nobody is told")
		}
		return err
	})
}
