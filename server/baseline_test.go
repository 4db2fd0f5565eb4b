package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/baseline"
)

func (p *plane) baseline() bulkheadv1connect.BaselineServiceClient {
	return bulkheadv1connect.NewBaselineServiceClient(p.Client(), p.URL)
}

// auditReport is what an agent sends, with a score that it made up.
func auditReport(t *testing.T, node string, at time.Time, checks ...baseline.Result) *pb.AuditReport {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"version": "1", "report": baseline.Report{Checks: checks}})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	return &pb.AuditReport{Node: node, Cluster: "c", Time: timestamppb.New(at), Cause: "time", Score: 100, Report: b.Bytes(), Drift: 1}
}

// TestBaseline: audits become scores over time, a node's own score is not believed, exceptions cover what they name until
// their day, and changes of settings are found among alerts.
func TestBaseline(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	a, b, ctx, now := join(t, p.dir, "a"), join(t, p.dir, "b"), t.Context(), time.Now()
	good := baseline.Result{ID: "BH-H001", Layer: "host", Status: baseline.Pass, Severity: bulkhead.High}
	bad := baseline.Result{ID: "BH-H002", Layer: "host", Status: baseline.Fail, Severity: bulkhead.High, Evidence: "\x00\xff"}
	eventually(t, "the first audit", func() bool {
		return a.ReportAudit(ctx, auditReport(t, "a", now.Add(-49*time.Hour), good, bad)) == nil
	})
	again := auditReport(t, "a", now.Add(-time.Hour), good, good)
	for range 2 { // an answer was lost
		if err := a.ReportAudit(ctx, again); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.ReportAudit(ctx, auditReport(t, "b", now.Add(time.Hour), good, bad)); err != nil {
		t.Fatal(err)
	}
	if err := b.ReportAudit(ctx, auditReport(t, "a", now, good)); err == nil {
		t.Error("an audit was taken in another node's name")
	}
	if err := b.ReportAudit(ctx, &pb.AuditReport{Node: "b", Time: timestamppb.Now(), Report: []byte("x")}); err == nil {
		t.Error("nonsense was taken")
	}
	list, err := p.baseline().ListAudits(ctx, connect.NewRequest(&pb.ListAuditsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	hosts := list.Msg.Hosts
	if len(hosts) != 2 || hosts[0].Audit.Node != "b" || hosts[0].Audit.Score != 50 || hosts[0].FailingHigh != 1 || hosts[1].Audit.Score != 100 || len(hosts[1].History) != 2 {
		t.Fatalf("%v", hosts)
	}
	if c := list.Msg.Clusters; len(c) < 2 || c[0].Score != 50 || c[len(c)-1].Score != 75 || c[len(c)-1].Hosts != 2 {
		t.Errorf("of the cluster: %v", c)
	}
	testExceptions(t, p)
	alert := alert(1)
	alert.ID, alert.Rule, alert.Node, alert.Cause.Kind = "d", bulkhead.DriftRules+"BH-H002", "a", bulkhead.EventDrift
	alert.Cause.Drift = &bulkhead.Drift{Check: "BH-H002", Before: "pass", After: "fail", Paths: []string{"/etc/x"}}
	a.publish(t, append(alerts(5, 8), alert))
	eventually(t, "drift", func() bool {
		r, err := p.baseline().ListDrift(ctx, connect.NewRequest(&pb.ListDriftRequest{Node: "a", Check: "BH-H002"}))
		return err == nil && r.Msg.Total == 1 && r.Msg.Drift[0].Cause.Drift.After == "fail"
	})
}

func testExceptions(t *testing.T, p *plane) {
	t.Helper()
	ctx := t.Context()
	for _, wrong := range []*pb.AuditException{
		nil,
		{Check: "BH-H002", Owner: "ann", Expires: "2999-01-01"},
		{Check: "BH-H002", Reason: "r", Expires: "2999-01-01"},
		{Check: "[", Owner: "ann", Reason: "r", Expires: "2999-01-01"},
		{Check: "BH-H002", Owner: "ann", Reason: "r", Expires: "soon"},
		{Check: "BH-H002", Owner: "ann", Reason: "r", Expires: "2020-01-01"},
	} {
		if _, err := p.baseline().PutException(ctx, connect.NewRequest(&pb.PutExceptionRequest{Exception: wrong})); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", wrong, err)
		}
	}
	made, err := p.baseline().PutException(ctx, connect.NewRequest(&pb.PutExceptionRequest{Exception: &pb.AuditException{Check: "BH-H00*", Node: "b*", Owner: "ann", Reason: "r", Expires: "2999-01-01"}}))
	if err != nil {
		t.Fatal(err)
	}
	excepted := func() int32 {
		r, err := p.baseline().GetAudit(ctx, connect.NewRequest(&pb.GetAuditRequest{Node: "b"}))
		if err != nil {
			t.Fatal(err)
		}
		var report baseline.Report
		if err := json.Unmarshal(r.Msg.Json, &report); err != nil || len(report.Checks) != 2 || report.Score != 50 {
			t.Fatalf("%s: %v", r.Msg.Json, err)
		}
		return r.Msg.Audit.Counts.Excepted
	}
	if n := excepted(); n != 1 {
		t.Errorf("%d are excepted", n)
	}
	list, err := p.baseline().ListExceptions(ctx, connect.NewRequest(&pb.ListExceptionsRequest{}))
	if err != nil || len(list.Msg.Exceptions) != 1 || list.Msg.Exceptions[0].Covers != 1 || list.Msg.Exceptions[0].Over {
		t.Error(list, err)
	}
	if _, err := p.baseline().RemoveException(ctx, connect.NewRequest(&pb.RemoveExceptionRequest{Id: made.Msg.Exception.Id})); err != nil {
		t.Error(err)
	}
	if n := excepted(); n != 0 {
		t.Errorf("%d are excepted after all", n)
	}
}
