package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/bpf"
)

// translations know whom this host connects when it rewrites addresses: a cluster's service, a published port, a source that
// it hides behind its own address. The kernel tells of each translated connection as it begins, and of no other.
type translations struct {
	mu       sync.Mutex
	behind   map[seenAs]*others // what a client sees → who answers it
	before   map[seenAs]*others // what a server sees → who asks it
	services map[service]*others
	lost     uint64
}

// seenAs is a connection as one end sees it, without the client's port.
type seenAs struct {
	protocol uint8
	own      netip.Addr
	peer     netip.Addr
	port     uint16 // the server's, as this end sees it
}

type service struct {
	protocol uint8
	address  netip.AddrPort
}

// others are who is really at the other end, with how many connections since somebody looked.
type others struct {
	count map[netip.AddrPort]uint64
	seen  map[netip.AddrPort]time.Time
	at    time.Time
}

const (
	maxTranslations = 50_000
	maxOthers       = 1000 // of one
	translatedFor   = 30 * time.Minute
)

func newTranslations() *translations {
	return &translations{behind: map[seenAs]*others{}, before: map[seenAs]*others{}, services: map[service]*others{}}
}

// translation is one connection that the host rewrites: as the client sees it, and as the server does.
type translation struct {
	protocol         uint8
	client, asked    netip.AddrPort
	server, answered netip.AddrPort // who answers, and to whom
}

func (t *translations) add(x translation, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.asked != x.server {
		note(t, t.behind, seenAs{x.protocol, x.client.Addr(), x.asked.Addr(), x.asked.Port()}, x.server, now)
		note(t, t.services, service{x.protocol, x.asked}, x.server, now)
	}
	if x.client.Addr() != x.answered.Addr() {
		note(t, t.before, seenAs{x.protocol, x.server.Addr(), x.answered.Addr(), x.server.Port()}, netip.AddrPortFrom(x.client.Addr(), x.server.Port()), now)
	}
}

func note[K comparable](t *translations, all map[K]*others, key K, who netip.AddrPort, now time.Time) {
	o := all[key]
	if o == nil {
		if len(all) >= maxTranslations {
			t.lost++
			return
		}
		o = &others{count: map[netip.AddrPort]uint64{}, seen: map[netip.AddrPort]time.Time{}}
		all[key] = o
	}
	if _, have := o.seen[who]; !have && len(o.seen) >= maxOthers {
		t.lost++
		return
	}
	o.count[who]++
	o.seen[who], o.at = now, now
}

// resolve puts the true other end in place of what a container sees. An edge to a service with several backends becomes as
// many, by how many connections went to each.
func (t *translations) resolve(own []netip.Addr, f bpf.Flow, now time.Time) []bpf.Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.behind
	if f.Role == bpf.FlowServer {
		all = t.before
	}
	for _, a := range own {
		if o := all[seenAs{f.Protocol, a, f.Peer(), f.Port}]; o != nil {
			o.at = now
			return o.split(f)
		}
	}
	return []bpf.Flow{f}
}

func (o *others) split(f bpf.Flow) []bpf.Flow {
	var total uint64
	for _, n := range o.count {
		total += n
	}
	var last netip.AddrPort
	for who, at := range o.seen {
		if !last.IsValid() || at.After(o.seen[last]) || at.Equal(o.seen[last]) && who.Compare(last) < 0 {
			last = who
		}
	}
	if total == 0 { // no new connection: it is an old one
		return []bpf.Flow{f.With(last.Addr(), last.Port())}
	}
	var list []bpf.Flow
	rest := f
	for who, n := range o.count {
		if n > 0 {
			part := f.Part(n, total)
			rest.Take(part)
			list = append(list, part.With(who.Addr(), who.Port()))
		}
	}
	list[0].Give(rest) // what rounding left
	return list
}

// turn forgets the counts once they are used, and what was not used for a while.
func (t *translations) turn(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, all := range []map[seenAs]*others{t.behind, t.before} {
		for key, o := range all {
			clear(o.count)
			if now.Sub(o.at) > translatedFor {
				delete(all, key)
			}
		}
	}
	for key, o := range t.services {
		clear(o.count)
		for who, at := range o.seen {
			if now.Sub(at) > translatedFor && len(o.seen) > 1 {
				delete(o.seen, who)
			}
		}
		if now.Sub(o.at) > 24*time.Hour {
			delete(t.services, key)
		}
	}
}

