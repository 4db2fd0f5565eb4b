//go:build integration

package apps

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/test/lab"
	"bulkhead/test/product"
)

//go:embed shop/service.js
var serviceJS string

// service is one of the shop's. Its number is the last byte of its addresses.
type service struct {
	name, image string
	port        int
	needs       []string // of the services in service.js
	works       string
}

// shop has eleven services from seven images: a gateway, a site, four programs, a queue, a cache, two databases, a search.
var shop = []service{
	{name: "gateway", image: "nginx", port: 80},
	{name: "web", image: "nodejs", port: 3000, needs: []string{"http://api:3000/", "http://cart:3000/", "http://admin:80/"}},
	{name: "api", image: "nodejs", port: 3000, needs: []string{"redis://cache:6379", "redis://queue:6379", "postgresql://users:5432", "http://search:8080/"}},
	{name: "cart", image: "nodejs", port: 3000, needs: []string{"mysql://orders:3306", "redis://cache:6379"}},
	{name: "worker", image: "nodejs", port: 3000, needs: []string{"redis://queue:6379", "mysql://orders:3306"}, works: "700"},
	{name: "queue", image: "redis", port: 6379},
	{name: "cache", image: "redis", port: 6379},
	{name: "users", image: "postgresql", port: 5432},
	{name: "orders", image: "mariadb", port: 3306},
	{name: "search", image: "tomcat", port: 8080},
	{name: "admin", image: "php-apache", port: 80},
}

// commands let those listen on IPv6 too that do not by themselves.
var commands = map[string][]string{
	"redis":   {"redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--dir", "/var/lib/redis"},
	"mariadb": {"mariadbd", "--user=mysql", "--bind-address=::"},
}

const (
	shopNetwork = "bulkhead-shop"
	four, six   = "172.31.77.", "fd00:31:77::"
)

func (s service) box() string { return "bulkhead-shop-" + s.name }

func addressOf(prefix, name string) string {
	i := slices.IndexFunc(shop, func(s service) bool { return s.name == name })
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
		for _, s := range shop {
			_, _ = docker(context.Background(), "", "rm", "-fv", s.box())
		}
		_, _ = docker(context.Background(), "", "network", "rm", shopNetwork)
	}
	closeShop() // of a run that was killed
	t.Cleanup(closeShop)
	must("network", "create", "--ipv6", "--subnet", four+"0/24", "--subnet", six+"/64", "-o", "com.docker.network.bridge.name=bhshop0", shopNetwork)
	for _, s := range shop {
		args := []string{"create", "--name", s.box(), "--network", shopNetwork, "--ip", addressOf(four, s.name), "--ip6", addressOf(six, s.name), "--label", "app=" + s.name}
		var needs []string
		for _, n := range s.needs {
			scheme, rest, _ := strings.Cut(n, "://")
			host, tail, _ := strings.Cut(rest, ":")
			needs = append(needs, scheme+"://"+prefix(s.name, host)+":"+tail)
		}
		if s.image == "nodejs" {
			args = append(args, "-e", "NEEDS="+strings.Join(needs, " "), "-e", "WORKS="+s.works)
		}
		must(append(append(args, lab.Reference(s.image)), commands[s.image]...)...)
		switch s.image {
		case "nodejs":
			must(copyIn(t, s.box(), "/srv/app.js", serviceJS)...)
		case "nginx":
			must(copyIn(t, s.box(), "/etc/nginx/sites-enabled/default", "server { listen 80; listen [::]:80; location / { proxy_pass http://"+prefix("gateway", "web")+":3000; } }\n")...)
		}
	}
	for _, s := range shop {
		must("start", s.box())
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

// visit asks the shop's gateway, over both kinds of address, and counts what was not answered well.
func visit(ctx context.Context, n int) (broken int, last error) {
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range n {
		host := addressOf(four, "gateway")
		if i%2 == 1 {
			host = "[" + addressOf(six, "gateway") + "]"
		}
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+host+"/", nil)
		var answer *http.Response
		if err == nil {
			answer, err = client.Do(r)
		}
		if err == nil {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
			answer.Body.Close()
			if answer.StatusCode != 200 || string(text) != "ok\n" {
				err = fmt.Errorf("%s: %.200q", answer.Status, text)
			}
		}
		if err != nil {
			broken, last = broken+1, err
		}
	}
	return broken, last
}

