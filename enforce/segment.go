package enforce

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/topology"
)

// Network is what walls between workloads are made of: policies, and who is where.
type Network struct {
	Enforced, Staged []topology.Policy
	Quarantined      []string
	Known            *topology.Record // workloads, namespaces and hosts, with labels
	Places           map[netip.Addr][]bulkhead.Endpoint
	Services         []Service
}

// Service is an address that the host translates.
type Service struct {
	Protocol uint8
	Address  netip.AddrPort
	Backends []netip.AddrPort
}

// Needed reports whether anything is closed or staged at all.
func (n *Network) Needed() bool {
	return len(n.Enforced)+len(n.Staged)+len(n.Quarantined) > 0
}

// walls are what the kernel has of a [Network]. Identities are numbers for parties that all policies treat alike: a
// new address of a workload that is known is one write. When policies or labels change, all is written anew beside
// what is in force, under another epoch and other policy numbers, and then each container is moved over.
type walls struct {
	shape      string // of what all is written anew for
	grids      [2]*topology.Grid
	places     map[netip.Addr][]bulkhead.Endpoint
	networks   []netip.Prefix
	epoch      uint32
	last       uint32 // policy number that was given last
	first      uint32 // … and first in this epoch
	numbers    map[string]uint32
	parties    map[uint32]resident
	identities map[netip.Prefix]uint32
	built      map[string]bpf.Wall // by workload
	cut        map[string]bool
	untidy     bool // something of an earlier epoch is still there
}

// resident is a party, or an address that stands for others.
type resident struct {
	ends     []bulkhead.Endpoint
	address  netip.Addr
	network  netip.Prefix
	services []Service
}

// Segment brings the kernel to a state of the network, and ends connections that new policies do not let through.
func (e *Enforcer) Segment(n *Network) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := &e.walls
	shape := shapeOf(n)
	w.places = n.Places
	changed := shape != w.shape
	if changed {
		if err := e.begin(n, shape); err != nil {
			return err
		}
	}
	if !n.Needed() && !changed {
		return e.tidy()
	}
	err := e.settle(n)
	if err == nil && changed {
		err = e.moveAll()
	}
	if err == nil {
		err = e.options.Kernel.JudgeAgain()
	}
	if err != nil {
		w.shape = "" // the next time all is written anew
		return fmt.Errorf("putting network policies in force: %w", err)
	}
	if changed {
		go e.cutClosed(e.closed())
	}
	return e.tidy()
}

// shapeOf names everything but addresses: what is judged by.
func shapeOf(n *Network) string {
	var b strings.Builder
	for _, list := range [][]topology.Policy{n.Enforced, n.Staged} {
		for i := range list {
			fmt.Fprintf(&b, "%s\x00%s\x00%s\x00", list[i].String(), list[i].Namespace, list[i].Text)
		}
		b.WriteString("\x01")
	}
	fmt.Fprintf(&b, "%q", slices.Sorted(slices.Values(n.Quarantined)))
	if n.Known == nil || len(n.Enforced)+len(n.Staged) == 0 {
		return b.String()
	}
	for _, w := range n.Known.Workloads {
		fmt.Fprintf(&b, "%q%q%v%v", w.Name, w.Namespace, w.Labels, w.Ports) // maps are printed in the order of their keys
	}
	for _, s := range n.Known.Namespaces {
		fmt.Fprintf(&b, "%q%v", s.Name, s.Labels)
	}
	return b.String()
}

