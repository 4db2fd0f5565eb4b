package topology

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WritePolicies writes policies in the form of their kind, one YAML document each. What it writes, [ReadPolicies] reads
// as the same.
func WritePolicies(w io.Writer, policies []Policy) error {
	for i := range policies {
		if _, err := io.WriteString(w, "---\n"); err != nil {
			return err
		}
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		if err := e.Encode(form(&policies[i])); err != nil {
			return fmt.Errorf("writing %s: %w", &policies[i], err)
		}
		if err := e.Close(); err != nil {
			return err
		}
	}
	return nil
}

// entry keeps fields in the order in which they are written.
type entry struct {
	key   string
	value any
}

type object []entry

// MarshalYAML implements yaml.Marshaler.
func (o object) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, e := range o {
		var key, value yaml.Node
		if err := key.Encode(e.key); err != nil {
			return nil, err
		}
		if err := value.Encode(e.value); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &key, &value)
	}
	return n, nil
}

func form(p *Policy) object {
	meta := object{{"name", p.Name}}
	if p.Namespace != "" {
		meta = append(meta, entry{"namespace", p.Namespace})
	}
	version, spec := "bulkhead/v1", segmentSpec
	switch p.Kind {
	case KindKubernetes:
		version, spec = "networking.k8s.io/v1", kubernetesSpec
	case KindCilium:
		version, spec = "cilium.io/v2", ciliumSpec
	}
	return object{{"apiVersion", version}, {"kind", p.Kind}, {"metadata", meta}, {"spec", spec(p)}}
}

func kubernetesSpec(p *Policy) object {
	spec := object{{"podSelector", selectorOf(p.Subject.Pods)}}
	types := []string{}
	if p.Ingress {
		types = append(types, "Ingress")
	}
	if p.Egress {
		types = append(types, "Egress")
	}
	spec = append(spec, entry{"policyTypes", types})
	if len(p.In) > 0 {
		spec = append(spec, entry{"ingress", kubernetesRulesOf(p, p.In, "from")})
	}
	if len(p.Out) > 0 {
		spec = append(spec, entry{"egress", kubernetesRulesOf(p, p.Out, "to")})
	}
	return spec
}

func kubernetesRulesOf(p *Policy, rules []Rule, side string) []object {
	out := make([]object, 0, len(rules))
	for _, r := range rules {
		o := object{}
		if len(r.Peers) > 0 {
			peers := make([]object, 0, len(r.Peers))
			for _, q := range r.Peers {
				peers = append(peers, kubernetesPeer(p, q))
			}
			o = append(o, entry{side, peers})
		}
		if len(r.Ports) > 0 {
			o = append(o, entry{"ports", each(r.Ports, kubernetesPort)})
		}
		out = append(out, o)
	}
	return out
}

// kubernetesPeer leaves the namespace out where it is the policy's own.
func kubernetesPeer(p *Policy, q Peer) object {
	if q.Block != nil {
		return object{{"ipBlock", blockOf(q.Block)}}
	}
	if q.Namespaces == nil || only1(q.Namespaces, nameLabel) == p.Namespace {
		return object{{"podSelector", selectorOf(q.Pods)}}
	}
	o := object{{"namespaceSelector", selectorOf(q.Namespaces)}}
	if q.Pods != nil && len(q.Pods.Requirements) > 0 {
		o = append(o, entry{"podSelector", selectorOf(q.Pods)})
	}
	return o
}

// only1 is the one value that a selector wants of one label and of nothing else.
func only1(s *Selector, key string) string {
	if len(s.Requirements) == 1 && s.Requirements[0].Key == key && s.Requirements[0].Operator == "In" && len(s.Requirements[0].Values) == 1 {
		return s.Requirements[0].Values[0]
	}
	return ""
}

func blockOf(b *Block) object {
	o := object{{"cidr", b.CIDR.String()}}
	if len(b.Except) > 0 {
		o = append(o, entry{"except", each(b.Except, netip.Prefix.String)})
	}
	return o
}

