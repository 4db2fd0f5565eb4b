package topology

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead/rule/document"
)

// The kinds of policies.
const (
	KindKubernetes = "NetworkPolicy"
	KindCilium     = "CiliumNetworkPolicy"
	KindCiliumWide = "CiliumClusterwideNetworkPolicy"
	KindSegment    = "Segment"
)

const (
	maxPolicyFile = 32 << 20 // bytes: a proposal for 500 workloads has one
	maxItems      = 10_000   // of one list: a policy that a person can still mean
	maxName       = 1024
)

// Documents are what was read from files.
type Documents struct {
	Policies   []Policy
	Namespaces []Namespace // documents of kind Namespace: their labels
	Texts      []string    // of those, as YAML
	Skipped    []string    // other kinds, as "KIND name"
}

// Join writes what was read as one file of documents, with the namespaces that they are in.
func (d *Documents) Join() string {
	var b strings.Builder
	for i := range d.Policies {
		fmt.Fprintf(&b, "---\n%s", d.Policies[i].Text)
	}
	for _, text := range d.Texts {
		fmt.Fprintf(&b, "---\n%s", text)
	}
	return b.String()
}

// ReadPolicies reads policies: Kubernetes NetworkPolicy, CiliumNetworkPolicy, Bulkhead's Segment, in YAML or JSON. What names
// no namespace is in the one given. Mistakes are told with file and line, all of them.
func ReadPolicies(file string, from io.Reader, namespace string) (*Documents, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxPolicyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	if len(data) > maxPolicyFile {
		return nil, fmt.Errorf("reading %s: it is larger than %d MiB; split it", file, maxPolicyFile>>20)
	}
	places, err := document.Parse(file, spaced(data))
	if err != nil {
		return nil, err
	}
	r := &reader{namespace: namespace}
	for _, p := range places {
		r.document(p)
	}
	return &r.Documents, errors.Join(r.Problems...)
}

// spaced writes JSON without tabs, which YAML does not have.
func spaced(data []byte) []byte {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 || trimmed[0] != '{' || !bytes.ContainsRune(data, '\t') {
		return data
	}
	var b bytes.Buffer
	if json.Indent(&b, trimmed, "", " ") != nil {
		return data
	}
	return b.Bytes()
}

type reader struct {
	Documents
	document.Reader
	namespace string
}

// fields are those of an object whose other fields do not matter here: metadata, and documents of other kinds.
func fields(p document.Place) map[string]document.Place {
	all := map[string]document.Place{}
	for i := 0; i+1 < len(p.Node.Content); i += 2 {
		all[p.Node.Content[i].Value] = p.At(p.Node.Content[i+1])
	}
	return all
}

func value(p document.Place, ok bool) string {
	if !ok || p.Node.Tag == "!!null" {
		return ""
	}
	return p.Node.Value
}

func (r *reader) document(p document.Place) {
	f := fields(p)
	kind, version := f["kind"], f["apiVersion"]
	if kind.Node == nil || version.Node == nil {
		r.Wrong(p, "write apiVersion and kind", "this is no document of Kubernetes or Bulkhead")
		return
	}
	switch group, _, _ := strings.Cut(version.Node.Value, "/"); {
	case kind.Node.Value == "List" || strings.HasSuffix(kind.Node.Value, "PolicyList"):
		r.items(f["items"])
	case kind.Node.Value == KindKubernetes && group == "networking.k8s.io":
		r.policy(p, KindKubernetes, r.kubernetes)
	case slices.Contains([]string{KindCilium, KindCiliumWide}, kind.Node.Value) && group == "cilium.io":
		r.policy(p, kind.Node.Value, r.cilium)
	case kind.Node.Value == KindSegment && group == "bulkhead":
		r.policy(p, KindSegment, r.segment)
	case kind.Node.Value == "Namespace" && version.Node.Value == "v1":
		r.namespaceOf(p)
	default:
		r.Skipped = append(r.Skipped, fmt.Sprintf("%s %s", kind.Node.Value, r.nameOf(f["metadata"])))
	}
}

