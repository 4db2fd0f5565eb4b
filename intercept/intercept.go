// Package intercept puts the layer-7 firewall in the path of connections: as a sidecar, a reverse proxy before one
// application, and inline, inside a running workload's network namespace. Start with [New] and [NewInline].
//
// It promises that what it forwards has one meaning only (a request whose length or host servers read differently is
// refused), that streams stream, that memory is bounded whatever a client sends, and that a refused client is shown an
// id under which the event says why. It is not for judging: that is package waf's.
package intercept

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/waf"
	"bulkhead/waf/portrait"
)

// Mode is what follows from a verdict.
type Mode string

// The modes.
const (
	Learn  Mode = "learn"  // tell, and take what passes into the portrait
	Detect Mode = "detect" // tell
	Block  Mode = "block"  // refuse what the engine blocks, tell what it alerts on
	Off    Mode = "off"    // look at nothing, and let connections end: the firewall is about to go
)

// Options say what a proxy stands before, and how.
type Options struct {
	Upstream   *url.URL    // http, h2c or https, and a host
	TLS        *tls.Config // with a certificate: connections are TLS; nil: they are not
	Engine     *waf.Engine
	Mode       Mode
	Exceptions []Exception
	Patches    []Patch
	Portrait   *portrait.Portrait // of the application: learned in Learn, compared with in the others; nil: none
	Tell       func(Event)        // of everything that was not passed; called by many goroutines at once
	Log        *slog.Logger
	Limits     Limits
}

// Limits bound what one client may take. The zero value of each is its default.
type Limits struct {
	Connections int           // at once; 0: 4096. More wait in the kernel's queue
	Head        int           // bytes of a request line and its headers; 0: 64 KiB, more than servers take
	HeadTime    time.Duration // for a whole head; 0: 10 s, against clients that send a byte a minute
	Idle        time.Duration // between two requests; 0: 2 min
	Stall       time.Duration // without a byte of a body; 0: 30 s
	Window      int           // bytes of a body that are held until they are judged; 0: 128 KiB
	Hold        time.Duration // the longest that a body without a length is held; 0: 500 ms
	Streams     int           // of one HTTP/2 connection at once; 0: 100
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, other int) {
		if *n == 0 {
			*n = other
		}
	}
	wait := func(d *time.Duration, other time.Duration) {
		if *d == 0 {
			*d = other
		}
	}
	set(&l.Connections, 4096)
	set(&l.Head, 64<<10)
	set(&l.Window, 128<<10)
	set(&l.Streams, 100)
	wait(&l.HeadTime, 10*time.Second)
	wait(&l.Idle, 2*time.Minute)
	wait(&l.Stall, 30*time.Second)
	wait(&l.Hold, 500*time.Millisecond)
	return l
}

// Proxy judges requests and forwards them.
type Proxy struct {
	o         Options
	policy    atomic.Pointer[Policy]
	transport *http.Transport
	slots     chan struct{}
	second    *second2 // for connections that speak HTTP/2
	accepted  chan net.Conn

	// dial connects to the application for one client, who connected to an address; nil: to Upstream, for all.
	dial func(client, local netip.AddrPort) (net.Conn, error)

	requests, blocked, detected atomic.Uint64

	flights flights // inline alone: elsewhere nobody asks
	tap     bool    // it looks on, and refuses nothing

	lock  sync.Mutex
	conns map[net.Conn]bool
}

// New makes a proxy.
func New(o Options) (*Proxy, error) {
	if o.Upstream == nil || o.Upstream.Host == "" {
		return nil, errors.New("intercept: no upstream address")
	}
	if o.Mode != Learn && o.Mode != Detect && o.Mode != Block {
		return nil, errors.New("intercept: the mode is neither learn, detect nor block: " + string(o.Mode))
	}
	o.Limits = o.Limits.withDefaults()
	p := &Proxy{o: o, transport: upstream(o.Upstream), slots: make(chan struct{}, o.Limits.Connections), accepted: make(chan net.Conn), conns: map[net.Conn]bool{}}
	p.second = p.server2()
	p.policy.Store(&Policy{Mode: o.Mode, Exceptions: o.Exceptions, Patches: o.Patches, Portrait: o.Portrait})
	return p, nil
}

// Change puts another policy in force, for the next request on.
func (p *Proxy) Change(to Policy) { p.policy.Store(&to) }