func each[T, V any](list []T, f func(T) V) []V {
	out := make([]V, 0, len(list))
	for _, one := range list {
		out = append(out, f(one))
	}
	return out
}

func kubernetesPort(q Port) object {
	o := object{{"protocol", strings.ToUpper(q.Protocol)}}
	switch {
	case q.Name != "":
		return append(o, entry{"port", q.Name})
	case q.From == 0:
		return o
	}
	o = append(o, entry{"port", int(q.From)})
	if q.To > q.From {
		o = append(o, entry{"endPort", int(q.To)})
	}
	return o
}

func selectorOf(s *Selector) object {
	return selectorWith(s, func(key string) string { return key })
}

func selectorWith(s *Selector, name func(string) string) object {
	match, rest := object{}, []object{}
	if s == nil {
		return match
	}
	for _, r := range s.Requirements {
		if r.Operator == "In" && len(r.Values) == 1 {
			match = append(match, entry{name(r.Key), r.Values[0]})
			continue
		}
		o := object{{"key", name(r.Key)}, {"operator", r.Operator}}
		if len(r.Values) > 0 {
			o = append(o, entry{"values", r.Values})
		}
		rest = append(rest, o)
	}
	out := object{}
	if len(match) > 0 {
		out = append(out, entry{"matchLabels", match})
	}
	if len(rest) > 0 {
		out = append(out, entry{"matchExpressions", rest})
	}
	return out
}

func ciliumSpec(p *Policy) object {
	spec := object{{"endpointSelector", selectorWith(p.Subject.Pods, ciliumLabel)}}
	if p.Ingress {
		spec = append(spec, entry{"ingress", ciliumRulesOf(p, p.In, "from")})
	}
	if p.Egress {
		spec = append(spec, entry{"egress", ciliumRulesOf(p, p.Out, "to")})
	}
	return spec
}

func ciliumLabel(key string) string { return "k8s:" + key }

// ciliumRulesOf writes a rule for each kind of peer: Cilium lets no two stand in one. An empty rule closes the direction.
func ciliumRulesOf(p *Policy, rules []Rule, side string) []object {
	out := []object{}
	for _, r := range rules {
		for _, kind := range ciliumKinds {
			if peers := ciliumPeers(r.Peers, kind.of); len(peers) > 0 {
				out = append(out, append(object{{side + kind.name, peers}}, ciliumPortsOf(r.Ports, side == "to")...))
			}
		}
		if r.Peers == nil {
			out = append(out, ciliumPortsOf(r.Ports, false))
		}
	}
	if len(out) == 0 {
		out = append(out, object{})
	}
	return out
}

var ciliumKinds = []struct {
	name string
	of   func(Peer) any // nil: another kind
}{
	{"Endpoints", func(q Peer) any {
		if q.Pods == nil {
			return nil
		}
		return ciliumEndpoints(q)
	}},
	{"Entities", func(q Peer) any {
		switch {
		case q.World:
			return []string{"world"}
		case q.Host:
			return []string{"host", "remote-node", "kube-apiserver"}
		case q.Cluster:
			return []string{"cluster"}
		case q.Block != nil && q.Block.CIDR.Bits() == 0 && len(q.Block.Except) == 0:
			return []string{"world"}
		}
		return nil
	}},
	{"CIDRSet", func(q Peer) any {
		if q.Block == nil || q.Block.CIDR.Bits() == 0 && len(q.Block.Except) == 0 {
			return nil
		}
		return blockOf(q.Block)
	}},
	{"FQDNs", func(q Peer) any {
		switch {
		case q.Domain == "":
			return nil
		case strings.Contains(q.Domain, "*"):
			return object{{"matchPattern", q.Domain}}
		}
		return object{{"matchName", q.Domain}}
	}},
}

func ciliumEndpoints(q Peer) object {
	s := Selector{}
	if q.Namespaces != nil {
		need := Requirement{Key: ciliumNamespace, Operator: "Exists"}
		if name := only1(q.Namespaces, nameLabel); name != "" {
			need = in(ciliumNamespace, name).Requirements[0]
		}
		s.Requirements = append(s.Requirements, need)
	}
	s.Requirements = append(s.Requirements, q.Pods.Requirements...)
	return selectorWith(&s, ciliumLabel)
}

