package topology

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bulkhead"
)

var update = flag.Bool("update", false, "write the golden files")

var kinds = []string{KindKubernetes, KindCilium, KindSegment}

// written gives what is read of what is written: a proposal is judged by what a cluster would get.
func written(t interface{ Fatalf(string, ...any) }, policies []Policy) []Policy {
	var b bytes.Buffer
	if err := WritePolicies(&b, policies); err != nil {
		t.Fatalf("%v", err)
	}
	d, err := ReadPolicies("proposal.yaml", &b, "default")
	if err != nil {
		t.Fatalf("%v", err)
	}
	return d.Policies
}

// TestProposalCutsNothing: replayed on the window that it was made of, a proposal cuts nothing, whoever it is for.
func TestProposalCutsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := cluster(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 40).Draw(t, "workloads"), rapid.IntRange(0, 200).Draw(t, "edges"))
		w := Wish{Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
		if rapid.Bool().Draw(t, "some") {
			w.Workloads = []string{"ns-0/*"}
		}
		p := Propose(r, w)
		o := Replay(r, written(t, p.Policies), r.Hours())
		for _, c := range o.Cut {
			t.Errorf("cut by %s of %v: %s", c.Side, c.Policies, c.Edge)
		}
		for _, c := range o.Uncertain {
			if mayDoubt(r, w.Kind, c) {
				continue
			}
			t.Errorf("uncertain: %s: %s (%s %v)", c.Edge, c.Reason, c.Side, c.Policies)
		}
	})
}

// mayDoubt: what a NetworkPolicy has no words for, and workloads of which no labels are known.
func mayDoubt(r *Record, kind string, c Cut) bool {
	b := r.Book()
	for _, e := range []bulkhead.Endpoint{c.Source, c.Destination} {
		if w := b.Workload(e.Name); e.Kind == bulkhead.EndWorkload && w.Labels == nil {
			return true
		}
	}
	return kind == KindKubernetes && !contains(transports, c.Protocol)
}

// TestProposalBlocks: a proposal is narrow. An edge that was not in the window, between workloads that were, does not pass.
func TestProposalBlocks(t *testing.T) {
	r := shop()
	for _, kind := range kinds {
		policies := written(t, Propose(r, Wish{Kind: kind}).Policies)
		j := NewJudge(policies, r.Book())
		for _, e := range []bulkhead.Edge{
			edge("shop/deployment/web/nginx", "shop/statefulset/db/postgres", "tcp", 5432),
			edge("shop/deployment/api/api", "shop/statefulset/db/postgres", "tcp", 22),
			edge("shop/statefulset/db/postgres", "shop/deployment/api/api", "tcp", 8080),
			edge("other/deployment/app/app", "shop/deployment/api/api", "tcp", 8080),
			{Source: workload("shop/deployment/web/nginx"), Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: "203.0.113.1"}, Protocol: "tcp", Port: 443},
			{Source: workload("shop/deployment/api/api"), Destination: bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: "169.254.169.254"}, Protocol: "tcp", Port: 443},
		} {
			if d := j.Edge(e); d.Fit != No {
				t.Errorf("%s: %s passes: %v %s", kind, e, d.Fit, d.Reason)
			}
		}
	}
}

func TestProposalGolden(t *testing.T) {
	for _, kind := range kinds {
		var b bytes.Buffer
		p := Propose(shop(), Wish{Kind: kind})
		for _, n := range p.Notes {
			b.WriteString("# " + n + "\n")
		}
		if err := WritePolicies(&b, p.Policies); err != nil {
			t.Fatal(err)
		}
		golden(t, strings.ToLower(kind)+".yaml", b.Bytes())
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func workload(name string) bulkhead.Endpoint {
	return bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: name}
}

func edge(from, to, protocol string, port uint16) bulkhead.Edge {
	return bulkhead.Edge{Source: workload(from), Destination: workload(to), Protocol: protocol, Port: port}
}

// shop is an application of the usual parts.
func shop() *Record {
	c := cluster(1, 0, 0)
	c.Namespaces = []Namespace{{"shop", map[string]string{}}, {"other", map[string]string{}}}
	app := func(name, app string) Workload {
		return Workload{Name: name, Labels: map[string]string{"app": app, "pod-template-hash": "x", "part": "shop"}, Ports: []NamedPort{}}
	}
	c.Workloads = append(c.Workloads, app("shop/deployment/web/nginx", "web"), app("shop/deployment/api/api", "api"), app("shop/statefulset/db/postgres", "db"),
		app("shop/deployment/worker/worker", "worker"), app("shop/deployment/cache/redis", "cache"), app("other/deployment/app/app", "app"),
		app("monitor/deployment/prometheus/prometheus", "prometheus"))
	add := func(e bulkhead.Edge) {
		c.Flows = append(c.Flows, Flow{Flow: bulkhead.Flow{Edge: e, Traffic: bulkhead.Traffic{First: c.From, Last: c.To, Opened: 10, Established: 10, PacketsIn: 10, BytesIn: 1000}}})
	}
	dns := "kube-system/deployment/coredns/coredns"
	web, api, db, worker, cache := "shop/deployment/web/nginx", "shop/deployment/api/api", "shop/statefulset/db/postgres", "shop/deployment/worker/worker", "shop/deployment/cache/redis"
	for _, name := range []string{web, api, db, worker, cache} {
		add(edge("monitor/deployment/prometheus/prometheus", name, "tcp", 9100))
	}
	add(edge(web, api, "tcp", 8080))
	add(edge(web, dns, "udp", 53))
	add(edge(api, dns, "udp", 53))
	add(edge(api, db, "tcp", 5432))
	add(edge(api, cache, "tcp", 6379))
	add(edge(worker, db, "tcp", 5432))
	add(edge(worker, cache, "tcp", 6379))
	add(edge("other/deployment/app/app", web, "tcp", 80))
	world := func(name string) bulkhead.Endpoint { return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: name} }
	add(bulkhead.Edge{Source: workload(api), Destination: world("pay.example.org"), Protocol: "tcp", Port: 443})
	add(bulkhead.Edge{Source: workload(worker), Destination: world("203.0.113.7"), Protocol: "tcp", Port: 25})
	for _, a := range []string{"198.51.100.1", "198.51.100.9", "203.0.113.200", "192.0.2.4", "2001:db8::1"} {
		add(bulkhead.Edge{Source: world(a), Destination: workload(web), Protocol: "tcp", Port: 80})
	}
	return c
}
