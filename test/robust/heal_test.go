//go:build integration

package robust

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func listenOn(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// takeAll accepts and keeps connections.
func takeAll(l net.Listener) {
	for {
		if _, err := l.Accept(); err != nil {
			return
		}
	}
}

// gateway is where a container reaches this host.
func gateway(t *testing.T, b *box) string {
	return docker(t, "inspect", "-f", "{{.NetworkSettings.Gateway}}", b.name)
}

// TestNextRelease: a protected workload that starts from another image runs, whatever that starts with; what its profile does not
// have is told of.
func TestNextRelease(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	b := p.box(t, "release", image)
	b.learn(p)
	p.mode(b.workload(), "protect")
	const next = "bulkhead-robust-next"
	build := exec.Command("docker", "build", "-q", "-t", next, "-")
	build.Stdin = strings.NewReader("FROM " + image + "\nCMD [\"/odd\", \"serve\"]\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", "-f", next).Run() })
	b = p.box(t, "release", next)
	p.Eventually(20*time.Second, func() error { return b.get("/do/ping", nil) })
	p.Eventually(20*time.Second, func() error {
		alerts, err := p.Alerts("--workload", b.workload())
		if err == nil && !slices.ContainsFunc(alerts, func(a bulkhead.Alert) bool { return a.Action == bulkhead.ActionDetected && a.Cause.Object == "/odd" }) {
			err = fmt.Errorf("nobody is told of its first program: %+v", alerts)
		}
		return err
	})
}

// TestHealing approves one blocked thing of each kind: it works in the running process within a second.
func TestHealing(t *testing.T) {
	p := start(t)
	b := p.box(t, "heal", p.actorImage(t))
	host := listenOn(t, gateway(t, b)+":0")
	go takeAll(host)
	address := host.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	b.learn(p)
	p.mode(b.workload(), "protect")
	before := b.do("ping", "").PID
	for _, test := range []struct{ deed, arg, section, value string }{
		{"exec", "", "executables", "/odd"},
		{"call", "", "syscalls", "ioprio_get"},
		{"file", "/etc/healed", "writes", "/etc/healed"},
		{"connect", address, "peers", "tcp " + strings.TrimSuffix(address, ":"+port) + "/32 " + port},
		{"listen", ":7777", "listens", "tcp/7777"},
	} {
		t.Run(test.deed, func(t *testing.T) {
			if a := b.do(test.deed, test.arg); a.Done || a.NoCall || a.Took > time.Second {
				t.Fatalf("before the approval: %+v", a)
			}
			began := time.Now()
			took, err := p.Decide("approve", "--workload", b.workload(), "--section", test.section, "--value", test.value)
			if err != nil {
				t.Fatal(err)
			}
			a := b.do(test.deed, test.arg)
			whole := time.Since(began)
			if !a.Done || a.NoCall || a.PID != before {
				t.Fatalf("after the approval: %+v", a)
			}
			if whole > 3*time.Second || took > time.Second { // the command starts, signs in and ends in that time too
				t.Errorf("it took %v", whole)
			}
			t.Logf("%-8s approved and done after %v; on the node %v", test.deed, whole.Round(time.Millisecond), took)
		})
	}
	if after := b.do("ping", "").PID; after != before || docker(t, "inspect", "-f", "{{.RestartCount}}", b.name) != "0" {
		t.Error("something was started again")
	}
}

// TestCut: connections that were open before the policy are cut when it comes, and no others.
func TestCut(t *testing.T) {
	p := start(t)
	b := p.box(t, "cut", p.actorImage(t), "--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
	host := listenOn(t, gateway(t, b)+":0")
	go takeAll(host)
	learned, foreign := host.Addr().String(), ""
	other := listenOn(t, gateway(t, b)+":0")
	go takeAll(other)
	foreign = other.Addr().String()
	p.Eventually(20*time.Second, func() error { return b.get("/do/ping", nil) })
	p.Eventually(20*time.Second, func() error {
		var w struct{ Containers int }
		return p.Ask(&w, "workloads", b.workload())
	})
	if a := b.do("open", learned); !a.Done {
		t.Fatal(a)
	}
	b.learn(p)
	p.mode(b.workload(), "monitor")
	in, err := net.Dial("tcp", b.ip+":8080") // a client of the container
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	pid := docker(t, "inspect", "-f", "{{.State.Pid}}", b.name)
	if out, err := exec.Command("nsenter", "-t", pid, "-n", "ip", "address", "add", "fd00:77::2/64", "dev", "lo", "nodad").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	outside := []string{foreign, "[fd00:77::2]:8080", "udp " + foreign}
	for _, address := range outside {
		if a := b.do("open", address); !a.Done {
			t.Fatalf("in mode monitor: %s: %+v", address, a)
		}
	}
	began := time.Now()
	p.mode(b.workload(), "protect")
	t.Logf("protect in force after %v", time.Since(began).Round(time.Millisecond))
	for _, address := range outside {
		if a := b.do("alive", address); a.Done {
			t.Errorf("%s is still there", address)
		} else {
			t.Logf("%s: %s", address, a.Error)
		}
		if a := b.do("open", address); a.Done {
			t.Errorf("%s could be opened again", address)
		}
	}
	if a := b.do("alive", learned); !a.Done {
		t.Errorf("a connection of the profile was cut: %+v", a)
	}
	if _, err := in.Write([]byte("GET /do/ping HTTP/1.0\r\n\r\n")); err != nil {
		t.Error(err)
	}
	if n, err := in.Read(make([]byte, 100)); n == 0 {
		t.Errorf("a client of the container was cut: %v", err)
	}
	p.Eventually(10*time.Second, func() error { return p.wantAlert(t, b, "tcp "+foreign) })
}