func (r *reader) items(p document.Place) {
	if p.Node == nil {
		return
	}
	r.List(p, maxItems, func(item document.Place) {
		if r.deep(item) {
			return
		}
		r.document(item)
	})
}

// deep refuses a list in a list: documents are read one in the other no further than that.
func (r *reader) deep(p document.Place) bool {
	kind := fields(p)["kind"]
	if kind.Node == nil || !strings.HasSuffix(kind.Node.Value, "List") {
		return false
	}
	r.Wrong(p, "take the inner list out", "a list in a list")
	return true
}

func (r *reader) nameOf(meta document.Place) string {
	if meta.Node == nil {
		return ""
	}
	name, ok := fields(meta)["name"]
	return value(name, ok)
}

func (r *reader) namespaceOf(p document.Place) {
	meta := fields(p)["metadata"]
	if meta.Node == nil {
		return
	}
	n := Namespace{Name: r.nameOf(meta), Labels: map[string]string{}}
	if l, ok := fields(meta)["labels"]; ok {
		r.Decode(l, &n.Labels)
	}
	r.Namespaces, r.Texts = append(r.Namespaces, n), append(r.Texts, textOf(p))
}

// policy reads what all kinds have: metadata and spec.
func (r *reader) policy(p document.Place, kind string, spec func(document.Place, *Policy)) {
	q := Policy{Kind: kind, File: p.File, Line: p.Node.Line}
	if kind == KindKubernetes || kind == KindCilium {
		q.Namespace = r.namespace
	}
	had := false
	r.Fields(p, map[string]func(document.Place){
		"apiVersion": func(document.Place) {},
		"kind":       func(document.Place) {},
		"status":     func(document.Place) {},
		"metadata":   func(m document.Place) { r.metadata(m, &q) },
		"spec":       func(document.Place) { had = true },
		"specs":      func(s document.Place) { r.Wrong(s, "write one document for each", "specs is not read") },
	})
	if !had {
		r.Wrong(p, "write spec", "a %s without spec is for nobody", kind)
		return
	}
	if q.Name == "" {
		r.Wrong(p, "write metadata.name", "a %s has no name", kind)
	}
	spec(fields(p)["spec"], &q)
	q.Text = textOf(p)
	r.Policies = append(r.Policies, q)
}

// textOf is a document by itself, also where it stood in a list.
func textOf(p document.Place) string {
	text, err := yaml.Marshal(p.Node)
	if err != nil {
		return "" // what was parsed can be written
	}
	return string(text)
}

func (r *reader) metadata(p document.Place, q *Policy) {
	f := fields(p)
	name, hasName := f["name"]
	namespace, hasNamespace := f["namespace"]
	q.Name = value(name, hasName)
	if n := value(namespace, hasNamespace); n != "" && q.Kind != KindCiliumWide {
		q.Namespace = n
	}
	if len(q.Name) > maxName || len(q.Namespace) > maxName {
		r.Wrong(p, "write a shorter one", "a name of more than %d bytes", maxName)
	}
}

// kubernetes reads the spec of a NetworkPolicy. Which directions it closes where it does not say: ingress, and egress if
// there are rules for it.
func (r *reader) kubernetes(p document.Place, q *Policy) {
	var types []string
	hasTypes, hasEgress, hasSelector := false, false, false
	q.Subject = Peer{Namespace: q.Namespace, Pods: &Selector{}}
	r.Fields(p, map[string]func(document.Place){
		"podSelector": func(s document.Place) { hasSelector = true; q.Subject.Pods = r.selector(s) },
		"policyTypes": func(t document.Place) {
			hasTypes = r.Decode(t, &types) && len(types) > 0
			r.checkTypes(t, types)
		},
		"ingress": func(l document.Place) { q.In = r.kubernetesRules(l, q, "from") },
		"egress": func(l document.Place) {
			q.Out = r.kubernetesRules(l, q, "to")
			hasEgress = len(l.Node.Content) > 0
		},
	})
	if !hasSelector {
		r.Wrong(p, "write podSelector: {} for every pod of the namespace", "podSelector is missing")
	}
	q.Ingress, q.Egress = true, hasEgress
	if hasTypes {
		q.Ingress, q.Egress = contains(types, "Ingress"), contains(types, "Egress")
	}
}