// capture looks at the packets of the shop's bridge for as long as do takes, and returns who opened connections to whom.
func capture(t *testing.T, do func()) map[string]bool {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000})
	found, stop := map[string]bool{}, make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		b := make([]byte, 1<<16)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if n, _, err := unix.Recvfrom(fd, b, 0); err == nil {
				if e := opening(b[:n]); e != "" {
					found[e] = true
				}
			}
		}
	})
	do()
	time.Sleep(300 * time.Millisecond)
	close(stop)
	reader.Wait()
	stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || stats.Drops > 0 {
		t.Errorf("the capture lost %v packets, %v", stats, err)
	}
	return found
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// opening names the edge whose connection a frame opens: a SYN without ACK, between two of the shop.
func opening(frame []byte) string {
	if len(frame) < 14 {
		return ""
	}
	p := frame[14:]
	var from, to netip.Addr
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		if len(p) < 20 || p[9] != unix.IPPROTO_TCP {
			return ""
		}
		from, to = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		p = p[int(p[0]&15)*4:]
	case unix.ETH_P_IPV6:
		if len(p) < 40 || p[6] != unix.IPPROTO_TCP {
			return ""
		}
		from, to = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		p = p[40:]
	default:
		return ""
	}
	if len(p) < 14 || p[13]&0x12 != 2 {
		return ""
	}
	a, b := shopName(from), shopName(to)
	if a == "" || b == "" || a == "host" && b == "host" {
		return ""
	}
	return fmt.Sprintf("%s -> %s tcp/%d", a, b, binary.BigEndian.Uint16(p[2:]))
}

// shopName is who has an address; the first of the network is the host.
func shopName(a netip.Addr) string {
	for _, prefix := range []string{four, six} {
		if a.String() == prefix+"1" {
			return "host"
		}
	}
	for _, s := range shop {
		if a.String() == addressOf(four, s.name) || a.String() == addressOf(six, s.name) {
			return s.name
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
			for _, s := range shop {
				logs, _ := exec.Command("docker", "logs", "--tail", "3", s.box()).CombinedOutput()
				t.Logf("%s: %s", s.name, logs)
			}
			t.Fatal("the shop does not open: ", err)
		}
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(61 * time.Second))) // a minute that has nothing of the beginning in it
	began := time.Now()
	captured := capture(t, func() {
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

// lateral tries from inside a container to reach every service that it has no edge to, on their own and on other ports, over
// IPv4 and IPv6.
func lateral(t *testing.T, from string, allowed map[string]bool) (tried int, through []string) {
	t.Helper()
	const js = `const net = require("net"); const [,, ...list] = process.argv;
Promise.all(list.map((x) => new Promise((done) => { const [host, port] = x.split(" "); const c = net.connect(+port, host); c.setTimeout(3000, () => (c.destroy(), done("")));
c.on("connect", () => (c.destroy(), done(x))); c.on("error", (e) => done(e.code === "ECONNREFUSED" ? x : "")); }))).then((l) => console.log(l.filter(Boolean).join("\n")))`
	var targets []string
	for _, s := range shop {
		for _, port := range []int{s.port, 22, 8081} {
			if s.name == from || allowed[fmt.Sprintf("%s -> %s tcp/%d", from, s.name, port)] {
				continue
			}
			targets = append(targets, fmt.Sprintf("%s %d", addressOf(four, s.name), port), fmt.Sprintf("%s %d", addressOf(six, s.name), port))
		}
	}
	out, err := exec.CommandContext(t.Context(), "docker", append([]string{"exec", "bulkhead-shop-" + from, "node", "-e", js, "--"}, targets...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			through = append(through, line)
		}
	}
	return len(targets), slices.Compact(slices.Sorted(slices.Values(through)))
}
