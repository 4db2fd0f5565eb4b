package enforce

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead"
)

func TestKeeps(t *testing.T) {
	k := compile(hasher, bulkhead.Profile{
		Listens: []bulkhead.Port{{Protocol: "tcp", Port: 80}, {Protocol: "tcp", Port: 0}},
		Peers: []bulkhead.Peer{
			{Protocol: "tcp", Port: 443, CIDR: "10.0.0.0/8"},
			{Protocol: "udp", Port: 0, CIDR: "2001:db8::/32"},
		},
	}, nowhere)
	listening := map[uint16]bool{80: true, 4444: true, 40000: true}
	tcp := func(from, to string) socket {
		return socket{protocol: unix.IPPROTO_TCP, state: 1, from: netip.MustParseAddrPort(from), to: netip.MustParseAddrPort(to)}
	}
	udp := func(from, to string) socket { s := tcp(from, to); s.protocol = unix.IPPROTO_UDP; return s }
	listen := func(at string) socket { s := tcp(at, "0.0.0.0:0"); s.state = stateListen; return s }
	for _, test := range []struct {
		name string
		s    socket
		want bool
	}{
		{"came in at an allowed port", tcp("172.17.0.2:80", "203.0.113.9:51000"), true},
		{"came in at a port outside", tcp("172.17.0.2:4444", "203.0.113.9:51000"), false},
		{"came in at an ephemeral port", tcp("172.17.0.2:40000", "203.0.113.9:51000"), true},
		{"its port is no longer listened on", tcp("172.17.0.2:5555", "203.0.113.9:51000"), false},
		{"went to a peer", tcp("172.17.0.2:50000", "10.1.2.3:443"), true},
		{"went to another port of a peer", tcp("172.17.0.2:50000", "10.1.2.3:80"), false},
		{"went elsewhere", tcp("172.17.0.2:50000", "203.0.113.9:443"), false},
		{"went elsewhere over v6", tcp("[2001:db8::2]:50000", "[2001:db8::3]:443"), false},
		{"datagrams to a peer", udp("[2001:db8::2]:50000", "[2001:db8::3]:53"), true},
		{"datagrams elsewhere", udp("172.17.0.2:50000", "9.9.9.9:53"), false},
		{"datagrams to nobody in particular", udp("0.0.0.0:50000", "0.0.0.0:0"), true},
		{"listens at an allowed port", listen("0.0.0.0:80"), true},
		{"listens at a port outside", listen("0.0.0.0:4444"), false},
	} {
		if got := k.keeps(test.s, listening); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestSocketInode(t *testing.T) {
	for text, want := range map[string]uint32{"socket:[123]": 123, "socket:[]": 0, "pipe:[123]": 0, "/tmp/socket:[1]": 0, "socket:[99999999999]": 0, "": 0} {
		if got, ok := socketInode(text); ok && got != want || ok != (want != 0) {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}

// TestDump finds this test's own connections among all; it needs no privilege.
func TestDump(t *testing.T) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		t.Skip("no sock_diag here:", err)
	}
	defer unix.Close(fd)
	mine := map[uint64]network{}
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Log("no", address, err)
			continue
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clear(mine)
		addSockets(mine, os.Getpid())
		family := uint8(unix.AF_INET)
		if c.RemoteAddr().(*net.TCPAddr).IP.To4() == nil {
			family = unix.AF_INET6
		}
		list, err := dumpSockets(fd, family, unix.IPPROTO_TCP, liveStates)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, s := range list {
			for _, n := range mine {
				if n.owners[s.inode] == os.Getpid() && s.from.String() == c.LocalAddr().String() && s.to.String() == c.RemoteAddr().String() {
					found = true
				}
			}
		}
		if !found {
			t.Errorf("%v → %v is not among the %d sockets of this machine", c.LocalAddr(), c.RemoteAddr(), len(list))
		}
	}
}

func FuzzParseSocket(f *testing.F) {
	f.Add(make([]byte, diagMessage))
	f.Add([]byte{unix.AF_INET6, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseSocket(b); ok {
			compiled{}.keeps(s, nil)
		}
	})
}
