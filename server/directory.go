package server

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
)

const (
	maxLabels   = 512       // of one workload; an engine allows fewer
	maxServices = 20_000    // of one report
	seenEvery   = time.Hour // how often what did not change is stored again, so that it is not forgotten
	maxBackends = 1000      // of one service
)

// directory knows which workload or node is at an address, by cluster: what nodes said last.
type directory struct {
	mu    sync.Mutex
	nodes map[string]*nodeEntry
	ends  map[at]bulkhead.Endpoint
	fed   map[string]*pb.PutInventoryRequest // what clusters say, by their names
}

type at struct {
	cluster string
	addr    netip.Addr
}

type located map[at]bulkhead.Endpoint

// nodeEntry is what one node said last.
type nodeEntry struct {
	cluster   string
	report    *pb.FlowReport // its addresses and services alone
	addresses located
	stored    time.Time
}

func newDirectory() *directory {
	return &directory{nodes: map[string]*nodeEntry{}, ends: map[at]bulkhead.Endpoint{}, fed: map[string]*pb.PutInventoryRequest{}}
}

// learn takes what a node said last about its addresses in place of what it said before, and reports whether it is news.
func (d *directory) learn(r *pb.FlowReport) (news, store bool) {
	said := &pb.FlowReport{Addresses: r.Addresses, NodeAddresses: r.NodeAddresses, Services: r.Services}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.nodes[r.Node]
	if old != nil && old.cluster == r.Cluster && proto.Equal(old.report, said) {
		store = time.Since(old.stored) > seenEvery
		if store {
			old.stored = time.Now()
		}
		return false, store
	}
	fresh := addressesOf(r)
	if old != nil {
		for key, e := range old.addresses {
			if d.ends[key] == e {
				delete(d.ends, key)
			}
		}
	}
	d.nodes[r.Node] = &nodeEntry{r.Cluster, said, fresh, time.Now()}
	maps.Copy(d.ends, fresh)
	return true, true
}

func addressesOf(r *pb.FlowReport) located {
	fresh := located{}
	add := func(text string, e bulkhead.Endpoint) {
		if a, err := netip.ParseAddr(text); err == nil && len(fresh) < maxAddresses {
			fresh[at{r.Cluster, a.Unmap()}] = e
		}
	}
	for _, a := range r.NodeAddresses {
		add(a, bulkhead.Endpoint{Kind: bulkhead.EndHost, Name: api.Text(r.Node)})
	}
	for _, w := range r.Addresses {
		for _, a := range w.Addresses {
			add(a, bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: api.Text(w.Workload)})
		}
	}
	return fresh
}

func (d *directory) find(cluster string, a netip.Addr) (bulkhead.Endpoint, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.ends[at{cluster, a}]
	return e, ok
}

// hosts are the nodes of a cluster, or of all, with their addresses.
func (d *directory) hosts(cluster string) map[string][]netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := map[string][]netip.Addr{}
	for node, e := range d.nodes {
		if cluster == "" || e.cluster == cluster {
			list[api.Text(node)] = parsed(e.report.NodeAddresses)
		}
	}
	return list
}

// clusters are the nodes by cluster.
func (d *directory) clusters() map[string][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := map[string][]string{}
	for node, e := range d.nodes {
		list[e.cluster] = append(list[e.cluster], node)
	}
	for _, nodes := range list {
		slices.Sort(nodes)
	}
	return list
}

// state is where everybody of a cluster is, in an order that does not change by itself.
func (d *directory) state(cluster string) *pb.NetworkState {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := &pb.NetworkState{}
	services := map[string]*pb.NetworkService{}
	for _, node := range slices.Sorted(maps.Keys(d.nodes)) {
		e := d.nodes[node]
		if e.cluster != cluster {
			continue
		}
		out.Workloads = append(out.Workloads, e.report.Addresses...)
		out.Hosts = append(out.Hosts, &pb.HostAddresses{Node: node, Addresses: e.report.NodeAddresses})
		for _, s := range e.report.Services {
			addService(services, s)
		}
	}
	d.addFed(cluster, out, services)
	for _, key := range slices.Sorted(maps.Keys(services)) {
		out.Services = append(out.Services, services[key])
	}
	return out
}

