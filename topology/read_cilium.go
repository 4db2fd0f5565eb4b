package topology

import (
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/rule/document"
)

// cilium reads the part of a CiliumNetworkPolicy that is about who and which port. What goes further (layer 7,
// deny rules, services, groups) is refused: a policy that is half understood would be judged wrongly.
func (r *reader) cilium(p document.Place, q *Policy) {
	q.Subject = Peer{Namespace: q.Namespace, Pods: &Selector{}}
	had := false
	r.Fields(p, map[string]func(document.Place){
		"description":      func(document.Place) {},
		"endpointSelector": func(v document.Place) { had = true; q.Subject = r.endpoints(v, q) },
		"ingress":          func(l document.Place) { q.In, q.Ingress = r.ciliumRules(l, q, "from"), len(l.Node.Content) > 0 },
		"egress":           func(l document.Place) { q.Out, q.Egress = r.ciliumRules(l, q, "to"), len(l.Node.Content) > 0 },
	})
	if !had {
		r.Wrong(p, "write endpointSelector: {} for every pod", "endpointSelector is missing")
	}
}

// ciliumRules: a rule that says nothing lets nobody through, it only closes the direction.
func (r *reader) ciliumRules(p document.Place, q *Policy, side string) (rules []Rule) {
	if p.Node.Tag == "!!null" {
		return nil
	}
	r.List(p, maxItems, func(item document.Place) {
		rule, set := Rule{Line: item.Node.Line}, false
		peers := func(read func(document.Place) []Peer) func(document.Place) {
			return func(l document.Place) {
				if set = true; rule.Peers == nil {
					rule.Peers = []Peer{}
				}
				r.List(l, maxItems, func(v document.Place) { rule.Peers = append(rule.Peers, read(v)...) })
			}
		}
		readers := map[string]func(document.Place){
			side + "Endpoints": peers(func(v document.Place) []Peer { return []Peer{r.endpoints(v, q)} }),
			side + "Entities":  peers(r.entity),
			side + "CIDR":      peers(func(v document.Place) []Peer { return []Peer{{Block: &Block{CIDR: r.ciliumPrefix(v)}}} }),
			side + "CIDRSet":   peers(func(v document.Place) []Peer { return []Peer{{Block: r.block(v)}} }),
			"toPorts":          func(l document.Place) { set = true; rule.Ports = append(rule.Ports, r.ciliumPorts(l)...) },
			"icmps":            func(l document.Place) { set = true; rule.Ports = append(rule.Ports, r.icmps(l)...) },
		}
		if side == "to" {
			readers["toFQDNs"] = peers(func(v document.Place) []Peer { return []Peer{r.fqdn(v)} })
		}
		r.Fields(item, readers)
		if !set {
			rule.Peers = []Peer{}
		}
		rules = append(rules, rule)
	})
	return rules
}

func (r *reader) ciliumPrefix(p document.Place) netip.Prefix {
	if a, err := netip.ParseAddr(p.Node.Value); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen())
	}
	return r.prefix(p)
}

const (
	ciliumNamespace       = "io.kubernetes.pod.namespace"
	ciliumNamespaceLabels = "io.cilium.k8s.namespace.labels."
)

// endpoints is a selector in which the namespace is a label. Where it says nothing of namespaces it means its own.
func (r *reader) endpoints(p document.Place, q *Policy) Peer {
	all := r.selector(p)
	peer := Peer{Pods: &Selector{}}
	for _, need := range all.Requirements {
		for _, source := range []string{"k8s:", "any:", "k8s.", "any."} {
			need.Key = strings.TrimPrefix(need.Key, source)
		}
		if label, ok := strings.CutPrefix(need.Key, ciliumNamespaceLabels); ok {
			need.Key = label
		} else if need.Key == ciliumNamespace {
			need.Key = nameLabel
		} else {
			peer.Pods.Requirements = append(peer.Pods.Requirements, need)
			continue
		}
		if peer.Namespaces == nil {
			peer.Namespaces = &Selector{}
		}
		peer.Namespaces.Requirements = append(peer.Namespaces.Requirements, need)
	}
	switch {
	case peer.Namespaces != nil:
	case q.Kind == KindCiliumWide:
		peer.Namespaces = &Selector{}
	default:
		peer.Namespace = q.Namespace
	}
	return peer
}

