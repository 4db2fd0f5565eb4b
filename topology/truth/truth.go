// Package truth has the cases that tell whether an engine means by a NetworkPolicy what Kubernetes does: every combination of
// what a policy can say, and a judge that is written from the text of the API's reference, on the JSON itself. Start with [Sets]
// and [NewJudge].
//
// It promises to share no line with the engines that are held against it. It is not for programs: tests alone import it.
package truth

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"strings"
)

// Pod is a pod, or an address outside where Namespace is empty.
type Pod struct{ Namespace, Name, Address string }

// Workload is the pod's workload.
func (p Pod) Workload() string { return fmt.Sprintf("%s/pod/%s/main", p.Namespace, p.Name) }

// Labels are the pod's; its namespace has the label ns.
func (p Pod) Labels() map[string]string { return map[string]string{"pod": p.Name} }

// Namespaces have the pods a, b and c each.
var Namespaces = []string{"x", "y", "z"}

// Pods are 3 namespaces of 3 pods, and two addresses outside.
func Pods(six bool) (pods []Pod) {
	for n, namespace := range Namespaces {
		for i, name := range []string{"a", "b", "c"} {
			address := fmt.Sprintf("10.0.%d.%d", n+1, i+1)
			if six {
				address = fmt.Sprintf("fd00:0:0:%d::%d", n+1, i+1)
			}
			pods = append(pods, Pod{namespace, name, address})
		}
	}
	for _, a := range []string{"192.0.2.1", "10.0.1.200"} {
		if six {
			a = map[string]string{"192.0.2.1": "2001:db8::1", "10.0.1.200": "fd00:0:0:1::200"}[a]
		}
		pods = append(pods, Pod{Address: a})
	}
	return pods
}

// Port is one that a connection may go to.
type Port struct {
	Protocol string // "tcp", "udp", "sctp"
	Number   uint16
}

// Ports are those that the policies tell apart; serve-80-tcp and serve-81-udp are names of two of them.
var Ports = []Port{{"tcp", 80}, {"tcp", 81}, {"udp", 80}, {"udp", 81}, {"sctp", 82}}

var (
	selectors = []string{
		`{}`, `{"matchLabels":{"pod":"a"}}`, `{"matchLabels":{"none":"a"}}`,
		`{"matchExpressions":[{"key":"pod","operator":"In","values":["a","b"]}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"NotIn","values":["a"]}]}`,
		`{"matchExpressions":[{"key":"absent","operator":"NotIn","values":["a"]}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"Exists"}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"DoesNotExist"}]}`,
		`{"matchLabels":{"pod":"b"},"matchExpressions":[{"key":"pod","operator":"NotIn","values":["a"]}]}`,
	}
	namespaces = []string{
		`{}`, `{"matchLabels":{"ns":"y"}}`, `{"matchLabels":{"kubernetes.io/metadata.name":"z"}}`,
		`{"matchExpressions":[{"key":"ns","operator":"NotIn","values":["x"]}]}`, `{"matchExpressions":[{"key":"ns","operator":"DoesNotExist"}]}`,
	}
	blocks = map[bool][]string{
		false: {
			`{"cidr":"0.0.0.0/0"}`, `{"cidr":"10.0.0.0/16"}`, `{"cidr":"10.0.1.0/24","except":["10.0.1.2/32"]}`, `{"cidr":"192.0.2.1/32"}`,
			`{"cidr":"0.0.0.0/0","except":["10.0.0.0/8","192.0.2.0/24"]}`, `{"cidr":"::/0"}`, `{"cidr":"10.0.1.7/24"}`,
		},
		true: {
			`{"cidr":"::/0"}`, `{"cidr":"fd00::/48"}`, `{"cidr":"fd00:0:0:1::/64","except":["fd00:0:0:1::2/128"]}`, `{"cidr":"2001:db8::1/128"}`,
			`{"cidr":"::/0","except":["fd00::/8","2001:db8::/32"]}`, `{"cidr":"0.0.0.0/0"}`, `{"cidr":"fd00:0:0:1::7/64"}`,
		},
	}
	ports = []string{
		``, `"ports":[]`, `"ports":[{"protocol":"TCP","port":80}]`, `"ports":[{"port":81}]`, `"ports":[{"protocol":"UDP"}]`, `"ports":[{}]`,
		`"ports":[{"port":"serve-80-tcp"}]`, `"ports":[{"protocol":"UDP","port":"serve-81-udp"}]`, `"ports":[{"protocol":"UDP","port":"serve-80-tcp"}]`,
		`"ports":[{"port":80,"endPort":81}]`, `"ports":[{"protocol":"SCTP","port":82,"endPort":82}]`, `"ports":[{"port":79,"endPort":80},{"protocol":"UDP","port":81}]`,
		`"ports":[{"port":"absent"}]`,
	}
	types = []string{``, `,"policyTypes":[]`, `,"policyTypes":["Ingress"]`, `,"policyTypes":["Egress"]`, `,"policyTypes":["Ingress","Egress"]`}
)

