package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
	"bulkhead/topology"
)

const mostPorts = 8 // of a link: more are read in its flows

// GetMap draws a window, beside an earlier one where that is asked for.
func (f flowService) GetMap(ctx context.Context, r *connect.Request[pb.GetMapRequest]) (*connect.Response[pb.GetMapResponse], error) {
	by := topology.Grouping(r.Msg.Group)
	if by == "" {
		by = topology.ByWorkload
	}
	from, to, err := window(r.Msg.From, r.Msg.To)
	if err == nil && !by.Valid() {
		err = fmt.Errorf("group %.40q: write workload, namespace, application or label:KEY", r.Msg.Group)
	}
	if err == nil && len(r.Msg.Nodes) > 2 {
		err = errors.New("nodes: name one, or the two ends of a link")
	}
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	now, err := f.s.record(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Msg.Cluster})
	if err != nil {
		return nil, failure(f.s, err)
	}
	whole := *now
	now = topology.Search(&whole, r.Msg.Search) // compare adds to it
	answer := &pb.GetMapResponse{Lost: now.Lost}
	if !now.Since.IsZero() {
		answer.Since = timestamppb.New(now.Since)
	}
	if len(r.Msg.Nodes) > 0 {
		now = topology.Drill(now, by, r.Msg.Nodes...)
		for i := range now.Flows[:min(len(now.Flows), maxListedFlows)] {
			answer.Flows = append(answer.Flows, api.ToFlow(now.Flows[i].Flow))
		}
	}
	m := &drawnMap{answer: answer, before: map[bulkhead.Edge]bool{}, links: map[[2]string]*pb.MapLink{}}
	if r.Msg.BeforeFrom != nil {
		if err := m.compare(ctx, f.s, r.Msg, now); err != nil {
			return nil, err
		}
	}
	if m.quarantined, err = f.s.quarantined(ctx); err != nil {
		return nil, failure(f.s, err)
	}
	m.draw(topology.NewGraph(now, by))
	return connect.NewResponse(answer), nil
}

// keepMap asks for the last hour each minute: the store keeps what it added up, and whoever opens the map waits for the newest
// minutes alone.
func (s *Server) keepMap() {
	for tick := time.NewTicker(time.Minute); ; {
		now := time.Now()
		if _, err := s.db.Flows(s.running, store.FlowQuery{From: now.Add(-time.Hour), To: now}); err != nil && s.running.Err() == nil {
			s.log.Error("the last hour's flows were not added up", "err", err)
		}
		select {
		case <-s.running.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
	}
}

type drawnMap struct {
	answer      *pb.GetMapResponse
	compared    bool
	before      map[bulkhead.Edge]bool
	gone        map[bulkhead.Edge]bool
	quarantined []string
	links       map[[2]string]*pb.MapLink
}

// compare adds to now the edges that only the earlier window has.
func (m *drawnMap) compare(ctx context.Context, s *Server, r *pb.GetMapRequest, now *topology.Record) error {
	from, to, err := window(r.BeforeFrom, r.BeforeTo)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	before, err := s.record(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Cluster})
	if err != nil {
		return failure(s, err)
	}
	before = topology.Search(before, r.Search)
	if len(r.Nodes) > 0 {
		before = topology.Drill(before, topology.Grouping(r.Group), r.Nodes...)
	}
	m.compared, m.gone = true, map[bulkhead.Edge]bool{}
	for _, f := range before.Flows {
		m.before[f.Edge] = true
	}
	for _, f := range topology.Diff(before, now).Vanished {
		m.gone[f.Edge] = true
		f.Traffic = bulkhead.Traffic{}
		now.Flows = append(now.Flows, f)
	}
	return nil
}

func (m *drawnMap) draw(g *topology.Graph) {
	workloads := map[string]bool{}
	for _, n := range g.Nodes {
		node := &pb.MapNode{Id: api.Text(n.ID), Name: api.Text(n.Name), Kind: string(n.Kind), Namespace: api.Text(n.Namespace), Members: int32(len(n.Members))}
		for _, member := range n.Members {
			node.Quarantined = node.Quarantined || slices.Contains(m.quarantined, member)
			workloads[member] = workloads[member] || n.Kind == bulkhead.EndWorkload
		}
		m.answer.Nodes = append(m.answer.Nodes, node)
	}
	for _, is := range workloads {
		if is {
			m.answer.Workloads++
		}
	}
	for i := range g.Links {
		m.answer.Links = append(m.answer.Links, m.link(&g.Links[i]))
	}
}

