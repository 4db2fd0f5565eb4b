//go:build integration

package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/test/lab"
	"bulkhead/test/product"
	"bulkhead/test/shop"
)

const (
	shopNetwork = "bulkhead-shop"
	four, six   = "172.31.77.", "fd00:31:77::"
)

func boxOf(s shop.Service) string { return "bulkhead-shop-" + s.Name }

func addressOf(prefix, name string) string {
	i := slices.IndexFunc(shop.Services, func(s shop.Service) bool { return s.Name == name })
	return fmt.Sprintf("%s%d", prefix, 20+i)
}

// open starts the shop. prefix says by which kind of address its services ask each other.
func openShop(t *testing.T, prefix func(from, to string) string) {
	t.Helper()
	must := func(args ...string) {
		t.Helper()
		if _, err := docker(t.Context(), "", args...); err != nil {
			t.Fatal(err)
		}
	}
	closeShop := func() {
		for _, s := range shop.Services {
			_, _ = docker(context.Background(), "", "rm", "-fv", boxOf(s))
		}
		_, _ = docker(context.Background(), "", "network", "rm", shopNetwork)
	}
	closeShop() // of a run that was killed
	t.Cleanup(closeShop)
	must("network", "create", "--ipv6", "--subnet", four+"0/24", "--subnet", six+"/64", "-o", "com.docker.network.bridge.name=bhshop0", shopNetwork)
	for _, s := range shop.Services {
		args := []string{"create", "--name", boxOf(s), "--network", shopNetwork, "--ip", addressOf(four, s.Name), "--ip6", addressOf(six, s.Name), "--label", "app=" + s.Name}
		needs := s.NeedsBy(func(to string) string { return prefix(s.Name, to) })
		if s.Image == "nodejs" {
			args = append(args, "-e", "NEEDS="+needs, "-e", "WORKS="+s.Works)
		}
		must(append(append(args, lab.Reference(s.Image)), shop.Commands[s.Image]...)...)
		switch s.Image {
		case "nodejs":
			must(copyIn(t, boxOf(s), "/srv/app.js", shop.Program)...)
		case "nginx":
			must(copyIn(t, boxOf(s), "/etc/nginx/sites-enabled/default", "server { listen 80; listen [::]:80; location / { proxy_pass http://"+prefix("gateway", "web")+":3000; } }\n")...)
		}
	}
	for _, s := range shop.Services {
		must("start", boxOf(s))
	}
}

func copyIn(t *testing.T, box, path, text string) []string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		t.Fatal(err)
	}
	return []string{"cp", f.Name(), box + ":" + path}
}

// byBoth: half of the services are asked over IPv4 and half over IPv6.
func byBoth(from, to string) string {
	if (len(from)+len(to))%2 == 0 {
		return "[" + addressOf(six, to) + "]"
	}
	return addressOf(four, to)
}

// visit asks the shop's gateway over both kinds of address.
func visit(ctx context.Context, n int) (broken int, last error) {
	return shop.Visit(ctx, n, addressOf(four, "gateway"), "["+addressOf(six, "gateway")+"]")
}

// shopName is who has an address; the first of the network is the host.
func shopName(a netip.Addr) string {
	for _, prefix := range []string{four, six} {
		if a.String() == prefix+"1" {
			return "host"
		}
	}
	for _, s := range shop.Services {
		if a.String() == addressOf(four, s.Name) || a.String() == addressOf(six, s.Name) {
			return s.Name
		}
	}
	return ""
}

// mapped are the edges that the product shows, in the words of the capture, with what was denied.
func mapped(t *testing.T, p *product.Product, from time.Time) (map[string]bool, map[string]bulkhead.Flow) {
	t.Helper()
	var list struct{ Flows []bulkhead.Flow }
	if err := p.Ask(&list, "flows", "--from", from.UTC().Format(time.RFC3339Nano)); err != nil {
		t.Fatal(err)
	}
	name := func(e bulkhead.Endpoint) string {
		if e.Kind == bulkhead.EndHost {
			return "host"
		}
		return strings.TrimPrefix(e.String(), "docker/bulkhead-shop-")
	}
	found, flows := map[string]bool{}, map[string]bulkhead.Flow{}
	for _, f := range list.Flows {
		if f.Protocol != "tcp" || f.Source == f.Destination || !strings.Contains(f.Edge.String(), "bulkhead-shop-") {
			continue
		}
		edge := fmt.Sprintf("%s -> %s tcp/%d", name(f.Source), name(f.Destination), f.Port)
		found[edge], flows[edge] = true, f
	}
	return found, flows
}

