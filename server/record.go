package server

import (
	"context"
	"net/netip"
	"time"

	"bulkhead"
	"bulkhead/store"
	"bulkhead/topology"
)

const (
	exactFor   = 48 * time.Hour // a longer window's edges are judged by their first and last time, and counted only where they do not pass
	mostSeries = 2000           // flows to the world whose minutes are looked at for a clock behind them
)

// record is a window of the stored history with what is known of the workloads in it.
func (s *Server) record(ctx context.Context, q store.FlowQuery) (*topology.Record, error) {
	flows, err := s.db.Flows(ctx, q)
	if err != nil {
		return nil, err
	}
	return s.recordOf(ctx, q, flows)
}

func (s *Server) recordOf(ctx context.Context, q store.FlowQuery, flows []bulkhead.Flow) (*topology.Record, error) {
	lost, since, err := s.db.FlowsLost(ctx)
	if err != nil {
		return nil, err
	}
	r := &topology.Record{From: q.From, To: q.To, Since: since, Lost: lost, Partial: true, Flows: make([]topology.Flow, len(flows))}
	for i := range flows {
		r.Flows[i].Flow = flows[i]
	}
	return r, s.know(ctx, q.Cluster, r)
}

// know adds labels, addresses, nodes and namespaces.
func (s *Server) know(ctx context.Context, cluster string, r *topology.Record) error {
	located, err := s.db.Located(ctx, cluster)
	if err != nil {
		return err
	}
	for _, l := range located {
		r.Workloads = append(r.Workloads, topology.Workload{Name: l.Workload, Namespace: l.Namespace, Labels: l.Labels, Addresses: parsed(l.Addresses)})
	}
	for node, addresses := range s.directory.hosts(cluster) {
		r.Hosts = append(r.Hosts, topology.Host{Name: node, Addresses: addresses})
	}
	kept, err := s.documents(ctx)
	if err != nil {
		return err
	}
	s.fed(cluster, r)
	r.Namespaces = append(r.Namespaces, kept.Namespaces...) // what a person wrote wins
	return nil
}

func parsed(list []string) (addresses []netip.Addr) {
	for _, text := range list {
		if a, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, a.Unmap())
		}
	}
	return addresses
}

// series adds what Assess finds clocks and unusual volumes by: the hours of every flow, and the minutes of those to the world.
func (s *Server) series(ctx context.Context, r *topology.Record) error {
	flows := make([]bulkhead.Flow, len(r.Flows))
	for i := range r.Flows {
		flows[i] = r.Flows[i].Flow
	}
	hours, err := s.db.FlowHourly(ctx, r.From, r.To, flows)
	if err != nil {
		return err
	}
	for _, m := range hours {
		f := &r.Flows[m.Flow]
		f.History = append(f.History, topology.Moment{At: m.At, Opened: m.Opened, Bytes: m.Bytes})
	}
	left := mostSeries
	for i := range r.Flows {
		f := &r.Flows[i]
		if f.Destination.Kind != bulkhead.EndWorld || left == 0 || time.Since(r.From) > store.MinutesFor {
			continue
		}
		left--
		if f.History, err = s.moments(ctx, f, r.From, r.To); err != nil {
			return err
		}
	}
	return nil
}

// moments are the hours or minutes of one flow; its counts become those of the window.
func (s *Server) moments(ctx context.Context, f *topology.Flow, from, to time.Time) ([]topology.Moment, error) {
	history, err := s.db.FlowHistory(ctx, f.Edge, from, to)
	if err != nil {
		return nil, err
	}
	list := make([]topology.Moment, len(history))
	f.Traffic = bulkhead.Traffic{}
	for i, t := range history {
		f.Traffic.Add(t)
		list[i] = topology.Moment{At: t.First, Opened: t.Opened, Bytes: t.BytesIn + t.BytesOut}
	}
	return list, nil
}

// replay judges the edges of a window, reads the history of those that do not pass, and judges again with it.
func (s *Server) replay(ctx context.Context, q store.FlowQuery, policies []topology.Policy, namespaces []topology.Namespace) (*topology.Outcome, error) {
	list := s.db.FlowEdges
	if q.To.Sub(q.From) <= exactFor {
		list = s.db.Flows
	}
	flows, err := list(ctx, q)
	if err != nil {
		return nil, err
	}
	r, err := s.recordOf(ctx, q, flows)
	if err != nil {
		return nil, err
	}
	r.Namespaces = append(r.Namespaces, namespaces...)
	if r.Covered, err = s.db.FlowHours(ctx, q.From, q.To); err != nil {
		return nil, err
	}
	first := topology.Replay(r, policies, r.Hours())
	doubtful := map[bulkhead.Edge]bool{}
	for _, c := range append(first.Cut, first.Uncertain...) {
		doubtful[c.Edge] = true
	}
	if len(doubtful) == 0 {
		return first, nil
	}
	kept := r.Flows[:0]
	for _, f := range r.Flows {
		if doubtful[f.Edge] {
			if f.History, err = s.moments(ctx, &f, q.From, q.To); err != nil {
				return nil, err
			}
			if len(f.History) == 0 {
				continue // it was seen before and after, but not in the window
			}
		}
		kept = append(kept, f)
	}
	r.Flows = kept
	return topology.Replay(r, policies, r.Hours()), nil
}