func serviceKey(s *pb.NetworkService) string {
	return strings.Join([]string{protocolName(s.Protocol), s.Address, text(s.Port)}, " ")
}

// addService joins the backends that several nodes saw.
func addService(all map[string]*pb.NetworkService, s *pb.NetworkService) {
	key := serviceKey(s)
	have := all[key]
	if have == nil {
		all[key] = proto.CloneOf(s)
		return
	}
	for _, b := range s.Backends {
		if !slices.Contains(have.Backends, b) && len(have.Backends) < maxBackends {
			have.Backends = append(have.Backends, b)
		}
	}
	slices.Sort(have.Backends)
}

// learn takes where a node's workloads are, and stores what outlives them.
func (s *Server) learn(ctx context.Context, r *pb.FlowReport) (moved bool, err error) {
	if len(r.Addresses) > maxAddresses || len(r.Services) > maxServices {
		r.Addresses, r.Services = r.Addresses[:min(len(r.Addresses), maxAddresses)], r.Services[:min(len(r.Services), maxServices)]
	}
	for _, w := range r.Addresses {
		tidy(w)
	}
	moved, keep := s.directory.learn(r)
	if !keep {
		return moved, nil
	}
	now := time.Now()
	var list []store.Located
	for _, w := range r.Addresses {
		if w.Workload == "" || len(w.Workload) > 1024 {
			continue
		}
		l := store.Located{Cluster: api.Text(r.Cluster), Workload: api.Text(w.Workload), Namespace: api.Text(w.Namespace), Addresses: w.Addresses, Seen: now}
		if w.Labelled {
			l.Labels = w.Labels
		}
		list = append(list, l)
	}
	var services []store.Service
	for _, v := range r.Services {
		services = append(services, store.Service{
			Cluster: api.Text(r.Cluster), Protocol: uint8(v.Protocol), Address: api.Text(v.Address), Port: uint16(v.Port), Backends: v.Backends[:min(len(v.Backends), maxBackends)], Seen: now,
		})
	}
	said, err := protojson.Marshal(&pb.FlowReport{Node: r.Node, Cluster: r.Cluster, Addresses: r.Addresses, NodeAddresses: r.NodeAddresses, Services: r.Services})
	return moved, cmp.Or(err, s.db.Locate(ctx, list), s.db.Serve(ctx, services), s.db.Place(ctx, store.NodePlace{Node: r.Node, Cluster: r.Cluster, Report: string(said), Seen: now}))
}

// placesFor is how long a node that is not heard of is taken to be where it was.
const placesFor = 24 * time.Hour

// recall fills the directory with what nodes said before this control plane started.
func (s *Server) recall(ctx context.Context) error {
	places, err := s.db.Places(ctx, time.Now().Add(-placesFor))
	for _, p := range places {
		r := &pb.FlowReport{}
		if jerr := fromJSON.Unmarshal([]byte(p.Report), r); jerr != nil {
			s.log.Warn("where a node's workloads are cannot be read", "node", p.Node, "err", jerr)
			continue
		}
		s.directory.learn(r)
	}
	return cmp.Or(err, s.recallInventories(ctx))
}

// tidy bounds what a node says of a workload.
func tidy(w *pb.WorkloadAddresses) {
	if len(w.Labels) > maxLabels {
		w.Labels, w.Labelled = nil, false
	}
	labels := make(map[string]string, len(w.Labels))
	for k, v := range w.Labels {
		labels[api.Text(k)] = api.Text(v)
	}
	if w.Labelled {
		w.Labels = labels
	}
	slices.Sort(w.Addresses)
}