func ciliumPeers(peers []Peer, of func(Peer) any) []any {
	out := []any{}
	seen := map[string]bool{}
	for _, q := range peers {
		switch one := of(q).(type) {
		case nil:
		case []string:
			for _, name := range one {
				if !seen[name] {
					seen[name] = true
					out = append(out, name)
				}
			}
		default:
			out = append(out, one)
		}
	}
	return out
}

// ciliumPortsOf: messages of the network have a list of their own. Where names are asked all are let through, so that
// Cilium learns the addresses of those that egress is by.
func ciliumPortsOf(ports []Port, names bool) object {
	var usual, control []object
	asks := false
	for _, q := range ports {
		if !contains(transports, q.Protocol) {
			control = append(control, ciliumMessage(q))
			continue
		}
		usual = append(usual, ciliumPortOf(q))
		asks = asks || q.From == 53
	}
	o := object{}
	if len(usual) > 0 {
		all := object{{"ports", usual}}
		if names && asks && len(usual) <= 2 {
			all = append(all, entry{"rules", object{{"dns", []object{{{"matchPattern", "*"}}}}}})
		}
		o = append(o, entry{"toPorts", []object{all}})
	}
	if len(control) > 0 {
		o = append(o, entry{"icmps", []object{{{"fields", control}}}})
	}
	return o
}

func ciliumPortOf(q Port) object {
	port := q.Name
	if port == "" {
		port = strconv.Itoa(int(q.From))
	}
	o := object{{"port", port}, {"protocol", strings.ToUpper(q.Protocol)}}
	if q.To > q.From {
		o = append(o, entry{"endPort", int(q.To)})
	}
	return o
}

// ciliumMessage is the echo request of a family: edges do not tell which messages were seen.
func ciliumMessage(q Port) object {
	if q.Protocol == "icmpv6" {
		return object{{"family", "IPv6"}, {"type", 128}}
	}
	return object{{"family", "IPv4"}, {"type", 8}}
}

func segmentSpec(p *Policy) object {
	spec := object{{"for", segmentPeerOf(p.Subject)}}
	if p.Ingress {
		spec = append(spec, entry{"ingress", segmentRulesOf(p.In, "from")})
	}
	if p.Egress {
		spec = append(spec, entry{"egress", segmentRulesOf(p.Out, "to")})
	}
	return spec
}

func segmentRulesOf(rules []Rule, side string) []object {
	return each(rules, func(r Rule) object {
		o := object{}
		if r.Peers != nil {
			o = append(o, entry{side, each(r.Peers, segmentPeerOf)})
		}
		if r.Ports != nil {
			o = append(o, entry{"ports", each(r.Ports, segmentPort)})
		}
		return o
	})
}

func segmentPort(q Port) string {
	switch {
	case q.From == 0:
		return q.Protocol
	case q.To > q.From:
		return fmt.Sprintf("%s/%d-%d", q.Protocol, q.From, q.To)
	}
	return fmt.Sprintf("%s/%d", q.Protocol, q.From)
}

func segmentPeerOf(q Peer) object {
	switch {
	case q.Host:
		return object{{"host", true}}
	case q.World:
		return object{{"world", true}}
	case q.Domain != "":
		return object{{"name", q.Domain}}
	case q.Block != nil:
		return object{{"cidr", q.Block.CIDR.String()}}
	}
	o := object{}
	if q.Workload != "" {
		o = append(o, entry{"workload", q.Workload})
	}
	if q.Namespace != "" {
		o = append(o, entry{"namespace", q.Namespace})
	}
	if q.Pods != nil {
		match := object{}
		for _, r := range q.Pods.Requirements {
			match = append(match, entry{r.Key, r.Values[0]})
		}
		o = append(o, entry{"labels", match})
	}
	return o
}
