package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
)

// pageSize is the most that the server gives at once.
const pageSize = 1000

// alertFilter says which alerts are wanted.
type alertFilter struct {
	workload, rule, technique string
	severity, action          choice
	since                     moment
	limit                     int
}

func newAlerts(a *app) *cobra.Command {
	f := alertFilter{
		severity: choice{words: []string{"low", "medium", "high", "critical"}},
		action:   choice{words: []string{"blocked", "detected"}},
	}
	c := &cobra.Command{
		Use:   "alerts",
		Short: "What was blocked and detected",
		Long: "Lists alerts, the newest first. The table shortens the ids to an ending that tells them apart; `bulkhead approve` takes those.\n" +
			"With --follow, alerts are written as they arrive, also those that came while the server was away; as JSON, one object a line.",
		Example: "  bulkhead alerts --workload docker/shop --severity high --since 1h\n  bulkhead alerts --follow --format json",
		Args:    cobra.NoArgs,
	}
	format := formatFlag(c, "table", "json")
	follow := c.Flags().BoolP("follow", "f", false, "go on with what arrives, until interrupted")
	f.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *follow {
			if !c.Flags().Changed("limit") {
				f.limit = recentShown
			}
			return a.follow(c.Context(), f, format.value)
		}
		return a.listAlerts(c.Context(), f, format.value)
	}
	return c
}

func (f *alertFilter) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.workload, "workload", "", "only of this `WORKLOAD`")
	c.Flags().Var(&f.severity, "severity", "at or above")
	c.Flags().Var(&f.action, "action", "only what was blocked, or only what was detected")
	c.Flags().StringVar(&f.rule, "rule", "", "only of this rule `ID`")
	c.Flags().StringVar(&f.technique, "technique", "", "only of this ATT&CK `ID`")
	c.Flags().Var(&f.since, "since", "only after: a time, or how long ago (30m, 2h, 2026-11-23T10:00:00Z)")
	c.Flags().IntVar(&f.limit, "limit", 100, "at most so many, 0 for all; with --follow, how many older ones come first (10 when not given)")
}

// moment is a flag that takes a time or how long ago it was.
type moment struct{ time.Time }

func (m *moment) Type() string { return "WHEN" }
func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}

func (m *moment) Set(s string) (err error) {
	if days, failed := strconv.ParseUint(strings.TrimSuffix(s, "d"), 10, 16); failed == nil && strings.HasSuffix(s, "d") {
		m.Time = time.Now().AddDate(0, 0, -int(days))
		return nil
	}
	if d, failed := time.ParseDuration(s); failed == nil && d >= 0 {
		m.Time = time.Now().Add(-d)
		return nil
	}
	if m.Time, err = time.Parse(time.RFC3339, s); err != nil {
		return errors.New("want how long ago (30m, 2h, 7d) or a time (2026-11-23T10:00:00Z)")
	}
	return nil
}

func (a *app) listAlerts(ctx context.Context, f alertFilter, format string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	alerts, err := c.listAlerts(ctx, f)
	if err != nil {
		return fmt.Errorf("listing alerts: %w", err)
	}
	if format == "json" {
		return writeJSON(a.out, list(alerts))
	}
	if len(alerts) == 0 {
		fmt.Fprintln(a.err, "no alerts")
		return nil
	}
	return alertTable(alerts, time.Now()).write(a.out, a.screen())
}

// listAlerts asks page by page for what the filter wants.
func (c *client) listAlerts(ctx context.Context, f alertFilter) ([]bulkhead.Alert, error) {
	var alerts []bulkhead.Alert
	ask := f.request()
	for {
		ask.Limit = pageSize
		if f.limit > 0 {
			ask.Limit = int32(min(pageSize, f.limit-len(alerts))) //nolint:gosec // at most pageSize
		}
		answer, err := c.alerts.ListAlerts(ctx, request(ask))
		if err != nil {
			return nil, err
		}
		for _, m := range answer.Msg.Alerts {
			alerts = append(alerts, api.FromAlert(m))
		}
		ask.Page = answer.Msg.NextPage
		if ask.Page == "" || len(answer.Msg.Alerts) == 0 || f.limit > 0 && len(alerts) >= f.limit {
			return alerts, nil
		}
	}
}

