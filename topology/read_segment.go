package topology

import (
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"

	"bulkhead/rule/document"
)

// segment reads the spec of Bulkhead's own policy: for whom, and what comes in and goes out. A direction that is
// not written is not closed.
func (r *reader) segment(p document.Place, q *Policy) {
	r.Fields(p, map[string]func(document.Place){
		"for":     func(v document.Place) { q.Subject = r.segmentPeer(v, false) },
		"ingress": func(l document.Place) { q.Ingress, q.In = true, r.segmentRules(l, "from") },
		"egress":  func(l document.Place) { q.Egress, q.Out = true, r.segmentRules(l, "to") },
	})
	if q.Subject == (Peer{}) {
		r.Wrong(p, "write for: with workload, namespace or labels", "a Segment that is for nobody")
	}
	if !q.Ingress && !q.Egress {
		r.Wrong(p, "write ingress, egress or both; an empty list closes it", "a Segment that closes nothing")
	}
}

func (r *reader) segmentRules(p document.Place, peers string) (rules []Rule) {
	if p.Node.Tag == "!!null" {
		return nil
	}
	r.List(p, maxItems, func(item document.Place) {
		rule := Rule{Line: item.Node.Line}
		r.Fields(item, map[string]func(document.Place){
			peers: func(l document.Place) {
				rule.Peers = []Peer{}
				r.List(l, maxItems, func(v document.Place) { rule.Peers = append(rule.Peers, r.segmentPeer(v, true)) })
			},
			"ports": func(l document.Place) { rule.Ports = r.segmentPorts(l) },
		})
		rules = append(rules, rule)
	})
	return rules
}

func (r *reader) segmentPeer(p document.Place, outside bool) (q Peer) {
	readers := map[string]func(document.Place){
		"workload":  func(v document.Place) { q.Workload = r.text(v) },
		"namespace": func(v document.Place) { q.Namespace = r.text(v) },
		"labels":    func(v document.Place) { q.Pods = &Selector{}; r.matchLabels(v, q.Pods) },
	}
	kinds := 0
	if outside {
		readers["host"] = func(v document.Place) { q.Host = r.truth(v); kinds++ }
		readers["world"] = func(v document.Place) { q.World = r.truth(v); kinds++ }
		readers["name"] = func(v document.Place) { q.Domain = r.text(v); kinds++ }
		readers["cidr"] = func(v document.Place) { q.Block = &Block{CIDR: r.prefix(v)}; kinds++ }
	}
	r.Fields(p, readers)
	if q.Workload != "" || q.Namespace != "" || q.Pods != nil {
		kinds++
	}
	if kinds != 1 {
		r.Wrong(p, "write workload, namespace and labels together, or one of host, world, name, cidr", "a peer must be one kind of thing")
	}
	return q
}

func (r *reader) text(p document.Place) (s string) {
	r.Decode(p, &s)
	if s == "" || len(s) > maxName || strings.Count(s, "*") > 8 {
		r.Wrong(p, "write a name; at most 8 * stand for any characters", "%.80q is no name", s)
	}
	return s
}

func (r *reader) truth(p document.Place) (b bool) {
	r.Decode(p, &b)
	if !b {
		r.Wrong(p, "write true, or leave it out", "here only true has a meaning")
	}
	return b
}

var segmentProtocols = []string{"tcp", "udp", "sctp", "icmp", "icmpv6"}

// segmentPorts are written as a person says them: tcp/443, udp/30000-30010, tcp, icmp.
func (r *reader) segmentPorts(p document.Place) []Port {
	ports := []Port{}
	r.List(p, maxItems, func(item document.Place) {
		var text string
		if !r.Decode(item, &text) {
			return
		}
		if port, ok := parsePort(text); ok {
			ports = append(ports, port)
			return
		}
		r.Wrong(item, "write PROTOCOL, PROTOCOL/PORT or PROTOCOL/FROM-TO, as tcp/443", "%.80q is no port", text)
	})
	return ports
}

func parsePort(text string) (q Port, ok bool) {
	protocol, numbers, has := strings.Cut(text, "/")
	if n, err := strconv.Atoi(protocol); !contains(segmentProtocols, protocol) && (err != nil || n < 0 || n > 255 || strconv.Itoa(n) != protocol) {
		return q, false
	}
	q.Protocol = protocol
	if !has {
		return q, true
	}
	from, to, ranged := strings.Cut(numbers, "-")
	if !ranged {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	q.From, q.To = uint16(a), uint16(b)
	return q, errA == nil && errB == nil && a > 0 && a <= b
}

// sorted goes through a map in the order of its keys, so that what is written is always the same.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
