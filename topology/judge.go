package topology

import (
	"net/netip"
	"slices"

	"bulkhead"
)

// Judge answers for edges what policies let through. It is for one goroutine.
type Judge struct {
	book     *Book
	policies []Policy
	parties  map[bulkhead.Endpoint]*party
}

// party is an endpoint with what is known of it.
type party struct {
	bulkhead.Endpoint
	*Workload     // nil for what is no workload
	pod           labels
	namespace     labels
	addresses     []netip.Addr
	known         bool         // that these are all its addresses
	network       netip.Prefix // in place of addresses: all that are in it and in no smaller one of a [Grid]
	out, in       []applies
	outFit, inFit Fit // whether a policy closes it
}

// applies is a policy that is for a party.
type applies struct {
	*Policy
	fit Fit
}

// Decision is what policies say of an edge.
type Decision struct {
	Fit      Fit      // Yes: it passes
	Side     string   // which side does not let it pass: "egress", "ingress"
	Policies []string // that close that side for this workload
	Reason   string
}

// NewJudge prepares to judge by these policies.
func NewJudge(policies []Policy, book *Book) *Judge {
	return &Judge{book: book, policies: policies, parties: map[bulkhead.Endpoint]*party{}}
}

// Edge judges one edge: the source must be let out and the destination must let in.
func (j *Judge) Edge(e bulkhead.Edge) Decision {
	from, to := j.party(e.Source), j.party(e.Destination)
	out := j.side(from.out, from.outFit, false, to, to, e)
	in := j.side(to.in, to.inFit, true, from, to, e)
	d := Decision{Fit: out, Side: "egress", Policies: names(from.out)}
	if in < out {
		d = Decision{Fit: in, Side: "ingress", Policies: names(to.in)}
	}
	switch {
	case d.Fit == Yes:
		return Decision{Fit: Yes}
	case d.Fit == No && e.Source == e.Destination && from.Workload != nil:
		d.Fit, d.Reason = Maybe, "within one pod it passes, between two of the workload it does not"
	case d.Fit == No:
		d.Reason = "no rule of " + d.Side + " lets it through"
	default:
		d.Reason = unknown(from, to, e.Protocol)
	}
	return d
}

// side judges one direction. The peer is the other end; ports are always the destination's.
func (j *Judge) side(policies []applies, closed Fit, ingress bool, peer, to *party, e bulkhead.Edge) Fit {
	if closed == No {
		return Yes
	}
	best := No
	for _, p := range policies {
		best = max(best, min(p.fit, p.allows(ingress, peer, to, e)))
		if best == Yes {
			return Yes
		}
	}
	if closed == Maybe {
		return Maybe
	}
	return best
}

func (p *Policy) allows(ingress bool, peer, to *party, e bulkhead.Edge) Fit {
	rules := p.Out
	if ingress {
		rules = p.In
	}
	best := No
	for i := range rules {
		best = max(best, min(rules[i].peers(p, peer), rules[i].ports(to, e)))
		if best == Yes {
			return Yes
		}
	}
	return max(best, p.always(ingress, peer, e.Protocol))
}

// always is what no policy of the kind closes: a pod and its own node. An edge tells the node at its end but
// not the node of the pod, so what goes to a node only may be its own. Of other protocols than TCP, UDP and SCTP
// the standard of Kubernetes says nothing.
func (p *Policy) always(ingress bool, peer *party, protocol string) Fit {
	switch {
	case p.Kind == KindSegment:
		return No
	case p.Kind == KindKubernetes && !contains(transports, protocol):
		return Maybe
	case peer.Kind != bulkhead.EndHost:
		return No
	case ingress:
		return Yes
	}
	return Maybe
}

func (r *Rule) peers(p *Policy, who *party) Fit {
	if r.Peers == nil {
		return Yes
	}
	best := No
	var blocks []*Block
	for i := range r.Peers {
		if r.Peers[i].Block != nil {
			blocks = append(blocks, r.Peers[i].Block)
			continue
		}
		if best = max(best, r.Peers[i].fit(p, who)); best == Yes {
			return Yes
		}
	}
	// Cilium's networks are those of the world, whoever has which address inside.
	if len(blocks) == 0 || p.cilium() && !who.outside() {
		return best
	}
	if !who.known && r.everywhere(who.Kind == bulkhead.EndWorld) {
		return Yes
	}
	return max(best, who.within(blocks))
}

// within: with several addresses (replicas, both kinds of IP) an edge does not tell which was used.
func (who *party) within(blocks []*Block) Fit {
	if who.network.IsValid() {
		return yes(slices.ContainsFunc(blocks, func(b *Block) bool { return b.holds(who.network) }))
	}
	n := 0
	for _, a := range who.addresses {
		if slices.ContainsFunc(blocks, func(b *Block) bool { return b.Contains(a) }) {
			n++
		}
	}
	switch {
	case who.known && n == 0:
		return No
	case who.known && n == len(who.addresses):
		return Yes
	}
	return Maybe
}

// everywhere reports whether the blocks of a rule have together every address of both kinds. What a name on
// the internet stands for is taken to be none of a private network.
func (r *Rule) everywhere(public bool) bool {
	var four, six bool
	for _, p := range r.Peers {
		if p.Block == nil || p.Block.CIDR.Bits() != 0 {
			continue
		}
		whole := true
		for _, e := range p.Block.Except {
			whole = whole && public && reserved(e)
		}
		four = four || whole && p.Block.CIDR.Addr().Is4()
		six = six || whole && p.Block.CIDR.Addr().Is6()
	}
	return four && six
}