func (m *drawnMap) link(l *topology.Link) *pb.MapLink {
	out := &pb.MapLink{
		Source: api.Text(l.Source), Destination: api.Text(l.Destination), Edges: int32(len(l.Edges)), Opened: l.Opened, Refused: l.Refused, Denied: l.Denied, Bytes: l.Bytes,
	}
	fresh, gone := m.compared, m.compared
	for _, f := range l.Edges {
		out.WouldDeny += f.WouldDeny
		fresh, gone = fresh && !m.before[f.Edge], gone && m.gone[f.Edge]
		if port := fmt.Sprintf("%s/%d", api.Text(f.Protocol), f.Port); len(out.Ports) < mostPorts && !slices.Contains(out.Ports, port) {
			out.Ports = append(out.Ports, port)
		}
	}
	switch {
	case fresh:
		out.Change = "new"
	case gone:
		out.Change = "gone"
	}
	return out
}

// ListRisks assesses a window, against another that is taken for normal where one is named.
func (f flowService) ListRisks(ctx context.Context, r *connect.Request[pb.ListRisksRequest]) (*connect.Response[pb.ListRisksResponse], error) {
	from, to, err := since(r.Msg.From, r.Msg.To, 24*time.Hour)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	now, err := f.s.record(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Msg.Cluster})
	if err == nil {
		err = f.s.series(ctx, now)
	}
	if err == nil {
		err = f.s.vulnerable(ctx, now)
	}
	var learned *topology.Record
	if err == nil && r.Msg.LearnedFrom != nil {
		var lerr error
		if from, to, lerr = since(r.Msg.LearnedFrom, r.Msg.LearnedTo, 0); lerr != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, lerr)
		}
		if learned, err = f.s.record(ctx, store.FlowQuery{From: from, To: to, Cluster: r.Msg.Cluster}); err == nil {
			err = f.s.series(ctx, learned)
		}
	}
	if err != nil {
		return nil, failure(f.s, err)
	}
	found := topology.Assess(now, learned)
	if found == nil {
		found = []topology.Risk{}
	}
	text, err := json.Marshal(found)
	if err != nil {
		return nil, failure(f.s, err)
	}
	return connect.NewResponse(&pb.ListRisksResponse{RisksJson: text}), nil
}

// vulnerable joins what scans of the workloads' images found.
func (s *Server) vulnerable(ctx context.Context, r *topology.Record) error {
	reports, err := s.db.Workloads(ctx)
	if err != nil {
		return err
	}
	digests := map[string]string{}
	for _, report := range reports {
		w := &pb.Workload{}
		if fromJSON.Unmarshal([]byte(report.Report), w) == nil && w.Digest != "" {
			digests[report.Name] = w.Digest
		}
	}
	known := map[string][]topology.Vulnerability{}
	for i := range r.Workloads {
		digest := digests[r.Workloads[i].Name]
		list, have := known[digest]
		if !have && digest != "" {
			if list, err = s.foundIn(ctx, digest); err != nil {
				return err
			}
			known[digest] = list
		}
		r.Workloads[i].Vulnerabilities = list
	}
	return nil
}

func (s *Server) foundIn(ctx context.Context, digest string) (list []topology.Vulnerability, err error) {
	_, report, err := s.db.Report(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	for _, v := range report.Vulnerabilities {
		list = append(list, topology.Vulnerability{ID: v.ID, Severity: v.Severity, KEV: v.KEV, EPSS: v.EPSS})
	}
	return list, err
}

// since is a window that begins so long ago where nothing is said.
func since(from, to *timestamppb.Timestamp, back time.Duration) (time.Time, time.Time, error) {
	if from == nil {
		end := time.Now()
		if to != nil {
			end = to.AsTime()
		}
		from = timestamppb.New(end.Add(-back))
	}
	return window(from, to)
}
