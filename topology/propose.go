package topology

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead"
)

// Wish says what to propose.
type Wish struct {
	Workloads []string // names or patterns with *; none: all
	Kind      string   // KindKubernetes, KindCilium or KindSegment
}

// Proposal is the least that a window needs, as a person would write it.
type Proposal struct {
	Policies []Policy
	Notes    []string // what could not be said as narrowly as it was seen, and why
}

// Propose writes one policy for each workload that has flows: both directions are closed but for what was seen. Replayed on its
// own window a proposal cuts nothing.
func Propose(r *Record, w Wish) *Proposal {
	p := &proposer{kind: w.Kind, book: r.Book(), record: r, selectors: map[string]choice{}, noted: map[string]bool{}, names: map[string]bool{}}
	p.index()
	done := map[string]bool{}
	for _, name := range p.book.names {
		if !wanted(w.Workloads, name) || !p.active[name] {
			continue
		}
		c, ok := p.choose(name)
		if !ok || done[c.key] {
			continue
		}
		done[c.key] = true
		p.policy(name, c)
	}
	return &p.Proposal
}

func wanted(patterns []string, name string) bool {
	for _, q := range patterns {
		if pattern(q, name) || pattern(q, PodOf(name)) {
			return true
		}
	}
	return len(patterns) == 0
}

type proposer struct {
	Proposal
	kind      string
	book      *Book
	record    *Record
	active    map[string]bool
	in, out   map[string][]*Flow
	dns       []Peer // who answers names in this cluster
	servers   map[string]bool
	selectors map[string]choice
	noted     map[string]bool
	names     map[string]bool
}

// choice is how a workload is called in a policy, and whom that means besides.
type choice struct {
	peer    Peer
	key     string
	members []string
}

func (p *proposer) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !p.noted[text] {
		p.noted[text] = true
		p.Notes = append(p.Notes, text)
	}
}

func (p *proposer) index() {
	p.active, p.in, p.out = map[string]bool{}, map[string][]*Flow{}, map[string][]*Flow{}
	p.servers = map[string]bool{}
	for i := range p.record.Flows {
		f := &p.record.Flows[i]
		if f.Source.Kind == bulkhead.EndWorkload {
			p.active[f.Source.Name] = true
			p.out[f.Source.Name] = append(p.out[f.Source.Name], f)
		}
		if f.Destination.Kind == bulkhead.EndWorkload {
			p.active[f.Destination.Name] = true
			p.in[f.Destination.Name] = append(p.in[f.Destination.Name], f)
			if f.Port == 53 && f.Protocol == "udp" {
				p.servers[f.Destination.Name] = true
			}
		}
	}
	for name := range sorted(p.servers) {
		if c, ok := p.choose(name); ok {
			p.dns = append(p.dns, c.peer)
		}
	}
	if len(p.dns) == 0 {
		p.dns = []Peer{{Namespaces: in(nameLabel, "kube-system"), Namespace: "", Pods: in("k8s-app", "kube-dns")}}
	}
}

func in(key, value string) *Selector {
	return &Selector{[]Requirement{{Key: key, Operator: "In", Values: []string{value}}}}
}

// choose finds the words for a workload: its own name in our policy, labels in the others'.
func (p *proposer) choose(name string) (choice, bool) {
	if c, known := p.selectors[name]; known {
		return c, c.key != ""
	}
	c := p.find(name)
	p.selectors[name] = c
	for _, m := range c.members {
		if _, known := p.selectors[m]; !known {
			p.selectors[m] = c
		}
	}
	return c, c.key != ""
}

