package topology

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"bulkhead"
)

// The truth table: every combination of what a NetworkPolicy can say, for 3 namespaces of 3 pods and two addresses outside,
// judged twice. The second judge is written from the text of the API's reference, on the JSON itself, with a
// pod's answer for every question; it shares no line with the first.

type pod struct{ namespace, name, address string }

func matrix(six bool) (pods []pod, record *Record) {
	record = &Record{}
	for n, namespace := range []string{"x", "y", "z"} {
		record.Namespaces = append(record.Namespaces, Namespace{namespace, map[string]string{"ns": namespace}})
		for i, name := range []string{"a", "b", "c"} {
			p := pod{namespace, name, fmt.Sprintf("10.0.%d.%d", n+1, i+1)}
			if six {
				p.address = fmt.Sprintf("fd00:0:0:%d::%d", n+1, i+1)
			}
			pods = append(pods, p)
			record.Workloads = append(record.Workloads, Workload{
				Name: p.workload(), Labels: map[string]string{"pod": name}, Addresses: addrs(p.address),
				Ports: []NamedPort{{"serve-80-tcp", "tcp", 80}, {"serve-81-udp", "udp", 81}},
			})
		}
	}
	for _, a := range []string{"192.0.2.1", "10.0.1.200"} {
		if six {
			a = map[string]string{"192.0.2.1": "2001:db8::1", "10.0.1.200": "fd00:0:0:1::200"}[a]
		}
		pods = append(pods, pod{address: a})
	}
	return pods, record
}

func (p pod) workload() string { return fmt.Sprintf("%s/pod/%s/main", p.namespace, p.name) }

func (p pod) endpoint() bulkhead.Endpoint {
	if p.namespace == "" {
		return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: p.address}
	}
	return workload(p.workload())
}

var (
	truthSelectors = []string{
		`{}`, `{"matchLabels":{"pod":"a"}}`, `{"matchLabels":{"none":"a"}}`,
		`{"matchExpressions":[{"key":"pod","operator":"In","values":["a","b"]}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"NotIn","values":["a"]}]}`,
		`{"matchExpressions":[{"key":"absent","operator":"NotIn","values":["a"]}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"Exists"}]}`,
		`{"matchExpressions":[{"key":"pod","operator":"DoesNotExist"}]}`,
		`{"matchLabels":{"pod":"b"},"matchExpressions":[{"key":"pod","operator":"NotIn","values":["a"]}]}`,
	}
	truthNamespaces = []string{
		`{}`, `{"matchLabels":{"ns":"y"}}`, `{"matchLabels":{"kubernetes.io/metadata.name":"z"}}`,
		`{"matchExpressions":[{"key":"ns","operator":"NotIn","values":["x"]}]}`, `{"matchExpressions":[{"key":"ns","operator":"DoesNotExist"}]}`,
	}
	truthBlocks = map[bool][]string{
		false: {
			`{"cidr":"0.0.0.0/0"}`, `{"cidr":"10.0.0.0/16"}`, `{"cidr":"10.0.1.0/24","except":["10.0.1.2/32"]}`, `{"cidr":"192.0.2.1/32"}`,
			`{"cidr":"0.0.0.0/0","except":["10.0.0.0/8","192.0.2.0/24"]}`, `{"cidr":"::/0"}`, `{"cidr":"10.0.1.7/24"}`,
		},
		true: {
			`{"cidr":"::/0"}`, `{"cidr":"fd00::/48"}`, `{"cidr":"fd00:0:0:1::/64","except":["fd00:0:0:1::2/128"]}`, `{"cidr":"2001:db8::1/128"}`,
			`{"cidr":"::/0","except":["fd00::/8","2001:db8::/32"]}`, `{"cidr":"0.0.0.0/0"}`, `{"cidr":"fd00:0:0:1::7/64"}`,
		},
	}
	truthPorts = []string{
		``, `"ports":[]`, `"ports":[{"protocol":"TCP","port":80}]`, `"ports":[{"port":81}]`, `"ports":[{"protocol":"UDP"}]`, `"ports":[{}]`,
		`"ports":[{"port":"serve-80-tcp"}]`, `"ports":[{"protocol":"UDP","port":"serve-81-udp"}]`, `"ports":[{"protocol":"UDP","port":"serve-80-tcp"}]`,
		`"ports":[{"port":80,"endPort":81}]`, `"ports":[{"protocol":"SCTP","port":82,"endPort":82}]`, `"ports":[{"port":79,"endPort":80},{"protocol":"UDP","port":81}]`,
		`"ports":[{"port":"absent"}]`,
	}
	truthTypes = []string{``, `,"policyTypes":[]`, `,"policyTypes":["Ingress"]`, `,"policyTypes":["Egress"]`, `,"policyTypes":["Ingress","Egress"]`}
)

func truthPeers(six bool) (all []string) {
	all = []string{``, `%s:[]`}
	one := func(s string) { all = append(all, `%s:[`+s+`]`) }
	for _, s := range truthSelectors {
		one(`{"podSelector":` + s + `}`)
	}
	for _, n := range truthNamespaces {
		one(`{"namespaceSelector":` + n + `}`)
		for _, s := range truthSelectors[:4] {
			one(`{"namespaceSelector":` + n + `,"podSelector":` + s + `}`)
		}
	}
	for _, b := range truthBlocks[six] {
		one(`{"ipBlock":` + b + `}`)
	}
	one(`{"podSelector":{"matchLabels":{"pod":"c"}}},{"ipBlock":` + truthBlocks[six][2] + `}`)
	return all
}

// truthRules are the lists that may stand under ingress or egress, and their absence.
func truthRules(six bool, field, side string) (all []string) {
	all = []string{``, `,"` + field + `":[]`, `,"` + field + `":[{}]`}
	for _, peers := range truthPeers(six) {
		for _, ports := range truthPorts {
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

func TestTruthTable(t *testing.T) {
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) { t.Parallel(); truthTable(t, six) })
	}
}

