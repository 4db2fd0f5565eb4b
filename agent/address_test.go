package agent

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, text := range list {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

var sameAddress = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestAddressesFromTheKernelsTables(t *testing.T) {
	const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.2
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
Local:
  |-- 127.0.0.1
     /32 host LOCAL
  |-- 172.17.0.2
     /32 host LOCAL
`
	const inet6 = `00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000042acfffe110002 02 40 20 80     eth0
20010db8000000000000000000000002 02 40 00 80     eth0
short
zz010db8000000000000000000000002 02 40 00 80     eth0
`
	if d := cmp.Diff(addrs("172.17.0.2", "172.17.0.2"), localAddresses(strings.NewReader(trie)), sameAddress); d != "" {
		t.Errorf("IPv4 (-want +got):\n%s", d)
	}
	if d := cmp.Diff(addrs("2001:db8::2"), globalAddresses(strings.NewReader(inet6)), sameAddress); d != "" {
		t.Errorf("IPv6 (-want +got):\n%s", d)
	}
}

func TestWhoIsAtAnAddress(t *testing.T) {
	d := newAddresses()
	d.containers["1"] = located{workload: "docker/db", list: addrs("10.0.0.1")}
	d.containers["2"] = located{workload: "docker/db", list: addrs("10.0.0.2", "2001:db8::2")}
	d.containers["3"] = located{workload: "pod/a", list: addrs("10.0.0.3")}
	d.containers["4"] = located{workload: "pod/b", list: addrs("10.0.0.3")}
	for address, want := range map[string]string{
		"10.0.0.1": "docker/db", "2001:db8::2": "docker/db", "10.0.0.3": "", "10.0.0.9": "", "nonsense": "",
	} {
		if got := d.who(address); got != want {
			t.Errorf("%s is %q, want %q", address, got, want)
		}
	}
	d.forget("1")
	if d.who("10.0.0.1") != "" || len(d.of("docker/db")) != 2 {
		t.Errorf("after one ended: %q, %v", d.who("10.0.0.1"), d.of("docker/db"))
	}
}

// TestHostAddressesAreNobodys: a container in the host's network namespace is not found by the host's addresses.
func TestHostAddressesAreNobodys(t *testing.T) {
	if list := addressesOf(os.Getpid()); list != nil {
		t.Skipf("this test runs in a network namespace of its own: %v", list)
	}
}