// Counts are what came by since the proxy began.
type Counts struct{ Requests, Blocked, Detected uint64 }

// Counts may be asked at any time.
func (p *Proxy) Counts() Counts {
	return Counts{p.requests.Load(), p.blocked.Load(), p.detected.Load()}
}

// upstream speaks to the application. HTTP/2 without TLS is spoken only where it is asked for: nothing tells beforehand
// who understands it.
func upstream(u *url.URL) *http.Transport {
	t := &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 0, // long polling waits as long as the application likes
		DisableCompression:    true,
		Protocols:             new(http.Protocols),
	}
	if u.Scheme == "h2c" {
		t.Protocols.SetUnencryptedHTTP2(true)
		return t
	}
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(u.Scheme == "https")
	return t
}

// way is how the requests of one connection reach the application.
type way struct {
	transport *http.Transport
	upstream  *url.URL
	from      atomic.Pointer[netip.AddrPort] // inline: the address that the application sees
}

// wayOf opens a way of its own for a connection that was steered here: the application is to see this client. TLS is
// carried past; then there is no way.
func (p *Proxy) wayOf(c net.Conn, br *bufio.Reader) (w *way, end func()) {
	client, local := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	if isTLS(br) {
		if up, err := p.dial(client, local); err == nil {
			past(c, br, up)
		}
		return nil, nil
	}
	scheme := "http"
	if first, err := br.Peek(3); err == nil && string(first) == preface[:3] {
		scheme = "h2c" // it speaks to this client, so it knows HTTP/2
	}
	u := &url.URL{Scheme: scheme, Host: local.String()}
	t := upstream(u)
	t.MaxIdleConnsPerHost = 1
	w = &way{transport: t, upstream: u}
	t.DialContext = func(context.Context, string, string) (net.Conn, error) {
		c, err := p.dial(client, local)
		if err == nil {
			from := addrPort(c.LocalAddr())
			w.from.Store(&from)
		}
		return c, err
	}
	return w, t.CloseIdleConnections
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	from := t.AddrPort()
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// drain waits for connections to end, but not for long.
func (p *Proxy) drain(wait time.Duration) {
	for end := time.Now().Add(wait); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p.lock.Lock()
		n := len(p.conns)
		p.lock.Unlock()
		if n == 0 {
			return
		}
	}
}

// Serve accepts connections until ctx ends.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	p.second.start.Do(func() { all.Go(func() { p.serve2(ctx) }) })
	all.Go(func() {
		<-ctx.Done()
		_ = l.Close()
		p.closeAll()
	})
	for {
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors: others will end
			<-p.slots
			time.Sleep(20 * time.Millisecond)
			continue
		}
		all.Go(func() {
			defer func() { <-p.slots }()
			p.connection(ctx, c)
		})
	}
}

func (p *Proxy) track(c net.Conn) func() {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.conns[c] = true
	return func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		delete(p.conns, c)
	}
}

func (p *Proxy) closeAll() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// survive ends one connection where a mistake of ours would end all: the process may be the agent.
func (p *Proxy) survive() {
	if mistake := recover(); mistake != nil && mistake != http.ErrAbortHandler { //nolint:errorlint // a value of panic, not a chain
		p.o.Log.Error("a connection ended by a mistake of the firewall", "panic", mistake, "stack", string(debug.Stack()))
	}
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" // RFC 9113 §3.4

// connection finds out what a client speaks.
func (p *Proxy) connection(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer p.survive()
	defer p.track(c)()
	_ = c.SetReadDeadline(time.Now().Add(p.o.Limits.HeadTime))
	if p.o.TLS != nil {
		t := tls.Server(c, p.o.TLS)
		if t.HandshakeContext(ctx) != nil {
			return
		}
		c = t
	}
	br := bufio.NewReaderSize(c, p.o.Limits.Head)
	to := &way{transport: p.transport, upstream: p.o.Upstream}
	if p.dial != nil {
		own, end := p.wayOf(c, br)
		if own == nil {
			return
		}
		defer end()
		to = own
	}
	if first, err := br.Peek(3); err != nil || string(first) != preface[:3] {
		p.serve1(ctx, c, br, to)
		return
	}
	if start, err := br.Peek(len(preface)); err == nil && string(start) == preface {
		p.hand2(ctx, c, br, to)
	}
}