// reserved reports whether a network has no address of the internet.
func reserved(p netip.Prefix) bool {
	for _, whole := range private {
		if whole.Bits() <= p.Bits() && whole.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// private are the networks that are not part of the internet.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

// fit reports whether a peer is meant. A selector with nothing else means pods of the policy's own namespace.
func (q *Peer) fit(p *Policy, who *party) Fit {
	if q.Everybody {
		return Yes
	}
	if q.Domain != "" {
		return yes(who.Kind == bulkhead.EndWorld && domain(q.Domain, who.Endpoint.Name))
	}
	switch who.Kind {
	case bulkhead.EndHost:
		return yes(q.Host || q.Cluster)
	case bulkhead.EndWorld:
		return yes(q.World)
	case bulkhead.EndService:
		return q.service(who)
	}
	if p.cilium() && who.outside() {
		return yes(q.World)
	}
	return q.workload(who)
}

func (p *Policy) cilium() bool { return p.Kind == KindCilium || p.Kind == KindCiliumWide }

// outside reports whether Kubernetes knows nothing of a party: the world, and containers of other engines.
func (who *party) outside() bool {
	return who.Kind == bulkhead.EndWorld || who.Workload != nil && who.Workload.Namespace == ""
}

// service: behind an address that no backend is known for may be whoever is in the cluster.
func (q *Peer) service(*party) Fit {
	switch {
	case q.Host || q.World:
		return No
	case q.Cluster:
		return Yes
	}
	return Maybe
}

func (q *Peer) workload(who *party) Fit {
	switch {
	case q.Host || q.World:
		return No
	case q.Cluster:
		return Yes
	case q.Workload != "":
		return yes(pattern(q.Workload, who.Workload.Name) || pattern(q.Workload, PodOf(who.Workload.Name)))
	case who.Workload.Namespace == "" && (q.Namespace != "" || q.Namespaces != nil):
		return No // no pod of Kubernetes
	case q.Namespace != "" && q.Namespace != who.Workload.Namespace:
		return No
	}
	fit := Yes
	if q.Namespaces != nil {
		fit = q.Namespaces.fit(who.namespace)
	}
	if q.Pods != nil {
		fit = min(fit, q.Pods.fit(who.pod))
	}
	return fit
}

func (r *Rule) ports(to *party, e bulkhead.Edge) Fit {
	if r.Ports == nil {
		return Yes
	}
	best := No
	for i := range r.Ports {
		best = max(best, r.Ports[i].fit(to, e))
	}
	return best
}

func (q *Port) fit(to *party, e bulkhead.Edge) Fit {
	switch {
	case q.Protocol != "" && q.Protocol != e.Protocol:
		return No
	case q.Name != "":
		return named(q, to, e.Port)
	case q.From == 0:
		return Yes
	}
	return yes(q.From <= e.Port && e.Port <= q.To)
}

func named(q *Port, to *party, port uint16) Fit {
	if to.Workload == nil {
		return No
	}
	if to.Ports == nil {
		return Maybe
	}
	for _, p := range to.Ports {
		if p.Name == q.Name && (q.Protocol == "" || p.Protocol == q.Protocol) && p.Port == port {
			return Yes
		}
	}
	return No
}

// party finds out once what policies ask of an endpoint.
func (j *Judge) party(e bulkhead.Endpoint) *party {
	if p := j.parties[e]; p != nil {
		return p
	}
	p := &party{Endpoint: e}
	j.parties[e] = p
	switch e.Kind {
	case bulkhead.EndWorkload:
		j.identify(p)
	case bulkhead.EndHost:
		if h := j.book.hosts[e.Name]; h != nil {
			p.addresses, p.known = h.Addresses, len(h.Addresses) > 0
		}
	default:
		if a, err := netip.ParseAddr(e.Name); err == nil {
			p.addresses, p.known = []netip.Addr{a}, true
		}
	}
	return p
}

func (j *Judge) identify(p *party) {
	p.Workload = j.book.workloads[p.Endpoint.Name]
	if p.Workload == nil {
		p.Workload = &Workload{Name: p.Endpoint.Name, Namespace: ImpliedNamespace(p.Endpoint.Name)}
	}
	p.addresses, p.known = p.Workload.Addresses, len(p.Workload.Addresses) > 0
	p.pod = labels{p.Workload.Labels, p.Workload.Labels != nil}
	p.namespace = j.book.namespaceLabels(p.Workload.Namespace)
	for i := range j.policies {
		policy := &j.policies[i]
		fit := policy.Subject.fit(policy, p)
		if fit == No {
			continue
		}
		if policy.Egress {
			p.out, p.outFit = append(p.out, applies{policy, fit}), max(p.outFit, fit)
		}
		if policy.Ingress {
			p.in, p.inFit = append(p.in, applies{policy, fit}), max(p.inFit, fit)
		}
	}
}

func names(list []applies) []string {
	out := make([]string, 0, len(list))
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func unknown(from, to *party, protocol string) string {
	switch {
	case !contains(transports, protocol):
		return "what a NetworkPolicy means for " + protocol + " is up to the network plugin"
	case from.Workload != nil && from.Labels == nil && from.Workload.Namespace != "":
		return "the labels of " + from.Workload.Name + " are not known"
	case to.Workload != nil && to.Labels == nil && to.Workload.Namespace != "":
		return "the labels of " + to.Workload.Name + " are not known"
	case to.Kind == bulkhead.EndService:
		return "who is behind the service " + to.Endpoint.Name + " is not known"
	case to.Kind == bulkhead.EndHost:
		return "a pod reaches its own node always; which node it is on is not known"
	case !to.known && to.Workload == nil:
		return "the addresses of " + to.Endpoint.Name + " are not known"
	}
	return "addresses, labels or named ports that are not known decide it"
}
