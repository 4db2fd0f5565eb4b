package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bulkhead"
)

// attack runs the programme against one shop and writes the trials into the report.
func (p *piece) attack(ctx context.Context, t *target, mode bulkhead.Mode) error {
	for i, a := range attacks() {
		before, err := p.counts(ctx, t)
		if err != nil {
			return err
		}
		trial, start, disturbed := try(ctx, t, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if disturbed != nil {
			p.report.Application.disturb(disturbed)
		}
		alerts, err := p.await(ctx, t, before, patience(mode))
		if err != nil {
			return err
		}
		trial.explain(a, alerts, start)
		trial.judge(mode)
		p.report.Attacks[i].set(mode, trial)
	}
	return nil
}

// counts says how often each alert about a shop was raised so far. Alerts are folded: a
// known one that is raised again only counts up.
func (p *piece) counts(ctx context.Context, t *target) (map[string]int, error) {
	alerts, err := p.Product.Alerts(ctx, p.began)
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	counts := map[string]int{}
	for _, a := range alerts {
		if a.Workload == t.workload() {
			counts[a.ID] = max(a.Count, 1)
		}
	}
	return counts, nil
}

// fresh returns the alerts about a shop that were raised since before was taken.
func (p *piece) fresh(ctx context.Context, t *target, before map[string]int) ([]bulkhead.Alert, error) {
	alerts, err := p.Product.Alerts(ctx, p.began)
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	return slices.DeleteFunc(alerts, func(a bulkhead.Alert) bool {
		return a.Workload != t.workload() || max(a.Count, 1) <= before[a.ID]
	}), nil
}

// patience is how long an alert may travel. Of the unprotected twin few are expected.
func patience(mode bulkhead.Mode) time.Duration {
	if mode == bulkhead.Learn {
		return 400 * time.Millisecond
	}
	return 1200 * time.Millisecond
}

// await gives alerts the time to travel: limit for the first, a moment for more.
func (p *piece) await(ctx context.Context, t *target, before map[string]int, limit time.Duration) ([]bulkhead.Alert, error) {
	for end := time.Now().Add(limit); ; {
		alerts, err := p.loud(ctx, t, before)
		if err != nil || ctx.Err() != nil || time.Now().After(end) {
			return alerts, err
		}
		if len(alerts) > 0 {
			end = time.Now()
			sleep(ctx, 100*time.Millisecond)
			continue
		}
		sleep(ctx, 60*time.Millisecond)
	}
}

// loud is fresh without what also sounds when nobody attacks.
func (p *piece) loud(ctx context.Context, t *target, before map[string]int) ([]bulkhead.Alert, error) {
	alerts, err := p.fresh(ctx, t, before)
	return slices.DeleteFunc(alerts, func(a bulkhead.Alert) bool { return p.quiet[theme(a)] }), err
}

// theme is what an alert is about, whenever it sounds.
func theme(a bulkhead.Alert) string {
	return a.Rule + "\x00" + a.Process.Exe + "\x00" + a.Cause.Object
}

// explain picks the alert that tells the attack best: blocked before detected, the attack's
// own technique before others, the more severe, the earlier.
func (t *Trial) explain(a attack, alerts []bulkhead.Alert, start time.Time) {
	if len(alerts) == 0 {
		return
	}
	slices.SortStableFunc(alerts, func(x, y bulkhead.Alert) int {
		if d := weight(y, a) - weight(x, a); d != 0 {
			return d
		}
		return x.Time.Compare(y.Time)
	})
	for _, x := range alerts {
		if !slices.Contains(t.Alerts, x.Rule) {
			t.Alerts = append(t.Alerts, x.Rule)
		}
	}
	best := alerts[0]
	t.Message = shorten(best.Message, 160)
	if t.Message == "" {
		t.Message = shorten(best.Title, 160)
	}
	if after := best.Time.Sub(start); after > 0 && after < time.Minute {
		t.Milliseconds = float64(after.Microseconds()) / 1000
	}
}

func weight(x bulkhead.Alert, a attack) int {
	w := x.Severity.Rank()
	if x.Technique == a.Technique {
		w += 10
	}
	if x.Action == bulkhead.ActionBlocked {
		w += 20
	}
	return w
}