// report lists the addresses that were translated, with those who answered.
func (t *translations) report() (list []*pb.NetworkService) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, o := range t.services {
		m := &pb.NetworkService{Protocol: uint32(key.protocol), Address: key.address.Addr().String(), Port: uint32(key.address.Port())}
		for who := range o.seen {
			m.Backends = append(m.Backends, who.String())
		}
		slices.Sort(m.Backends)
		list = append(list, m)
	}
	slices.SortFunc(list, func(x, y *pb.NetworkService) int {
		return slices.Compare([]string{x.Address, fmt.Sprintf("%5d %3d", x.Port, x.Protocol)}, []string{y.Address, fmt.Sprintf("%5d %3d", y.Port, y.Protocol)})
	})
	return list
}

// followTranslations hears of translated connections until ctx ends.
func (a *Agent) followTranslations(ctx context.Context) error {
	fd, err := translationSocket()
	if err != nil {
		a.problem("translations", fmt.Sprintf("services and published ports are not resolved to who answers: %v; the kernel needs CONFIG_NF_CT_NETLINK", err))
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(fd, unix.SHUT_RDWR) })
	defer unix.Close(fd)
	defer stop()
	buffer := make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // they came too fast
			a.translations.mu.Lock()
			a.translations.lost++
			a.translations.mu.Unlock()
			continue
		case err != nil && ctx.Err() == nil:
			a.problem("translations", "hearing of translated connections: "+err.Error())
			return nil
		}
		now := time.Now()
		for _, x := range readTranslations(buffer[:max(n, 0)]) {
			a.translations.add(x, now)
		}
	}
	return nil
}

// Numbers of nfnetlink's connection tracking.
const (
	groupNew     = 1 // NFNLGRP_CONNTRACK_NEW
	subsystem    = 1 // NFNL_SUBSYS_CTNETLINK
	messageNew   = subsystem << 8
	messageGet   = subsystem<<8 | 1
	attrOriginal = 1
	attrReply    = 2
	attrStatus   = 3
	translated   = 0x10 | 0x20 // IPS_SRC_NAT, IPS_DST_NAT
)

// translationSocket hears of new connections that are translated, and begins with those that are there. A filter in the kernel
// drops all others, which would be one message for each connection of the host.
func translationSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_IMM, K: unix.NLMSG_HDRLEN + 4},            // the first attribute …
		{Code: unix.BPF_LDX | unix.BPF_IMM, K: attrStatus},                      // … from which to look for the status
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 0xfffff000 + 12},     // SKF_AD_NLATTR
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 4},           // there is none
		{Code: unix.BPF_MISC | unix.BPF_TAX},                                    //
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_IND, K: 4},                   // its value, behind its head
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: translated, Jf: 1}, //
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},                        //
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attaching a filter: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (groupNew - 1)}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// readTranslations reads messages of the kernel; what is cut off or not understood is left out.
func readTranslations(b []byte) (list []translation) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return list
		}
		if binary.NativeEndian.Uint16(b[4:]) == messageNew && size >= unix.NLMSG_HDRLEN+4 {
			if x, ok := readTranslation(b[unix.NLMSG_HDRLEN+4 : size]); ok {
				list = append(list, x)
			}
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return list
}

func readTranslation(b []byte) (x translation, ok bool) {
	var status uint32
	parts := 0
	attributes(b, func(kind uint16, value []byte) {
		switch {
		case kind == attrOriginal:
			x.protocol, x.client, x.asked = readTuple(value)
			parts++
		case kind == attrReply:
			_, x.server, x.answered = readTuple(value)
			parts++
		case kind == attrStatus && len(value) >= 4:
			status = binary.BigEndian.Uint32(value)
		}
	})
	valid := x.client.IsValid() && x.asked.IsValid() && x.server.IsValid() && x.answered.IsValid()
	return x, parts == 2 && valid && status&translated != 0
}

// attributes goes through a list of netlink attributes.
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:size])
		b = b[min(len(b), (size+3)&^3):]
	}
}

// readTuple reads source and destination of one direction; protocols without ports have port 0.
func readTuple(b []byte) (protocol uint8, from, to netip.AddrPort) {
	var src, dst netip.Addr
	var ports [2]uint16
	attributes(b, func(kind uint16, value []byte) {
		attributes(value, func(part uint16, v []byte) {
			switch {
			case kind == 1 && (part == 1 || part == 3):
				src, _ = netip.AddrFromSlice(v)
			case kind == 1 && (part == 2 || part == 4):
				dst, _ = netip.AddrFromSlice(v)
			case kind == 2 && part == 1 && len(v) == 1:
				protocol = v[0]
			case kind == 2 && (part == 2 || part == 3) && len(v) == 2:
				ports[part-2] = binary.BigEndian.Uint16(v)
			}
		})
	})
	return protocol, netip.AddrPortFrom(src.Unmap(), ports[0]), netip.AddrPortFrom(dst.Unmap(), ports[1])
}