func (f *alertFilter) request() *pb.ListAlertsRequest {
	ask := &pb.ListAlertsRequest{
		Workload: f.workload, Severity: f.severity.value, Action: f.action.value, Rule: f.rule, Technique: f.technique,
	}
	if !f.since.IsZero() {
		ask.Since = timestamppb.New(f.since.Time)
	}
	return ask
}

// wants applies the filter to an alert that arrived while following.
func (f *alertFilter) wants(alert bulkhead.Alert) bool {
	return is(f.workload, alert.Workload) && is(f.action.value, alert.Action) && is(f.rule, alert.Rule) &&
		is(f.technique, alert.Technique) && alert.Severity.Rank() >= bulkhead.Severity(f.severity.value).Rank()
}

func is(wanted, value string) bool { return wanted == "" || wanted == value }

// alertTable is the alerts for a person.
func alertTable(alerts []bulkhead.Alert, now time.Time) *table {
	t := &table{head: []string{"TIME", "SEVERITY", "ACTION", "WORKLOAD", "RULE", "WHAT", "ID"}, flex: []int{3, 4, 5}}
	ids := shortIDs(alerts)
	for i, alert := range alerts {
		t.add(alertRow(alert, ids[i], now)...)
	}
	return t
}

func alertRow(alert bulkhead.Alert, id string, now time.Time) []cell {
	return []cell{
		text(clock(alert.Time, now)),
		{string(alert.Severity), severityStyle(alert.Severity)},
		{alert.Action, actionStyle(alert.Action)},
		text(alert.Workload), text(alert.Rule), text(what(alert)),
		{id, faint},
	}
}

func severityStyle(s bulkhead.Severity) style {
	switch {
	case s.Rank() >= bulkhead.High.Rank():
		return red
	case s == bulkhead.Medium:
		return yellow
	}
	return plain
}

func actionStyle(action string) style {
	if action == bulkhead.ActionBlocked {
		return green
	}
	return yellow
}

func clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format("Jan _2 15:04")
}

// what says in a few words which program did what.
func what(alert bulkhead.Alert) string {
	object := or(alert.Cause.Object, strings.Join(alert.Process.Args, " "), alert.Message)
	if alert.Process.Exe != "" && alert.Process.Exe != object {
		object = alert.Process.Exe + ": " + object
	}
	if alert.Count > 1 {
		object = fmt.Sprintf("%d× %s", alert.Count, object)
	}
	if alert.Healed {
		object = "(approved) " + object
	}
	return object
}

// shortIDs shortens ids to the ends that tell them apart in this list.
func shortIDs(alerts []bulkhead.Alert) []string {
	for size := 8; ; size++ {
		short := make([]string, len(alerts))
		seen := make(map[string]string, len(alerts))
		clash, whole := false, true
		for i, alert := range alerts {
			short[i] = ending(alert.ID, size)
			whole = whole && short[i] == alert.ID
			clash = clash || seen[short[i]] != "" && seen[short[i]] != alert.ID
			seen[short[i]] = alert.ID
		}
		if !clash || whole {
			return short
		}
	}
}

func ending(id string, size int) string { return id[max(0, len(id)-size):] }

// findAlert finds the one alert whose id is, or ends in, what was given.
func (c *client) findAlert(ctx context.Context, id string) (bulkhead.Alert, error) {
	alerts, err := c.listAlerts(ctx, alertFilter{})
	if err != nil {
		return bulkhead.Alert{}, err
	}
	var found []bulkhead.Alert
	for _, alert := range alerts {
		if alert.ID == id {
			return alert, nil
		}
		if strings.HasSuffix(alert.ID, id) {
			found = append(found, alert)
		}
	}
	switch len(found) {
	case 0:
		return bulkhead.Alert{}, fmt.Errorf("no alert has an id that ends in %q: `bulkhead alerts` lists them", id)
	case 1:
		return found[0], nil
	}
	return bulkhead.Alert{}, fmt.Errorf("%d alerts have an id that ends in %q: give more of it, `bulkhead alerts --format json` has them whole", len(found), id)
}