func (p *proposer) find(name string) choice {
	if p.kind == KindSegment {
		pod := PodOf(name)
		if strings.Contains(pod, "*") || len(pod) > maxName || pod == "" {
			p.note("%.80q: its name would be a pattern: no policy can be for it alone", name)
			return choice{}
		}
		return choice{Peer{Workload: pod}, pod, p.containersOf(pod)}
	}
	w := p.book.workloads[name]
	if w.Namespace == "" {
		p.note("%s is no pod of Kubernetes: a %s cannot be for it; Bulkhead's own format can", name, p.kind)
		return choice{}
	}
	s := p.labels(w)
	if s == nil {
		p.note("%s: its pods' labels are not known or change with each pod: no policy can be for it alone", name)
		return choice{}
	}
	peer := Peer{Namespaces: in(nameLabel, w.Namespace), Pods: s}
	return choice{peer, w.Namespace + " " + s.text(), p.selected(w.Namespace, s)}
}

func (p *proposer) containersOf(pod string) (all []string) {
	for _, n := range p.book.names {
		if PodOf(n) == pod {
			all = append(all, n)
		}
	}
	return all
}

func (p *proposer) selected(namespace string, s *Selector) (all []string) {
	for _, n := range p.book.names {
		w := p.book.workloads[n]
		if w.Namespace == namespace && w.Labels != nil && s.fit(labels{w.Labels, true}) == Yes {
			all = append(all, n)
		}
	}
	return all
}

// speaking are labels that say what a workload is, the most usual first.
var speaking = []string{
	"app.kubernetes.io/name", "app", "k8s-app", "app.kubernetes.io/component", "component", "tier", "role", "name", "run", "app.kubernetes.io/instance",
}

// passing are labels that change with each pod, run or release.
var passing = []string{
	"pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index",
	"batch.kubernetes.io/job-name", "job-name", "batch.kubernetes.io/controller-uid", "controller-uid", "batch.kubernetes.io/job-completion-index",
	"app.kubernetes.io/version", "helm.sh/chart", "app.kubernetes.io/managed-by", "chart", "heritage", "version",
}

// labels finds the fewest labels that mean this workload alone: one that speaks, all that speak, all that stay.
func (p *proposer) labels(w *Workload) *Selector {
	var all, spoken Selector
	for _, key := range speaking {
		if v, ok := w.Labels[key]; ok {
			one := in(key, v)
			if p.alone(w, one) {
				return one
			}
			spoken.Requirements = append(spoken.Requirements, one.Requirements...)
		}
	}
	for key, v := range sorted(w.Labels) {
		if !contains(passing, key) {
			all.Requirements = append(all.Requirements, in(key, v).Requirements...)
		}
	}
	sortRequirements(&spoken)
	switch {
	case len(spoken.Requirements) > 0 && (p.alone(w, &spoken) || !p.alone(w, &all)):
		return &spoken
	case len(all.Requirements) > 0:
		return &all
	}
	return nil
}

func sortRequirements(s *Selector) {
	slices.SortFunc(s.Requirements, func(a, b Requirement) int { return strings.Compare(a.Key, b.Key) })
}

func (p *proposer) alone(w *Workload, s *Selector) bool {
	for _, n := range p.selected(w.Namespace, s) {
		if PodOf(n) != PodOf(w.Name) {
			return false
		}
	}
	return true
}

func (s *Selector) text() string {
	var b strings.Builder
	for _, r := range s.Requirements {
		fmt.Fprintf(&b, "%s=%q,", r.Key, r.Values)
	}
	return b.String()
}

// policy is what the members of a choice need together: what is for one is for all that its labels mean.
func (p *proposer) policy(name string, c choice) {
	w := p.book.workloads[name]
	q := Policy{Kind: p.kind, Namespace: w.Namespace, Name: p.title(name), Subject: c.peer, Ingress: true, Egress: true}
	if p.kind == KindSegment {
		q.Namespace = ""
	} else {
		q.Subject = Peer{Namespace: w.Namespace, Pods: c.peer.Pods}
	}
	if pods := podsOf(c.members); len(pods) > 1 {
		p.note("%s are one to a policy, their labels do not differ", strings.Join(pods, ", "))
	}
	in, out := newNeeds(), newNeeds()
	for _, m := range c.members {
		for _, f := range p.in[m] {
			p.need(in, &q, f.Source, f, true)
		}
		for _, f := range p.out[m] {
			p.need(out, &q, f.Destination, f, false)
		}
	}
	if len(out.peers) > 0 {
		p.needDNS(out, &q)
	}
	if p.kind != KindSegment && slices.ContainsFunc(c.members, func(m string) bool { return p.servers[m] }) {
		everybodyAsks(in)
	}
	q.In, q.Out = p.rules(in, true), p.rules(out, false)
	p.Policies = append(p.Policies, q)
}

