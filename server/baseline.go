package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/baseline"
	"bulkhead/store"
)

// The bounds of what a node says of itself, and of what is kept of it.
const (
	maxAuditReport     = 16 << 20 // of the JSON; that of 530 checks has half a megabyte
	maxAuditChecks     = 5000
	maxAuditExceptions = 2000
)

// keepAudits: an audit a day, and one for each change.
var keepAudits = store.AuditRetention{For: 400 * 24 * time.Hour, Scores: 2000, Reports: 60}

type baselineService struct{ s *Server }

// audited stores what a node's agent found. The score is counted anew: nobody is believed about it.
func (s *Server) audited(ctx context.Context, r *pb.AuditReport) error {
	if len(r.Node) > maxID || len(r.Cluster) > maxID || !r.Time.IsValid() {
		return fmt.Errorf("an audit names its node and cluster in at most %d bytes, and its time", maxID)
	}
	report, err := unpackAudit(r.Report)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("read the audit: %w", err)
	}
	at, now := r.Time.AsTime(), time.Now()
	id := fmt.Sprintf("%s-%d", api.Text(r.Node), at.UnixMicro()) // the same when it is sent again
	if at.After(now) {
		at = now
	}
	a := store.Audit{
		ID: id, Cluster: api.Text(r.Cluster), Node: api.Text(r.Node), At: at, Cause: api.Text(r.Cause),
		Score: report.Score, Layers: report.Layers, Drift: min(max(int(r.Drift), 0), maxAuditChecks), Severe: severe(report),
		Counts: store.AuditCounts{Pass: report.Counts.Pass, Fail: report.Counts.Fail, Manual: report.Counts.Manual, NotApplicable: report.Counts.NotApplicable},
	}
	return s.db.AddAudit(ctx, a, raw)
}

