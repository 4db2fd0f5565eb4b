package drill

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// world is all that a victim can talk to: listeners of this program in the container's own network
// namespace, which has no other way out. It remembers what it was told.
type world struct {
	canary string
	tool   []byte // a program that can be downloaded
	open   []io.Closer

	mu    sync.Mutex
	heard strings.Builder
}

// mostHeard bounds what is remembered of a talkative container.
const mostHeard = 8 << 20

// talker answers at a connection.
type talker func(w *world, c net.Conn)

// neighbourhood says who lives where. The tools in drill/target know the same addresses.
var neighbourhood = map[string]talker{
	"10.96.0.20:5432": friend, "10.96.0.21:22": login, "10.96.0.21:6379": login,
	"192.0.2.66:4444": shellOwner, "192.0.2.66:4446": sink, "192.0.2.66:3333": pool, "192.0.2.66:8443": pool,
}

var webs = []string{
	"169.254.169.254:80", "10.96.0.1:6443", "10.96.0.9:10250", "10.96.0.9:10255", "10.96.0.8:2379", "10.96.0.7:2375", "10.96.0.5:5000",
	"10.96.0.20:8080", "198.51.100.10:80", "192.0.2.66:8080", "192.0.2.66:443",
}

var datagrams = []string{"192.0.2.66:53", "10.96.0.10:53", "10.96.0.21:9"}

// friends are addresses that an ordinary application talks to: they have no secrets.
var friends = []string{"10.96.0.20:", "198.51.100.10:"}

// listenEngine begins a world with what looks like a container engine's socket.
func listenEngine(socket, canary string, tool []byte) (*world, error) {
	w := &world{canary: canary, tool: tool}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("open the drill's engine socket: %w", err)
	}
	w.web(l, "engine")
	return w, os.Chmod(socket, 0o666)
}

// surround opens everything in the network namespace of a process.
func (w *world) surround(pid int) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		done <- w.openInside(pid)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("open the drill's network around process %d: %w", pid, err)
	}
	return nil
}

func (w *world) openInside(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter its network namespace: %w", err)
	}
	if err := addAddresses(); err != nil {
		return err
	}
	for address, talk := range neighbourhood {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		w.keep(l)
		go w.serve(l, talk)
	}
	for _, address := range webs {
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		w.web(l, address)
	}
	for _, address := range datagrams {
		c, err := net.ListenPacket("udp4", address)
		if err != nil {
			return err
		}
		w.keep(c)
		go w.names(c)
	}
	return nil
}

// addAddresses gives the loopback device the addresses of all listeners.
func addAddresses() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	have := map[string]bool{}
	for _, a := range addresses() {
		ip := netip.MustParseAddrPort(a).Addr()
		if have[ip.String()] {
			continue
		}
		have[ip.String()] = true
		request, err := unix.NewIfreq(fmt.Sprintf("lo:%d", len(have)))
		if err != nil {
			return err
		}
		b := ip.As4()
		if err := request.SetInet4Addr(b[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, request); err != nil {
			return fmt.Errorf("give the loopback device %s: %w", ip, err)
		}
		if err := request.SetInet4Addr([]byte{255, 255, 255, 255}); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, request); err != nil {
			return fmt.Errorf("give the loopback device %s: %w", ip, err)
		}
	}
	return nil
}

func addresses() []string {
	all := append(append([]string{}, webs...), datagrams...)
	for a := range sorted(neighbourhood) {
		all = append(all, a)
	}
	return all
}

func (w *world) keep(c io.Closer) { w.open = append(w.open, c) }

func (w *world) close() error {
	var errs []error
	for _, c := range w.open {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (w *world) hear(where, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.heard.Len() < mostHeard {
		fmt.Fprintf(&w.heard, "%s %s\n", where, what)
	}
}

// told reports whether anybody was told a text.
func (w *world) told(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.heard.String(), text)
}

func (w *world) serve(l net.Listener, talk talker) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(2 * time.Second))
			talk(w, c)
		}()
	}
}

// line reads what a caller says first.
func line(c net.Conn) string {
	text, _ := bufio.NewReader(io.LimitReader(c, 4096)).ReadString('\n')
	return strings.TrimSpace(text)
}

func friend(w *world, c net.Conn) {
	if line(c) != "" {
		fmt.Fprintln(c, "ok")
	}
}

// login lets those in who know one of the two passwords that everybody tries.
func login(w *world, c net.Conn) {
	said := line(c)
	w.hear(c.LocalAddr().String(), said)
	switch {
	case said == "":
	case strings.Contains(said, "admin:admin"), strings.Contains(said, "toor"):
		fmt.Fprintln(c, "welcome", w.canary)
	default:
		fmt.Fprintln(c, "denied")
	}
}

// shellOwner asks who calls to work something out that only a shell would.
func shellOwner(w *world, c net.Conn) {
	fmt.Fprint(c, "echo shell $((6*7)) $T\nexit\n")
	said, _ := io.ReadAll(io.LimitReader(c, 4096))
	w.hear(c.LocalAddr().String(), string(said))
}

func sink(w *world, c net.Conn) {
	said, _ := io.ReadAll(io.LimitReader(c, 1<<20))
	w.hear(c.LocalAddr().String(), string(said))
}

func pool(w *world, c net.Conn) {
	w.hear(c.LocalAddr().String(), line(c))
	fmt.Fprintf(c, "{\"result\":{\"status\":\"OK\",\"job\":%q}}\n", w.canary)
}

// names answers datagrams, and hears a question for a name with its dots.
func (w *world) names(c net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(buffer)
		if err != nil {
			return
		}
		w.hear(c.LocalAddr().String(), printable(buffer[:n]))
		_, _ = c.WriteTo(buffer[:n], from)
	}
}

func printable(data []byte) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return '.'
	}, string(data))
}

// web answers requests at a listener; what is a secret's place says the canary.
func (w *world) web(l net.Listener, where string) {
	server := &http.Server{ReadTimeout: 3 * time.Second, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		w.hear(where, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		switch {
		case path.Base(r.URL.Path) == "tool":
			_, _ = out.Write(w.tool)
		case path.Base(r.URL.Path) == "x.sh":
			fmt.Fprintln(out, "echo ran $1")
		case isFriend(where):
			fmt.Fprintln(out, "fine")
		default:
			fmt.Fprintln(out, r.Method, r.URL.Path, w.canary)
		}
	})}
	w.keep(server)
	go func() { _ = server.Serve(l) }()
}

func isFriend(where string) bool {
	for _, f := range friends {
		if strings.HasPrefix(where, f) {
			return true
		}
	}
	return false
}