func truthTable(t *testing.T, six bool) {
	pods, record := matrix(six)
	b := &bench{t: t, pods: pods, book: record.Book()}
	ins, outs := truthRules(six, "ingress", "from"), truthRules(six, "egress", "to")
	for k, types := range truthTypes { // each rule alone, in each direction, under each default
		for i := range ins {
			if i%len(truthTypes) != k && k > 0 {
				continue // under the first all, under each of the others a fifth
			}
			b.compare(policyText("x", truthSelectors[1], types, ins[i], ""))
			b.compare(policyText("x", truthSelectors[i%len(truthSelectors)], types, "", outs[i]))
		}
	}
	for _, selector := range truthSelectors { // each subject with the forms of nothing and everything
		for _, types := range truthTypes {
			for _, in := range ins[:3] {
				for _, out := range outs[:3] {
					b.compare(policyText("y", selector, types, in, out))
				}
			}
		}
	}
	r := rand.New(rand.NewPCG(7, 7)) // several at once: they add up
	for range 400 {
		var set []string
		for range 1 + r.IntN(4) {
			set = append(set, policyText([]string{"x", "y", "z"}[r.IntN(3)], truthSelectors[r.IntN(len(truthSelectors))], truthTypes[r.IntN(len(truthTypes))], ins[r.IntN(len(ins))], outs[r.IntN(len(outs))]))
		}
		b.compare(set...)
	}
	t.Logf("%d sets of policies, %d connections judged twice, %d of them pass", b.sets, b.judged, b.passed)
}

type bench struct {
	t                    *testing.T
	pods                 []pod
	book                 *Book
	sets, judged, passed int
}

func (b *bench) compare(texts ...string) {
	b.t.Helper()
	d, err := ReadPolicies("p.json", strings.NewReader(`{"apiVersion":"v1","kind":"List","items":[`+strings.Join(texts, ",")+`]}`), "default")
	if err != nil {
		b.t.Fatalf("%s: %v", texts, err)
	}
	b.sets++
	judge := NewJudge(d.Policies, b.book)
	second := secondJudge(b.t, texts)
	for _, from := range b.pods {
		for _, to := range b.pods {
			alone := len(texts) == 1 && from.namespace != d.Policies[0].Namespace && to.namespace != d.Policies[0].Namespace
			if from.namespace == "" && to.namespace == "" || from == to || alone {
				continue
			}
			for _, port := range []struct {
				protocol string
				number   uint16
			}{{"tcp", 80}, {"tcp", 81}, {"udp", 80}, {"udp", 81}, {"sctp", 82}} {
				got := judge.Edge(bulkhead.Edge{Source: from.endpoint(), Destination: to.endpoint(), Protocol: port.protocol, Port: port.number}).Fit
				want := second.passes(from, to, strings.ToUpper(port.protocol), int(port.number))
				if b.judged++; want {
					b.passed++
				}
				if got == Maybe || (got == Yes) != want {
					b.t.Fatalf("%v -> %v %v: judged %v, by the text of the API %v, under\n%s", from, to, port, got, want, strings.Join(texts, "\n"))
				}
			}
		}
	}
}

// secondJudge has policies as JSON has them.
type second []map[string]any

func secondJudge(t *testing.T, texts []string) (s second) {
	for _, text := range texts {
		var m map[string]any
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			t.Fatal(err)
		}
		s = append(s, m)
	}
	return s
}

func dig(v any, path ...string) any {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func (s second) passes(from, to pod, protocol string, port int) bool {
	return s.direction("Egress", from, to, to, protocol, port) && s.direction("Ingress", to, from, to, protocol, port)
}

// direction: "By default, a pod is non-isolated … If any policy selects it and has the type, it is isolated … the effects of
// those lists combine additively."
func (s second) direction(kind string, subject, other, destination pod, protocol string, port int) bool {
	isolated := false
	for _, p := range s {
		if subject.namespace == "" || dig(p, "metadata", "namespace") != subject.namespace || !selects(dig(p, "spec", "podSelector"), podLabels(subject)) {
			continue
		}
		if !hasType(p, kind) {
			continue
		}
		isolated = true
		rules, _ := dig(p, "spec", strings.ToLower(kind)).([]any)
		for _, rule := range rules {
			peers := dig(rule, map[string]string{"Ingress": "from", "Egress": "to"}[kind])
			if fromOrTo(peers, subject.namespace, other) && portsOf(dig(rule, "ports"), destination, protocol, port) {
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

func podLabels(p pod) map[string]string { return map[string]string{"pod": p.name} }

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
func fromOrTo(peers any, own string, other pod) bool {
	list, _ := peers.([]any)
	if len(list) == 0 {
		return true
	}
	for _, peer := range list {
		m := peer.(map[string]any)
		if block, ok := m["ipBlock"]; ok {
			if inBlock(block, other.address) {
				return true
			}
			continue
		}
		if other.namespace == "" {
			continue
		}
		namespaces, hasNamespaces := m["namespaceSelector"]
		pods, hasPods := m["podSelector"]
		inNamespace := other.namespace == own
		if hasNamespaces {
			inNamespace = selects(namespaces, map[string]string{"ns": other.namespace, "kubernetes.io/metadata.name": other.namespace})
		}
		if inNamespace && (!hasPods || selects(pods, podLabels(other))) {
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
func portsOf(ports any, destination pod, protocol string, port int) bool {
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
			if destination.namespace != "" && (n == "serve-80-tcp" && protocol == "TCP" && port == 80 || n == "serve-81-udp" && protocol == "UDP" && port == 81) {
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
