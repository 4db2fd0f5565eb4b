package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/sign"
	"bulkhead/store"
)

// The bounds of what may be applied: every node keeps all of it.
const (
	maxPolicies      = 1000
	maxPolicyBytes   = 512 << 10
	maxPoliciesBytes = 3 << 20
)

type policyService struct{ s *Server }

func (p policyService) ListPolicies(ctx context.Context, _ *connect.Request[pb.ListPoliciesRequest]) (*connect.Response[pb.ListPoliciesResponse], error) {
	list, err := p.s.db.Policies(ctx)
	if err != nil {
		return nil, failure(p.s, err)
	}
	answer := &pb.ListPoliciesResponse{}
	for _, one := range list {
		answer.Policies = append(answer.Policies, &pb.Policy{Kind: one.Kind, Name: one.Name, Document: []byte(one.Document), By: one.By, Applied: timestamppb.New(one.At)})
	}
	return connect.NewResponse(answer), nil
}

func (p policyService) ApplyPolicies(ctx context.Context, r *connect.Request[pb.ApplyPoliciesRequest]) (*connect.Response[pb.ApplyPoliciesResponse], error) {
	answer, fresh, err := p.plan(ctx, r.Msg.Documents)
	if err != nil {
		return nil, err
	}
	if err := p.s.db.ApplyPolicies(ctx, fresh); err != nil {
		return nil, failure(p.s, err)
	}
	answer.Nodes, err = p.s.sendPolicies(ctx)
	for _, one := range answer.Applied {
		p.s.audit(ctx, "apply policy", short(one.Kind+" "+one.Name), one.Change, cmp.Or(err, refusals(answer.Nodes)))
	}
	if err != nil {
		return nil, failure(p.s, err)
	}
	return connect.NewResponse(answer), nil
}

// plan reads documents, and says what they would change. All that is applied must be readable as a whole afterwards.
func (p policyService) plan(ctx context.Context, documents [][]byte) (*pb.ApplyPoliciesResponse, []store.Policy, error) {
	wrong := func(err error) (*pb.ApplyPoliciesResponse, []store.Policy, error) {
		return nil, nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if len(documents) == 0 || len(documents) > maxPolicies {
		return wrong(fmt.Errorf("apply: 1 to %d documents at once, not %d", maxPolicies, len(documents)))
	}
	have, err := p.s.db.Policies(ctx)
	if err != nil {
		return nil, nil, failure(p.s, err)
	}
	answer, fresh := &pb.ApplyPoliciesResponse{}, []store.Policy{}
	for i, raw := range documents {
		if len(raw) > maxPolicyBytes {
			return wrong(fmt.Errorf("document %d has %d bytes, the limit is %d", i+1, len(raw), maxPolicyBytes))
		}
		read, err := sign.ParsePolicy(raw, fmt.Sprintf("document %d", i+1))
		if err != nil {
			return wrong(err)
		}
		if len(read.Names()) != 1 {
			return wrong(fmt.Errorf("document %d is %d policies: send each for itself", i+1, len(read.Names())))
		}
		one := store.Policy{Kind: sign.PolicyKind, Name: read.Names()[0], Document: string(raw), By: callerOf(ctx).Name, At: time.Now()}
		change := "created"
		at := slices.IndexFunc(have, func(h store.Policy) bool { return h.Kind == one.Kind && h.Name == one.Name })
		switch {
		case at < 0:
			have = append(have, one)
		case have[at].Document == one.Document:
			change = "unchanged"
		default:
			change, have[at] = "changed", one
		}
		if change != "unchanged" {
			fresh = append(fresh, one)
		}
		answer.Notes = append(answer.Notes, read.Notes()...)
		answer.Applied = append(answer.Applied, &pb.ApplyPoliciesResponse_AppliedPolicy{Kind: one.Kind, Name: one.Name, Change: change})
	}
	if err := whole(have); err != nil {
		return wrong(err)
	}
	return answer, fresh, nil
}

// whole reports why documents cannot be in force together.
func whole(all []store.Policy) error {
	size := 0
	for _, one := range all {
		size += len(one.Document)
	}
	if len(all) > maxPolicies || size > maxPoliciesBytes {
		return fmt.Errorf("there would be %d policies of %d bytes, the limits are %d and %d: remove some with `bulkhead policies remove`", len(all), size, maxPolicies, maxPoliciesBytes)
	}
	_, err := sign.ParseAll(documentsOf(all))
	return err
}

func (p policyService) RemovePolicy(ctx context.Context, r *connect.Request[pb.RemovePolicyRequest]) (*connect.Response[pb.RemovePolicyResponse], error) {
	err := p.s.db.RemovePolicy(ctx, r.Msg.Kind, r.Msg.Name)
	var nodes []*pb.NodeAnswer
	if err == nil {
		nodes, err = p.s.sendPolicies(ctx)
	}
	p.s.audit(ctx, "remove policy", short(r.Msg.Kind+" "+r.Msg.Name), "", cmp.Or(err, refusals(nodes)))
	if err != nil {
		return nil, failure(p.s, err)
	}
	return connect.NewResponse(&pb.RemovePolicyResponse{Nodes: nodes}), nil
}

func documentsOf(all []store.Policy) [][]byte {
	documents := make([][]byte, 0, len(all))
	for _, one := range all {
		if one.Kind == sign.PolicyKind {
			documents = append(documents, []byte(one.Document))
		}
	}
	return documents
}

// policyCommand is what nodes are sent, and the digest by which they say that they have it.
func (s *Server) policyCommand(ctx context.Context) (*pb.NodeCommand, string, error) {
	list, err := s.db.Policies(ctx)
	if err != nil {
		return nil, "", err
	}
	documents, digest := documentsOf(list), ""
	if len(documents) > 0 {
		digest = sign.DigestAll(documents)
	}
	return &pb.NodeCommand{Command: &pb.NodeCommand_SetPolicies{SetPolicies: &pb.SetPolicies{Documents: documents}}}, digest, nil
}

// sendPolicies brings every node that is connected to what is applied; the others get it when they are back.
func (s *Server) sendPolicies(ctx context.Context) ([]*pb.NodeAnswer, error) {
	command, _, err := s.policyCommand(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := s.connected(ctx)
	return plain(s.each(ctx, ids, command)), err
}

// connected are the nodes that reported lately.
func (s *Server) connected(ctx context.Context) (ids []string, err error) {
	nodes, err := s.db.Nodes(ctx)
	for _, n := range nodes {
		if time.Since(n.Seen) < connectedFor {
			ids = append(ids, n.ID)
		}
	}
	return ids, err
}

var errNoNode = errors.New("the node has not reported")

// nodeSaid is what a node said last of itself.
func (s *Server) nodeSaid(ctx context.Context, id string) (*pb.Node, error) {
	nodes, err := s.db.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(nodes, func(n store.Node) bool { return n.ID == id })
	if i < 0 {
		return nil, errNoNode
	}
	m := &pb.Node{}
	return m, fromJSON.Unmarshal([]byte(nodes[i].Report), m)
}
