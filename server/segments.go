package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
	"bulkhead/topology"
)

// The states of a policy that is kept.
const (
	stateKept     = "kept"     // decides nothing
	stateStaged   = "staged"   // what it would cut is counted
	stateEnforced = "enforced" // what it does not let through is cut

	kindNamespace = "Namespace"
	maxSegments   = 5000
)

type segmentService struct{ s *Server }

func (g segmentService) ProposeSegments(ctx context.Context, r *connect.Request[pb.ProposeSegmentsRequest]) (*connect.Response[pb.ProposeSegmentsResponse], error) {
	from, to, err := since(r.Msg.From, r.Msg.To, 7*24*time.Hour)
	kind := cmp.Or(r.Msg.Kind, topology.KindSegment)
	if err == nil && !slices.Contains([]string{topology.KindKubernetes, topology.KindCilium, topology.KindSegment}, kind) {
		err = fmt.Errorf("kind %.40q: write NetworkPolicy, CiliumNetworkPolicy or Segment", kind)
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	record, err := g.s.record(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Msg.Cluster})
	if err != nil {
		return nil, failure(g.s, err)
	}
	p := topology.Propose(record, topology.Wish{Workloads: r.Msg.Workloads, Kind: kind})
	var b bytes.Buffer
	if err := topology.WritePolicies(&b, p.Policies); err != nil {
		return nil, failure(g.s, err)
	}
	return connect.NewResponse(&pb.ProposeSegmentsResponse{Documents: b.String(), Notes: p.Notes}), nil
}

func (g segmentService) ReplaySegments(ctx context.Context, r *connect.Request[pb.ReplaySegmentsRequest]) (*connect.Response[pb.ReplaySegmentsResponse], error) {
	from, to, err := since(r.Msg.From, r.Msg.To, 30*24*time.Hour)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	d, err := g.read(ctx, r.Msg.Documents, r.Msg.Namespace)
	if err != nil {
		return nil, err
	}
	outcome, err := g.s.replay(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Msg.Cluster}, d.Policies, d.Namespaces)
	if err != nil {
		return nil, failure(g.s, err)
	}
	text, err := json.Marshal(outcome)
	if err != nil {
		return nil, failure(g.s, err)
	}
	return connect.NewResponse(&pb.ReplaySegmentsResponse{OutcomeJson: text}), nil
}

// read takes documents as they were sent, or those that are kept where none were.
func (g segmentService) read(ctx context.Context, documents, namespace string) (*topology.Documents, error) {
	if documents == "" {
		d, err := g.s.documents(ctx)
		if err != nil {
			return nil, failure(g.s, err)
		}
		return d, nil
	}
	d, err := topology.ReadPolicies("the documents", strings.NewReader(documents), cmp.Or(namespace, "default"))
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return d, nil
}

func (g segmentService) ListSegments(ctx context.Context, _ *connect.Request[pb.ListSegmentsRequest]) (*connect.Response[pb.ListSegmentsResponse], error) {
	list, err := g.s.db.Segments(ctx)
	if err != nil {
		return nil, failure(g.s, err)
	}
	cut, err := g.s.db.Quarantines(ctx)
	if err != nil {
		return nil, failure(g.s, err)
	}
	answer := &pb.ListSegmentsResponse{}
	for _, s := range list {
		answer.Segments = append(answer.Segments, toSegment(s))
	}
	for _, q := range cut {
		answer.Quarantined = append(answer.Quarantined, &pb.Quarantined{Workload: api.Text(q.Workload), By: api.Text(q.By), At: timestamppb.New(q.At)})
	}
	return connect.NewResponse(answer), nil
}

func toSegment(s store.Segment) *pb.Segment {
	return &pb.Segment{Kind: s.Kind, Namespace: s.Namespace, Name: s.Name, State: s.State, Document: s.Document, By: s.By, At: timestamppb.New(s.At)}
}

// ApplySegments stores first and tells the nodes then: one that is away gets it when it is back.
func (g segmentService) ApplySegments(ctx context.Context, r *connect.Request[pb.ApplySegmentsRequest]) (*connect.Response[pb.ApplySegmentsResponse], error) {
	if !slices.Contains([]string{stateKept, stateStaged, stateEnforced}, r.Msg.State) {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("state: write kept, staged or enforced"))
	}
	list, notes, err := g.meant(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	var answers []answer
	if err = g.s.db.KeepSegments(ctx, bare(list)); err == nil {
		answers, err = g.s.network.push(ctx)
	}
	for _, s := range list {
		g.s.audit(ctx, "network policy", short(s.title()), s.State, cmp.Or(err, refusals(plain(answers))))
	}
	if err != nil {
		return nil, failure(g.s, err)
	}
	answer := &pb.ApplySegmentsResponse{Notes: notes, Nodes: plain(answers)}
	for _, s := range list {
		answer.Segments = append(answer.Segments, toSegment(s.Segment))
	}
	return connect.NewResponse(answer), nil
}

