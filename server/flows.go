package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
)

const (
	keepFlowsFor   = 90 * 24 * time.Hour
	maxFlows       = 20_000 // of one report
	maxAddresses   = 20_000
	maxListedFlows = 50_000
	maxCounter     = 1 << 53 // what a node says of a few seconds; a lie may not overflow a sum
)

// flows stores what a node counted.
func (s *Server) flows(ctx context.Context, r *pb.FlowReport) error {
	if len(r.Node) > maxID || len(r.Cluster) > maxID || len(r.Boot) > maxID || len(r.Flows) > maxFlows {
		return fmt.Errorf("a report of flows has at most %d, and names of at most %d bytes", maxFlows, maxID)
	}
	moved, err := s.learn(ctx, r)
	if err != nil {
		return err
	}
	if moved || s.network.behind(r) {
		s.network.ask()
	}
	report := store.FlowReport{Node: api.Text(r.Node), Boot: api.Text(r.Boot), Sequence: bounded(r.Sequence), Lost: bounded(r.Lost)}
	var refused error
	for _, m := range r.Flows {
		f, err := s.seenFlow(r.Cluster, m)
		if err != nil {
			refused = err
			continue
		}
		report.Flows = append(report.Flows, f)
	}
	if refused != nil {
		s.log.Warn("a flow was left out", "node", report.Node, "err", refused)
	}
	return s.db.AddFlows(ctx, report)
}

// seenFlow puts the two ends in their places. The node's clock is believed no further than the report's age.
func (s *Server) seenFlow(cluster string, m *pb.NodeFlow) (store.SeenFlow, error) {
	peer, err := netip.ParseAddr(m.Peer)
	if err != nil || m.Workload == "" || len(m.Workload) > 1024 || len(m.PeerName) > maxID || m.Port > 65535 || m.Protocol > 255 {
		return store.SeenFlow{}, fmt.Errorf("flow of %.80q with %.80q: not a workload and an address", m.Workload, m.Peer)
	}
	own := bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: api.Text(m.Workload)}
	other := s.otherEnd(cluster, m, own, peer.Unmap())
	f := store.SeenFlow{Side: store.BySource}
	f.Edge = bulkhead.Edge{Cluster: api.Text(cluster), Source: own, Destination: other, Protocol: protocolName(m.Protocol), Port: uint16(m.Port)}
	f.Application = api.Text(m.Application)
	f.Traffic = bulkhead.Traffic{
		First: within(m.First, time.Now()), Last: within(m.Last, time.Now()), Opened: bounded(m.Opened), Established: bounded(m.Established),
		Refused: bounded(m.Refused), Reset: bounded(m.Reset_), Denied: bounded(m.Denied), WouldDeny: bounded(m.WouldDeny), Resent: bounded(m.Resent), BytesOut: bounded(m.BytesSent), BytesIn: bounded(m.BytesReceived),
		PacketsOut: bounded(m.PacketsSent), PacketsIn: bounded(m.PacketsReceived), RTT: bounded(m.RttSumMicroseconds), RTTs: bounded(m.RttCount),
	}
	f.Requests = requestsOf(m.Requests)
	if m.Server {
		f.Side, f.Source, f.Destination = store.ByDestination, other, own
		f.BytesOut, f.BytesIn, f.PacketsOut, f.PacketsIn = f.BytesIn, f.BytesOut, f.PacketsIn, f.PacketsOut
	}
	return f, nil
}

// maxShapes bounds what a node says of one edge at once.
const maxShapes = 100

func requestsOf(list []*pb.NodeRequest) (out []bulkhead.Requests) {
	for _, m := range list[:min(len(list), maxShapes)] {
		out = append(out, bulkhead.Requests{
			Shape: short200(api.Text(m.Shape)), Answered: bounded(m.Answered), Rejected: bounded(m.Rejected), Failed: bounded(m.Failed),
			Took: micro(m.TookSumMicroseconds), Longest: micro(m.TookMaxMicroseconds),
		})
	}
	return out
}

// short200 bounds a shape, which is part of a key.
func short200(s string) string {
	if len(s) <= 200 {
		return s
	}
	return strings.ToValidUTF8(s[:200], "")
}

func micro(n uint64) time.Duration { return time.Duration(min(n, maxCounter/1000)) * time.Microsecond }

func (s *Server) otherEnd(cluster string, m *pb.NodeFlow, own bulkhead.Endpoint, peer netip.Addr) bulkhead.Endpoint {
	switch e, known := s.directory.find(cluster, peer); {
	case peer.IsLoopback():
		return own // containers of one pod are one another's neighbours
	case m.PeerWorkload != "" && len(m.PeerWorkload) <= 1024:
		return bulkhead.Endpoint{Kind: bulkhead.EndWorkload, Name: api.Text(m.PeerWorkload)}
	case known:
		return e
	case m.PeerName != "":
		return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: api.Text(m.PeerName)}
	}
	return bulkhead.Endpoint{Kind: bulkhead.EndWorld, Name: peer.WithZone("").String()}
}

func bounded(n uint64) uint64 { return min(n, maxCounter) }

func within(t *timestamppb.Timestamp, now time.Time) time.Time {
	at := t.AsTime()
	if at.After(now) {
		return now
	}
	if oldest := now.Add(-store.MinutesFor); at.Before(oldest) {
		return oldest
	}
	return at
}