func podsOf(members []string) (pods []string) {
	for _, m := range members {
		if pod := PodOf(m); !contains(pods, pod) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// title is a name for an object of Kubernetes: small letters, digits, hyphens.
func (p *proposer) title(name string) string {
	parts := strings.Split(PodOf(name), "/")
	base := plain(parts[len(parts)-1])
	if len(parts) == 3 && parts[0] == "compose" {
		base = plain(parts[1] + "-" + parts[2])
	}
	namespace := p.book.workloads[name].Namespace
	title := base
	for n := 2; p.names[namespace+"/"+title]; n++ {
		title = fmt.Sprintf("%s-%d", base, n)
	}
	p.names[namespace+"/"+title] = true
	return title
}

func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(s))
	s = strings.Trim(s[:min(len(s), 50)], "-")
	return cmp.Or(s, "workload")
}

// needs are peers with the ports that are needed with each.
type needs struct {
	peers map[string]*need
}

type need struct {
	peer  Peer
	ports map[Port]bool
	every bool // no port of it can be said
}

func newNeeds() *needs { return &needs{map[string]*need{}} }

func (n *needs) add(peer Peer, port Port) {
	key := peer.text()
	one := n.peers[key]
	if one == nil {
		one = &need{peer: peer, ports: map[Port]bool{}}
		n.peers[key] = one
	}
	if port == (Port{}) {
		one.every = true
		return
	}
	one.ports[port] = true
}

func (q *Peer) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%t %t %t %t %q %q %q", q.Everybody, q.Host, q.World, q.Cluster, q.Namespace, q.Workload, q.Domain)
	for _, s := range []*Selector{q.Namespaces, q.Pods} {
		if s != nil {
			b.WriteString("|" + s.text())
		}
	}
	if q.Block != nil {
		fmt.Fprint(&b, q.Block.CIDR, q.Block.Except)
	}
	return b.String()
}

func (p *proposer) need(n *needs, q *Policy, e bulkhead.Endpoint, f *Flow, ingress bool) {
	port, ok := p.port(f)
	if !ok {
		return
	}
	for _, peer := range p.peers(q, e, ingress) {
		n.add(peer, port)
	}
}

// port says what of a flow can be said in this kind of policy.
func (p *proposer) port(f *Flow) (Port, bool) {
	transport := contains(transports, f.Protocol)
	switch {
	case transport && f.Port != 0:
		return Port{Protocol: f.Protocol, From: f.Port, To: f.Port}, true
	case transport || p.kind == KindSegment:
		return Port{Protocol: f.Protocol}, true
	case p.kind == KindKubernetes:
		p.note("%s: a NetworkPolicy cannot let %s through; whether it passes is up to the network plugin", f.Edge, f.Protocol)
		return Port{}, false
	case f.Protocol == "icmp" || f.Protocol == "icmpv6":
		return Port{Protocol: f.Protocol}, true
	}
	p.note("%s: Cilium has no word for protocol %s: every port is open between the two", f.Edge, f.Protocol)
	return Port{}, true
}

var (
	all4 = netip.MustParsePrefix("0.0.0.0/0")
	all6 = netip.MustParsePrefix("::/0")
)

// everywhere are both kinds of IP, without private networks where only the internet is meant.
func everywhere(public bool) []Peer {
	four, six := &Block{CIDR: all4}, &Block{CIDR: all6}
	if public {
		for _, c := range private {
			if c.Addr().Is4() {
				four.Except = append(four.Except, c)
			} else {
				six.Except = append(six.Except, c)
			}
		}
	}
	return []Peer{{Block: four}, {Block: six}}
}

