package enforce

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"bulkhead"
	"bulkhead/bpf"
)

// Cut is a connection or a listening port that was there before the policy that does not allow it.
type Cut struct {
	PID      int
	Listens  bool
	Protocol string
	Address  netip.Addr // of the peer; of this side when it listens
	Port     int
}

// cut ends what the container's processes had opened and a new policy does not allow: the kernel's hooks see a
// connection only when it is made. Only sockets that a process of the container has open are looked at: an
// engine's resolver, another container of the pod, or the host may live in the same network namespace.
// MPTCP sockets stay: the kernel ends them for nobody but their process.
func (e *Enforcer) cut(w *ward, k compiled) error { return e.cutWhere(w, k.keeps, e.options.Cut) }

// cutWhere ends the container's sockets that are not to be kept.
func (e *Enforcer) cutWhere(w *ward, keeps func(socket, map[uint16]bool) bool, tell func(bulkhead.Container, Cut)) error {
	var errs []error
	for _, group := range networks(filepath.Join(e.options.CgroupRoot, w.container.Cgroup)) {
		list, err := inNetwork(group.pid, func() ([]Cut, error) { return cutSockets(keeps, group.owners) })
		if err != nil {
			errs = append(errs, fmt.Errorf("cutting connections of %s: %w; the policy is in force for new ones", describe(w.container), err))
		}
		for _, c := range list {
			e.options.Log.Info("cut what the new policy does not allow", "container", w.container.ID, "protocol", c.Protocol, "address", c.Address, "port", c.Port, "listens", c.Listens)
			if tell != nil {
				tell(w.container, c)
			}
		}
	}
	return errors.Join(errs...)
}

// network is one network namespace of a container's processes, and who has which socket open.
type network struct {
	pid    int            // a process in it
	owners map[uint32]int // inode of a socket → process
}

func networks(cgroup string) map[uint64]network {
	all := map[uint64]network{}
	_ = filepath.WalkDir(cgroup, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for line := range strings.Lines(string(b)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
				addSockets(all, pid)
			}
		}
		return nil
	})
	return all
}

func addSockets(all map[uint64]network, pid int) {
	dir := "/proc/" + strconv.Itoa(pid)
	var st syscall.Stat_t
	if syscall.Stat(dir+"/ns/net", &st) != nil {
		return
	}
	n, ok := all[st.Ino]
	if !ok {
		n = network{pid, map[uint32]int{}}
		all[st.Ino] = n
	}
	fds, _ := os.ReadDir(dir + "/fd")
	for _, fd := range fds {
		target, _ := os.Readlink(dir + "/fd/" + fd.Name())
		if inode, ok := socketInode(target); ok {
			n.owners[inode] = pid
		}
	}
}

// socketInode reads "socket:[123]".
func socketInode(target string) (uint32, bool) {
	text, ok := strings.CutPrefix(target, "socket:[")
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
	return uint32(n), ok && err == nil
}

// inNetwork runs f in the network namespace of a process, on a thread of its own that ends with it.
func inNetwork(pid int, f func() ([]Cut, error)) (list []Cut, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is in another namespace and must not be used again
		ns, oerr := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if oerr != nil {
			return // the process has ended, and its sockets with it
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("entering the network namespace of process %d: %w", pid, err)
			return
		}
		list, err = f()
	}()
	<-done
	return list, err
}

const (
	stateListen  = 10
	liveStates   = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<stateListen | 1<<11 // all but TIME_WAIT, CLOSE and those without an owner
	datagrams    = 1 << 1                                                                  // connected ones
	diagRequest  = 56                                                                      // struct inet_diag_req_v2
	diagMessage  = 72                                                                      // struct inet_diag_msg
	destroySock  = 21                                                                      // SOCK_DESTROY
	diagByFamily = 20                                                                      // SOCK_DIAG_BY_FAMILY
)

// socket is one that the kernel told about: struct inet_diag_msg.
type socket struct {
	family, state, protocol uint8
	id                      [48]byte // as it has to be given back
	from, to                netip.AddrPort
	inode                   uint32
}

func cutSockets(keeps func(socket, map[uint16]bool) bool, owners map[uint32]int) ([]Cut, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("asking for sockets: %w", err)
	}
	defer unix.Close(fd)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	var all []socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for protocol, states := range map[uint8]uint32{unix.IPPROTO_TCP: liveStates, unix.IPPROTO_UDP: datagrams} {
			list, err := dumpSockets(fd, family, protocol, states)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	listening := map[uint16]bool{}
	for _, s := range all {
		if s.state == stateListen {
			listening[s.from.Port()] = true
		}
	}
	var list []Cut
	var errs []error
	for _, s := range all {
		pid, ours := owners[s.inode]
		if !ours || keeps(s, listening) {
			continue
		}
		switch err := destroy(fd, s); {
		case err == nil:
			list = append(list, cutOf(s, pid))
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL): // gone meanwhile; an MPTCP listener, which only its process can end
			errs = append(errs, fmt.Errorf("ending %v → %v: %w", s.from, s.to, err))
		}
	}
	return list, errors.Join(errs...)
}

