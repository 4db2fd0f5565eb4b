package topology

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Fit is the answer to a question that what is known may not decide.
type Fit int

// The answers, in rising order: the greater wins among alternatives, the lesser among conditions.
const (
	No Fit = iota
	Maybe
	Yes
)

// Policy is a policy of any kind, in the terms in which it is judged.
type Policy struct {
	Kind      string // "NetworkPolicy", "CiliumNetworkPolicy", "Segment"
	Namespace string
	Name      string
	File      string
	Line      int
	Text      string // the document, as YAML; empty for a policy that was made and not read
	Subject   Peer   // whom it is for
	Ingress   bool   // it closes what comes in, but for In
	Egress    bool   // it closes what goes out, but for Out
	In, Out   []Rule
}

// String names a policy for a person.
func (p *Policy) String() string {
	if p.Namespace == "" {
		return p.Kind + " " + p.Name
	}
	return p.Kind + " " + p.Namespace + "/" + p.Name
}

// Rule lets peers use ports.
type Rule struct {
	Line  int
	Peers []Peer // nil: everybody; empty: nobody
	Ports []Port // nil: every port of every protocol
}

// Port is a port or a range of one protocol.
type Port struct {
	Protocol string // "tcp", "udp", "sctp", …; "": every protocol
	Name     string // a name of the destination's
	From, To uint16 // 0, 0 with no Name: every port
}

// Peer says who is meant. What is set must all be true.
type Peer struct {
	Everybody  bool
	Namespace  string    // this one
	Namespaces *Selector // or those with such labels
	Pods       *Selector
	Workload   string // a name, or a pattern with *
	Host       bool   // a node
	World      bool   // whatever is outside the cluster
	Cluster    bool   // whatever is inside
	Domain     string // a domain name, or a pattern with *
	Block      *Block
}

// Block is a network without parts of it.
type Block struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Contains reports whether an address is of the network and in none of its exceptions.
func (b *Block) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !b.CIDR.Contains(a) {
		return false
	}
	for _, e := range b.Except {
		if e.Contains(a) {
			return false
		}
	}
	return true
}

// holds reports whether a network is of the block whole. The block's own prefixes must be among those that the network was
// cut out by.
func (b *Block) holds(n netip.Prefix) bool {
	return inside(b.CIDR, n) && !slices.ContainsFunc(b.Except, func(e netip.Prefix) bool { return inside(e, n) })
}

func inside(whole, part netip.Prefix) bool {
	return whole.Bits() <= part.Bits() && whole.Contains(part.Addr())
}

// Selector chooses by labels.
type Selector struct{ Requirements []Requirement }

// Requirement is one condition on labels.
type Requirement struct {
	Key      string
	Operator string // In, NotIn, Exists, DoesNotExist
	Values   []string
}

// labels may be only those that are known.
type labels struct {
	known    map[string]string
	complete bool
}

func (s *Selector) fit(l labels) Fit {
	fit := Yes
	for i := range s.Requirements {
		fit = min(fit, s.Requirements[i].fit(l))
	}
	return fit
}

func (r *Requirement) fit(l labels) Fit {
	value, has := l.known[r.Key]
	if !has && !l.complete {
		return Maybe
	}
	switch r.Operator {
	case "In":
		return yes(has && contains(r.Values, value))
	case "NotIn":
		return yes(!has || !contains(r.Values, value))
	case "Exists":
		return yes(has)
	}
	return yes(!has)
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func yes(b bool) Fit {
	if b {
		return Yes
	}
	return No
}

// pattern reports whether a name matches a pattern in which * stands for any characters.
func pattern(p, name string) bool {
	if !strings.Contains(p, "*") {
		return p == name
	}
	parts := strings.Split(p, "*")
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(name, part)
		if i < 0 {
			return false
		}
		name = name[i+len(part):]
	}
	return strings.HasSuffix(name, last)
}

// MatchesDomain reports whether a name is one that a policy's domain means.
func MatchesDomain(pattern, name string) bool { return domain(pattern, name) }

// domain compares names as DNS does: without case and the dot at the end.
func domain(p, name string) bool {
	return pattern(strings.ToLower(strings.TrimSuffix(p, ".")), strings.ToLower(strings.TrimSuffix(name, ".")))
}

// place says where a policy or rule stands.
func (p *Policy) place(line int) string {
	if p.File == "" {
		return p.String()
	}
	return fmt.Sprintf("%s (%s:%d)", p, path.Base(p.File), line)
}
