//go:build integration

package robust

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

const injection = "/do/alive?arg=1%27+or+%271%27=%271"

// status asks on a connection of its own, so that it is steered, or not, as it is at the time.
func (b *box) status(path string) (code int, id string, err error) {
	c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Get("http://" + b.ip + ":8080" + path)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, answer.Header.Get("Bulkhead-Request-Id"), nil
}

func (p *hull) wants(b *box, path string, code int) (id string) {
	p.Helper()
	p.Eventually(20*time.Second, func() error {
		got, n, err := b.status(path)
		if id = n; err != nil || got != code {
			return fmt.Errorf("%s: %d, %v; want %d", path, got, err, code)
		}
		return nil
	})
	return id
}

func (p *hull) waf(t *testing.T, into any, args ...string) {
	t.Helper()
	if into == nil {
		into = &json.RawMessage{}
	}
	if err := p.Ask(into, append([]string{"waf"}, args...)...); err != nil {
		t.Fatal(err)
	}
}

// TestWeb: the layer-7 firewall is switched on a running container, explains, makes exceptions, closes a hole, comes back
// after its agent was killed, holds for a container that starts later, and goes; nothing is started again for it.
func TestWeb(t *testing.T) {
	p := start(t)
	image := p.actorImage(t)
	b := p.box(t, "web", image)
	b.learn(p)
	before := b.do("ping", "").PID
	kept, err := net.Dial("tcp", b.ip+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	ask := func(path string) int {
		fmt.Fprintf(kept, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		answer, err := http.ReadResponse(bufio.NewReader(kept), nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode
	}
	ask("/do/alive")

	took, err := p.Decide("waf", "mode", b.workload(), "block", "--port", "8080")
	p.Check(err)
	t.Logf("in force after %v", took)
	id := p.wants(b, injection, 403)
	if code := ask(injection); code != 200 {
		t.Errorf("a connection from before was answered %d", code)
	}
	if a := b.do("ping", ""); a.PID != before {
		t.Error("the application was started again")
	}
	t.Run("explain", func(t *testing.T) {
		var e struct {
			Event          bulkhead.Alert
			Replayed, Same bool
			Steps          []json.RawMessage
		}
		p.Eventually(10*time.Second, func() error { return p.Ask(&e, "waf", "explain", id) })
		if e.Event.Web == nil || e.Event.Web.ID != id || e.Event.Action != "blocked" || !e.Replayed || !e.Same || len(e.Steps) == 0 || e.Event.Web.Endpoint != "/do/alive" {
			t.Errorf("%+v", e)
		}
		var list []bulkhead.Alert
		p.waf(t, &list, "events", "--workload", b.workload())
		if len(list) == 0 || list[0].Web.Reasons[0].Name != "arg" {
			t.Errorf("%+v", list)
		}
	})
	t.Run("patch and allow", func(t *testing.T) {
		p.waf(t, nil, "patch", b.workload(), "--path", "/do/none", "--name", "arg", "--pattern", "[a-z]*")
		p.wants(b, "/do/none?arg=ABC", 403)
		p.wants(b, "/do/none?arg=abc", 404)
		p.waf(t, nil, "allow", id)
		p.wants(b, injection, 200)
		p.wants(b, strings.Replace(injection, "alive", "none", 1), 403)
		var all struct {
			Exceptions []bulkhead.WebException
			Patches    []bulkhead.WebPatch
			Nodes      []struct{ Requests, Blocked uint64 }
		}
		p.waf(t, &all, b.workload())
		if len(all.Exceptions) == 0 || len(all.Patches) != 1 || all.Patches[0].By == "" {
			t.Fatalf("%+v", all)
		}
		for _, e := range all.Exceptions {
			p.waf(t, nil, "allow", b.workload(), "--remove", e.ID)
		}
		p.wants(b, injection, 403)
	})
	t.Run("a killed agent", func(t *testing.T) {
		p.Agent.Kill()
		began := time.Now()
		p.wants(b, injection, 200)
		t.Logf("direct after %v", time.Since(began).Round(time.Millisecond))
		p.Agent.Start()
		p.Await()
		p.wants(b, injection, 403)
	})
	if out, err := exec.Command("docker", "rm", "-f", b.name).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	b = p.box(t, "web", image)
	t.Run("a container that comes later", func(t *testing.T) {
		p.wants(b, injection, 403)
		p.wants(b, "/do/alive", 200)
	})
	t.Run("closed without an agent", func(t *testing.T) {
		p.waf(t, nil, "mode", b.workload(), "block", "--fail-closed")
		p.wants(b, injection, 403)
		p.Agent.Kill()
		time.Sleep(300 * time.Millisecond) // the kernel gives a proxy that gives no sign so long
		if code, _, err := b.status("/do/alive"); err == nil {
			t.Errorf("somebody got through: %d", code)
		}
		p.Agent.Start()
		p.Await()
		p.wants(b, "/do/alive", 200)
		p.wants(b, injection, 403)
		p.waf(t, nil, "mode", b.workload(), "block", "--fail-open")
	})
	t.Run("learn, and off", func(t *testing.T) {
		p.waf(t, nil, "mode", b.workload(), "learn")
		for n := range 20 {
			p.wants(b, fmt.Sprintf("/do/alive?arg=%d", n), 200)
		}
		p.wants(b, injection, 200)
		var portrait struct {
			Endpoints map[string]struct {
				Seen       struct{ Count int }
				Parameters map[string]json.RawMessage
			}
		}
		p.waf(t, &portrait, "portrait", b.workload())
		if e := portrait.Endpoints["GET /do/alive"]; e.Seen.Count < 20 || e.Parameters["query arg"] == nil {
			t.Errorf("%+v", portrait)
		}
		p.waf(t, nil, "mode", b.workload(), "off")
		if code, id, err := b.status(injection); code != 200 || id != "" {
			t.Errorf("%d %q %v", code, id, err)
		}
	})
}
