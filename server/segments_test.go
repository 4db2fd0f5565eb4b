package server_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/topology"
)

func (p *plane) flows() bulkheadv1connect.FlowServiceClient {
	return bulkheadv1connect.NewFlowServiceClient(p.Client(), p.URL)
}

func (p *plane) segments() bulkheadv1connect.SegmentServiceClient {
	return bulkheadv1connect.NewSegmentServiceClient(p.Client(), p.URL)
}

func where(name, namespace, app, address string) *pb.WorkloadAddresses {
	return &pb.WorkloadAddresses{Workload: name, Namespace: namespace, Labels: map[string]string{"app": app}, Labelled: true, Addresses: []string{address}}
}

func seen(workload, peer string, port uint32, ago time.Duration, opened uint64) *pb.NodeFlow {
	at := timestamppb.New(time.Now().Add(-ago))
	return &pb.NodeFlow{Workload: workload, Peer: peer, Protocol: 6, Port: port, First: at, Last: at, Opened: opened, Established: opened, BytesSent: 100 * opened, PacketsSent: opened, PacketsReceived: opened}
}

const (
	web   = "shop/deployment/web/main"
	store = "shop/statefulset/db/main"
	intru = "lab/pod/intruder/main"
)

// counted is what a node says: the shop works as it should, and somebody tries its database. A service is in between.
func counted(sequence uint64) *pb.FlowReport {
	return &pb.FlowReport{
		Node: "a", Cluster: "local", Boot: "b", Sequence: sequence, NodeAddresses: []string{"10.0.0.254"},
		Addresses: []*pb.WorkloadAddresses{where(web, "shop", "web", "10.0.0.1"), where(store, "shop", "db", "10.0.0.2"), where(intru, "lab", "intruder", "10.0.0.3")},
		Services:  []*pb.NetworkService{{Protocol: 6, Address: "10.96.0.7", Port: 5432, Backends: []string{"10.0.0.2:5432"}}},
		Flows: []*pb.NodeFlow{
			seen(web, "10.0.0.2", 5432, time.Minute, 20), seen(intru, "10.0.0.2", 5432, 30*time.Second, 1), seen(web, "203.0.113.7", 443, time.Minute, 5),
		},
	}
}

// TestSegments goes the way from what was seen to what is enforced: map, proposal, replay, stage, enforce, quarantine.
func TestSegments(t *testing.T) {
	p := start(t, t.TempDir())
	n := join(t, p.dir, "a")
	eventually(t, "flows", func() bool { return n.ReportFlows(t.Context(), counted(1)) == nil })
	ctx := t.Context()

	m, err := p.flows().GetMap(ctx, connect.NewRequest(&pb.GetMapRequest{Group: "label:app"}))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, node := range m.Msg.Nodes {
		names = append(names, node.Name)
	}
	if got := strings.Join(names, " "); got != "db intruder web world" || len(m.Msg.Links) != 3 {
		t.Errorf("grouped by label: %s, %d links", got, len(m.Msg.Links))
	}
	drill, err := p.flows().GetMap(ctx, connect.NewRequest(&pb.GetMapRequest{Nodes: []string{intru}, BeforeFrom: timestamppb.New(time.Now().Add(-3 * time.Hour)), BeforeTo: timestamppb.New(time.Now().Add(-2 * time.Hour))}))
	if err != nil || len(drill.Msg.Flows) != 1 || drill.Msg.Links[0].Change != "new" {
		t.Errorf("drill: %v, %v", drill, err)
	}
	risks, err := p.flows().ListRisks(ctx, connect.NewRequest(&pb.ListRisksRequest{}))
	if err != nil || !strings.Contains(string(risks.Msg.RisksJson), "cross-namespace") {
		t.Errorf("risks: %s, %v", risks.Msg.GetRisksJson(), err)
	}

	proposal, err := p.segments().ProposeSegments(ctx, connect.NewRequest(&pb.ProposeSegmentsRequest{Workloads: []string{store}, Kind: "NetworkPolicy"}))
	if err != nil || !strings.Contains(proposal.Msg.Documents, "app: db") {
		t.Fatalf("the proposal calls nobody by label: %v, %v", proposal, err)
	}
	policy := fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: db, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: db}}\n  ingress:\n  - from: [{podSelector: {matchLabels: {app: web}}}]\n    ports: [{port: %d}]\n", 5432)
	replay, err := p.segments().ReplaySegments(ctx, connect.NewRequest(&pb.ReplaySegmentsRequest{Documents: policy}))
	if err != nil {
		t.Fatal(err)
	}
	outcome := topology.Outcome{}
	if err := json.Unmarshal(replay.Msg.OutcomeJson, &outcome); err != nil {
		t.Fatal(err)
	}
	if len(outcome.Cut) != 1 || outcome.Cut[0].Source.Name != intru || outcome.Cut[0].Opened != 1 || outcome.Cut[0].Hours != 1 || outcome.Coverage.Covered == 0 {
		t.Errorf("replay: %s", replay.Msg.OutcomeJson)
	}

	staged, err := p.segments().ApplySegments(ctx, connect.NewRequest(&pb.ApplySegmentsRequest{Documents: policy, State: "staged"}))
	if err != nil || len(staged.Msg.Segments) != 1 || len(staged.Msg.Nodes) != 1 || !staged.Msg.Nodes[0].Ok {
		t.Fatalf("stage: %v, %v", staged, err)
	}
	state := n.state()
	if len(state.Segments) != 1 || state.Segments[0].State != "staged" || len(state.Workloads) != 3 || len(state.Hosts) != 1 || len(state.Services) != 1 {
		t.Errorf("the node has %v", state)
	}
	if _, err := p.segments().ApplySegments(ctx, connect.NewRequest(&pb.ApplySegmentsRequest{Names: []string{"shop/db"}, State: "enforced"})); err != nil {
		t.Fatal(err)
	}
	if got := n.state(); got.Segments[0].State != "enforced" || got.Generation <= state.Generation {
		t.Errorf("the node has %v", got)
	}
	none, err := p.segments().ApplySegments(ctx, connect.NewRequest(&pb.ApplySegmentsRequest{Documents: strings.ReplaceAll(policy, "app: db", "app: dbb"), State: "kept"}))
	if err != nil || len(none.Msg.Notes) == 0 {
		t.Errorf("a policy that is for nobody is not told of: %v, %v", none, err)
	}
	if _, err := p.segments().ApplySegments(ctx, connect.NewRequest(&pb.ApplySegmentsRequest{Documents: "kind: x", State: "kept"})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}

	report := counted(2)
	report.Addresses = append(report.Addresses, where("docker/shop", "", "x", "10.0.0.9"))
	if err := n.ReportFlows(ctx, report); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node hears of a new address", func() bool { return len(n.state().Workloads) == 4 })
	if _, err := p.segments().Quarantine(ctx, connect.NewRequest(&pb.QuarantineRequest{Workload: "docker/shop"})); err != nil {
		t.Fatal(err)
	}
	if got := n.state().Quarantined; len(got) != 1 {
		t.Errorf("quarantined: %v", got)
	}

	p.stop() // what is decided outlives the control plane, and so does where everybody is
	p = start(t, p.dir)
	again := counted(3)
	again.Network = 1
	eventually(t, "flows", func() bool { return n.ReportFlows(ctx, again) == nil })
	eventually(t, "the state is sent again", func() bool {
		return len(n.state().Segments) == 0 && len(n.state().Quarantined) == 1 && n.state().Generation > 1
	})
	if _, err := p.segments().RemoveSegments(ctx, connect.NewRequest(&pb.RemoveSegmentsRequest{Names: []string{"shop/db"}})); err != nil {
		t.Fatal(err)
	}
	list, err := p.segments().ListSegments(ctx, connect.NewRequest(&pb.ListSegmentsRequest{}))
	if err != nil || len(list.Msg.Segments) != 0 || len(list.Msg.Quarantined) != 1 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// A node that hangs keeps nothing from the others.