func (r *reader) checkTypes(p document.Place, types []string) {
	for _, t := range types {
		if t != "Ingress" && t != "Egress" {
			r.Wrong(p, "write Ingress, Egress or both", "policy type %q is not known", t)
		}
	}
}

func (r *reader) kubernetesRules(p document.Place, q *Policy, peers string) (rules []Rule) {
	if p.Node.Tag == "!!null" {
		return nil
	}
	r.List(p, maxItems, func(item document.Place) {
		rule := Rule{Line: item.Node.Line}
		if item.Node.Tag == "!!null" {
			rules = append(rules, rule)
			return
		}
		r.Fields(item, map[string]func(document.Place){
			peers:   func(l document.Place) { rule.Peers = r.kubernetesPeers(l, q) },
			"ports": func(l document.Place) { rule.Ports = r.kubernetesPorts(l) },
		})
		rules = append(rules, rule)
	})
	return rules
}

func (r *reader) kubernetesPeers(p document.Place, q *Policy) (peers []Peer) {
	if p.Node.Tag == "!!null" {
		return nil
	}
	r.List(p, maxItems, func(item document.Place) {
		peer, set := Peer{}, 0
		r.Fields(item, map[string]func(document.Place){
			"podSelector":       func(s document.Place) { peer.Pods = r.selector(s); set++ },
			"namespaceSelector": func(s document.Place) { peer.Namespaces = r.selector(s); set++ },
			"ipBlock":           func(b document.Place) { peer.Block = r.block(b); set++ },
		})
		switch {
		case set == 0:
			r.Wrong(item, "write podSelector, namespaceSelector or ipBlock", "a peer that says nothing")
		case peer.Block != nil && set > 1:
			r.Wrong(item, "write two peers", "ipBlock stands alone in a peer")
		}
		if peer.Namespaces == nil && peer.Block == nil {
			peer.Namespace = q.Namespace
		}
		peers = append(peers, peer)
	})
	return peers
}

func (r *reader) selector(p document.Place) *Selector {
	s := &Selector{}
	if p.Node.Tag == "!!null" {
		return s
	}
	r.Fields(p, map[string]func(document.Place){
		"matchLabels":      func(m document.Place) { r.matchLabels(m, s) },
		"matchExpressions": func(l document.Place) { r.List(l, maxItems, func(e document.Place) { r.expression(e, s) }) },
	})
	return s
}

func (r *reader) matchLabels(p document.Place, s *Selector) {
	var all map[string]string
	if !r.Decode(p, &all) {
		return
	}
	for key, v := range sorted(all) {
		s.Requirements = append(s.Requirements, Requirement{Key: key, Operator: "In", Values: []string{v}})
	}
}

func (r *reader) expression(p document.Place, s *Selector) {
	var q Requirement
	r.Fields(p, map[string]func(document.Place){
		"key":      func(v document.Place) { r.Decode(v, &q.Key) },
		"operator": func(v document.Place) { r.Decode(v, &q.Operator) },
		"values":   func(v document.Place) { r.Decode(v, &q.Values) },
	})
	switch q.Operator {
	case "In", "NotIn":
		if len(q.Values) == 0 {
			r.Wrong(p, "write values", "%s needs values", q.Operator)
		}
	case "Exists", "DoesNotExist":
		if len(q.Values) > 0 {
			r.Wrong(p, "leave them out", "%s has no values", q.Operator)
		}
	default:
		r.Wrong(p, "write In, NotIn, Exists or DoesNotExist", "operator %q is not known", q.Operator)
	}
	if q.Key == "" {
		r.Wrong(p, "write key", "an expression without key")
	}
	s.Requirements = append(s.Requirements, q)
}

