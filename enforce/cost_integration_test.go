//go:build integration

package enforce

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/topology"
)

// pair are two pods with nothing between them but a bridge; the kernel counts for both, and holds both to a wall, as it is told to.
type pair struct {
	kernel         *bpf.Kernel
	client, server *testPod
}

const serverAddress, clientAddress = "10.0.1.2", "10.0.1.1"

func newPair(t testing.TB, mode string) *pair {
	t.Helper()
	root, wire := cgroup2(t), hub(t)
	p := &pair{
		client: newPod(t, root, wire, bulkhead.Workload{Name: "x/pod/a/main", Namespace: "x"}, clientAddress),
		server: newPod(t, root, wire, bulkhead.Workload{Name: "x/pod/b/main", Namespace: "x"}, serverAddress),
	}
	if mode == "off" {
		return p
	}
	var err error
	if p.kernel, err = bpf.Load(bpf.Options{CgroupRoot: root}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kernel.Close)
	if err := p.kernel.CountFlows(mode != "loaded"); err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{Kernel: p.kernel, CgroupRoot: root})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range []*testPod{p.client, p.server} {
		if err := e.Attach(pod.Container); err != nil {
			t.Fatal(err)
		}
	}
	if mode != "wall" {
		return p
	}
	d, err := topology.ReadPolicies("p", strings.NewReader(strings.ReplaceAll(onlyB, "    ports: [tcp/80, icmp, icmpv6]\n", "    ports: [tcp/80]\n")), "x")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Enforced: d.Policies, Known: &topology.Record{}, Places: map[netip.Addr][]bulkhead.Endpoint{}}
	for _, pod := range []*testPod{p.client, p.server} {
		n.Known.Workloads = append(n.Known.Workloads, topology.Workload{Name: pod.Workload.Name, Namespace: "x"})
	}
	for a, pod := range map[string]*testPod{clientAddress: p.client, serverAddress: p.server} {
		n.Places[netip.MustParseAddr(a)] = []bulkhead.Endpoint{{Kind: bulkhead.EndWorkload, Name: pod.Workload.Name}}
	}
	if err := e.Segment(n); err != nil {
		t.Fatal(err)
	}
	return p
}

// BenchmarkNetwork: loads between two containers with the programs off, loaded but not counting, counting, and enforcing. Both
// ends are counted, which of a request from outside only one is. Run it on a quiet machine, several times.
func BenchmarkNetwork(b *testing.B) {
	for _, load := range []string{"requests", "connections", "stream"} {
		for _, mode := range []string{"off", "loaded", "count", "wall"} {
			b.Run(load+"/"+mode, func(b *testing.B) {
				p := newPair(b, mode)
				p.client.load(b, load, serverAddress, 200)
				b.ResetTimer()
				took := p.client.load(b, load, serverAddress, max(b.N, 2))
				b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns/op")
			})
		}
	}
}

// TestNothingIsLost: as many connections as this machine makes, and each is counted; and what 100,000 edges take of the kernel's memory.
func TestNothingIsLost(t *testing.T) {
	p := newPair(t, "count")
	const connections = 100_000
	took := p.client.load(t, "connections", serverAddress, connections)
	var opened [3]uint64
	var resent uint64
	for range 2 { // the table that was written, and the other
		list, err := p.kernel.Flows()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			opened[f.Role] += f.Opened
			resent += f.Resent
		}
	}
	t.Logf("%d connections in %v: %.0f a second", connections, took.Round(time.Millisecond), connections/took.Seconds())
	// Where the server's queue was full a SYN is sent again, and is another one to the server.
	if opened[bpf.FlowClient] != connections || opened[bpf.FlowServer] < connections || opened[bpf.FlowServer] > connections+resent {
		t.Errorf("counted %v, %d segments were sent again", opened, resent)
	}
	const edges = 100_000
	inside(t, p.client.PID, "ip route add local 198.18.0.0/15 dev lo") // they go out of the socket, and nowhere
	p.client.load(t, "peers", serverAddress, edges)
	memory := mapMemory(t)
	list, err := p.kernel.Flows()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range list {
		if f.Protocol == 17 {
			n++
		}
	}
	lost, _ := p.kernel.FlowsLost()
	t.Logf("%d edges: the maps take %d KiB; %d packets found no room", n, memory>>10, lost)
	if n+int(lost) < edges || memory > 64<<20 {
		t.Errorf("%d edges and %d lost of %d, %d bytes", n, lost, edges, memory)
	}
}

// mapMemory is what the maps of flows and walls take, as the kernel says: those of this process.
func mapMemory(t *testing.T) (sum int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fdinfo")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, fd := range fds {
		text, _ := os.ReadFile("/proc/self/fdinfo/" + fd.Name())
		var id, size int
		for line := range strings.Lines(string(text)) {
			_, _ = fmt.Sscanf(line, "memlock: %d", &size)
			_, _ = fmt.Sscanf(line, "map_id: %d", &id)
		}
		if id != 0 && !seen[id] {
			seen[id] = true
			sum += size
		}
	}
	return sum
}
