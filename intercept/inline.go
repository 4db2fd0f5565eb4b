package intercept

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/bpf"
)

// InlineOptions say which connections of a running workload are looked at.
type InlineOptions struct {
	Namespace string   // of its network, as /proc/PID/ns/net
	Ports     []uint16 // that its application listens on
	Closed    bool     // when the proxy dies nobody gets through; else everybody, directly
	Pin       string   // a file on a BPF file system, which Closed needs
	Proxy     Options  // all but Upstream
}

// Inline is a proxy in the path of a workload's connections, which neither the workload nor its clients see: the
// application keeps its address, port and the addresses of its clients. Connections that exist when it begins and ends
// are kept.
type Inline struct {
	ns        *namespace
	steering  *bpf.Steering
	proxy     *Proxy
	listeners [2]net.Listener
	stop      context.CancelFunc
	done      sync.WaitGroup
	log       *slog.Logger
}

// beats is how often the kernel is told that the proxy is alive; it forgets after 240 ms.
const beats = 50 * time.Millisecond

// NewInline begins to steer connections.
func NewInline(o InlineOptions) (*Inline, error) {
	if o.Closed && o.Pin == "" {
		return nil, errors.New("intercept: staying closed needs a file on a BPF file system")
	}
	ns, err := enterNamespace(o.Namespace)
	if err != nil {
		return nil, err
	}
	i := &Inline{ns: ns, log: o.Proxy.Log}
	if err := i.begin(o); err != nil {
		i.end()
		return nil, err
	}
	return i, nil
}

func (i *Inline) begin(o InlineOptions) error {
	var fds [2]int
	err := i.ns.do(func() error {
		if err := answersToUs(); err != nil {
			return err
		}
		return i.listen(&fds)
	})
	if err != nil {
		return err
	}
	o.Proxy.Upstream = &url.URL{Scheme: "http", Host: "workload"}
	if i.proxy, err = New(o.Proxy); err != nil {
		return err
	}
	i.proxy.dial = i.dial
	i.steering, err = bpf.Steer(bpf.SteerOptions{Namespace: int(i.ns.file.Fd()), Listeners: fds, Ports: o.Ports, Closed: o.Closed, Pin: o.Pin})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.done.Go(func() { i.beat(ctx) })
	for _, l := range i.listeners {
		if l != nil {
			i.done.Go(func() { _ = i.proxy.Serve(ctx, l) })
		}
	}
	return nil
}

// listen opens the listeners that connections are steered to. Nobody else finds them: they are on the loopback device,
// on ports of chance.
func (i *Inline) listen(fds *[2]int) error {
	config := net.ListenConfig{}
	config.SetMultipathTCP(false) // a socket map takes none
	for n, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := config.Listen(context.Background(), "tcp", address)
		if err != nil && n == 1 {
			return nil // no IPv6 here
		}
		if err != nil {
			return fmt.Errorf("listening beside the application: %w", err)
		}
		i.listeners[n] = l
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err != nil {
			return fmt.Errorf("listening beside the application: %w", err)
		}
		_ = raw.Control(func(fd uintptr) { fds[n] = int(fd) })
	}
	return nil
}

func (i *Inline) beat(ctx context.Context) {
	tick := time.NewTicker(beats)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := i.steering.Beat(); err != nil {
				i.log.Error("steering lost", "error", err)
			}
		}
	}
}

// Close lets new connections go to the application directly, then waits a moment for those that are under way.
func (i *Inline) Close() error {
	err := i.Detach()
	i.Drain(2 * time.Second)
	return err
}

// Detach lets new connections go to the application directly. Those that are under way are carried on, and looked at no
// more; then it is for Drain to end them.
func (i *Inline) Detach() error {
	err := i.steering.Detach()
	i.proxy.Change(Policy{Mode: Off})
	return err
}

// Drain waits until what was under way has ended, but no longer than that, and ends.
func (i *Inline) Drain(wait time.Duration) {
	i.proxy.drain(wait)
	i.end()
	_ = i.steering.Close() // it is detached already
}

// Leave ends as by death: connections that were to stay closed without a proxy do.
func (i *Inline) Leave() error {
	err := i.steering.Leave()
	i.proxy.drain(time.Second)
	i.end()
	return err
}

// Change puts another policy in force, for the next request on.
func (i *Inline) Change(to Policy) { i.proxy.Change(to) }

// Flights are the requests that were under way at a time, or had ended no longer than so before.
func (i *Inline) Flights(at time.Time, before time.Duration) []Flight {
	return i.proxy.Flights(at, before)
}

// Counts are what came by.
func (i *Inline) Counts() Counts { return i.proxy.Counts() }

func (i *Inline) end() {
	for _, l := range i.listeners {
		if l != nil {
			_ = l.Close()
		}
	}
	if i.stop != nil {
		i.stop()
	}
	i.done.Wait()
	i.ns.close()
}

// Dials from borrowed addresses use ports that clients' systems do not pick by themselves.
const (
	firstPort, lastPort = 10000, 31999
	attempts            = 16
)

// dial connects to the application as the client whose connection was steered: from its address, another port.
func (i *Inline) dial(client, local netip.AddrPort) (net.Conn, error) {
	var fd int
	err := i.ns.do(func() (err error) {
		fd, err = i.connect(client.Addr(), local)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the application: %w", err)
	}
	f := os.NewFile(uintptr(fd), "application")
	defer f.Close()
	return net.FileConn(f)
}

func (i *Inline) connect(from netip.Addr, to netip.AddrPort) (int, error) {
	family, level, transparent := unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
	if from.Is6() {
		family, level, transparent = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, option := range [][3]int{{level, transparent, 1}, {unix.SOL_SOCKET, unix.SO_MARK, mark}, {unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.SOL_TCP, unix.TCP_NODELAY, 1}} {
		err = errors.Join(err, unix.SetsockoptInt(fd, option[0], option[1], option[2]))
	}
	// No TIME_WAIT piles up inside the workload, and a connection that cannot stand is known soon.
	err = errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2}))
	if err == nil {
		err = i.connectFrom(fd, from, to)
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func (i *Inline) connectFrom(fd int, from netip.Addr, to netip.AddrPort) error {
	var err error
	for range attempts {
		source := netip.AddrPortFrom(from, uint16(firstPort+rand.IntN(lastPort-firstPort+1))) //nolint:gosec // nobody has to not guess it
		if err = unix.Bind(fd, sockaddr(source)); errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return err
		}
		if err = i.steering.Own(source); err != nil {
			return err
		}
		err = unix.Connect(fd, sockaddr(to))
		i.steering.Disown(source)
		return err
	}
	return err
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// isTLS says whether a connection begins as TLS does: it cannot be looked into, and passes as it is.
func isTLS(br *bufio.Reader) bool {
	first, err := br.Peek(1)
	return err == nil && first[0] == 0x16
}

// past carries a connection that is not looked into.
func past(c net.Conn, br *bufio.Reader, up net.Conn) {
	defer up.Close()
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(up, br)
		if t, ok := up.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
		close(done)
	}()
	_, _ = io.Copy(c, up)
	_ = c.Close()
	<-done
}