func cutOf(s socket, pid int) Cut {
	c := Cut{PID: pid, Protocol: "tcp", Listens: s.state == stateListen, Address: s.to.Addr(), Port: int(s.to.Port())}
	if s.protocol == unix.IPPROTO_UDP {
		c.Protocol = "udp"
	}
	if c.Listens {
		c.Address, c.Port = s.from.Addr(), int(s.from.Port())
	}
	return c
}

// keeps says whether the policy allows a socket. A connection that came in has the port that was listened on, and
// is allowed as that is; whom it came from is not the policy's question.
func (k compiled) keeps(s socket, listening map[uint16]bool) bool {
	named, any := k.listens(s.protocol, s.from.Port())
	switch {
	case named:
		return true
	case s.protocol == unix.IPPROTO_TCP && listening[s.from.Port()]:
		return any
	case !s.to.Addr().IsValid() || s.to.Addr().IsUnspecified():
		return true // no peer: its datagrams are looked at one by one
	}
	for _, p := range k.peers {
		if p.Protocol == s.protocol && (p.Port == 0 || p.Port == s.to.Port()) && p.Range.Contains(s.to.Addr()) {
			return true
		}
	}
	return false
}

// listens says whether a port is in the policy by its number, and whether as one of the ephemeral range.
func (k compiled) listens(protocol uint8, port uint16) (named, any bool) {
	for _, e := range k.entries {
		if e.Kind == bpf.PolicyListen && e.Hash>>16 == uint64(protocol) {
			named = named || uint16(e.Hash) == port
			any = any || uint16(e.Hash) == 0 && port >= 32768
		}
	}
	return named && port != 0, any
}

func dumpSockets(fd int, family, protocol uint8, states uint32) ([]socket, error) {
	body := make([]byte, diagRequest)
	body[0], body[1] = family, protocol
	binary.NativeEndian.PutUint32(body[4:], states)
	if err := send(fd, diagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, body); err != nil {
		return nil, err
	}
	var list []socket
	err := answers(fd, func(b []byte) {
		if s, ok := parseSocket(b); ok {
			s.protocol = protocol
			list = append(list, s)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing sockets: %w", err)
	}
	return list, nil
}

func parseSocket(b []byte) (socket, bool) {
	if len(b) < diagMessage {
		return socket{}, false
	}
	s := socket{family: b[0], state: b[1], id: [48]byte(b[4:52]), inode: binary.NativeEndian.Uint32(b[68:])}
	s.from = netip.AddrPortFrom(diagAddress(s.family, s.id[4:20]), binary.BigEndian.Uint16(s.id[0:]))
	s.to = netip.AddrPortFrom(diagAddress(s.family, s.id[20:36]), binary.BigEndian.Uint16(s.id[2:]))
	return s, true
}

func diagAddress(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET {
		b = b[:4]
	}
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

// destroy ends a socket as an administrator may: its process sees an error, a TCP peer a reset.
func destroy(fd int, s socket) error {
	body := make([]byte, diagRequest)
	body[0], body[1] = s.family, s.protocol
	binary.NativeEndian.PutUint32(body[4:], 1<<s.state)
	copy(body[8:], s.id[:])
	if err := send(fd, destroySock, unix.NLM_F_REQUEST|unix.NLM_F_ACK, body); err != nil {
		return err
	}
	return answers(fd, func([]byte) {})
}

func send(fd int, kind, flags uint16, body []byte) error {
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	binary.NativeEndian.PutUint32(b[0:], uint32(unix.NLMSG_HDRLEN+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	return unix.Sendto(fd, append(b, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// answers reads until the kernel says that it is done, or what went wrong.
func answers(fd int, each func([]byte)) error {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return err
		}
		for b := buffer[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("the kernel's answer is cut off")
			}
			body := b[unix.NLMSG_HDRLEN:size]
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return nil
			case unix.NLMSG_ERROR:
				return answerError(body)
			default:
				each(body)
			}
			b = b[min(len(b), (size+3)&^3):]
		}
	}
}

func answerError(body []byte) error {
	if len(body) < 4 {
		return errors.New("the kernel's answer is cut off")
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return syscall.Errno(-code)
	}
	return nil
}