// meant are the policies of a request: those of its documents, or kept ones by name.
func (g segmentService) meant(ctx context.Context, m *pb.ApplySegmentsRequest) (list []titled, notes []string, err error) {
	by, now := callerOf(ctx).Name, time.Now()
	if m.Documents == "" {
		kept, err := g.named(ctx, m.Names)
		for i := range kept {
			kept[i].State, kept[i].By, kept[i].At = m.State, by, now
		}
		return kept, nil, err
	}
	d, err := g.read(ctx, m.Documents, m.Namespace)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range d.Policies {
		list = append(list, titled{store.Segment{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name, State: m.State, Document: p.Text, By: by, At: now}})
	}
	for i, n := range d.Namespaces {
		list = append(list, titled{store.Segment{Kind: kindNamespace, Name: n.Name, State: stateKept, Document: d.Texts[i], By: by, At: now}})
	}
	if len(list) == 0 || len(list) > maxSegments {
		return nil, nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("there are %d network policies in the documents; write 1 to %d", len(list), maxSegments))
	}
	for _, skipped := range d.Skipped {
		notes = append(notes, skipped+" is no network policy and was left out")
	}
	more, err := g.s.remarks(ctx, d)
	if err != nil {
		return nil, nil, failure(g.s, err)
	}
	return list, append(notes, more...), nil
}

// titled is a policy with a name for a person.
type titled struct{ store.Segment }

func (s titled) title() string {
	if s.Namespace == "" {
		return s.Kind + " " + s.Name
	}
	return s.Kind + " " + s.Namespace + "/" + s.Name
}

// named finds kept policies by NAME or NAMESPACE/NAME.
func (g segmentService) named(ctx context.Context, names []string) (list []titled, err error) {
	kept, err := g.s.db.Segments(ctx)
	if err != nil {
		return nil, failure(g.s, err)
	}
	for _, name := range names {
		found := false
		for _, s := range kept {
			if s.Kind != kindNamespace && (name == s.Name || name == s.Namespace+"/"+s.Name) {
				list, found = append(list, titled{s}), true
			}
		}
		if !found {
			return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no policy %.80q is kept: `bulkhead segment list` has them", name))
		}
	}
	if len(list) == 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("name policies, or send documents"))
	}
	return list, nil
}

// remarks are what an author may not have meant, against everything that is known now.
func (s *Server) remarks(ctx context.Context, d *topology.Documents) ([]string, error) {
	r := &topology.Record{}
	if err := s.know(ctx, "", r); err != nil {
		return nil, err
	}
	r.Namespaces = append(r.Namespaces, d.Namespaces...)
	return topology.Remarks(d.Policies, r), nil
}

func (g segmentService) RemoveSegments(ctx context.Context, r *connect.Request[pb.RemoveSegmentsRequest]) (*connect.Response[pb.RemoveSegmentsResponse], error) {
	list, err := g.named(ctx, r.Msg.Names)
	if err != nil {
		return nil, err
	}
	var answers []answer
	if err = g.s.db.DropSegments(ctx, bare(list)); err == nil {
		answers, err = g.s.network.push(ctx)
	}
	for _, s := range list {
		g.s.audit(ctx, "network policy", short(s.title()), "removed", cmp.Or(err, refusals(plain(answers))))
	}
	if err != nil {
		return nil, failure(g.s, err)
	}
	return connect.NewResponse(&pb.RemoveSegmentsResponse{Nodes: plain(answers)}), nil
}

func bare(list []titled) (out []store.Segment) {
	for _, s := range list {
		out = append(out, s.Segment)
	}
	return out
}

func (g segmentService) Quarantine(ctx context.Context, r *connect.Request[pb.QuarantineRequest]) (*connect.Response[pb.QuarantineResponse], error) {
	name := api.Text(r.Msg.Workload)
	if name == "" || len(name) > 1024 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("name a workload"))
	}
	if !r.Msg.Lift {
		if _, err := g.s.db.Workload(ctx, name); err != nil {
			return nil, failure(g.s, err)
		}
	}
	err := g.s.db.SetQuarantine(ctx, store.Quarantine{Workload: name, By: callerOf(ctx).Name, At: time.Now()}, r.Msg.Lift)
	var answers []answer
	if err == nil {
		answers, err = g.s.network.push(ctx)
	}
	g.s.audit(ctx, map[bool]string{false: "quarantine", true: "lift quarantine"}[r.Msg.Lift], short(name), "", cmp.Or(err, refusals(plain(answers))))
	if err != nil {
		return nil, failure(g.s, err)
	}
	return connect.NewResponse(&pb.QuarantineResponse{Nodes: plain(answers)}), nil
}
