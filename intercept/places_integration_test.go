//go:build integration

package intercept

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/waf"
	"bulkhead/waf/corpus"
)

// recorded are requests of all kinds: those of the Core Rule Set's tests, and honest ones.
func recorded(t *testing.T, n int) [][]byte {
	t.Helper()
	none := t.TempDir() // no newer ones
	if err := os.MkdirAll(filepath.Join(none, "coreruleset+coreruleset", "tests", "regression", "tests"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := corpus.Regressions(none)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("lamp rope anchor blue large small harbour chart compass bell order cart page O'Brien R&D 50% C++ select union where")
	var list [][]byte
	for len(list) < n {
		if one := all[r.IntN(len(all))]; r.IntN(2) == 0 {
			list = append(list, one.Raw)
			continue
		}
		q := url.Values{"q": {words[r.IntN(len(words))] + " " + words[r.IntN(len(words))]}, "page": {fmt.Sprint(r.IntN(90))}}
		switch r.IntN(3) {
		case 0:
			list = append(list, []byte("GET /items?"+q.Encode()+" HTTP/1.1\r\nHost: shop\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\r\n"))
		case 1:
			body := q.Encode()
			list = append(list, fmt.Appendf(nil, "POST /order HTTP/1.1\r\nHost: shop\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		default:
			body := fmt.Sprintf(`{"name":%q,"count":%d}`, words[r.IntN(len(words))], r.IntN(9))
			list = append(list, fmt.Appendf(nil, "POST /api HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body))
		}
	}
	return list
}

// ears remember what was told of each client.
type ears struct {
	lock sync.Mutex
	told map[string][]told
}

type told struct {
	Action  waf.Action
	Score   int
	Reasons []waf.Reason
}

func (e *ears) hear(v Event) {
	e.lock.Lock()
	defer e.lock.Unlock()
	if e.told == nil {
		e.told = map[string][]told{}
	}
	e.told[v.Client] = append(e.told[v.Client], told{v.Verdict, v.Score, v.Reasons})
}

func (e *ears) of(client string) []told {
	e.lock.Lock()
	defer e.lock.Unlock()
	return e.told[client]
}

// TestSameVerdicts sends recorded requests through all three places: each tells the same of each.
func TestSameVerdicts(t *testing.T) {
	const n = 10_000
	h := newHouse(t)
	requests := recorded(t, n)
	var inline, tap, sidecar ears
	options := func(e *ears) Options {
		o := proxyOptions(e.hear)
		o.Mode = Detect
		return o
	}
	i, err := NewInline(InlineOptions{Namespace: h.app, Ports: []uint16{8080}, Proxy: options(&inline)})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	listener, err := NewTap(TapOptions{Namespace: h.app, Ports: []uint16{8080}, Proxy: options(&tap)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Leave() }()
	direct := sendAll(t, requests, func() (net.Conn, error) { return h.connect("10.97.1.1:8080") })
	beside := sendAll(t, requests, sidecarBefore(t, h, options(&sidecar)))
	time.Sleep(2 * time.Second) // the tap is behind by what it holds
	attacks, different, again := 0, 0, 0
	usedDirect, usedBeside := map[string]int{}, map[string]int{}
	for k := range requests {
		usedDirect[direct[k]]++
		usedBeside[beside[k]]++
	}
	for k := range requests {
		if usedDirect[direct[k]] > 1 || usedBeside[beside[k]] > 1 { // the kernel gave the port of a connection that had ended to another
			again++
			continue
		}
		a, b, c := inline.of(direct[k]), tap.of(direct[k]), sidecar.of(beside[k])
		if len(a) > 0 {
			attacks++
		}
		if !cmp.Equal(a, b) || !cmp.Equal(a, c) {
			if different++; different < 6 {
				t.Errorf("%.300q:\ninline  %+v\ntap     %+v\nsidecar %+v", requests[k], a, b, c)
			}
		}
	}
	t.Logf("%d requests, %d told of, %d differently; %d from a port used again; %d packets or streams missed by the tap", n, attacks, different, again, listener.Missed())
	if again > n/50 {
		t.Errorf("%d of %d cannot be told apart by the client's port", again, n)
	}
	if attacks < n/10 {
		t.Errorf("%d of %d were told of", attacks, n)
	}
}

// sidecarBefore is a sidecar in the application's namespace, before it.
func sidecarBefore(t *testing.T, h *house, o Options) func() (net.Conn, error) {
	t.Helper()
	ns, err := enterNamespace(h.app)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ns.close)
	o.Upstream = &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.transport.DialContext = func(context.Context, string, string) (c net.Conn, err error) {
		err = ns.do(func() (err error) { c, err = net.Dial("tcp", "127.0.0.1:8080"); return err })
		return c, err
	}
	var l net.Listener
	if err := ns.do(func() (err error) { l, err = net.Listen("tcp", ":8090"); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Serve(ctx, l) }()
	t.Cleanup(func() { stop(); <-done })
	return func() (net.Conn, error) { return h.connect("10.97.1.1:8090") }
}

// sendAll sends each request on a connection of its own and returns the addresses that they came from.
func sendAll(t *testing.T, requests [][]byte, connect func() (net.Conn, error)) []string {
	t.Helper()
	from := make([]string, len(requests))
	next := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for k := range next {
				c, err := connect()
				if err != nil {
					t.Error(err)
					continue
				}
				from[k] = c.LocalAddr().String()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				_, _ = c.Write(requests[k])
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		})
	}
	for k := range requests {
		next <- k
	}
	close(next)
	all.Wait()
	return from
}
