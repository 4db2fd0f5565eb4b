package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
	"bulkhead/profile/least"
)

// GetLeast asks every node that runs the workload what it was granted, and holds that against the merged profile.
func (w workloadService) GetLeast(ctx context.Context, r *connect.Request[pb.GetLeastRequest]) (*connect.Response[pb.GetLeastResponse], error) {
	reports, err := w.s.db.Workload(ctx, r.Msg.Workload)
	if err != nil {
		return nil, failure(w.s, err)
	}
	w.s.fetchProfiles(ctx, reports)
	text, err := merged(reports)
	if err != nil {
		return nil, failure(w.s, err)
	}
	p, err := profile.Read(bytes.NewReader(text), "profile of "+r.Msg.Workload)
	if err != nil {
		return nil, failure(w.s, err)
	}
	grants, err := w.grants(ctx, nodesOf(reports), r.Msg)
	if len(grants) == 0 && err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	proposal, failed := least.Propose(p, grants, nil)
	if failed != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, failed)
	}
	if err != nil {
		proposal.Notes = append(proposal.Notes, "not every node answered: "+err.Error())
	}
	answer := &pb.GetLeastResponse{}
	if answer.Json, err = json.Marshal(proposal); err == nil {
		answer.GrantsJson, err = json.Marshal(grants)
	}
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(answer), nil
}

// grants asks all nodes at once.
func (w workloadService) grants(ctx context.Context, nodes []string, r *pb.GetLeastRequest) (all []least.Grants, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	answers, errs := make([][]least.Grants, len(nodes)), make([]error, len(nodes))
	var wait sync.WaitGroup
	for i, node := range nodes {
		wait.Go(func() { answers[i], errs[i] = w.grantsOn(ctx, node, r) })
	}
	wait.Wait()
	for _, list := range answers {
		all = append(all, list...)
	}
	return all, errors.Join(errs...)
}

func (w workloadService) grantsOn(ctx context.Context, node string, r *pb.GetLeastRequest) ([]least.Grants, error) {
	got, err := w.s.bus.Command(ctx, node, &pb.NodeCommand{Command: &pb.NodeCommand_GetGrants{GetGrants: r}})
	if err != nil {
		return nil, err
	}
	if !got.GetAnswer().GetOk() {
		return nil, errors.New(node + ": " + cmp.Or(got.GetAnswer().GetError(), "it says nothing about what the workload was granted"))
	}
	return least.ReadGrants(got.GrantsJson)
}
