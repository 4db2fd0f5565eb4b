package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// TestRisks: each risk must be found in its scenario, and not in the near miss beside it.
func TestRisks(t *testing.T) {
	web, db := "shop/deployment/web/nginx", "shop/statefulset/db/postgres"
	world := func(name string) bulkhead.Endpoint { return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: name} }
	out := func(name string, port uint16) bulkhead.Edge {
		return bulkhead.Edge{Source: workload(web), Destination: world(name), Protocol: "tcp", Port: port}
	}
	taken := func(e bulkhead.Edge) Flow {
		return Flow{Flow: bulkhead.Flow{Edge: e, Traffic: bulkhead.Traffic{Opened: 5, Established: 5, PacketsIn: 10, PacketsOut: 10}}}
	}
	refused := func(e bulkhead.Edge) Flow {
		return Flow{Flow: bulkhead.Flow{Edge: e, Traffic: bulkhead.Traffic{Opened: 1, Refused: 1, PacketsIn: 1, PacketsOut: 1}}}
	}
	spoken := func(e bulkhead.Edge, application string) Flow {
		f := taken(e)
		f.Application = application
		return f
	}
	many := func(n int, make func(i int) Flow) (list []Flow) {
		for i := range n {
			list = append(list, make(i))
		}
		return list
	}
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	series := func(e bulkhead.Edge, n int, gap func(i int) time.Duration, bytes func(i int) uint64) Flow {
		f := taken(e)
		at := start
		for i := range n {
			f.History = append(f.History, Moment{At: at, Opened: 1, Bytes: bytes(i)})
			at = at.Add(gap(i))
		}
		f.Opened = uint64(n)
		return f
	}
	hour := func(int) time.Duration { return time.Hour }
	small := func(int) uint64 { return 900 }
	usual := func(i int) uint64 { return uint64(5<<20 + i*1000) }
	asked := func(names uint64, make func(i int) string) Flow {
		f := taken(edge(web, "kube-system/deployment/coredns/coredns", "udp", 53))
		f.Queries = &Queries{Names: names, Asked: names + 10, Longest: 60}
		for i := range 50 {
			f.Queries.Examples = append(f.Queries.Examples, make(i))
		}
		return f
	}
	labelled := func(from, to string) []Namespace {
		return []Namespace{{"shop", map[string]string{"env": from}}, {"data", map[string]string{"env": to}}}
	}
	vulnerable := func(name string, epss float64) []Workload {
		return []Workload{{Name: name, Namespace: "shop", Vulnerabilities: []Vulnerability{{ID: "CVE-2021-44228", Severity: bulkhead.Medium, EPSS: epss}}}}
	}
	host := bulkhead.Endpoint{Kind: bulkhead.EndHost, Name: "node-a"}
	in := taken(bulkhead.Edge{Source: world("198.51.100.7"), Destination: workload(web), Protocol: "tcp", Port: 80})
	inside := taken(bulkhead.Edge{Source: world("10.0.0.7"), Destination: workload(web), Protocol: "tcp", Port: 80})
	for _, c := range []struct {
		kind          string
		fires, silent Record
		learned       *Record
	}{
		{
			RiskNew,
			Record{Flows: []Flow{taken(edge(web, db, "tcp", 22))}},
			Record{Flows: []Flow{taken(edge(web, db, "tcp", 5432))}},
			&Record{Flows: []Flow{taken(edge(web, db, "tcp", 5432))}},
		},
		{RiskNamespace, Record{Flows: []Flow{taken(edge(web, "data/pod/x/x", "tcp", 1))}}, Record{Flows: []Flow{taken(edge(web, db, "tcp", 1))}}, nil},
		{
			RiskEnvironment,
			Record{Namespaces: labelled("test", "prod"), Flows: []Flow{taken(edge(web, "data/pod/x/x", "tcp", 1))}},
			Record{Namespaces: labelled("production", "prod"), Flows: []Flow{taken(edge(web, "data/pod/x/x", "tcp", 1))}},
			nil,
		},
		{RiskClearText, Record{Flows: []Flow{spoken(edge(web, db, "tcp", 5432), "postgresql")}}, Record{Flows: []Flow{spoken(edge(web, db, "tcp", 5432), "tls")}}, nil},
		{RiskMetadata, Record{Flows: []Flow{taken(out("169.254.169.254", 80))}}, Record{Flows: []Flow{taken(out("169.254.169.253", 80))}}, nil},
		{RiskAPIServer, Record{Flows: []Flow{taken(bulkhead.Edge{Source: workload(web), Destination: host, Protocol: "tcp", Port: 6443})}}, Record{Flows: []Flow{taken(edge("kube-system/pod/x/x", db, "tcp", 6443))}}, nil},
		{RiskNodePort, Record{Flows: []Flow{taken(bulkhead.Edge{Source: workload(web), Destination: host, Protocol: "tcp", Port: 10250})}}, Record{Flows: []Flow{taken(bulkhead.Edge{Source: host, Destination: workload(web), Protocol: "tcp", Port: 10250})}}, nil},
		{
			RiskScan,
			Record{Flows: many(12, func(i int) Flow { return refused(edge(web, db, "tcp", uint16(1+i))) })},
			Record{Flows: many(12, func(i int) Flow { return taken(edge(web, db, "tcp", uint16(1+i))) })},
			nil,
		},
		{
			RiskSweep,
			Record{Flows: many(12, func(i int) Flow { return refused(out(fmt.Sprintf("10.0.0.%d", i), 22)) })},
			Record{Flows: many(12, func(i int) Flow { return refused(out(fmt.Sprintf("10.0.0.%d", i), uint16(i+1))) })},
			nil,
		},
		{
			RiskBeacon,
			Record{Flows: []Flow{series(out("evil.example.org", 443), 40, hour, small)}},
			Record{Flows: []Flow{series(out("api.example.org", 443), 40, func(i int) time.Duration { return time.Duration(1+i*i%7) * time.Hour }, small)}},
			nil,
		},
		{
			RiskVolume,
			Record{From: start, Flows: []Flow{series(out("x.example.org", 443), 40, hour, func(i int) uint64 { return usual(i) * map[bool]uint64{true: 100, false: 1}[i == 30] })}},
			Record{From: start, Flows: []Flow{series(out("x.example.org", 443), 40, hour, usual)}},
			nil,
		},
		{
			RiskTunnel,
			Record{Flows: []Flow{asked(3000, func(i int) string {
				return fmt.Sprintf("%x7qz3kfw9%xabgmxj2v5hty%d.t.example.org", i*7919, i*104729, i)
			})}},
			Record{Flows: []Flow{asked(40, func(i int) string { return fmt.Sprintf("service-%d.shop.svc.cluster.local", i) })}},
			nil,
		},
		{RiskVulnerable, Record{Workloads: vulnerable(web, 0.9), Flows: []Flow{in}}, Record{Workloads: vulnerable(web, 0.9), Flows: []Flow{inside}}, nil},
		{
			RiskPath,
			Record{Flows: []Flow{in, spoken(edge(web, db, "tcp", 5432), "postgresql")}},
			Record{Flows: []Flow{in, spoken(edge("shop/pod/other/other", db, "tcp", 5432), "postgresql")}},
			nil,
		},
	} {
		found := Assess(&c.fires, c.learned)
		i := slices.IndexFunc(found, func(r Risk) bool { return r.Kind == c.kind })
		if i < 0 {
			t.Errorf("%s: not found, only %v", c.kind, found)
			continue
		}
		if r := found[i]; r.Score <= 0 || r.Score > 100 || r.Severity == "" || len(r.Reasons) == 0 || strings.Contains(strings.Join(r.Reasons, ""), "%!") {
			t.Errorf("%s: %+v", c.kind, r)
		}
		if found := Assess(&c.silent, c.learned); slices.ContainsFunc(found, func(r Risk) bool { return r.Kind == c.kind }) {
			t.Errorf("%s: found where it is not: %v", c.kind, found)
		}
	}
}

