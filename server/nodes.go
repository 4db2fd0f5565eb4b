package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
	"bulkhead/store"
)

const (
	// connectedFor is how long after its last report a node counts as connected; it reports every few seconds.
	connectedFor = 30 * time.Second

	maxID        = 253 // as a host name
	maxWorkloads = 5000
	maxProfile   = 4 << 20
)

type nodeService struct{ s *Server }

func (n nodeService) ListNodes(ctx context.Context, _ *connect.Request[pb.ListNodesRequest]) (*connect.Response[pb.ListNodesResponse], error) {
	nodes, err := n.s.db.Nodes(ctx)
	if err != nil {
		return nil, failure(n.s, err)
	}
	answer := &pb.ListNodesResponse{}
	for _, node := range nodes {
		m := &pb.Node{}
		if err := fromJSON.Unmarshal([]byte(node.Report), m); err != nil {
			n.s.log.Warn("a node's report in the database cannot be read", "node", node.ID, "err", err)
		}
		m.Id, m.LastSeen, m.Connected = node.ID, timestamppb.New(node.Seen), time.Since(node.Seen) < connectedFor
		answer.Nodes = append(answer.Nodes, m)
	}
	return connect.NewResponse(answer), nil
}

// fromJSON reads what an older or newer server wrote too.
var fromJSON = protojson.UnmarshalOptions{DiscardUnknown: true}

// report stores what a node says of itself. Its clock is not believed, nor its sizes.
func (s *Server) report(ctx context.Context, r *pb.NodeReport) error {
	if len(r.Node.GetId()) > maxID || len(r.Workloads) > maxWorkloads {
		return fmt.Errorf("a node's id has at most %d bytes, and a report at most %d workloads", maxID, maxWorkloads)
	}
	text, err := protojson.Marshal(r.Node)
	if err != nil {
		return fmt.Errorf("read the report: %w", err)
	}
	node := store.Node{ID: api.Text(r.Node.Id), Seen: time.Now(), Report: string(text)}
	workloads := make([]store.Workload, 0, len(r.Workloads))
	var refused error
	for _, w := range r.Workloads {
		row, err := workloadRow(w)
		refused = errors.Join(refused, err)
		if row.Name != "" {
			workloads = append(workloads, row)
		}
	}
	if err := s.db.SaveReport(ctx, node, workloads); err != nil {
		return err
	}
	s.settle.ask(node.ID)
	return refused
}

// workloadRow leaves out a profile that cannot be read and says so: the last good one stays.
func workloadRow(w *pb.WorkloadReport) (store.Workload, error) {
	name := api.Text(w.GetWorkload().GetName())
	if name == "" || len(name) > 1024 {
		return store.Workload{}, fmt.Errorf("a workload's name has 1 to 1024 bytes, not %d", len(name))
	}
	text, err := protojson.Marshal(w.Workload)
	if err != nil {
		return store.Workload{}, fmt.Errorf("workload %q: %w", name, err)
	}
	row := store.Workload{Name: name, Report: string(text)}
	switch {
	case len(w.ProfileJson) == 0:
		return row, nil
	case len(w.ProfileJson) > maxProfile:
		return row, fmt.Errorf("the profile of %q has more than %d bytes", name, maxProfile)
	}
	row.Profile, err = canonical(w.ProfileJson, name)
	return row, err
}

// canonical reads a profile and writes it again, so that nothing but a profile is stored.
func canonical(raw []byte, workload string) (string, error) {
	p, err := profile.Read(bytes.NewReader(raw), "profile of "+workload)
	if err != nil {
		return "", err
	}
	if p.Workload != workload {
		return "", fmt.Errorf("the profile of %q says that it is of %q", workload, p.Workload)
	}
	var out bytes.Buffer
	if err := profile.Write(&out, p); err != nil {
		return "", err
	}
	return out.String(), nil
}
