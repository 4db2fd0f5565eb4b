package topology

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n"

// TestMistakes: each is told with its line.
func TestMistakes(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown field":   {head + "  ingres: []\n", `p.yaml:6:3: unknown field "ingres"`},
		"no selector":     {strings.ReplaceAll(head, "  podSelector: {}\n", "  ingress: []\n"), "p.yaml:5:3: podSelector is missing"},
		"type":            {head + "  policyTypes: [ingress]\n", `p.yaml:6:16: policy type "ingress" is not known`},
		"cidr":            {head + "  egress:\n  - to:\n    - ipBlock: {cidr: 10.0.0.1}\n", `p.yaml:8:23: "10.0.0.1" is no network`},
		"except":          {head + "  egress:\n  - to:\n    - ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}\n", "p.yaml:8:44: exception 11.0.0.0/16 is not inside of 10.0.0.0/8"},
		"block and pods":  {head + "  egress:\n  - to:\n    - ipBlock: {cidr: 10.0.0.0/8}\n      podSelector: {}\n", "p.yaml:8:7: ipBlock stands alone in a peer"},
		"empty peer":      {head + "  egress:\n  - to:\n    - {}\n", "p.yaml:8:7: a peer that says nothing"},
		"port":            {head + "  egress:\n  - ports:\n    - port: 70000\n", "p.yaml:8:13: port 70000 is not possible"},
		"port as text":    {head + "  egress:\n  - ports:\n    - port: \"80\"\n", `p.yaml:8:13: port "80" is neither`},
		"endPort":         {head + "  egress:\n  - ports:\n    - {port: 80, endPort: 79}\n", "p.yaml:8:7: endPort 79 is not possible"},
		"endPort of name": {head + "  egress:\n  - ports:\n    - {port: web, endPort: 79}\n", "p.yaml:8:7: endPort needs a number as port"},
		"protocol":        {head + "  egress:\n  - ports:\n    - {port: 80, protocol: ICMP}\n", `p.yaml:8:28: protocol "ICMP" is not known`},
		"operator":        {head + "  egress:\n  - to:\n    - podSelector: {matchExpressions: [{key: a, operator: Equals}]}\n", `operator "Equals" is not known`},
		"values":          {head + "  egress:\n  - to:\n    - podSelector: {matchExpressions: [{key: a, operator: In}]}\n", "In needs values"},
		"anchor":          {head + "  egress: &x []\n", "anchors and aliases are not allowed"},
		"no kind":         {"a: b\n", "p.yaml:1:1: this is no document"},
		"not YAML":        {"a: [\n", "p.yaml:"},
		"cilium layer 7":  {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec:\n  endpointSelector: {}\n  ingress:\n  - toPorts:\n    - rules: {http: [{method: GET}]}\n", `p.yaml:8:15: unknown field "http"`},
		"cilium deny":     {"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p}\nspec:\n  endpointSelector: {}\n  ingressDeny: []\n", `p.yaml:6:3: unknown field "ingressDeny"`},
		"segment peer":    {"apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: p}\nspec:\n  for: {workload: a}\n  egress:\n  - to:\n    - {host: true, world: true}\n", "p.yaml:8:7: a peer must be one kind of thing"},
		"segment port":    {"apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: p}\nspec:\n  for: {workload: a}\n  egress:\n  - ports: [tcp/0]\n", `p.yaml:7:13: "tcp/0" is no port`},
		"segment nobody":  {"apiVersion: bulkhead/v1\nkind: Segment\nmetadata: {name: p}\nspec:\n  egress: []\n", "p.yaml:5:3: a Segment that is for nobody"},
		"list in a list":  {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: List, items: []}\n", "p.yaml:4:3: a list in a list"},
	} {
		_, err := ReadPolicies("p.yaml", strings.NewReader(c.text), "default")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestSkipped(t *testing.T) {
	d := parse(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: prod}}\n")
	want := &Documents{Namespaces: []Namespace{{"shop", map[string]string{"env": "prod"}}}, Texts: []string{"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {env: prod}}\n"}, Skipped: []string{"Deployment web"}}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Error(diff)
	}
}

// FuzzPolicies: what is read can be written, and means the same when it is read again.
func FuzzPolicies(f *testing.F) {
	f.Add(head)
	f.Add(head + "  ingress:\n  - from:\n    - ipBlock: {cidr: '::ffff:10.0.0.0/104'}\n    ports: [{port: 80, endPort: 90}, {port: web, protocol: UDP}]\n")
	for _, kind := range kinds {
		var b bytes.Buffer
		if err := WritePolicies(&b, Propose(shop(), Wish{Kind: kind}).Policies); err != nil {
			f.Fatal(err)
		}
		for part := range strings.SplitSeq(b.String(), "---\n") {
			f.Add(part)
		}
	}
	r := shop()
	book := r.Book()
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ReadPolicies("p.yaml", strings.NewReader(text), "default")
		if err != nil {
			return
		}
		j := NewJudge(d.Policies, book)
		for i := range d.Policies {
			if d.Policies[i].Kind != KindKubernetes {
				return // of the others only what a proposal has can be written
			}
		}
		again := NewJudge(written(t, d.Policies), book)
		for i := range r.Flows {
			if a, b := j.Edge(r.Flows[i].Edge), again.Edge(r.Flows[i].Edge); a.Fit != b.Fit {
				t.Fatalf("%s: %v, and after writing %v", r.Flows[i].Edge, a, b)
			}
		}
	})
}