// peers says in this kind of policy who is at an end.
func (p *proposer) peers(q *Policy, e bulkhead.Endpoint, ingress bool) []Peer {
	switch e.Kind {
	case bulkhead.EndWorkload:
		return p.workload(q, e.Name)
	case bulkhead.EndHost:
		return p.host(q, e.Name, ingress)
	case bulkhead.EndService:
		return p.service(q, e.Name)
	}
	return p.world(q, e.Name, ingress)
}

func (p *proposer) workload(q *Policy, name string) []Peer {
	if c, ok := p.choose(name); ok {
		return []Peer{c.peer}
	}
	w := p.book.workloads[name]
	if w.Namespace != "" && p.kind != KindSegment {
		p.note("%s: the labels of its peer %s are not known: its whole namespace is let through", q.Name, name)
		return []Peer{{Namespaces: in(nameLabel, w.Namespace), Pods: &Selector{}}}
	}
	return p.addresses(q, name, w.Addresses)
}

func (p *proposer) addresses(q *Policy, name string, all []netip.Addr) (peers []Peer) {
	for _, a := range all {
		a = a.Unmap().WithZone("")
		peers = append(peers, Peer{Block: &Block{CIDR: netip.PrefixFrom(a, a.BitLen())}})
	}
	if len(peers) == 0 {
		p.note("%s: the addresses of its peer %s are not known: every address is let through", q.Name, name)
		return everywhere(false)
	}
	return peers
}

func (p *proposer) host(q *Policy, name string, ingress bool) []Peer {
	if p.kind != KindKubernetes {
		return []Peer{{Host: true}}
	}
	h := p.book.hosts[name]
	if ingress && (h == nil || len(h.Addresses) == 0) {
		return nil // its own node always comes in
	}
	if h == nil {
		return p.addresses(q, "host:"+name, nil)
	}
	return p.addresses(q, "host:"+name, h.Addresses)
}

func (p *proposer) service(q *Policy, name string) []Peer {
	p.note("%s: who is behind the service %s is not known", q.Name, name)
	if p.kind == KindCilium {
		return []Peer{{Cluster: true}}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return p.addresses(q, name, []netip.Addr{a})
	}
	return p.addresses(q, "service:"+name, nil)
}

func (p *proposer) world(q *Policy, name string, ingress bool) []Peer {
	if a, err := netip.ParseAddr(name); err == nil {
		return p.addresses(q, name, []netip.Addr{a})
	}
	switch {
	case p.kind == KindKubernetes:
	case domainName(name) && (p.kind == KindSegment || !ingress):
		return []Peer{{Domain: name}}
	default:
		p.note("%s: %q is no domain name: all of the world is let through", q.Name, name)
		return []Peer{{World: true}}
	}
	p.note("%s: a NetworkPolicy has no names: %s is let through as every public address", q.Name, name)
	return everywhere(true)
}