func TestNodeHangs(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	n, hung := join(t, p.dir, "a"), join(t, p.dir, "b")
	eventually(t, "flows", func() bool {
		return n.ReportFlows(t.Context(), counted(1)) == nil && hung.ReportFlows(t.Context(), &pb.FlowReport{Node: "b", Cluster: "local", Boot: "b", Sequence: 1}) == nil
	})
	eventually(t, "both have it", func() bool { return len(n.state().GetWorkloads()) == 3 && len(hung.state().GetWorkloads()) == 3 })
	hung.mu.Lock() // it answers nothing until the end
	defer hung.mu.Unlock()
	for i := range 3 {
		report := counted(uint64(2 + i))
		report.Addresses = append(report.Addresses, where("docker/shop", "", "x", fmt.Sprintf("10.0.1.%d", i)))
		if err := n.ReportFlows(t.Context(), report); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other hears of a new address", func() bool {
			return slices.ContainsFunc(n.state().Workloads, func(w *pb.WorkloadAddresses) bool {
				return slices.Contains(w.Addresses, fmt.Sprintf("10.0.1.%d", i))
			})
		})
	}
}

// BenchmarkMap: the map of 500 workloads with 15,000 edges that one node reported, as the console asks for it.
func BenchmarkMap(b *testing.B) {
	t := testing.TB(b)
	p := start(t, b.TempDir())
	n := join(t, p.dir, "a")
	report := counted(1)
	report.Flows = nil
	for i := range 500 {
		report.Addresses = append(report.Addresses, where(fmt.Sprintf("n%d/deployment/w%d/main", i%12, i), fmt.Sprintf("n%d", i%12), fmt.Sprintf("w%d", i), fmt.Sprintf("10.1.%d.%d", i/250, i%250)))
	}
	for i := range 15_000 {
		to := (i*7 + i/500) % 500
		report.Flows = append(report.Flows, seen(fmt.Sprintf("n%d/deployment/w%d/main", i%500%12, i%500), fmt.Sprintf("10.1.%d.%d", to/250, to%250), uint32(8000+i%3), time.Minute, 5))
	}
	eventually(t, "flows", func() bool { return n.ReportFlows(b.Context(), report) == nil })
	for _, group := range []string{"workload", "namespace"} {
		b.Run(group, func(b *testing.B) {
			for b.Loop() {
				if m, err := p.flows().GetMap(b.Context(), connect.NewRequest(&pb.GetMapRequest{Group: group})); err != nil || m.Msg.Workloads < 500 {
					b.Fatal(m, err)
				}
			}
		})
	}
}

func (n *node) state() *pb.NetworkState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.network
}