func peersOf(six bool) (all []string) {
	all = []string{``, `%s:[]`}
	one := func(s string) { all = append(all, `%s:[`+s+`]`) }
	for _, s := range selectors {
		one(`{"podSelector":` + s + `}`)
	}
	for _, n := range namespaces {
		one(`{"namespaceSelector":` + n + `}`)
		for _, s := range selectors[:4] {
			one(`{"namespaceSelector":` + n + `,"podSelector":` + s + `}`)
		}
	}
	for _, b := range blocks[six] {
		one(`{"ipBlock":` + b + `}`)
	}
	one(`{"podSelector":{"matchLabels":{"pod":"c"}}},{"ipBlock":` + blocks[six][2] + `}`)
	return all
}

// rulesOf are the lists that may stand under ingress or egress, and their absence.
func rulesOf(six bool, field, side string) (all []string) {
	all = []string{``, `,"` + field + `":[]`, `,"` + field + `":[{}]`}
	for _, peers := range peersOf(six) {
		for _, ports := range ports {
			if peers == `` && ports == `` {
				continue
			}
			parts := []string{}
			for _, part := range []string{strings.ReplaceAll(peers, `%s`, `"`+side+`"`), ports} {
				if part != `` {
					parts = append(parts, part)
				}
			}
			all = append(all, `,"`+field+`":[{`+strings.Join(parts, ",")+`}]`)
		}
	}
	return all
}

func policyText(namespace, selector, types, in, out string) string {
	return `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"` + namespace + `"},"spec":{"podSelector":` + selector + types + in + out + `}}`
}

// Sets are policies to judge by: each rule alone in each direction under each default, the forms of nothing and everything for
// each subject, and several policies at once. One set is a list of documents in JSON.
func Sets(six bool) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		ins, outs := rulesOf(six, "ingress", "from"), rulesOf(six, "egress", "to")
		_ = alone(ins, outs, yield) && forms(ins, outs, yield) && several(ins, outs, yield)
	}
}

func alone(ins, outs []string, yield func([]string) bool) bool {
	for k, kind := range types {
		for i := range ins {
			if i%len(types) != k && k > 0 {
				continue // under the first all, under each of the others a fifth
			}
			if !yield([]string{policyText("x", selectors[1], kind, ins[i], "")}) || !yield([]string{policyText("x", selectors[i%len(selectors)], kind, "", outs[i])}) {
				return false
			}
		}
	}
	return true
}

func forms(ins, outs []string, yield func([]string) bool) bool {
	for _, selector := range selectors {
		for _, kind := range types {
			for _, in := range ins[:3] {
				for _, out := range outs[:3] {
					if !yield([]string{policyText("y", selector, kind, in, out)}) {
						return false
					}
				}
			}
		}
	}
	return true
}

func several(ins, outs []string, yield func([]string) bool) bool {
	r := rand.New(rand.NewPCG(7, 7)) // they add up
	for range 400 {
		var set []string
		for range 1 + r.IntN(4) {
			set = append(set, policyText(Namespaces[r.IntN(3)], selectors[r.IntN(len(selectors))], types[r.IntN(len(types))], ins[r.IntN(len(ins))], outs[r.IntN(len(outs))]))
		}
		if !yield(set) {
			return false
		}
	}
	return true
}

// Judge has policies as JSON has them.
type Judge []map[string]any

// NewJudge reads a set.
func NewJudge(texts []string) (s Judge, err error) {
	for _, text := range texts {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return nil, err
		}
		s = append(s, m)
	}
	return s, nil
}

func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Passes reports whether a connection passes, by the text of the API.
func (s Judge) Passes(from, to Pod, port Port) bool {
	protocol, number := strings.ToUpper(port.Protocol), int(port.Number)
	return s.direction("Egress", from, to, to, protocol, number) && s.direction("Ingress", to, from, to, protocol, number)
}

