package intercept

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TapOptions say whose packets are read.
type TapOptions struct {
	Namespace string // of its network, as /proc/PID/ns/net
	Ports     []uint16
	Proxy     Options // all but Upstream; Mode is Learn or Detect
}

// Tap judges the requests of a running workload by the packets that carry them. It is in nobody's way, refuses nothing, and
// adds nothing to an answer's time. It sees connections that begin after it, HTTP/1; TLS where the workload's programs read
// it through OpenSSL's library.
type Tap struct {
	proxy *Proxy
	ports []uint16
	file  *os.File
	log   *slog.Logger
	done  sync.WaitGroup

	tls *tapTLS // nil where the kernel does not let libraries be looked into

	lock   sync.Mutex
	conns  map[tapKey]*tapConn
	missed atomic.Uint64 // packets that the kernel had no room for, and streams with holes
}

type tapKey struct{ from, to netip.AddrPort }

type tapConn struct {
	*stream
	seen time.Time
}

const (
	tapConns = 4096            // at once; the one that was silent longest is forgotten
	tapIdle  = 5 * time.Minute // without a packet
	tapRing  = 16 << 20        // bytes of packets that wait
)

// NewTap begins to read.
func NewTap(o TapOptions) (*Tap, error) {
	if o.Proxy.Mode == Block {
		return nil, errors.New("intercept: a tap refuses nothing")
	}
	ns, err := enterNamespace(o.Namespace)
	if err != nil {
		return nil, err
	}
	defer ns.close()
	info, err := ns.file.Stat()
	if err != nil {
		return nil, err
	}
	number := info.Sys().(*syscall.Stat_t).Ino //nolint:errcheck,forcetypeassert // what Linux has
	t := &Tap{ports: o.Ports, log: o.Proxy.Log, conns: map[tapKey]*tapConn{}}
	var fd int
	if err := ns.do(func() (err error) { fd, err = packetSocket(o.Ports); return err }); err != nil {
		return nil, fmt.Errorf("reading the packets of a network namespace: %w", err)
	}
	t.file = os.NewFile(uintptr(fd), "packets")
	o.Proxy.Upstream = &url.URL{Scheme: "http", Host: "workload"}
	if t.proxy, err = New(o.Proxy); err != nil {
		return nil, errors.Join(err, t.file.Close())
	}
	t.proxy.tap = true
	t.done.Go(t.read)
	if t.tls, err = newTapTLS(number, t.log, t.watch); err != nil {
		t.log.Warn("TLS is not looked into", "error", err)
	}
	return t, nil
}

// packetSocket opens a socket that packets to these ports come to, without what is before IP.
func packetSocket(ports []uint16) (int, error) {
	all := int(htons(unix.ETH_P_ALL))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0) // protocol 0: nothing comes before the filter is there
	if err != nil {
		return 0, err
	}
	filter := tapFilter(ports)
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}) //nolint:gosec // at most some hundred
	if err == nil {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapRing) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, tapRing) // as much as may be
		}
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all)}) //nolint:gosec // 16 bits
	}
	if err != nil {
		_ = unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// tapFilter is a program of the classic kind: TCP that comes in, to one of the ports.
func tapFilter(ports []uint16) []unix.SockFilter {
	const (
		word, half, octet = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		besides           = 0xfffff000 // what the kernel knows of a packet (SKF_AD_OFF of linux/filter.h)
		equal, give       = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	)
	match := func() (list []unix.SockFilter) {
		for _, p := range ports {
			list = append(list, unix.SockFilter{Code: equal, Jf: 1, K: uint32(p)}, unix.SockFilter{Code: give, K: 1 << 18})
		}
		return append(list, unix.SockFilter{Code: give})
	}
	four := append([]unix.SockFilter{
		{Code: octet, K: 9},
		{Code: equal, Jt: 1, K: unix.IPPROTO_TCP},
		{Code: give},
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 2},
	}, match()...)
	six := append([]unix.SockFilter{{Code: octet, K: 6}, {Code: equal, Jt: 1, K: unix.IPPROTO_TCP}, {Code: give}, {Code: half, K: 42}}, match()...)
	begin := []unix.SockFilter{
		{Code: word, K: besides + 4 /* its kind */},
		{Code: equal, Jf: 1, K: unix.PACKET_OUTGOING},
		{Code: give},
		{Code: word, K: besides /* its protocol */},
		{Code: equal, Jf: uint8(len(four)), K: unix.ETH_P_IP}, //nolint:gosec // 32 ports at most
	}
	return slices.Concat(begin, four, six)
}

func (t *Tap) read() {
	raw, err := t.file.SyscallConn()
	if err != nil {
		return
	}
	b := make([]byte, 256<<10) // a packet that the sender's system has not cut yet
	swept := time.Now()
	for {
		var n int
		var rerr error
		if err := raw.Read(func(fd uintptr) bool {
			n, _, rerr = unix.Recvfrom(int(fd), b, 0)
			return !errors.Is(rerr, unix.EAGAIN)
		}); err != nil {
			return // closed
		}
		if rerr != nil && !errors.Is(rerr, unix.ENETDOWN) && !errors.Is(rerr, unix.EINTR) && !errors.Is(rerr, unix.ENOBUFS) {
			t.log.Warn("packets are not read any more", "error", rerr)
			return
		}
		if p, ok := parsePacket(b[:max(n, 0)]); ok && slices.Contains(t.ports, p.to.Port()) {
			t.packet(p)
		}
		if now := time.Now(); now.Sub(swept) > tapIdle/10 {
			swept = now
			t.sweep(now)
		}
	}
}