// begin starts an epoch: nothing of it is in force yet.
func (e *Enforcer) begin(n *Network, shape string) error {
	w := &e.walls
	if w.epoch == 0 {
		var err error
		if w.epoch, w.last, err = e.options.Kernel.SegmentNumbers(); err != nil {
			return fmt.Errorf("reading the network policies in force: %w", err)
		}
	}
	known := n.Known
	if known == nil {
		known = &topology.Record{}
	}
	book := known.Book()
	w.grids = [2]*topology.Grid{topology.NewGrid(n.Enforced, book, e.options.Node), topology.NewGrid(n.Staged, book, e.options.Node)}
	w.networks = append(slices.Clone(w.grids[0].Networks()), w.grids[1].Networks()...)
	slices.SortFunc(w.networks, func(a, b netip.Prefix) int { return cmp.Or(b.Bits()-a.Bits(), a.Addr().Compare(b.Addr())) })
	w.networks = slices.Compact(w.networks)
	w.shape, w.untidy = shape, true
	w.epoch++
	w.first = w.last + 1
	w.numbers, w.parties, w.identities, w.built = map[string]uint32{}, map[uint32]resident{}, map[netip.Prefix]uint32{}, map[string]bpf.Wall{}
	w.cut = map[string]bool{}
	for _, name := range n.Quarantined {
		w.cut[name] = true
	}
	return nil
}

// settle makes the identities those of now. One that is new gets its openings in every wall before an address has it.
func (e *Enforcer) settle(n *Network) error {
	w := &e.walls
	want := w.residents(n)
	for where, r := range want {
		number, err := e.identity(r)
		if err != nil {
			return err
		}
		if w.identities[where] == number {
			continue
		}
		if err := e.options.Kernel.PutIdentity(w.epoch, where, number); err != nil {
			return err
		}
		w.identities[where] = number
	}
	for where := range w.identities {
		if _, stays := want[where]; stays {
			continue
		}
		if err := e.options.Kernel.DropIdentity(w.epoch, where); err != nil {
			return err
		}
		delete(w.identities, where)
	}
	return nil
}

// residents are all who are to be told apart, by where they are.
func (w *walls) residents(n *Network) map[netip.Prefix]resident {
	want := map[netip.Prefix]resident{}
	for _, p := range w.networks {
		want[p] = resident{ends: []bulkhead.Endpoint{{Kind: bulkhead.EndWorld, Name: p.String()}}, network: p}
	}
	services := map[netip.Addr][]Service{}
	for _, s := range n.Services {
		services[s.Address.Addr()] = append(services[s.Address.Addr()], s)
	}
	for a, list := range services {
		want[netip.PrefixFrom(a, a.BitLen())] = resident{address: a, services: list}
	}
	for a, ends := range n.Places {
		want[netip.PrefixFrom(a, a.BitLen())] = resident{ends: ends, address: a, services: services[a]}
	}
	return want
}

// signature is the same for whom every policy treats alike.
func (w *walls) signature(r resident) string {
	if r.network.IsValid() {
		return "network " + r.network.String()
	}
	var b strings.Builder
	for _, g := range w.grids {
		b.WriteString(g.Network(r.address).String() + " ")
	}
	for _, end := range r.ends {
		b.WriteString(end.String() + "\x00")
	}
	for _, s := range r.services {
		fmt.Fprintf(&b, "%d %v:", s.Protocol, s.Address)
		for _, backend := range s.Backends {
			fmt.Fprintf(&b, " %d %s", backend.Port(), w.signature(resident{ends: w.places[backend.Addr()], address: backend.Addr()}))
		}
	}
	return b.String()
}

func (e *Enforcer) identity(r resident) (uint32, error) {
	w := &e.walls
	signature := w.signature(r)
	if number := w.numbers[signature]; number != 0 {
		return number, nil
	}
	number := uint32(len(w.numbers) + 1)
	w.parties[number] = r
	for workload, wall := range w.built {
		if err := e.open(workload, wall, number, r); err != nil {
			return 0, err
		}
	}
	w.numbers[signature] = number
	return number, nil
}

