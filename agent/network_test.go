package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/sensor/first"
)

const toPay = "apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: pay}\nspec:\n  for: {workload: docker/web}\n  egress:\n  - to: [{name: '*.example.org'}]\n"

func networkState() *pb.NetworkState {
	return &pb.NetworkState{
		Generation: 2, Segments: []*pb.Segment{{Name: "pay", State: "enforced", Document: toPay}},
		Workloads: []*pb.WorkloadAddresses{
			{Workload: "shop/deployment/api/main", Namespace: "shop", Labels: map[string]string{"app": "api"}, Labelled: true, Addresses: []string{"10.1.0.1", "fd00::1"}, Ports: []*pb.NamedPort{{Name: "http", Protocol: "tcp", Port: 8080}}, Ported: true},
			{Workload: "docker/gone", Addresses: []string{"10.2.0.7"}},
		},
		Namespaces: []*pb.NamespaceLabels{{Name: "shop", Labels: map[string]string{"team": "shop"}}, {Name: "lab"}},
		Hosts:      []*pb.HostAddresses{{Node: "b", Addresses: []string{"192.0.2.2"}}},
		Services:   []*pb.NetworkService{{Protocol: 6, Address: "10.96.0.1", Port: 80, Backends: []string{"10.1.0.1:8080", "nonsense"}}, {Address: "nonsense"}},
	}
}

// TestNetworkNow: what the control plane said and what the node sees are one, and the node knows its own better.
func TestNetworkNow(t *testing.T) {
	n, local := newNetwork(), newAddresses()
	if err := n.take(networkState()); err != nil {
		t.Fatal(err)
	}
	local.containers["1"] = located{workload: "docker/web", list: addrs("10.2.0.7"), container: bulkhead.Container{Engine: "docker", Labels: map[string]string{"app": "web"}}}
	n.hear([]first.Answer{{Name: "pay.example.org", Addr: netip.MustParseAddr("203.0.113.7")}, {Name: "evil.test", Addr: netip.MustParseAddr("203.0.113.8")}}, time.Now())
	got := n.now(local)
	want := map[netip.Addr][]bulkhead.Endpoint{}
	for text, ends := range map[string][]bulkhead.Endpoint{
		"10.1.0.1": {{Kind: bulkhead.EndWorkload, Name: "shop/deployment/api/main"}}, "fd00::1": {{Kind: bulkhead.EndWorkload, Name: "shop/deployment/api/main"}},
		"10.2.0.7": {{Kind: bulkhead.EndWorkload, Name: "docker/web"}}, "192.0.2.2": {{Kind: bulkhead.EndHost, Name: "b"}},
		"203.0.113.7": {{Kind: bulkhead.EndWorld, Name: "pay.example.org"}, {Kind: bulkhead.EndWorld, Name: "203.0.113.7"}},
	} {
		want[netip.MustParseAddr(text)] = ends
	}
	if d := cmp.Diff(want, got.Places, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if got.Known.Namespaces[0].Labels["team"] != "shop" || got.Known.Namespaces[1].Labels == nil {
		t.Errorf("namespaces: %+v", got.Known.Namespaces)
	}
	labels := map[string]map[string]string{}
	for _, w := range got.Known.Workloads {
		labels[w.Name] = w.Labels
		if known := w.Ports != nil; known != (w.Namespace == "shop") {
			t.Errorf("the ports of %s: %v", w.Name, w.Ports)
		}
	}
	if d := cmp.Diff(map[string]map[string]string{"shop/deployment/api/main": {"app": "api"}, "docker/web": {"app": "web"}, "docker/gone": nil}, labels); d != "" {
		t.Error(d)
	}
	if len(got.Services) != 1 || len(got.Services[0].Backends) != 1 || !got.Needed() {
		t.Errorf("services: %+v", got.Services)
	}
	n.forget(time.Now().Add(2 * namedFor))
	if _, still := n.now(local).Places[netip.MustParseAddr("203.0.113.7")]; still {
		t.Error("a name is kept for ever")
	}
}

// TestNetworkTake: what cannot be read changes nothing, and neither does what is older.
func TestNetworkTake(t *testing.T) {
	n := newNetwork()
	if err := n.take(networkState()); err != nil {
		t.Fatal(err)
	}
	bad := networkState()
	bad.Generation, bad.Segments[0].Document = 3, "kind: Segment"
	if n.take(bad) == nil || n.generation() != 2 {
		t.Error("a document that cannot be read is in force")
	}
	if err := n.take(&pb.NetworkState{Generation: 1}); err != nil || n.generation() != 2 || len(n.enforced) != 1 {
		t.Error("an older state replaced a newer one")
	}
	staged := networkState()
	staged.Generation, staged.Segments[0].State = 4, "staged"
	if err := n.take(staged); err != nil || len(n.enforced) != 0 || len(n.staged) != 1 {
		t.Errorf("staged: %d in force, %d staged, %v", len(n.enforced), len(n.staged), err)
	}
}
