package topology

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/topology/truth"
)

func matrix(six bool) (pods []truth.Pod, record *Record) {
	record = &Record{}
	for _, namespace := range truth.Namespaces {
		record.Namespaces = append(record.Namespaces, Namespace{namespace, map[string]string{"ns": namespace}})
	}
	for _, p := range truth.Pods(six) {
		if pods = append(pods, p); p.Namespace == "" {
			continue
		}
		record.Workloads = append(record.Workloads, Workload{
			Name: p.Workload(), Labels: p.Labels(), Addresses: addrs(p.Address),
			Ports: []NamedPort{{"serve-80-tcp", "tcp", 80}, {"serve-81-udp", "udp", 81}},
		})
	}
	return pods, record
}

func endpointOf(p truth.Pod) bulkhead.Endpoint {
	if p.Namespace == "" {
		return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: p.Address}
	}
	return workload(p.Workload())
}

// TestTruthTable: every set of policies is judged by this engine, as it is lowered for the kernel, and by the text of the API.
func TestTruthTable(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) {
			t.Parallel()
			pods, record := matrix(six)
			b := &bench{t: t, pods: pods, book: record.Book()}
			for set := range truth.Sets(six) {
				b.compare(set...)
			}
			t.Logf("%d sets of policies, %d connections judged twice, %d of them pass", b.sets, b.judged, b.passed)
		})
	}
}

type bench struct {
	t                    *testing.T
	pods                 []truth.Pod
	book                 *Book
	sets, judged, passed int
}

func (b *bench) compare(texts ...string) {
	b.t.Helper()
	d, err := ReadPolicies("p.json", strings.NewReader(`{"apiVersion":"v1","kind":"List","items":[`+strings.Join(texts, ",")+`]}`), "default")
	if err != nil {
		b.t.Fatalf("%s: %v", texts, err)
	}
	second, err := truth.NewJudge(texts)
	if err != nil {
		b.t.Fatal(err)
	}
	b.sets++
	judge, grid := NewJudge(d.Policies, b.book), NewGrid(d.Policies, b.book, "node")
	for _, from := range b.pods {
		for _, to := range b.pods {
			alone := len(texts) == 1 && from.Namespace != d.Policies[0].Namespace && to.Namespace != d.Policies[0].Namespace
			if from.Namespace == "" && to.Namespace == "" || from == to || alone {
				continue
			}
			for _, port := range truth.Ports {
				got := judge.Edge(bulkhead.Edge{Source: endpointOf(from), Destination: endpointOf(to), Protocol: port.Protocol, Port: port.Number}).Fit
				want := second.Passes(from, to, port)
				if b.judged++; want {
					b.passed++
				}
				if lowered := gridPasses(grid, from, to, port); lowered != want {
					b.t.Fatalf("%v -> %v %v: lowered for the kernel %v, by the text of the API %v, under\n%s", from, to, port, lowered, want, strings.Join(texts, "\n"))
				}
				if got == Maybe || (got == Yes) != want {
					b.t.Fatalf("%v -> %v %v: judged %v, by the text of the API %v, under\n%s", from, to, port, got, want, strings.Join(texts, "\n"))
				}
			}
		}
	}
}

// gridPasses asks as a kernel does: is the direction closed, and is there an opening.
func gridPasses(g *Grid, from, to truth.Pod, port truth.Port) bool {
	side := func(own, other truth.Pod, ingress bool) bool {
		if own.Namespace == "" || !g.Closed(own.Workload(), ingress) {
			return true
		}
		who := Party{Ends: []bulkhead.Endpoint{endpointOf(other)}, Address: netip.MustParseAddr(other.Address)}
		if other.Namespace == "" { // the kernel knows the network of an address of the world, and no more
			who.Network, who.Address = g.Network(who.Address), netip.Addr{}
		}
		return slices.ContainsFunc(g.Openings(own.Workload(), ingress, who), func(o Opening) bool { return o.Has(port.Protocol, port.Number) })
	}
	return side(from, to, false) && side(to, from, true)
}