// open writes what a wall opens for one identity.
func (e *Enforcer) open(workload string, wall bpf.Wall, number uint32, r resident) error {
	for i, policy := range []uint32{wall.Policy, wall.Staged} {
		if policy == 0 {
			continue
		}
		for _, ingress := range []bool{false, true} {
			for _, o := range e.walls.openings(e.walls.grids[i], workload, ingress, r) {
				for _, entry := range entries(o) {
					entry.Policy, entry.Identity, entry.In = policy, number, ingress
					if err := e.options.Kernel.PutOpening(entry); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (w *walls) openings(g *topology.Grid, workload string, ingress bool, r resident) []topology.Opening {
	if !g.Closed(workload, ingress) {
		return nil // and so it is not asked for
	}
	var list []topology.Opening
	if len(r.services) == 0 || len(r.ends) > 0 {
		list = g.Openings(workload, ingress, w.party(g, r))
	}
	for _, s := range r.services {
		protocol, backends := protocolText(s.Protocol), w.present(s.Backends)
		if !ingress && len(backends) > 0 && !slices.ContainsFunc(backends, func(b netip.AddrPort) bool { return !w.reaches(g, workload, protocol, b) }) {
			list = append(list, topology.Opening{Protocol: protocol, From: s.Address.Port(), To: s.Address.Port()})
		}
	}
	return list
}

// present are the backends that somebody is known at, or all where nobody is: of a service that changed hands the last ones count.
func (w *walls) present(backends []netip.AddrPort) []netip.AddrPort {
	known := slices.DeleteFunc(slices.Clone(backends), func(b netip.AddrPort) bool { return len(w.places[b.Addr()]) == 0 })
	if len(known) == 0 {
		return backends
	}
	return known
}

// reaches reports whether a workload may go to what is behind a service.
func (w *walls) reaches(g *topology.Grid, workload, protocol string, backend netip.AddrPort) bool {
	r := resident{ends: w.places[backend.Addr()], address: backend.Addr()}
	if len(r.ends) == 0 {
		r = resident{ends: []bulkhead.Endpoint{{Kind: bulkhead.EndWorld, Name: backend.Addr().String()}}, address: backend.Addr()}
	}
	return slices.ContainsFunc(g.Openings(workload, false, w.party(g, r)), func(o topology.Opening) bool { return o.Has(protocol, backend.Port()) })
}

func (w *walls) party(g *topology.Grid, r resident) topology.Party {
	p := topology.Party{Ends: r.ends, Address: r.address}
	if r.network.IsValid() {
		for _, n := range g.Networks() { // smallest first: the one that has the whole network
			if n.Bits() <= r.network.Bits() && n.Contains(r.network.Addr()) {
				p.Network = n
				break
			}
		}
	}
	return p
}

var protocolsByName = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}

func protocolNumber(name string) uint8 {
	if n := protocolsByName[name]; n != 0 {
		return n
	}
	n, _ := strconv.ParseUint(name, 10, 8)
	return uint8(n)
}

func protocolText(number uint8) string {
	for name, n := range protocolsByName {
		if n == number {
			return name
		}
	}
	return strconv.Itoa(int(number))
}

// entries lowers an opening: a range of ports becomes the fewest blocks that begin with the same bits.
func entries(o topology.Opening) (list []bpf.Opening) {
	if o.Protocol == "" && o.From == 0 {
		return []bpf.Opening{{}}
	}
	protocols := []string{o.Protocol}
	if o.Protocol == "" {
		protocols = []string{"tcp", "udp", "sctp"} // those that have ports
	}
	for _, p := range protocols {
		number := protocolNumber(p)
		if o.From == 0 {
			list = append(list, bpf.Opening{Protocol: number})
			continue
		}
		for from, to := int(o.From), int(o.To); from <= to; {
			bits := 16
			for bits > 0 {
				size := 1 << (16 - bits + 1)
				if from%size != 0 || from+size-1 > to {
					break
				}
				bits--
			}
			list = append(list, bpf.Opening{Protocol: number, Port: uint16(from), Bits: bits})
			from += 1 << (16 - bits)
		}
	}
	return list
}

// wall is what a workload's containers are held to, written when it is asked for first.
func (e *Enforcer) wall(workload string) (bpf.Wall, error) {
	w := &e.walls
	if wall, have := w.built[workload]; have {
		return wall, nil
	}
	wall := bpf.Wall{Epoch: w.epoch}
	for i, flags := range [][2]uint32{{bpf.WallOut, bpf.WallIn}, {bpf.WallStagedOut, bpf.WallStagedIn}} {
		number := [...]*uint32{&wall.Policy, &wall.Staged}[i]
		for side, ingress := range []bool{false, true} {
			if w.grids[i].Closed(workload, ingress) {
				wall.Flags |= flags[side]
				if *number == 0 {
					w.last++
					*number = w.last
				}
			}
		}
	}
	if w.cut[workload] {
		wall.Flags |= bpf.WallCut
	}
	for number, r := range w.parties {
		if err := e.open(workload, wall, number, r); err != nil {
			return wall, err
		}
	}
	w.built[workload] = wall
	return wall, nil
}

// raise holds a container to the wall of its workload.
func (e *Enforcer) raise(w *ward) error {
	if e.walls.epoch == 0 || w.container.Workload.Name == "" {
		return nil // what an earlier process left stays until it is known whose it is
	}
	wall, err := e.wall(w.container.Workload.Name)
	if w.container.PID != 0 && inHostNetwork(w.container.PID) {
		wall.Flags &= bpf.WallCut // its addresses are the node's: as in Kubernetes, policies are not for it
	}
	if err != nil || w.wall == wall {
		return err
	}
	if err := e.options.Kernel.SetWall(w.slot, wall); err != nil {
		return err
	}
	w.wall = wall
	return e.options.Kernel.JudgeAgain() // connections that it has already were not asked about
}

func inHostNetwork(pid int) bool {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	host, herr := os.Readlink("/proc/1/ns/net")
	return err == nil && herr == nil && own == host
}

func (e *Enforcer) moveAll() error {
	var errs []error
	for _, w := range e.wards {
		errs = append(errs, e.raise(w))
	}
	return errors.Join(errs...)
}

// tidy drops what no container is held to any more.
func (e *Enforcer) tidy() error {
	w := &e.walls
	if !w.untidy || slices.ContainsFunc(slices.Collect(maps.Values(e.wards)), func(w *ward) bool { return w.container.ID == "" }) {
		return nil
	}
	w.untidy = false
	return e.options.Kernel.DropSegments(w.epoch, w.first)
}

// closed are the containers that a policy in force, or a quarantine, closes.
func (e *Enforcer) closed() (list []*ward) {
	for _, w := range e.wards {
		if w.wall.Flags&(bpf.WallOut|bpf.WallIn|bpf.WallCut) != 0 {
			list = append(list, &ward{container: w.container, slot: w.slot, wall: w.wall}) // as they are now
		}
	}
	return list
}

// cutClosed ends the connections that walls stop: their packets are dropped already, but who waits for them would wait long.
func (e *Enforcer) cutClosed(list []*ward) {
	for _, w := range list {
		err := e.cutWhere(w, func(s socket, listening map[uint16]bool) bool { return e.passes(w, s, listening) }, nil)
		if err != nil {
			e.options.Log.Warn("connections that a network policy cuts are not ended, though their packets are dropped", "container", w.container.ID, "err", err)
		}
	}
}

// passes judges a socket as the kernel judges its packets.
func (e *Enforcer) passes(w *ward, s socket, listening map[uint16]bool) bool {
	peer := s.to.Addr()
	if s.state == stateListen || !peer.IsValid() || peer.IsUnspecified() || peer.IsLoopback() || peer == s.from.Addr() {
		return true
	}
	ingress, port := listening[s.from.Port()], s.to.Port()
	if ingress {
		port = s.from.Port()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if w.wall.Flags&bpf.WallCut != 0 {
		return false
	}
	workload, g := w.container.Workload.Name, e.walls.grids[0]
	if !g.Closed(workload, ingress) {
		return true
	}
	r := e.walls.parties[e.walls.at(peer)]
	return slices.ContainsFunc(e.walls.openings(g, workload, ingress, r), func(o topology.Opening) bool { return o.Has(protocolText(s.protocol), port) })
}

// at is the identity at an address.
func (w *walls) at(a netip.Addr) uint32 {
	if n, have := w.identities[netip.PrefixFrom(a, a.BitLen())]; have {
		return n
	}
	for _, p := range w.networks {
		if p.Contains(a) {
			return w.identities[p]
		}
	}
	return 0
}