func (r *reader) block(p document.Place) *Block {
	b := &Block{}
	var except []document.Place
	r.Fields(p, map[string]func(document.Place){
		"cidr":   func(v document.Place) { b.CIDR = r.prefix(v) },
		"except": func(l document.Place) { r.List(l, maxItems, func(e document.Place) { except = append(except, e) }) },
	})
	if !b.CIDR.IsValid() && len(r.Problems) == 0 {
		r.Wrong(p, "write cidr", "ipBlock without cidr")
	}
	for _, e := range except {
		r.except(e, b)
	}
	return b
}

func (r *reader) except(p document.Place, b *Block) {
	e := r.prefix(p)
	if e.IsValid() && b.CIDR.IsValid() && (e.Bits() <= b.CIDR.Bits() || !b.CIDR.Contains(e.Addr())) {
		r.Wrong(p, "write a part of the cidr", "exception %s is not inside of %s", e, b.CIDR)
	}
	b.Except = append(b.Except, e)
}

func (r *reader) prefix(p document.Place) netip.Prefix {
	c, err := netip.ParsePrefix(p.Node.Value)
	if err != nil {
		r.Wrong(p, "write ADDRESS/BITS, as 10.0.0.0/8 or fd00::/8", "%.80q is no network", p.Node.Value)
		return netip.Prefix{}
	}
	if a := c.Addr(); a.Is4In6() && c.Bits() >= 96 {
		c = netip.PrefixFrom(a.Unmap(), c.Bits()-96)
	}
	return c.Masked()
}

var transports = []string{"tcp", "udp", "sctp"}

func (r *reader) kubernetesPorts(p document.Place) (ports []Port) {
	if p.Node.Tag == "!!null" {
		return nil
	}
	r.List(p, maxItems, func(item document.Place) {
		q := Port{Protocol: "tcp"}
		end := 0
		r.Fields(item, map[string]func(document.Place){
			"protocol": func(v document.Place) { q.Protocol = r.protocol(v, transports) },
			"port":     func(v document.Place) { r.port(v, &q) },
			"endPort":  func(v document.Place) { r.Decode(v, &end) },
		})
		r.endPort(item, &q, end)
		ports = append(ports, q)
	})
	return ports
}

func (r *reader) protocol(p document.Place, known []string) string {
	if p.Node.Tag == "!!null" {
		return "tcp"
	}
	name := strings.ToLower(p.Node.Value)
	if !contains(known, name) {
		r.Wrong(p, "write one of "+strings.ToUpper(strings.Join(known, ", ")), "protocol %.40q is not known", p.Node.Value)
	}
	return name
}

// port is a number, or the name that a container gives to one. A text of digits is what Kubernetes refuses in a port.
func (r *reader) port(p document.Place, q *Port) {
	if p.Node.Tag == "!!null" {
		return
	}
	var n int
	if p.Node.Tag == "!!int" && p.Node.Decode(&n) == nil {
		r.number(p, q, n)
		return
	}
	if name := p.Node.Value; p.Node.Tag == "!!str" && name != "" && len(name) <= 63 && strings.ContainsFunc(name, func(c rune) bool { return c >= 'a' && c <= 'z' }) {
		q.Name = name
		return
	}
	r.Wrong(p, "write a number from 1 to 65535, or the name of a container's port", "port %.40q is neither", p.Node.Value)
}

func (r *reader) number(p document.Place, q *Port, n int) {
	if n < 1 || n > 65535 {
		r.Wrong(p, "write a number from 1 to 65535", "port %d is not possible", n)
		return
	}
	q.From, q.To = uint16(n), uint16(n)
}

func (r *reader) endPort(p document.Place, q *Port, end int) {
	switch {
	case end == 0:
	case q.Name != "" || q.From == 0:
		r.Wrong(p, "write port as a number", "endPort needs a number as port")
	case end < int(q.From) || end > 65535:
		r.Wrong(p, "write a number from port to 65535", "endPort %d is not possible", end)
	default:
		q.To = uint16(end)
	}
}
