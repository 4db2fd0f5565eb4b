package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

const (
	recentShown = 10          // older alerts to begin with, as tail does
	remembered  = 10_000      // ids kept to show nothing twice
	catchUp     = time.Second // after the stream was asked for, what came before the server listened is fetched
	retryFirst  = 100 * time.Millisecond
	retryMost   = 3 * time.Second
	lateness    = 10 * time.Minute // a node that was cut off delivers what it spooled
)

// follower writes alerts as they arrive, each once.
type follower struct {
	app    *app
	filter alertFilter
	show   func(bulkhead.Alert) error
	seen   map[string]bool
	order  []string // of the ids in seen
	begun  bool     // a server was reached once: from then on its absence is waited out
}

func (a *app) follow(ctx context.Context, filter alertFilter, format string) error {
	f := &follower{app: a, filter: filter, seen: map[string]bool{}, show: a.alertLine}
	if format == "json" {
		f.show = func(alert bulkhead.Alert) error { return writeJSONLine(a.out, alert) }
	}
	wait := retryFirst
	for {
		began := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !f.begun || final(err) {
			return fmt.Errorf("following alerts: %w", err)
		}
		if wait = min(2*wait, retryMost); time.Since(began) > retryMost {
			wait = retryFirst
			fmt.Fprintln(a.err, "bulkhead: lost the server, waiting for it")
		}
		sleep(ctx, wait)
	}
}

// final errors do not get better by waiting.
func final(err error) bool {
	var broken writeError
	code := connect.CodeOf(err)
	return errors.As(err, &broken) || code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied || code == connect.CodeUnimplemented
}

// writeError is a failure of our own output, such as a closed pipe.
type writeError struct{ error }

// session follows one connection to the server until it breaks.
func (f *follower) session(ctx context.Context) error {
	c, err := f.app.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	arrived, ended := c.watch(ctx)
	if err := f.older(ctx, c); err != nil {
		return err
	}
	late := time.After(catchUp)
	for {
		select {
		case alert := <-arrived:
			err = f.arrive(alert)
		case <-late:
			err = f.older(ctx, c)
		case err := <-ended:
			return c.explain(err)
		}
		if err != nil {
			return err
		}
	}
}

// watch opens the stream of alerts and passes them on until it ends.
func (c *client) watch(ctx context.Context) (<-chan bulkhead.Alert, <-chan error) {
	arrived, ended := make(chan bulkhead.Alert), make(chan error, 1)
	go func() {
		stream, err := c.alerts.WatchAlerts(ctx, request(&pb.WatchAlertsRequest{}))
		if err != nil {
			ended <- err
			return
		}
		for stream.Receive() {
			select {
			case arrived <- api.FromAlert(stream.Msg()):
			case <-ctx.Done():
			}
		}
		ended <- errors.Join(stream.Err(), stream.Close())
	}()
	return arrived, ended
}

// older shows what the server has already: at the beginning the few newest, later all that was missed.
func (f *follower) older(ctx context.Context, c *client) error {
	filter := f.filter
	if f.begun {
		filter.limit = 0
	}
	alerts, err := c.listAlerts(ctx, filter)
	if err != nil {
		return err
	}
	if !f.begun && f.filter.since.IsZero() {
		f.filter.since.Time = f.beginning(alerts)
	}
	f.begun = true
	for _, alert := range slices.Backward(alerts) {
		if err := f.arrive(alert); err != nil {
			return err
		}
	}
	return nil
}

// beginning is where following began, by the server's own order: what is older was not asked for.
func (f *follower) beginning(shown []bulkhead.Alert) time.Time {
	if len(shown) == 0 {
		return time.Now().Add(-lateness)
	}
	return shown[len(shown)-1].Time
}

func (f *follower) arrive(alert bulkhead.Alert) error {
	if f.seen[alert.ID] || !f.filter.wants(alert) {
		return nil
	}
	f.seen[alert.ID] = true
	f.order = append(f.order, alert.ID)
	if len(f.order) > remembered {
		delete(f.seen, f.order[0])
		f.order = f.order[1:]
	}
	if err := f.show(alert); err != nil {
		return writeError{err}
	}
	return nil
}

// alertLine writes one alert as a line of a table whose columns cannot be known beforehand.
func (a *app) alertLine(alert bulkhead.Alert) error {
	s := a.screen()
	widths := []int{8, 8, 8, 16, 22, max(16, s.columns-84), 10}
	row := alertRow(alert, ending(alert.ID, 8), time.Now())
	for i := range row {
		row[i].text = oneLine(row[i].text)
	}
	_, err := a.out.Write([]byte(line(row, widths, s.colour)))
	return err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