// domainName reports whether a name can be meant. One with * would stand for others, and a container may look up what it likes.
func domainName(s string) bool {
	return s != "" && len(s) <= 253 && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// needDNS lets names be asked: whoever opens connections asked for a name first, even if not in this window.
func (p *proposer) needDNS(n *needs, q *Policy) {
	if p.kind == KindSegment {
		return // our own policy sees to it: names are learned from the answers
	}
	for _, one := range n.peers {
		if one.ports[Port{"udp", "", 53, 53}] && one.ports[Port{"tcp", "", 53, 53}] && one.peer.Pods != nil {
			return
		}
	}
	for _, peer := range p.dns {
		n.add(peer, Port{"udp", "", 53, 53})
		n.add(peer, Port{"tcp", "", 53, 53})
	}
}

// everybodyAsks: a name server that let in only who asked in this window would cut off whoever comes next.
func everybodyAsks(n *needs) {
	all := Peer{Namespaces: &Selector{}, Pods: &Selector{}}
	n.add(all, Port{"udp", "", 53, 53})
	n.add(all, Port{"tcp", "", 53, 53})
}

const (
	manyPorts     = 8     // of one peer among those that are handed out: from then on all of them are meant
	firstHanded   = 32768 // the first port that Linux hands out by itself
	manyAddresses = 4     // of one network: more, and the network is meant
	manyNetworks  = 16    // more, and everywhere is meant
	manyClients   = 4     // addresses from outside: more, and everybody is a client
	manyGroup     = 3     // workloads that a common label or namespace stands for
)

// rules puts peers with the same ports together, and shortens what they have in common.
func (p *proposer) rules(n *needs, ingress bool) []Rule {
	byPorts := map[string]*Rule{}
	for _, one := range sorted(n.peers) {
		for _, part := range p.parts(one) {
			key := fmt.Sprint(part)
			if byPorts[key] == nil {
				byPorts[key] = &Rule{Ports: part}
			}
			byPorts[key].Peers = append(byPorts[key].Peers, one.peer)
		}
	}
	rules := make([]Rule, 0, len(byPorts))
	for _, r := range sorted(byPorts) {
		r.Peers = p.shorten(r.Peers, ingress)
		rules = append(rules, *r)
	}
	return rules
}

// parts are the ports of a need as lists that may stand in one rule: Cilium divides messages of the network from ports, and
// names from all else.
func (p *proposer) parts(one *need) [][]Port {
	if one.every {
		return [][]Port{nil}
	}
	var usual, control []Port
	for _, port := range folded(one.ports) {
		if p.kind == KindCilium && !contains(transports, port.Protocol) {
			control = append(control, port)
			continue
		}
		usual = append(usual, port)
	}
	var parts [][]Port
	for _, part := range [][]Port{usual, control} {
		if len(part) > 0 {
			parts = append(parts, part)
		}
	}
	return parts
}

func folded(ports map[Port]bool) []Port {
	handed := map[string]int{}
	for q := range ports {
		if q.From >= firstHanded {
			handed[q.Protocol]++
		}
	}
	var list []Port
	for q := range ports {
		if q.From < firstHanded || handed[q.Protocol] < manyPorts {
			list = append(list, q)
		}
	}
	for protocol, n := range handed {
		if n >= manyPorts {
			list = append(list, Port{Protocol: protocol, From: firstHanded, To: 65535})
		}
	}
	return joined(list)
}

// joined makes ranges of ports that follow one another, three at least.
func joined(list []Port) []Port {
	slices.SortFunc(list, func(a, b Port) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	var out []Port
	for i := 0; i < len(list); {
		n := i + 1
		for n < len(list) && list[n].Protocol == list[i].Protocol && list[n].From != 0 && int(list[n].From) == int(list[n-1].To)+1 {
			n++
		}
		if n-i < 3 || list[i].From == 0 {
			out = append(out, list[i])
			i++
			continue
		}
		out = append(out, Port{Protocol: list[i].Protocol, From: list[i].From, To: list[n-1].To})
		i = n
	}
	return out
}

func (p *proposer) shorten(peers []Peer, ingress bool) []Peer {
	var blocks []*Block
	var rest []Peer
	byNamespace := map[string][]Peer{}
	for _, peer := range peers {
		switch {
		case peer.Block != nil:
			blocks = append(blocks, peer.Block)
		case peer.Namespaces != nil && peer.Pods != nil:
			key := peer.Namespaces.text()
			byNamespace[key] = append(byNamespace[key], peer)
		default:
			rest = append(rest, peer)
		}
	}
	var out []Peer
	for _, group := range sorted(byNamespace) {
		out = append(out, p.common(group)...)
	}
	for _, b := range merged(blocks, ingress) {
		peer := Peer{Block: b}
		if p.kind != KindKubernetes && len(b.Except) > 0 {
			peer = Peer{World: true}
		}
		out = append(out, peer)
	}
	out = append(out, rest...)
	slices.SortStableFunc(out, func(a, b Peer) int { return strings.Compare(a.text(), b.text()) })
	return slices.CompactFunc(out, func(a, b Peer) bool { return a.text() == b.text() })
}

// common says many peers of one namespace by what they alone share: a label, or the namespace itself.
func (p *proposer) common(group []Peer) []Peer {
	for i := range group {
		if len(group[i].Pods.Requirements) == 0 {
			return group[i : i+1] // the whole namespace already
		}
	}
	if len(group) < manyGroup || len(group[0].Namespaces.Requirements) == 0 {
		return group
	}
	namespace := group[0].Namespaces.Requirements[0].Values[0]
	meant := map[string]bool{}
	for _, g := range group {
		for _, m := range p.selected(namespace, g.Pods) {
			meant[m] = true
		}
	}
	if p.only(namespace, &Selector{}, meant) {
		return []Peer{{Namespaces: group[0].Namespaces, Pods: &Selector{}}}
	}
	for key, v := range sorted(p.shared(meant)) {
		if s := in(key, v); p.only(namespace, s, meant) {
			return []Peer{{Namespaces: group[0].Namespaces, Pods: s}}
		}
	}
	return group
}

func (p *proposer) shared(meant map[string]bool) map[string]string {
	var all map[string]string
	for name := range meant {
		own := p.book.workloads[name].Labels
		if all == nil {
			all = map[string]string{}
			for k, v := range own {
				if !contains(passing, k) {
					all[k] = v
				}
			}
		}
		for k, v := range all {
			if own[k] != v {
				delete(all, k)
			}
		}
	}
	return all
}

// only reports whether a selector means these of a namespace and no others; one whose labels are not known may be meant.
func (p *proposer) only(namespace string, s *Selector, meant map[string]bool) bool {
	for _, n := range p.book.names {
		w := p.book.workloads[n]
		if w.Namespace != namespace {
			continue
		}
		if fit := s.fit(labels{w.Labels, w.Labels != nil}); fit != No && !meant[n] {
			return false
		}
	}
	return true
}

// merged makes networks of many addresses, and everywhere of many networks.
func merged(blocks []*Block, ingress bool) []*Block {
	networks := map[netip.Prefix]int{}
	outside := 0
	for _, b := range blocks {
		if b.CIDR.Bits() == 0 {
			return widest(blocks)
		}
		if b.CIDR.IsSingleIP() {
			networks[networkOf(b.CIDR.Addr())]++
			outside++
		}
	}
	if ingress && outside > manyClients || len(networks) > manyNetworks {
		return everybody(blocks)
	}
	set := map[netip.Prefix]*Block{}
	for _, b := range blocks {
		c := b.CIDR
		if n := networkOf(c.Addr()); c.IsSingleIP() && networks[n] > manyAddresses {
			c = n
		}
		set[c] = &Block{CIDR: c}
	}
	out := make([]*Block, 0, len(set))
	for _, b := range set {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *Block) int { return a.CIDR.Compare(b.CIDR) })
	return out
}

func networkOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	network, _ := a.Prefix(bits)
	return network
}

func everybody(blocks []*Block) []*Block {
	public := true
	for _, b := range blocks {
		public = public && !reserved(b.CIDR)
	}
	out := []*Block{}
	for _, peer := range everywhere(public) {
		out = append(out, peer.Block)
	}
	return out
}

// widest keeps the whole networks, and what is in their exceptions.
func widest(blocks []*Block) []*Block {
	var out []*Block
	for _, b := range blocks {
		if b.CIDR.Bits() == 0 && !slices.ContainsFunc(blocks, func(o *Block) bool { return o != b && o.CIDR == b.CIDR && len(o.Except) < len(b.Except) }) {
			out = append(out, b)
		}
	}
	for _, b := range blocks {
		if b.CIDR.Bits() != 0 && !slices.ContainsFunc(out, func(o *Block) bool { return o.Contains(b.CIDR.Addr()) }) {
			out = append(out, b)
		}
	}
	return out
}
