package server

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"connectrpc.com/connect"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/incident"
	"bulkhead/store"
)

const (
	incidentsOf  = 24 * time.Hour // alerts that are looked at unless somebody asks for others
	mostAlerts   = 20_000         // that are put together at once
	longestGap   = 7 * 24 * time.Hour
	alertsByPage = 1000
)

func (a alertService) ListIncidents(ctx context.Context, r *connect.Request[pb.ListIncidentsRequest]) (*connect.Response[pb.ListIncidentsResponse], error) {
	since := time.Now().Add(-incidentsOf)
	if r.Msg.Since.IsValid() {
		since = r.Msg.Since.AsTime()
	}
	alerts, cut, err := a.since(ctx, since)
	if err != nil {
		return nil, failure(a.s, err)
	}
	gap := min(max(time.Duration(r.Msg.GapSeconds), 0), longestGap/time.Second) * time.Second
	all := incident.Of(alerts, incident.Options{Gap: gap, Owner: a.s.owner})
	if r.Msg.Workload != "" {
		all = slices.DeleteFunc(all, func(in incident.Incident) bool { return !slices.Contains(in.Workloads, r.Msg.Workload) })
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, failure(a.s, err)
	}
	return connect.NewResponse(&pb.ListIncidentsResponse{Json: text, Cut: cut}), nil
}

// since reads the newest alerts after a time, page by page.
func (a alertService) since(ctx context.Context, since time.Time) (alerts []bulkhead.Alert, cut bool, err error) {
	f := store.Filter{Since: since, Limit: alertsByPage}
	for {
		page, err := a.s.db.Alerts(ctx, f)
		if err != nil {
			return nil, false, err
		}
		alerts = append(alerts, page.Alerts...)
		if page.Next == "" || len(page.Alerts) == 0 {
			return alerts, false, nil
		}
		if len(alerts) >= mostAlerts {
			return alerts, true, nil
		}
		f.Page = page.Next
	}
}

// owner is the workload that has an address, where nodes told it.
func (s *Server) owner(cluster string, address netip.Addr) string {
	if e, ok := s.directory.find(cluster, address); ok && e.Kind == bulkhead.EndWorkload {
		return e.Name
	}
	return ""
}
