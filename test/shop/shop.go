// Package shop is an application of eleven services for the tests of whole systems, whichever engine runs it. Start with
// [Services] and [Capture].
//
// It promises real servers out of the lab's images, whose requests go through all of them, and the truth about who talked to whom. It is
// not for how the services are started: that is the test's.
package shop

import (
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Program is what its programs are: service.js.
//
//go:embed service.js
var Program string

// Service is one of the shop's.
type Service struct {
	Name, Image string
	Port        int
	Needs       []string // URLs of services by their names, as service.js asks them
	Works       string   // milliseconds between two rounds of what service.js does by itself
}

// NeedsBy are a service's, with the hosts that name returns for theirs.
func (s Service) NeedsBy(name func(service string) (host string)) string {
	var all []string
	for _, n := range s.Needs {
		scheme, rest, _ := strings.Cut(n, "://")
		host, tail, _ := strings.Cut(rest, ":")
		all = append(all, scheme+"://"+name(host)+":"+tail)
	}
	return strings.Join(all, " ")
}

// Services are eleven from seven images: a gateway, a site, four programs, a queue, a cache, two databases, a search.
var Services = []Service{
	{Name: "gateway", Image: "nginx", Port: 80},
	{Name: "web", Image: "nodejs", Port: 3000, Needs: []string{"http://api:3000/", "http://cart:3000/", "http://admin:80/"}},
	{Name: "api", Image: "nodejs", Port: 3000, Needs: []string{"redis://cache:6379", "redis://queue:6379", "postgresql://users:5432", "http://search:8080/"}},
	{Name: "cart", Image: "nodejs", Port: 3000, Needs: []string{"mysql://orders:3306", "redis://cache:6379"}},
	{Name: "worker", Image: "nodejs", Port: 3000, Needs: []string{"redis://queue:6379", "mysql://orders:3306"}, Works: "700"},
	{Name: "queue", Image: "redis", Port: 6379},
	{Name: "cache", Image: "redis", Port: 6379},
	{Name: "users", Image: "postgresql", Port: 5432},
	{Name: "orders", Image: "mariadb", Port: 3306},
	{Name: "search", Image: "tomcat", Port: 8080},
	{Name: "admin", Image: "php-apache", Port: 80},
}

// Commands let those listen on IPv6 too that do not by themselves.
var Commands = map[string][]string{
	"redis":   {"redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--dir", "/var/lib/redis"},
	"mariadb": {"mariadbd", "--user=mysql", "--bind-address=::", "--skip-name-resolve"},
}

// Capture looks at all packets of some network namespaces, by path or "" for this one, for as long as do takes. It returns who opened
// connections to whom, as "SOURCE -> DESTINATION tcp/PORT"; name is who has an address, "" where that does not count.
func Capture(t *testing.T, namespaces []string, name func(netip.Addr) string, do func()) map[string]bool {
	t.Helper()
	var (
		found = map[string]bool{}
		mu    sync.Mutex
		stop  = make(chan struct{})
		ears  sync.WaitGroup
	)
	for _, namespace := range namespaces {
		fd, err := listen(namespace)
		if err != nil {
			t.Fatalf("capturing in %q: %v", namespace, err)
		}
		defer unix.Close(fd)
		ears.Go(func() {
			hear(fd, stop, func(frame []byte) {
				if e := opening(frame, name); e != "" {
					mu.Lock()
					found[e] = true
					mu.Unlock()
				}
			})
			stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil || stats.Drops > 0 {
				t.Errorf("the capture lost %v packets, %v", stats, err)
			}
		})
	}
	do()
	time.Sleep(300 * time.Millisecond)
	close(stop)
	ears.Wait()
	return found
}

// listen opens a socket that gets all packets of a network namespace.
func listen(namespace string) (fd int, err error) {
	done := make(chan struct{})
	go func() { // its thread ends with it where it has been in another namespace
		defer close(done)
		runtime.LockOSThread()
		if namespace == "" {
			defer runtime.UnlockOSThread()
		} else if err = enter(namespace); err != nil {
			return
		}
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	}()
	<-done
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000})
}

func enter(namespace string) error {
	f, err := os.Open(namespace)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

func hear(fd int, stop <-chan struct{}, frame func([]byte)) {
	b := make([]byte, 1<<16)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if n, _, err := unix.Recvfrom(fd, b, 0); err == nil {
			frame(b[:n])
		}
	}
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// opening names the edge whose connection a frame opens: a SYN without ACK, between two of the shop.
func opening(frame []byte, name func(netip.Addr) string) string {
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
	a, b := name(from), name(to)
	if a == "" || b == "" || a == b {
		return ""
	}
	return fmt.Sprintf("%s -> %s tcp/%d", a, b, binary.BigEndian.Uint16(p[2:]))
}

// Visit asks the gateway n times, at one host after the other, and counts what was not answered well.
func Visit(ctx context.Context, n int, hosts ...string) (broken int, last error) {
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for i := range n {
		if err := visit(ctx, client, hosts[i%len(hosts)]); err != nil {
			broken, last = broken+1, err
		}
	}
	return broken, last
}

func visit(ctx context.Context, client *http.Client, host string) error {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+host+"/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
	if answer.StatusCode != http.StatusOK || string(text) != "ok\n" {
		return fmt.Errorf("%s: %.200q", answer.Status, text)
	}
	return nil
}

// Intruder tries to connect to each "HOST PORT" of its arguments, from inside a program's container (node -e), and writes those that somebody
// answered, be it that the port is closed.
const Intruder = `const net = require("net"); const [,, ...list] = process.argv;
Promise.all(list.map((x) => new Promise((done) => { const [host, port] = x.split(" "); const c = net.connect(+port, host); c.setTimeout(3000, () => (c.destroy(), done("")));
c.on("connect", () => (c.destroy(), done(x))); c.on("error", (e) => done(e.code === "ECONNREFUSED" ? x : "")); }))).then((l) => console.log(l.filter(Boolean).join("\n")))`

// Moves are the arguments of [Intruder] in a service for every other that it has no edge to, on their own and on other ports; addresses are
// those of a service.
func Moves(from string, edges map[string]bool, addresses func(service string) []string) (targets []string) {
	for _, s := range Services {
		for _, port := range []int{s.Port, 22, 8081} {
			if s.Name == from || edges[fmt.Sprintf("%s -> %s tcp/%d", from, s.Name, port)] {
				continue
			}
			for _, a := range addresses(s.Name) {
				targets = append(targets, fmt.Sprintf("%s %d", a, port))
			}
		}
	}
	return targets
}

// Through are the moves that succeeded, of what [Intruder] wrote.
func Through(out string) []string {
	var through []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			through = append(through, line)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(through)))
}