// direction: "By default, a Pod is non-isolated … If any policy selects it and has the type, it is isolated … the effects of
// those lists combine additively."
func (s Judge) direction(kind string, subject, other, destination Pod, protocol string, port int) bool {
	isolated := false
	for _, p := range s {
		if subject.Namespace == "" || dig(p, "metadata", "namespace") != subject.Namespace || !selects(dig(p, "spec", "podSelector"), subject.Labels()) {
			continue
		}
		if !hasType(p, kind) {
			continue
		}
		isolated = true
		rules, _ := dig(p, "spec", strings.ToLower(kind)).([]any)
		for _, rule := range rules {
			peers := dig(rule, map[string]string{"Ingress": "from", "Egress": "to"}[kind])
			if fromOrTo(peers, subject.Namespace, other) && portsOf(dig(rule, "ports"), destination, protocol, port) {
				return true
			}
		}
	}
	return !isolated
}

// hasType: "If this field is not specified, it will default based on the existence of ingress or egress rules; policies that
// contain an egress section are assumed to affect egress, and all policies … are assumed to affect ingress."
func hasType(p map[string]any, kind string) bool {
	types, _ := dig(p, "spec", "policyTypes").([]any)
	if len(types) > 0 {
		for _, t := range types {
			if t == kind {
				return true
			}
		}
		return false
	}
	egress, _ := dig(p, "spec", "egress").([]any)
	return kind == "Ingress" || len(egress) > 0
}

func selects(selector any, labels map[string]string) bool {
	match, _ := dig(selector, "matchLabels").(map[string]any)
	for k, v := range match {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	expressions, _ := dig(selector, "matchExpressions").([]any)
	for _, e := range expressions {
		have, exists := labels[dig(e, "key").(string)]
		listed := false
		values, _ := dig(e, "values").([]any)
		for _, v := range values {
			listed = listed || exists && v == have
		}
		ok := map[any]bool{"In": listed, "NotIn": !listed, "Exists": exists, "DoesNotExist": !exists}[dig(e, "operator")]
		if !ok {
			return false
		}
	}
	return true
}

// fromOrTo: "If this field is empty or missing, this rule matches all sources … items are combined using a logical OR."
func fromOrTo(peers any, own string, other Pod) bool {
	list, _ := peers.([]any)
	if len(list) == 0 {
		return true
	}
	for _, peer := range list {
		m := peer.(map[string]any)
		if block, ok := m["ipBlock"]; ok {
			if inBlock(block, other.Address) {
				return true
			}
			continue
		}
		if other.Namespace == "" {
			continue
		}
		namespaces, hasNamespaces := m["namespaceSelector"]
		pods, hasPods := m["podSelector"]
		inNamespace := other.Namespace == own
		if hasNamespaces {
			inNamespace = selects(namespaces, map[string]string{"ns": other.Namespace, "kubernetes.io/metadata.name": other.Namespace})
		}
		if inNamespace && (!hasPods || selects(pods, other.Labels())) {
			return true
		}
	}
	return false
}

func inBlock(block any, address string) bool {
	a := netip.MustParseAddr(address)
	if !netip.MustParsePrefix(dig(block, "cidr").(string)).Contains(a) {
		return false
	}
	except, _ := dig(block, "except").([]any)
	for _, e := range except {
		if netip.MustParsePrefix(e.(string)).Contains(a) {
			return false
		}
	}
	return true
}

// portsOf: "If this field is empty or missing, this rule matches all ports … protocol … defaults to TCP … port: if not
// provided, this matches all port names and numbers … endPort: the range from port to endPort, inclusive."
func portsOf(ports any, destination Pod, protocol string, port int) bool {
	list, _ := ports.([]any)
	if len(list) == 0 {
		return true
	}
	for _, p := range list {
		want, has := dig(p, "protocol").(string)
		if !has {
			want = "TCP"
		}
		if want != protocol {
			continue
		}
		switch n := dig(p, "port").(type) {
		case nil:
			return true
		case string:
			if destination.Namespace != "" && (n == "serve-80-tcp" && protocol == "TCP" && port == 80 || n == "serve-81-udp" && protocol == "UDP" && port == 81) {
				return true
			}
		case float64:
			end, has := dig(p, "endPort").(float64)
			if !has {
				end = n
			}
			if int(n) <= port && port <= int(end) {
				return true
			}
		}
	}
	return false
}