// packet is a TCP segment.
type packet struct {
	from, to      netip.AddrPort
	seq           uint32
	syn, fin, rst bool
	data          []byte
}

// parsePacket reads a packet that begins with IP. Fragments and options beyond IP's own are not put together.
func parsePacket(b []byte) (p packet, ok bool) {
	if len(b) < 20 {
		return p, false
	}
	var from, to netip.Addr
	switch b[0] >> 4 {
	case 4:
		head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
		if total == 0 || total > len(b) { // a packet that is cut by the device later has no length
			total = len(b)
		}
		if head < 20 || head > total || b[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			return p, false
		}
		from, to, b = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[head:total]
	case 6:
		if len(b) < 40 || b[6] != unix.IPPROTO_TCP {
			return p, false
		}
		total := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if total == 40 || total > len(b) {
			total = len(b)
		}
		from, to, b = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[40:total]
	default:
		return p, false
	}
	if len(b) < 20 {
		return p, false
	}
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b) {
		return p, false
	}
	flags := b[13]
	return packet{
		from: netip.AddrPortFrom(from, binary.BigEndian.Uint16(b)), to: netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:])), seq: binary.BigEndian.Uint32(b[4:]),
		syn: flags&2 != 0, fin: flags&1 != 0, rst: flags&4 != 0, data: b[head:],
	}, true
}

func (t *Tap) packet(p packet) {
	k := tapKey{p.from, p.to}
	t.lock.Lock()
	defer t.lock.Unlock()
	c := t.conns[k]
	switch {
	case p.syn:
		if c != nil && c.next == p.seq+1 {
			return // the same again
		}
		t.forget(k)
		t.begin(k, p.seq)
		return
	case c == nil:
		return // it began before us
	}
	c.seen = time.Now()
	if p.rst {
		t.forget(k)
		return
	}
	c.put(p.seq, p.data, p.fin)
	if p.fin {
		delete(t.conns, k) // what comes late is lost; its reader goes on to the end
	}
}

// begin and forget are called with the lock held.
func (t *Tap) begin(k tapKey, syn uint32) {
	if len(t.conns) >= tapConns {
		t.forget(t.oldest())
	}
	c := &tapConn{newStream(syn), time.Now()}
	t.conns[k] = c
	t.done.Go(func() {
		t.watch(c.stream, k.from.String())
		if c.lost() {
			t.missed.Add(1)
		}
	})
}

func (t *Tap) watch(s *stream, client string) {
	defer t.proxy.survive()
	t.proxy.watch(s, client)
}

func (t *Tap) forget(k tapKey) {
	if c := t.conns[k]; c != nil {
		c.end()
		delete(t.conns, k)
	}
}

func (t *Tap) oldest() (found tapKey) {
	var at time.Time
	for k, c := range t.conns {
		if at.IsZero() || c.seen.Before(at) {
			found, at = k, c.seen
		}
	}
	return found
}

func (t *Tap) sweep(now time.Time) {
	t.lock.Lock()
	for k, c := range t.conns {
		if now.Sub(c.seen) > tapIdle {
			t.forget(k)
		}
	}
	t.lock.Unlock()
	if raw, err := t.file.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				t.missed.Add(uint64(s.Drops))
			}
		})
	}
}

// Missed is how many packets and streams were not looked at as they came.
func (t *Tap) Missed() uint64 {
	n := t.missed.Load()
	if t.tls != nil {
		n += t.tls.missed.Load() + t.tls.reads.Missed()
	}
	return n
}

// Change puts another policy in force, for the next request on.
func (t *Tap) Change(to Policy) { t.proxy.Change(to) }

// Counts are what came by.
func (t *Tap) Counts() Counts { return t.proxy.Counts() }

// Flights are none: a tap does not know when an answer has come back.
func (t *Tap) Flights(time.Time, time.Duration) []Flight { return nil }

// Detach ends reading.
func (t *Tap) Detach() error {
	err := t.file.Close()
	t.lock.Lock()
	defer t.lock.Unlock()
	for k := range t.conns {
		t.forget(k)
	}
	if t.tls != nil {
		err = errors.Join(err, t.tls.close())
		t.tls = nil
	}
	return err
}

// Drain waits for what is being judged.
func (t *Tap) Drain(time.Duration) { t.done.Wait() }

// Leave is Detach and Drain.
func (t *Tap) Leave() error {
	err := t.Detach()
	t.done.Wait()
	return err
}

// watch judges the requests of one direction of a connection, as serve1 does.
func (p *Proxy) watch(s io.Reader, client string) {
	br := bufio.NewReaderSize(s, p.o.Limits.Head)
	if first, err := br.Peek(3); isTLS(br) || err == nil && string(first) == preface[:3] {
		return // it cannot be read, or is HTTP/2
	}
	for {
		head, err := peekHead(br, p.o.Limits.Head)
		if err != nil {
			return
		}
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		req.RemoteAddr = client
		j := p.judge(req, head, req.Body)
		if j.refused.Load() != nil { // where it ends is not known
			j.end()
			return
		}
		_, err = io.Copy(io.Discard, j.body)
		j.end()
		if err != nil || headerHas(req.Header["Connection"], "upgrade") && req.Header.Get("Upgrade") != "" {
			return
		}
	}
}