// FuzzRecord: an export is bytes from outside; whatever is in it, every question can be asked of it.
func FuzzRecord(f *testing.F) {
	f.Add(`[]`)
	f.Add(`[{"source":{"kind":"workload","name":"0"},"destination":{"kind":"world"},"protocol":"A"}]`)
	f.Add(`{"from":"0001-01-01T00:00:00Z","to":"9999-12-31T00:00:00Z","flows":[{"source":{"kind":"workload","name":"a/b/c/d"},"destination":{"kind":"world","name":"x"},"protocol":"tcp","port":1,"history":[{"at":"2026-01-01T00:00:00Z","opened":1}],"queries":{"names":1,"examples":["", "a"]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadRecord("flows.json", strings.NewReader(text))
		if err != nil {
			return
		}
		Assess(r, r)
		for _, kind := range kinds {
			p := Propose(r, Wish{Kind: kind})
			if o := Replay(r, written(t, p.Policies), r.Hours()); len(o.Cut) > 0 {
				t.Fatalf("%s: cut %v", kind, o.Cut)
			}
		}
	})
}

// FuzzInventory: so is what kubectl wrote.
func FuzzInventory(f *testing.F) {
	f.Add(`{"kind":"List","items":[{"kind":"Pod","metadata":{"name":"a","namespace":"b","ownerReferences":[{"kind":"Job","name":"j-28391820","controller":true}]},"spec":{"containers":[{"name":"c"}]},"status":{"podIPs":[{"ip":"::1"}]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadInventory("cluster.json", strings.NewReader(text))
		if err != nil {
			return
		}
		more := shop()
		more.Add(r)
		more.Book()
	})
}
