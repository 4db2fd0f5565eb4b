package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/topology"
)

// TestInventory: policies that select namespaces and name ports mean something once the cluster was told of, in replay and on
// nodes, and still after the control plane was started anew.
func TestInventory(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	n := join(t, p.dir, "a")
	eventually(t, "flows", func() bool { return n.ReportFlows(t.Context(), counted(1)) == nil })
	policy := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: db}}\n" +
		"  ingress:\n  - from: [{namespaceSelector: {matchLabels: {team: shop}}}]\n    ports: [{port: sql}]\n"
	replay := func() (cut, uncertain int) {
		t.Helper()
		r, err := p.segments().ReplaySegments(t.Context(), connect.NewRequest(&pb.ReplaySegmentsRequest{Documents: policy}))
		if err != nil {
			t.Fatal(err)
		}
		o := topology.Outcome{}
		if err := json.Unmarshal(r.Msg.OutcomeJson, &o); err != nil {
			t.Fatal(err)
		}
		return len(o.Cut), len(o.Uncertain)
	}
	if _, uncertain := replay(); uncertain == 0 {
		t.Error("nothing is uncertain while nobody knows the labels of namespaces")
	}
	if _, err := p.segments().ApplySegments(t.Context(), connect.NewRequest(&pb.ApplySegmentsRequest{Documents: policy, State: "staged"})); err != nil {
		t.Fatal(err)
	}
	inventory := &pb.PutInventoryRequest{
		Cluster:    "local",
		Namespaces: []*pb.NamespaceLabels{{Name: "shop", Labels: map[string]string{"team": "shop"}}, {Name: "lab", Labels: map[string]string{}}},
		Workloads:  []*pb.WorkloadPorts{{Workload: store, Ports: []*pb.NamedPort{{Name: "sql", Protocol: "tcp", Port: 5432}}}},
		Services:   []*pb.NetworkService{{Address: "10.96.0.9", Protocol: 6, Port: 5432, Backends: []string{"10.0.0.2:5432"}}},
	}
	for range 2 { // the same again is no news
		if _, err := p.segments().PutInventory(t.Context(), connect.NewRequest(inventory)); err != nil {
			t.Fatal(err)
		}
	}
	knows := func() bool {
		s := n.state()
		return s != nil && len(s.Namespaces) == 2 && len(s.Services) == 2 && slices.ContainsFunc(s.Workloads, func(w *pb.WorkloadAddresses) bool {
			return w.Workload == store && w.Ported && len(w.Ports) == 1
		})
	}
	eventually(t, "the node is told", knows)
	if cut, uncertain := replay(); cut != 1 || uncertain != 0 {
		t.Errorf("%d cut and %d uncertain, want the intruder alone", cut, uncertain)
	}
	p.stop()
	p = start(t, dir)
	n = join(t, p.dir, "a")
	eventually(t, "flows", func() bool { return n.ReportFlows(t.Context(), counted(2)) == nil })
	eventually(t, "the node is told again", knows)
	if cut, uncertain := replay(); cut != 1 || uncertain != 0 {
		t.Errorf("after a start: %d cut and %d uncertain", cut, uncertain)
	}
}

func TestOddInventories(t *testing.T) {
	p := start(t, t.TempDir())
	for name, r := range map[string]*pb.PutInventoryRequest{
		"no cluster":   {},
		"no namespace": {Cluster: "c", Namespaces: []*pb.NamespaceLabels{{}}},
		"odd port":     {Cluster: "c", Workloads: []*pb.WorkloadPorts{{Workload: "w", Ports: []*pb.NamedPort{{Protocol: "tcp", Port: 70000}}}}},
		"odd protocol": {Cluster: "c", Workloads: []*pb.WorkloadPorts{{Workload: "w", Ports: []*pb.NamedPort{{Protocol: "http", Port: 80}}}}},
		"odd address":  {Cluster: "c", Services: []*pb.NetworkService{{Address: "a name"}}},
		"odd backend":  {Cluster: "c", Services: []*pb.NetworkService{{Address: "10.0.0.1", Backends: []string{"10.0.0.2"}}}},
	} {
		if _, err := p.segments().PutInventory(t.Context(), connect.NewRequest(r)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, fmt.Sprint(err))
		}
	}
}
