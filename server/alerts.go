package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"connectrpc.com/connect"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	pbconnect "bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/auth"
	"bulkhead/store"
)

type alertService struct{ s *Server }

func (a alertService) ListAlerts(ctx context.Context, r *connect.Request[pb.ListAlertsRequest]) (*connect.Response[pb.ListAlertsResponse], error) {
	f := store.Filter{
		Workload: r.Msg.Workload, Severity: bulkhead.Severity(r.Msg.Severity), Action: r.Msg.Action, Rule: r.Msg.Rule,
		Technique: r.Msg.Technique, Limit: int(r.Msg.Limit), Page: r.Msg.Page,
	}
	if f.Severity != "" && f.Severity.Rank() == 0 {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("severity: use low, medium, high or critical"))
	}
	if r.Msg.Since.IsValid() {
		f.Since = r.Msg.Since.AsTime()
	}
	page, err := a.s.db.Alerts(ctx, f)
	if err != nil {
		return nil, failure(a.s, err)
	}
	answer := &pb.ListAlertsResponse{NextPage: page.Next, Total: uint64(page.Total)}
	for _, alert := range page.Alerts {
		answer.Alerts = append(answer.Alerts, api.ToAlert(alert))
	}
	return connect.NewResponse(answer), nil
}

// recheck is how soon a stream ends after its session has.
const recheck = 30 * time.Second

func (a alertService) WatchAlerts(ctx context.Context, _ *connect.Request[pb.WatchAlertsRequest], stream *connect.ServerStream[pb.Alert]) error {
	arriving, leave := a.s.watch.join()
	defer leave()
	if err := stream.Send(nil); err != nil { // the caller knows now that nothing later is missed
		return err
	}
	tick := time.NewTicker(recheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.s.running.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("the control plane stops: connect again"))
		case <-tick.C:
			if err := a.stillAllowed(ctx); err != nil {
				return err
			}
		case alert, ok := <-arriving:
			if !ok {
				return connect.NewError(connect.CodeResourceExhausted, errors.New("alerts arrive faster than they are read: list them and watch again"))
			}
			if err := stream.Send(api.ToAlert(alert)); err != nil {
				return err
			}
		}
	}
}

func (a alertService) stillAllowed(ctx context.Context) error {
	who, err := a.s.auth.Who(ctx, callerOf(ctx).token)
	if err != nil {
		return failure(a.s, err)
	}
	if err := auth.Allow(who, pbconnect.AlertServiceWatchAlertsProcedure); err != nil {
		return connect.NewError(connect.CodePermissionDenied, err)
	}
	return nil
}

// watch hands arriving alerts to everybody who watches. Who does not keep up is let go, so that one
// slow reader neither holds up the others nor fills the memory.
type watch struct {
	mu      sync.Mutex
	readers map[chan bulkhead.Alert]bool
}

// backlog is how many alerts may wait for one reader: two of the bus's batches.
const backlog = 1024

func newWatch() *watch { return &watch{readers: map[chan bulkhead.Alert]bool{}} }

func (w *watch) join() (<-chan bulkhead.Alert, func()) {
	c := make(chan bulkhead.Alert, backlog)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readers[c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.readers, c)
	}
}

func (w *watch) send(alerts []bulkhead.Alert) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.readers {
		if !offer(c, alerts) {
			delete(w.readers, c)
			close(c)
		}
	}
}

func offer(c chan bulkhead.Alert, alerts []bulkhead.Alert) bool {
	for _, a := range alerts {
		select {
		case c <- a:
		default:
			return false
		}
	}
	return true
}