func (r *reader) entity(p document.Place) []Peer {
	switch p.Node.Value {
	case "all":
		return []Peer{{Everybody: true}}
	case "world":
		return []Peer{{World: true}}
	case "world-ipv4":
		return []Peer{{Block: &Block{CIDR: netip.MustParsePrefix("0.0.0.0/0")}}}
	case "world-ipv6":
		return []Peer{{Block: &Block{CIDR: netip.MustParsePrefix("::/0")}}}
	case "host", "remote-node", "kube-apiserver":
		return []Peer{{Host: true}}
	case "cluster":
		return []Peer{{Cluster: true}}
	}
	r.Wrong(p, "write all, world, world-ipv4, world-ipv6, host, remote-node, kube-apiserver or cluster", "entity %.40q is not known here", p.Node.Value)
	return nil
}

func (r *reader) fqdn(p document.Place) (q Peer) {
	r.Fields(p, map[string]func(document.Place){
		"matchName":    func(v document.Place) { q.Domain = r.text(v) },
		"matchPattern": func(v document.Place) { q.Domain = r.text(v) },
	})
	if q.Domain == "" {
		r.Wrong(p, "write matchName or matchPattern", "a name is missing")
	}
	return q
}

var ciliumProtocols = []string{"tcp", "udp", "sctp", "any"}

func (r *reader) ciliumPorts(p document.Place) (ports []Port) {
	r.List(p, maxItems, func(item document.Place) {
		r.Fields(item, map[string]func(document.Place){
			"ports": func(l document.Place) {
				r.List(l, maxItems, func(v document.Place) { ports = append(ports, r.ciliumPort(v)...) })
			},
			"rules": r.onlyDNS,
		})
	})
	return ports
}

// onlyDNS: rules on names that are asked let Cilium learn addresses; they are read only where they let all names through.
func (r *reader) onlyDNS(p document.Place) {
	r.Fields(p, map[string]func(document.Place){"dns": func(l document.Place) {
		r.List(l, maxItems, func(v document.Place) {
			if q := r.fqdn(v); q.Domain != "*" {
				r.Wrong(v, `write matchPattern: "*"`, "rules on the names that are asked are not judged")
			}
		})
	}})
}

func (r *reader) ciliumPort(p document.Place) []Port {
	q, end := Port{Protocol: "any"}, 0
	r.Fields(p, map[string]func(document.Place){
		"port": func(v document.Place) {
			if n, err := strconv.Atoi(v.Node.Value); err == nil {
				if n != 0 {
					r.number(v, &q, n)
				}
				return
			}
			r.port(v, &q)
		},
		"endPort":  func(v document.Place) { r.Decode(v, &end) },
		"protocol": func(v document.Place) { q.Protocol = r.protocol(v, ciliumProtocols) },
	})
	r.endPort(p, &q, end)
	if q.Protocol != "any" {
		return []Port{q}
	}
	all := make([]Port, 0, len(transports))
	for _, t := range transports {
		q.Protocol = t
		all = append(all, q)
	}
	return all
}

// icmps are kinds of messages; edges do not tell which, so one that is named stands for all of its family.
func (r *reader) icmps(p document.Place) (ports []Port) {
	r.List(p, maxItems, func(item document.Place) {
		r.Fields(item, map[string]func(document.Place){"fields": func(l document.Place) {
			r.List(l, maxItems, func(v document.Place) { ports = append(ports, r.icmp(v)) })
		}})
	})
	return ports
}

func (r *reader) icmp(p document.Place) Port {
	q := Port{Protocol: "icmp"}
	r.Fields(p, map[string]func(document.Place){
		"type": func(document.Place) {},
		"family": func(v document.Place) {
			if v.Node.Value == "IPv6" {
				q.Protocol = "icmpv6"
			} else if v.Node.Value != "IPv4" {
				r.Wrong(v, "write IPv4 or IPv6", "family %.40q is not known", v.Node.Value)
			}
		},
	})
	return q
}
