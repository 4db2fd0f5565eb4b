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
	beyond      = 50          // alerts looked at beyond those
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
	if !f.begun {
		return f.begin(ctx, c)
	}
	filter := f.filter
	filter.limit = 0
	alerts, err := c.listAlerts(ctx, filter)
	if err != nil {
		return err
	}
	return f.arriveAll(alerts)
}

// begin shows the few newest. Those just before them are remembered as if they were shown: they may bear the
// same time as the oldest that is.
func (f *follower) begin(ctx context.Context, c *client) error {
	filter, most := f.filter, f.filter.limit
	if most > 0 {
		filter.limit += beyond
	}
	alerts, err := c.listAlerts(ctx, filter)
	if err != nil {
		return err
	}
	f.begun = true
	if f.filter.since.IsZero() {
		f.filter.since.Time = time.Now()
	}
	if most > 0 && len(alerts) > most {
		for _, alert := range alerts[most:] {
			f.remember(alert.ID)
		}
		alerts = alerts[:most]
	}
	if len(alerts) > 0 {
		f.filter.since.Time = alerts[len(alerts)-1].Time
	}
	return f.arriveAll(alerts)
}

func (f *follower) arriveAll(alerts []bulkhead.Alert) error {
	for _, alert := range slices.Backward(alerts) {
		if err := f.arrive(alert); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) arrive(alert bulkhead.Alert) error {
	if f.seen[alert.ID] || !f.filter.wants(alert) {
		return nil
	}
	f.remember(alert.ID)
	if recent := alert.Time.Add(-lateness); recent.After(f.filter.since.Time) {
		f.filter.since.Time = recent // what has to be asked for after a break stays bounded
	}
	if err := f.show(alert); err != nil {
		return writeError{err}
	}
	return nil
}

func (f *follower) remember(id string) {
	f.seen[id] = true
	f.order = append(f.order, id)
	if len(f.order) > remembered {
		delete(f.seen, f.order[0])
		f.order = f.order[1:]
	}
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