var protocolNames = map[uint32]string{1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}

func protocolName(n uint32) string {
	if name := protocolNames[n]; name != "" {
		return name
	}
	return strconv.Itoa(int(n))
}

type flowService struct{ s *Server }

func (f flowService) ListFlows(ctx context.Context, r *connect.Request[pb.ListFlowsRequest]) (*connect.Response[pb.ListFlowsResponse], error) {
	from, to, err := window(r.Msg.From, r.Msg.To)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	list, err := f.s.db.Flows(ctx, store.FlowQuery{From: from, To: to, Workload: r.Msg.Workload, Cluster: r.Msg.Cluster})
	if err != nil {
		return nil, failure(f.s, err)
	}
	store.SortFlows(list)
	answer := &pb.ListFlowsResponse{Total: int32(len(list))}
	limit := int(r.Msg.Limit)
	if limit <= 0 {
		limit = 1000
	}
	for _, flow := range list[:min(len(list), limit, maxListedFlows)] {
		answer.Flows = append(answer.Flows, api.ToFlow(flow))
	}
	if r.Msg.Workloads {
		if answer.Workloads, err = f.s.whoIs(ctx, r.Msg.Cluster, answer.Flows); err != nil {
			return nil, failure(f.s, err)
		}
	}
	lost, since, err := f.s.db.FlowsLost(ctx)
	if err != nil {
		return nil, failure(f.s, err)
	}
	answer.Lost = lost
	if !since.IsZero() {
		answer.Since = timestamppb.New(since)
	}
	return connect.NewResponse(answer), nil
}

// whoIs tells what is known of the workloads in flows.
func (s *Server) whoIs(ctx context.Context, cluster string, flows []*pb.Flow) (list []*pb.WorkloadAddresses, err error) {
	in := map[string]bool{}
	for _, f := range flows {
		in[f.Source.Name], in[f.Destination.Name] = true, true
	}
	located, err := s.db.Located(ctx, cluster)
	for _, l := range located {
		if in[l.Workload] {
			list = append(list, &pb.WorkloadAddresses{Workload: l.Workload, Namespace: l.Namespace, Labels: l.Labels, Labelled: l.Labels != nil, Addresses: l.Addresses})
		}
	}
	return list, err
}

func (f flowService) GetFlow(ctx context.Context, r *connect.Request[pb.GetFlowRequest]) (*connect.Response[pb.GetFlowResponse], error) {
	from, to, err := window(r.Msg.From, r.Msg.To)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	flow := api.FromFlow(r.Msg.Flow)
	history, err := f.s.db.FlowHistory(ctx, flow.Edge, from, to)
	if err != nil {
		return nil, failure(f.s, err)
	}
	if len(history) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("nothing was seen of %s in that time", flow.Edge))
	}
	answer := &pb.GetFlowResponse{}
	total := bulkhead.Flow{Edge: flow.Edge, Application: flow.Application}
	for _, t := range history {
		total.Add(t)
		answer.History = append(answer.History, api.ToFlow(bulkhead.Flow{Traffic: t}))
	}
	answer.Flow = api.ToFlow(total)
	return connect.NewResponse(answer), nil
}

// window is the last hour where nothing is said.
func window(from, to *timestamppb.Timestamp) (time.Time, time.Time, error) {
	end := time.Now()
	if to != nil {
		end = to.AsTime()
	}
	begin := end.Add(-time.Hour)
	if from != nil {
		begin = from.AsTime()
	}
	if !begin.Before(end) {
		return begin, end, errors.New("the window ends before it begins: give a time before --to as --from")
	}
	return begin, end, nil
}

const (
	listedRequests = 1000
	maxRequests    = 10_000
)

// ListRequests tells what was asked over edges.
func (f flowService) ListRequests(ctx context.Context, r *connect.Request[pb.ListRequestsRequest]) (*connect.Response[pb.ListRequestsResponse], error) {
	from, to, err := window(r.Msg.From, r.Msg.To)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	var edge *bulkhead.Edge
	if r.Msg.Flow != nil {
		flow := api.FromFlow(r.Msg.Flow)
		edge = &flow.Edge
	}
	list, err := f.s.db.Requests(ctx, store.FlowQuery{From: from, To: to, Workload: r.Msg.Workload, Cluster: r.Msg.Cluster}, edge)
	if err != nil {
		return nil, failure(f.s, err)
	}
	limit := int(r.Msg.Limit)
	if limit <= 0 {
		limit = listedRequests
	}
	answer := &pb.ListRequestsResponse{Total: int32(len(list))}
	for _, e := range list[:min(len(list), limit, maxRequests)] {
		answer.Requests = append(answer.Requests, &pb.FlowRequests{
			Flow: api.ToFlow(bulkhead.Flow{Edge: e.Edge, Application: e.Application}), Shape: e.Shape, Answered: e.Answered, Rejected: e.Rejected, Failed: e.Failed,
			TookSumMicroseconds: uint64(e.Took.Microseconds()), TookMaxMicroseconds: uint64(e.Longest.Microseconds()),
			First: timestamppb.New(e.First), Last: timestamppb.New(e.Last),
		})
	}
	return connect.NewResponse(answer), nil
}