// TestShop: the map has each edge that a capture of the same minutes has, and no other; the policy that is made of it breaks no
// request of the shop, and stops 50 tries to get elsewhere from one of its containers.
func TestShop(t *testing.T) {
	l := lab.Start(t)
	if err := l.Images(t.Context(), "nginx", "nodejs", "redis", "postgresql", "mariadb", "tomcat", "php-apache"); err != nil {
		t.Fatal(err)
	}
	p := product.New(t)
	p.Engines("docker " + l.Docker())
	p.Start()
	openShop(t, byBoth)
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		broken, err := visit(t.Context(), 2)
		if broken == 0 {
			break
		}
		if time.Now().After(end) {
			for _, s := range shop.Services {
				logs, _ := exec.Command("docker", "logs", "--tail", "3", boxOf(s)).CombinedOutput()
				t.Logf("%s: %s", s.Name, logs)
			}
			t.Fatal("the shop does not open: ", err)
		}
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(61 * time.Second))) // a minute that has nothing of the beginning in it
	began := time.Now()
	captured := shop.Capture(t, []string{""}, shopName, func() {
		if broken, err := visit(t.Context(), 100); broken > 0 {
			t.Fatalf("%d requests broken while nothing is in force: %v", broken, err)
		}
		time.Sleep(7 * time.Second)
	})
	var shown map[string]bool
	for range 30 {
		if shown, _ = mapped(t, p, began); cmp.Equal(shown, captured) {
			break
		}
		time.Sleep(time.Second)
	}
	if diff := cmp.Diff(captured, shown); diff != "" {
		t.Errorf("captured and not shown (-), shown and not captured (+):\n%s", diff)
	}
	t.Logf("%d edges captured, %d shown", len(captured), len(shown))

	propose(t, p, began)
	broken, err := visit(t.Context(), 200)
	if broken > 0 {
		t.Errorf("%d of 200 requests broken by the policy that was made of them: %v", broken, err)
	}
	tried, through := lateral(t, "cart", captured)
	if len(through) > 0 {
		t.Errorf("got elsewhere: %v", through)
	}
	t.Logf("%d of 200 requests broken; %d of %d lateral moves got through", broken, len(through), tried)
	if tried < 50 {
		t.Errorf("only %d moves were tried", tried)
	}
}

// propose makes a policy of what was seen, replays it, stages it, enforces it.
func propose(t *testing.T, p *product.Product, since time.Time) {
	t.Helper()
	from := since.UTC().Format(time.RFC3339Nano)
	text, err := p.Bulkhead("segment", "propose", "--from", from, "--workload", "docker/bulkhead-shop-*", "--format", "bulkhead")
	if err != nil {
		t.Fatal(err)
	}
	file := p.Path("shop.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var outcome struct{ Cut, Uncertain []json.RawMessage }
	if err := p.Ask(&outcome, "segment", "replay", "-f", file, "--from", from); err != nil || len(outcome.Cut)+len(outcome.Uncertain) > 0 {
		t.Errorf("replayed on its own window: %s, %v", outcome.Cut, err)
	}
	for _, how := range []string{"stage", "enforce"} {
		if _, err := p.Bulkhead("segment", how, "-f", file); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d lines of policy", strings.Count(string(text), "\n"))
}

// lateral tries from inside a container to reach every service that it has no edge to, over IPv4 and IPv6.
func lateral(t *testing.T, from string, allowed map[string]bool) (tried int, through []string) {
	t.Helper()
	targets := shop.Moves(from, allowed, func(s string) []string { return []string{addressOf(four, s), addressOf(six, s)} })
	out, err := exec.CommandContext(t.Context(), "docker", append([]string{"exec", "bulkhead-shop-" + from, "node", "-e", shop.Intruder, "--"}, targets...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return len(targets), shop.Through(string(out))
}
