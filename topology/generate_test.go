package topology

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"time"

	"bulkhead"
)

// cluster makes the record of a cluster that looks like one: namespaces, workloads with labels, a name server, clients
// from the world, calls to the world by name and by address, a node's probes, ping, ephemeral ports.
func cluster(seed uint64, workloads, edges int) *Record {
	r := rand.New(rand.NewPCG(seed, 1))
	to := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	rec := &Record{From: to.Add(-30 * 24 * time.Hour), To: to, Hosts: []Host{{Name: "node-a", Addresses: addrs("192.168.1.10", "fd00:1::10")}, {Name: "node-b"}}}
	for i := range max(1, workloads/10) {
		n := fmt.Sprintf("ns-%d", i)
		rec.Namespaces = append(rec.Namespaces, Namespace{Name: n, Labels: map[string]string{"env": []string{"prod", "test"}[i%2]}})
	}
	rec.Workloads = append(rec.Workloads, Workload{
		Name: "kube-system/deployment/coredns/coredns", Labels: map[string]string{"k8s-app": "kube-dns"}, Addresses: addrs("10.0.0.10", "fd00::10"),
	})
	for i := range workloads {
		rec.Workloads = append(rec.Workloads, someWorkload(r, rec, i))
	}
	seen := map[bulkhead.Edge]bool{}
	for tries := 0; len(rec.Flows) < edges && tries < edges*20; tries++ {
		e := someEdge(r, rec)
		if seen[e] {
			continue
		}
		seen[e] = true
		f := Flow{Flow: bulkhead.Flow{Edge: e}}
		f.Opened, f.BytesOut, f.BytesIn, f.PacketsIn = uint64(1+r.IntN(1000)), uint64(r.IntN(1e6)), uint64(r.IntN(1e6)), 5
		f.Established = f.Opened
		f.First, f.Last = rec.From, rec.To
		rec.Flows = append(rec.Flows, f)
	}
	return rec
}

func addrs(list ...string) (all []netip.Addr) {
	for _, s := range list {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func someWorkload(r *rand.Rand, rec *Record, i int) Workload {
	n := rec.Namespaces[r.IntN(len(rec.Namespaces))].Name
	w := Workload{Name: fmt.Sprintf("%s/deployment/app-%d/main", n, i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}}
	switch r.IntN(12) {
	case 0: // two of the same labels
		w.Labels = map[string]string{"app": "twin", "pod-template-hash": fmt.Sprint(i)}
	case 1: // labels not known
	case 2:
		w.Labels = map[string]string{"pod-template-hash": "x"}
	case 3:
		w.Labels = map[string]string{"tier": "web", "app.kubernetes.io/name": "shop", "app.kubernetes.io/instance": fmt.Sprint(i)}
	case 4: // no pod
		w.Name, w.Labels = fmt.Sprintf("docker/app-%d", i), map[string]string{"app": "docker"}
		if r.IntN(2) == 0 {
			w.Addresses = nil
		}
	default:
		w.Labels = map[string]string{"app": fmt.Sprintf("app-%d", i), "tier": []string{"web", "data"}[i%2], "pod-template-hash": "abc"}
	}
	return w
}

func someEdge(r *rand.Rand, rec *Record) bulkhead.Edge {
	one := func() bulkhead.Endpoint {
		return bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: rec.Workloads[r.IntN(len(rec.Workloads))].Name}
	}
	e := bulkhead.Edge{Cluster: "c", Source: one(), Destination: one(), Protocol: "tcp", Port: []uint16{80, 443, 5432, 6379, 8080, 9090}[r.IntN(6)]}
	switch r.IntN(16) {
	case 0:
		e.Destination, e.Protocol, e.Port = bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: rec.Workloads[0].Name}, "udp", 53
	case 1:
		e.Destination = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: fmt.Sprintf("api%d.example.org", r.IntN(20))}
	case 2:
		e.Destination = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: fmt.Sprintf("203.0.113.%d", r.IntN(250))}
	case 3:
		e.Source = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: fmt.Sprintf("198.51.%d.%d", r.IntN(50), r.IntN(250))}
	case 4:
		e.Source = bulkhead.Endpoint{Kind: bulkhead.EndHost, Name: []string{"node-a", "node-b"}[r.IntN(2)]}
	case 5:
		e.Destination, e.Port = bulkhead.Endpoint{Kind: bulkhead.EndHost, Name: []string{"node-a", "node-b"}[r.IntN(2)]}, 6443
	case 6:
		e.Destination = bulkhead.Endpoint{Kind: bulkhead.EndService, Name: fmt.Sprintf("10.96.0.%d", r.IntN(20))}
	case 7:
		e.Port = uint16(32768 + r.IntN(30000))
	case 8:
		e.Protocol, e.Port = []string{"icmp", "icmpv6", "47", "udp"}[r.IntN(4)], 0
	case 9:
		e.Destination = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: fmt.Sprintf("2001:db8::%x", 1+r.IntN(250))}
	case 10:
		e.Destination = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: []string{"*", "evil\": \nname", "10.9.8.7", "A.Example.ORG.", ""}[r.IntN(5)]}
	case 11:
		e.Source = bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: []string{"10.77.0.1", "fd00:77::1", "100.64.0.9"}[r.IntN(3)]}
	}
	return e
}

// hours makes so many edge-hours of a record, hour by hour, without keeping them.
func hours(r *Record, total int) iter.Seq[Hour] {
	first := hourOf(r.From)
	span := int32(r.To.Sub(r.From).Hours())
	return func(yield func(Hour) bool) {
		done := 0
		for h := range span {
			for i := range r.Flows {
				if done == total || !yield(Hour{int32(i), first + h, uint32(i % 100)}) {
					return
				}
				done++
			}
		}
	}
}