func unpackAudit(packed []byte) (baseline.Report, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return baseline.Report{}, fmt.Errorf("read the audit: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, maxAuditReport+1))
	if err != nil || len(raw) > maxAuditReport {
		return baseline.Report{}, fmt.Errorf("read the audit: more than %d MiB, or torn: %w", maxAuditReport>>20, err)
	}
	var said struct {
		Report baseline.Report `json:"report"`
	}
	if err := json.Unmarshal(raw, &said); err != nil {
		return baseline.Report{}, fmt.Errorf("read the audit: %w", err)
	}
	checks := said.Report.Checks
	if len(checks) > maxAuditChecks {
		return baseline.Report{}, fmt.Errorf("read the audit: %d checks are more than %d", len(checks), maxAuditChecks)
	}
	for i := range checks {
		c := &checks[i]
		for _, text := range []*string{&c.ID, &c.Title, &c.Layer, &c.Evidence, &c.Remediation, &c.Why, &c.Path, (*string)(&c.Severity), (*string)(&c.Status)} {
			*text = api.Text(*text)
		}
		c.Exception = nil
	}
	report := baseline.NewReport(checks)
	report.Incomplete = []string{}
	return report, nil
}

// severe counts what fails and is high or critical.
func severe(r baseline.Report) int { return len(r.Failed(bulkhead.High)) }

func toAudit(a store.Audit) *pb.Audit {
	return &pb.Audit{
		Id: a.ID, Node: a.Node, Cluster: a.Cluster, Time: timestamppb.New(a.At), Cause: a.Cause, Score: a.Score, Layers: a.Layers, Drift: int32(a.Drift),
		Counts: &pb.AuditCounts{Pass: int32(a.Counts.Pass), Fail: int32(a.Counts.Fail), Manual: int32(a.Counts.Manual), NotApplicable: int32(a.Counts.NotApplicable)},
	}
}

const historyOf = 30 * 24 * time.Hour

func (b baselineService) ListAudits(ctx context.Context, r *connect.Request[pb.ListAuditsRequest]) (*connect.Response[pb.ListAuditsResponse], error) {
	since := time.Now().Add(-historyOf)
	if r.Msg.Since.IsValid() {
		since = r.Msg.Since.AsTime()
	}
	newest, err := b.s.db.NewestAudits(ctx)
	if err != nil {
		return nil, failure(b.s, err)
	}
	history, err := b.s.db.Audits(ctx, r.Msg.Node, since)
	if err != nil {
		return nil, failure(b.s, err)
	}
	wanted := func(a store.Audit) bool {
		return (r.Msg.Node == "" || a.Node == r.Msg.Node) && (r.Msg.Cluster == "" || a.Cluster == r.Msg.Cluster)
	}
	points := map[string][]*pb.ListAuditsResponse_Point{}
	for _, a := range history {
		points[a.Node] = append(points[a.Node], &pb.ListAuditsResponse_Point{Time: timestamppb.New(a.At), Score: a.Score, Audit: a.ID, Cluster: a.Cluster, Hosts: 1})
	}
	answer := &pb.ListAuditsResponse{Clusters: byCluster(history, wanted)}
	for _, a := range newest {
		if wanted(a) {
			answer.Hosts = append(answer.Hosts, &pb.ListAuditsResponse_Host{Audit: toAudit(a), History: points[a.Node], FailingHigh: int32(a.Severe)})
		}
	}
	slices.SortStableFunc(answer.Hosts, func(x, y *pb.ListAuditsResponse_Host) int { return int(10 * (x.Audit.Score - y.Audit.Score)) })
	return connect.NewResponse(answer), nil
}

// byCluster is the mean of what each host of a cluster had last on each day.
func byCluster(history []store.Audit, wanted func(store.Audit) bool) (points []*pb.ListAuditsResponse_Point) {
	last := map[string]map[string]float64{} // cluster → node → score
	var day time.Time
	flush := func() {
		for _, cluster := range slices.Sorted(maps.Keys(last)) {
			sum := 0.0
			for _, score := range last[cluster] {
				sum += score
			}
			points = append(points, &pb.ListAuditsResponse_Point{Time: timestamppb.New(day), Score: sum / float64(len(last[cluster])), Cluster: cluster, Hosts: int32(len(last[cluster]))})
		}
	}
	for _, a := range history {
		if !wanted(a) {
			continue
		}
		if d := a.At.UTC().Truncate(24 * time.Hour); !d.Equal(day) {
			if !day.IsZero() {
				flush()
			}
			day = d
		}
		if last[a.Cluster] == nil {
			last[a.Cluster] = map[string]float64{}
		}
		last[a.Cluster][a.Node] = a.Score
	}
	if !day.IsZero() {
		flush()
	}
	return points
}

func (b baselineService) GetAudit(ctx context.Context, r *connect.Request[pb.GetAuditRequest]) (*connect.Response[pb.GetAuditResponse], error) {
	if r.Msg.Id == "" && r.Msg.Node == "" {
		return nil, wrong("name a node, or the id of an audit")
	}
	a, raw, err := b.s.db.AuditOf(ctx, r.Msg.Id, r.Msg.Node)
	if err != nil {
		return nil, failure(b.s, err)
	}
	answer := &pb.GetAuditResponse{Audit: toAudit(a)}
	if raw == nil {
		return connect.NewResponse(answer), nil
	}
	var report baseline.Report
	if err := json.Unmarshal(raw, &report); err != nil {
		return nil, failure(b.s, fmt.Errorf("read an audit: %w", err))
	}
	exceptions, err := b.exceptions(ctx)
	if err != nil {
		return nil, failure(b.s, err)
	}
	if rules, err := baseline.NewExceptions(exceptions); err == nil {
		rules.Apply(&report, a.Node, time.Now())
		answer.Audit.Counts.Excepted = int32(report.Counts.Excepted)
	}
	if answer.Json, err = json.Marshal(report); err != nil {
		return nil, failure(b.s, err)
	}
	return connect.NewResponse(answer), nil
}

func (b baselineService) ListDrift(ctx context.Context, r *connect.Request[pb.ListDriftRequest]) (*connect.Response[pb.ListDriftResponse], error) {
	f := store.Filter{Drift: true, Node: r.Msg.Node, Limit: int(r.Msg.Limit), Page: r.Msg.Page}
	if r.Msg.Check != "" {
		f.Rule = bulkhead.DriftRules + r.Msg.Check
	}
	if r.Msg.Since.IsValid() {
		f.Since = r.Msg.Since.AsTime()
	}
	page, err := b.s.db.Alerts(ctx, f)
	if err != nil {
		return nil, failure(b.s, err)
	}
	answer := &pb.ListDriftResponse{NextPage: page.Next, Total: uint64(page.Total)}
	for _, alert := range page.Alerts {
		answer.Drift = append(answer.Drift, api.ToAlert(alert))
	}
	return connect.NewResponse(answer), nil
}

// exceptions are those that are kept, as audits know them.
func (b baselineService) exceptions(ctx context.Context) ([]baseline.Rule, error) {
	list, err := b.s.db.AuditExceptions(ctx)
	rules := make([]baseline.Rule, 0, len(list))
	for _, e := range list {
		rules = append(rules, toRule(e))
	}
	return rules, err
}

func toRule(e store.AuditException) baseline.Rule {
	return baseline.Rule{Exception: baseline.Exception{Owner: e.Owner, Reason: e.Reason, Expires: e.Expires}, Check: e.Check, Host: e.Node}
}

func (b baselineService) ListExceptions(ctx context.Context, _ *connect.Request[pb.ListExceptionsRequest]) (*connect.Response[pb.ListExceptionsResponse], error) {
	list, err := b.s.db.AuditExceptions(ctx)
	if err != nil {
		return nil, failure(b.s, err)
	}
	failing, err := b.failing(ctx)
	if err != nil {
		return nil, failure(b.s, err)
	}
	answer := &pb.ListExceptionsResponse{}
	for _, e := range list {
		m := toException(e)
		for node, checks := range failing {
			for _, check := range checks {
				if toRule(e).Covers(check, node) {
					m.Covers++
				}
			}
		}
		answer.Exceptions = append(answer.Exceptions, m)
	}
	return connect.NewResponse(answer), nil
}

// failing are the checks that fail now, by node.
func (b baselineService) failing(ctx context.Context) (map[string][]string, error) {
	newest, err := b.s.db.NewestAudits(ctx)
	if err != nil {
		return nil, err
	}
	failing := map[string][]string{}
	for _, a := range newest {
		_, raw, err := b.s.db.AuditOf(ctx, a.ID, "")
		if err != nil {
			return nil, err
		}
		var report baseline.Report
		if raw == nil || json.Unmarshal(raw, &report) != nil {
			continue
		}
		for _, c := range report.Failed(bulkhead.Low) {
			failing[a.Node] = append(failing[a.Node], c.ID)
		}
	}
	return failing, nil
}

func toException(e store.AuditException) *pb.AuditException {
	return &pb.AuditException{
		Id: e.ID, Check: e.Check, Node: e.Node, Owner: e.Owner, Reason: e.Reason, Expires: e.Expires, By: e.By, At: timestamppb.New(e.At),
		Over: e.Expires < time.Now().Format(time.DateOnly),
	}
}

func (b baselineService) PutException(ctx context.Context, r *connect.Request[pb.PutExceptionRequest]) (*connect.Response[pb.PutExceptionResponse], error) {
	m := r.Msg.Exception
	e := store.AuditException{
		ID: api.Text(m.GetId()), Check: strings.TrimSpace(api.Text(m.GetCheck())), Node: strings.TrimSpace(api.Text(m.GetNode())), Owner: strings.TrimSpace(api.Text(m.GetOwner())),
		Reason: strings.TrimSpace(api.Text(m.GetReason())), Expires: api.Text(m.GetExpires()), By: callerOf(ctx).Name, At: time.Now(),
	}
	if err := b.check(ctx, e); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if e.ID == "" {
		e.ID = rand.Text()[:12]
	}
	err := b.s.db.PutAuditException(ctx, e)
	b.s.audit(ctx, "put exception", e.Check, fmt.Sprintf("on %s until %s, for %s: %s", orAll(e.Node), e.Expires, e.Owner, e.Reason), err)
	if err != nil {
		return nil, failure(b.s, err)
	}
	return connect.NewResponse(&pb.PutExceptionResponse{Exception: toException(e)}), nil
}

func (b baselineService) check(ctx context.Context, e store.AuditException) error {
	for _, text := range []string{e.ID, e.Check, e.Node, e.Owner} {
		if len(text) > maxID {
			return fmt.Errorf("an exception's check, node and owner have at most %d bytes", maxID)
		}
	}
	if len(e.Reason) > 2000 {
		return errors.New("an exception's reason has at most 2000 bytes")
	}
	if err := toRule(e).Valid(); err != nil {
		return err
	}
	if e.Expires < time.Now().Format(time.DateOnly) {
		return fmt.Errorf("expires %s is past: an exception that is over covers nothing", e.Expires)
	}
	list, err := b.s.db.AuditExceptions(ctx)
	if err == nil && len(list) >= maxAuditExceptions {
		return fmt.Errorf("there are %d exceptions: more is no longer a list of them; remove some", len(list))
	}
	return err
}

func orAll(node string) string {
	if node == "" {
		return "every host"
	}
	return node
}

func (b baselineService) RemoveException(ctx context.Context, r *connect.Request[pb.RemoveExceptionRequest]) (*connect.Response[pb.RemoveExceptionResponse], error) {
	err := b.s.db.RemoveAuditException(ctx, r.Msg.Id)
	b.s.audit(ctx, "remove exception", short(r.Msg.Id), "", err)
	if err != nil {
		return nil, failure(b.s, err)
	}
	return connect.NewResponse(&pb.RemoveExceptionResponse{}), nil
}
