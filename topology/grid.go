package topology

import (
	"net/netip"
	"slices"

	"bulkhead"
)

// Grid lowers policies to what a kernel can decide a packet by: for each workload and each party, the ports that are open.
// It is for one goroutine. What is not known is not open: see [Judge] for an engine that says so instead.
type Grid struct {
	judge    *Judge
	node     string
	networks []netip.Prefix
}

// Party is somebody whom packets come from or go to. The workloads of one pod share its addresses, and an address of the
// world may have several names.
type Party struct {
	Ends    []bulkhead.Endpoint
	Address netip.Addr   // one of its addresses; the zero Addr where Network says more
	Network netip.Prefix // of the grid's networks the smallest that has the address
}

// Opening is what may pass. The zero Opening is everything.
type Opening struct {
	Protocol string // "": every one
	From, To uint16 // ports; 0, 0: every one
}

// Has reports whether a protocol and port are in it.
func (o Opening) Has(protocol string, port uint16) bool {
	return (o.Protocol == "" || o.Protocol == protocol) && (o.From == 0 || o.From <= port && port <= o.To)
}

// NewGrid prepares to lower policies on a node.
func NewGrid(policies []Policy, book *Book, node string) *Grid {
	g := &Grid{judge: NewJudge(policies, book), node: node}
	g.networks = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	for i := range policies {
		for _, side := range [][]Rule{policies[i].In, policies[i].Out} {
			for k := range side {
				g.note(side[k].Peers)
			}
		}
	}
	slices.SortFunc(g.networks, func(a, b netip.Prefix) int { return b.Bits() - a.Bits() })
	g.networks = slices.Compact(g.networks)
	return g
}

func (g *Grid) note(peers []Peer) {
	for i := range peers {
		if b := peers[i].Block; b != nil {
			for _, p := range append([]netip.Prefix{b.CIDR}, b.Except...) {
				if p = p.Masked(); !slices.Contains(g.networks, p) {
					g.networks = append(g.networks, p)
				}
			}
		}
	}
}

// Networks are the parts of the address space that the policies tell apart, smallest first.
func (g *Grid) Networks() []netip.Prefix { return g.networks }

// Network is the smallest of the networks that has an address. Two addresses of one workload with the same network are
// the same to every policy.
func (g *Grid) Network(a netip.Addr) netip.Prefix {
	for _, n := range g.networks {
		if n.Contains(a) {
			return n
		}
	}
	return netip.Prefix{}
}

// Closed reports whether some policy closes a direction of a workload.
func (g *Grid) Closed(workload string, ingress bool) bool {
	return len(g.policies(workload, ingress)) > 0
}

func (g *Grid) policies(workload string, ingress bool) (list []*Policy) {
	p := g.judge.party(bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: workload})
	side := p.out
	if ingress {
		side = p.in
	}
	for _, a := range side {
		if a.fit == Yes {
			list = append(list, a.Policy)
		}
	}
	return list
}

// Openings are what a workload may send to a party, or get from it.
func (g *Grid) Openings(workload string, ingress bool, who Party) []Opening {
	own := g.judge.party(bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: workload})
	var list []Opening
	for _, p := range g.policies(workload, ingress) {
		for _, end := range who.Ends {
			party := g.party(end, who)
			if p.Kind != KindSegment && end.Kind == bulkhead.EndHost && (ingress || end.Name == g.node) {
				return []Opening{{}}
			}
			to := party
			if ingress {
				to = own
			}
			list = append(list, openings(p, ingress, party, to)...)
		}
	}
	return least(list)
}

func (g *Grid) party(end bulkhead.Endpoint, who Party) *party {
	p := *g.judge.party(end)
	p.addresses, p.known, p.network = nil, true, netip.Prefix{}
	if who.Address.IsValid() {
		p.addresses = []netip.Addr{who.Address}
	} else {
		p.network = who.Network
	}
	return &p
}

func openings(p *Policy, ingress bool, peer, to *party) (list []Opening) {
	rules := p.Out
	if ingress {
		rules = p.In
	}
	for i := range rules {
		if rules[i].peers(p, peer) != Yes {
			continue
		}
		if rules[i].Ports == nil {
			return []Opening{{}}
		}
		for k := range rules[i].Ports {
			list = append(list, rules[i].Ports[k].openings(to)...)
		}
	}
	return list
}

func (q *Port) openings(to *party) (list []Opening) {
	if q.Name == "" {
		return []Opening{{q.Protocol, q.From, q.To}}
	}
	if to.Workload == nil {
		return nil
	}
	for _, p := range to.Ports {
		if p.Name == q.Name && (q.Protocol == "" || p.Protocol == q.Protocol) {
			list = append(list, Opening{p.Protocol, p.Port, p.Port})
		}
	}
	return list
}

// least leaves out what another opening has already.
func least(list []Opening) []Opening {
	slices.SortFunc(list, func(a, b Opening) int { return compareOpening(a, b) })
	list = slices.Compact(list)
	if slices.Contains(list, Opening{}) {
		return []Opening{{}}
	}
	return list
}

func compareOpening(a, b Opening) int {
	switch {
	case a.Protocol != b.Protocol:
		if a.Protocol < b.Protocol {
			return -1
		}
		return 1
	case a.From != b.From:
		return int(a.From) - int(b.From)
	}
	return int(a.To) - int(b.To)
}
