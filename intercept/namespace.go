package intercept

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace that sockets are made in: a socket belongs for ever to the one of the thread that
// made it.
type namespace struct {
	file *os.File
	work chan func()
}

// dialers is how many connections to applications are begun at once.
const dialers = 4

// enterNamespace opens a namespace such as /proc/PID/ns/net, with threads in it.
func enterNamespace(path string) (*namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the network namespace: %w", err)
	}
	n := &namespace{file: f, work: make(chan func())}
	entered := make(chan error, dialers)
	for range dialers {
		go n.thread(entered)
	}
	var all error
	for range dialers {
		all = errors.Join(all, <-entered)
	}
	if all != nil {
		n.close()
		return nil, all
	}
	return n, nil
}

// thread never gives its system thread back: it ends with it.
func (n *namespace) thread(entered chan<- error) {
	runtime.LockOSThread()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		entered <- fmt.Errorf("entering the network namespace: %w", err)
		return
	}
	entered <- nil
	for f := range n.work {
		f()
	}
}

// do runs f on a thread in the namespace.
func (n *namespace) do(f func() error) error {
	done := make(chan error, 1)
	n.work <- func() { done <- f() }
	return <-done
}

func (n *namespace) close() {
	close(n.work)
	_ = n.file.Close()
}

// The mark of packets that belong to the proxy's side of a connection, and the routing table that brings them to it.
const (
	mark  = 0x6c37
	table = 0x6c37
)

// answersToUs makes the application's answers to borrowed addresses come to the proxy: what bears the mark is local, and
// the application's sockets take the mark over from the connections that they accept. It is there once, however often
// it is asked for.
func answersToUs() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fwmark_accept", []byte("1"), 0); err != nil {
		return fmt.Errorf("letting sockets take marks over: %w", err)
	}
	lo, err := loopback()
	if err != nil {
		return err
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for _, message := range [][]byte{ruleMessage(family), routeMessage(family, lo)} {
			if err := ask(message); err != nil && !errors.Is(err, unix.EEXIST) && (family == unix.AF_INET || !withoutIPv6(err)) {
				return fmt.Errorf("routing marked packets: %w", err)
			}
		}
	}
	return nil
}

// withoutIPv6 knows the answers of a namespace that has no IPv6, or has it switched off as engines do.
func withoutIPv6(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EACCES)
}

func loopback() (uint32, error) {
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("finding the loopback device: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return 0, fmt.Errorf("finding the loopback device: %w", err)
	}
	return r.Uint32(), nil
}

// netlink of rtnetlink(7): a header, a struct rtmsg (fib_rule_hdr has its size), attributes.
func netlink(kind, flags uint16, family byte, typ byte, attributes map[uint16]uint32, order ...uint16) []byte {
	body := []byte{family, 0, 0, 0, 0, 0, 0, typ, 0, 0, 0, 0}
	switch kind {
	case unix.RTM_NEWROUTE:
		body[5], body[6] = unix.RTPROT_STATIC, unix.RT_SCOPE_HOST
	}
	for _, id := range order {
		body = appendNative16(appendNative16(body, 8), id)
		body = appendNative32(body, attributes[id])
	}
	b := appendNative32(nil, uint32(16+len(body)))
	b = appendNative16(appendNative16(b, kind), unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	b = appendNative32(appendNative32(b, 1), 0)
	return append(b, body...)
}

// Attributes of linux/fib_rules.h.
const (
	fibRuleMark  = 10
	fibRuleTable = 15
	toTable      = 1
)

func ruleMessage(family byte) []byte {
	return netlink(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family, toTable, map[uint16]uint32{fibRuleMark: mark, fibRuleTable: table}, fibRuleMark, fibRuleTable)
}

func routeMessage(family byte, lo uint32) []byte {
	return netlink(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, family, unix.RTN_LOCAL, map[uint16]uint32{unix.RTA_OIF: lo, unix.RTA_TABLE: table}, unix.RTA_OIF, unix.RTA_TABLE)
}

func appendNative16(b []byte, v uint16) []byte {
	return append(b, (*[2]byte)(unsafe.Pointer(&v))[:]...)
}

func appendNative32(b []byte, v uint32) []byte {
	return append(b, (*[4]byte)(unsafe.Pointer(&v))[:]...)
}

// ask sends one message and reads the kernel's error number.
func ask(message []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	var b [4096]byte
	n, _, err := unix.Recvfrom(fd, b[:], 0)
	if err != nil {
		return err
	}
	if n < 20 {
		return errors.New("a short answer of the kernel")
	}
	if number := *(*int32)(unsafe.Pointer(&b[16])); number != 0 {
		return unix.Errno(-number)
	}
	return nil
}
