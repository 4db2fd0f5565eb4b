package server

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
	"bulkhead/topology"
)

// The bounds of an inventory: every node keeps it.
const (
	maxNamespaces = 20_000
	maxPortsEach  = 256
)

// PutInventory keeps what a cluster says, and has nodes judge by it.
func (g segmentService) PutInventory(ctx context.Context, r *connect.Request[pb.PutInventoryRequest]) (*connect.Response[pb.PutInventoryResponse], error) {
	said := proto.CloneOf(r.Msg)
	if err := checkInventory(said); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if !g.s.directory.feed(said) {
		return connect.NewResponse(&pb.PutInventoryResponse{}), nil
	}
	text, err := protojson.Marshal(said)
	if err == nil {
		err = g.s.db.PutInventory(ctx, store.Inventory{Cluster: said.Cluster, Said: string(text), At: time.Now()})
	}
	g.s.audit(ctx, "put inventory", short(said.Cluster), fmt.Sprintf("%d namespaces, %d workloads, %d services", len(said.Namespaces), len(said.Workloads), len(said.Services)), err)
	if err != nil {
		return nil, failure(g.s, err)
	}
	g.s.network.ask()
	return connect.NewResponse(&pb.PutInventoryResponse{}), nil
}

// checkInventory also makes its texts fit to be stored.
func checkInventory(r *pb.PutInventoryRequest) error {
	if r.Cluster == "" || len(r.Cluster) > maxID {
		return fmt.Errorf("an inventory names its cluster, in at most %d bytes", maxID)
	}
	if len(r.Namespaces) > maxNamespaces || len(r.Workloads) > maxAddresses || len(r.Services) > maxServices {
		return fmt.Errorf("an inventory has at most %d namespaces, %d workloads and %d services", maxNamespaces, maxAddresses, maxServices)
	}
	r.Cluster = api.Text(r.Cluster)
	for _, n := range r.Namespaces {
		if n.Name == "" || len(n.Name) > maxID || len(n.Labels) > maxLabels {
			return fmt.Errorf("namespace %.80q: a name of at most %d bytes and %d labels", n.Name, maxID, maxLabels)
		}
		labels := make(map[string]string, len(n.Labels))
		for k, v := range n.Labels {
			labels[api.Text(k)] = api.Text(v)
		}
		n.Name, n.Labels = api.Text(n.Name), labels
	}
	for _, w := range r.Workloads {
		if w.Workload == "" || len(w.Workload) > 1024 || len(w.Ports) > maxPortsEach {
			return fmt.Errorf("workload %.80q: a name of at most 1024 bytes and %d ports", w.Workload, maxPortsEach)
		}
		w.Workload = api.Text(w.Workload)
		for _, p := range w.Ports {
			if p.Port == 0 || p.Port > 65535 || p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "sctp" {
				return fmt.Errorf("workload %.80q: port %d of %.10q is none", w.Workload, p.Port, p.Protocol)
			}
			p.Name = api.Text(p.Name)
		}
	}
	for _, s := range r.Services {
		if _, err := netip.ParseAddr(s.Address); err != nil || s.Port > 65535 || s.Protocol > 255 || len(s.Backends) > maxBackends {
			return fmt.Errorf("service %.80q: an address, and at most %d backends", s.Address, maxBackends)
		}
		for _, b := range s.Backends {
			if _, err := netip.ParseAddrPort(b); err != nil {
				return fmt.Errorf("service %s: %.80q is no address with a port", s.Address, b)
			}
		}
	}
	return nil
}

// feed takes what a cluster says in place of what it said before, and reports whether it is news.
func (d *directory) feed(r *pb.PutInventoryRequest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.fed[r.Cluster]; old != nil && proto.Equal(old, r) {
		return false
	}
	d.fed[r.Cluster] = r
	return true
}

// addFed joins what nodes say with what their cluster says. The caller holds the lock; messages of nodes are not changed.
func (d *directory) addFed(cluster string, out *pb.NetworkState, services map[string]*pb.NetworkService) {
	fed := d.fed[cluster]
	if fed == nil {
		return
	}
	out.Namespaces = fed.Namespaces
	for _, s := range fed.Services {
		addService(services, s)
	}
	ports := portsOf(fed)
	for i, w := range out.Workloads {
		if list, known := ports[w.Workload]; known {
			w = proto.CloneOf(w)
			w.Ports, w.Ported = list, true
			out.Workloads[i] = w
		}
	}
}

func portsOf(fed *pb.PutInventoryRequest) map[string][]*pb.NamedPort {
	ports := make(map[string][]*pb.NamedPort, len(fed.Workloads))
	for _, w := range fed.Workloads {
		ports[w.Workload] = w.Ports
	}
	return ports
}

// inventories are those of a cluster, or of all where none is named.
func (d *directory) inventories(cluster string) (list []*pb.PutInventoryRequest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, fed := range d.fed {
		if cluster == "" || name == cluster {
			list = append(list, fed)
		}
	}
	return list
}

// fed adds the labels of namespaces and the names of ports to a record.
func (s *Server) fed(cluster string, r *topology.Record) {
	for _, fed := range s.directory.inventories(cluster) {
		for _, n := range fed.Namespaces {
			labels := map[string]string{}
			for k, v := range n.Labels {
				labels[k] = v
			}
			r.Namespaces = append(r.Namespaces, topology.Namespace{Name: n.Name, Labels: labels})
		}
		ports := portsOf(fed)
		for i := range r.Workloads {
			if list, known := ports[r.Workloads[i].Name]; known {
				r.Workloads[i].Ports = namedPorts(list)
			}
		}
	}
}

// namedPorts is not nil: they are known.
func namedPorts(list []*pb.NamedPort) []topology.NamedPort {
	out := make([]topology.NamedPort, 0, len(list))
	for _, p := range list {
		out = append(out, topology.NamedPort{Name: p.Name, Protocol: p.Protocol, Port: uint16(p.Port)})
	}
	return out
}

// recallInventories takes up what clusters said before this control plane started: without it policies would mean less.
func (s *Server) recallInventories(ctx context.Context) error {
	list, err := s.db.Inventories(ctx)
	for _, i := range list {
		said := &pb.PutInventoryRequest{}
		if jerr := fromJSON.Unmarshal([]byte(i.Said), said); jerr != nil {
			s.log.Warn("a cluster's inventory cannot be read", "cluster", i.Cluster, "err", jerr)
			continue
		}
		s.directory.feed(said)
	}
	return err
}
