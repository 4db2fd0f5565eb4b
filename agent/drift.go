package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/agent/drift"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/baseline"
	"bulkhead/bus"
)

// maxAudits wait for the control plane; with more of them the oldest are dropped. What changed is also among the alerts.
const maxAudits = 30

// auditNode audits this node, and watches what was looked at.
func (a *Agent) auditNode(ctx context.Context) error {
	if a.options.Auditor == "" {
		return nil
	}
	err := drift.Run(ctx, drift.Options{
		Program: a.options.Auditor, Root: a.options.HostRoot, State: filepath.Join(a.options.State, "audit"), Docker: a.dockerSocket, Version: a.options.Version,
		Tell: a.audited, Problem: a.problem, Log: a.log,
	})
	if err != nil {
		a.problem("audit", err.Error()) // the node is protected all the same
	}
	<-ctx.Done()
	return nil
}

// dockerSocket is where to ask Docker for an audit. Files of another host are not those of this one's engine.
func (a *Agent) dockerSocket() string {
	for _, e := range a.containers.Engines() {
		if e.Name == "docker" && e.Error == "" && a.options.HostRoot == "" {
			return strings.TrimPrefix(e.Socket, "unix://")
		}
	}
	return ""
}

// audited keeps what an audit found until the control plane has it, and tells of what changed.
func (a *Agent) audited(r drift.Result) {
	report := &pb.AuditReport{
		Node: a.options.Node, Cluster: a.options.Cluster, Time: timestamppb.New(r.Time), Cause: r.Cause, Score: r.Score, Layers: r.Layers, Report: r.Report,
		Drift: int32(len(r.Drift)), Counts: &pb.AuditCounts{
			Pass: int32(r.Counts.Pass), Fail: int32(r.Counts.Fail), Manual: int32(r.Counts.Manual), NotApplicable: int32(r.Counts.NotApplicable),
		},
	}
	if err := a.keepAudit(report); err != nil {
		a.problem("audit", err.Error())
	}
	for _, d := range r.Drift {
		if d.After == baseline.Fail || len(d.Paths) > 0 {
			a.alerts.add(a.driftAlert(d))
		}
	}
	select {
	case a.auditsWait <- struct{}{}:
	default:
	}
}

func (a *Agent) auditsDir() string { return filepath.Join(a.options.State, "audit", "waiting") }

func (a *Agent) keepAudit(report *pb.AuditReport) error {
	b, err := proto.Marshal(report)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(a.auditsDir(), 0o700); err != nil {
		return fmt.Errorf("keeping the audit: %w", err)
	}
	waiting := a.waitingAudits()
	for len(waiting) >= maxAudits {
		_ = os.Remove(waiting[0])
		waiting = waiting[1:]
	}
	name := filepath.Join(a.auditsDir(), fmt.Sprintf("%020d.audit", report.Time.AsTime().UnixNano()))
	if err := renameio.WriteFile(name, b, 0o600); err != nil {
		return fmt.Errorf("keeping the audit until the control plane has it: %w; free room in %s", err, a.options.State)
	}
	return nil
}

// waitingAudits are the files, the oldest first.
func (a *Agent) waitingAudits() []string {
	files, _ := filepath.Glob(filepath.Join(a.auditsDir(), "*.audit"))
	slices.Sort(files)
	return files
}

func (a *Agent) deliverAudits(ctx context.Context, client *bus.Client) {
	retry := time.NewTicker(20 * time.Second)
	defer retry.Stop()
	for {
		for _, name := range a.waitingAudits() {
			if !a.deliverAudit(ctx, client, name) {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-a.auditsWait:
		case <-retry.C:
		}
	}
}

func (a *Agent) deliverAudit(ctx context.Context, client *bus.Client, name string) bool {
	b, err := os.ReadFile(name)
	report := &pb.AuditReport{}
	if err != nil || proto.Unmarshal(b, report) != nil {
		_ = os.Remove(name)
		return true
	}
	if !client.Connected() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := client.ReportAudit(ctx, report); err != nil {
		if !errors.Is(err, bus.ErrAway) {
			a.log.Warn("the control plane did not take the audit", "err", err)
		}
		return false
	}
	_ = os.Remove(name)
	return true
}

// driftAlert tells of one audited setting that changed, and who changed it.
func (a *Agent) driftAlert(d drift.Drift) bulkhead.Alert {
	al := bulkhead.Alert{
		ID:   fmt.Sprintf("%.8s-%d-%s-drift", strings.ReplaceAll(bootID(), "-", ""), d.At.UnixMicro(), d.Check),
		Time: d.At.UTC(), Cluster: a.options.Cluster, Node: a.options.Node, Rule: bulkhead.DriftRules + d.Check, Title: d.Title,
		Severity: d.Severity, Action: bulkhead.ActionDetected, Count: 1,
		Process: bulkhead.AlertProcess{Args: []string{}, Ancestry: []bulkhead.Ancestor{}},
		Cause: bulkhead.AlertCause{Kind: bulkhead.EventDrift, Object: d.Check, Drift: &bulkhead.Drift{
			Check: d.Check, Title: d.Title, Layer: d.Layer, Before: string(d.Before), After: string(d.After), Was: d.Was, Is: d.Is, Paths: d.Paths, User: d.User,
		}},
	}
	if d.After != baseline.Fail {
		al.Severity = bulkhead.Low // it did not become worse
	}
	if len(d.Attack) > 0 {
		al.Technique = d.Attack[0]
	}
	if len(d.Paths) > 0 {
		al.Cause.Object = d.Paths[0]
	}
	if d.Seen {
		al.Process = d.By.AlertProcess
		if c, ok := a.containerAt(d.By.Cgroup); ok {
			al.Workload, al.Container, al.Image, al.Digest = c.Workload.Name, c.Name, c.Image.Reference, c.Image.Digest
		}
	}
	al.Message = driftMessage(d, al.Container)
	return al
}

func (a *Agent) containerAt(cgroup string) (bulkhead.Container, bool) {
	root, err := cgroupRoot()
	var st unix.Stat_t
	if err != nil || cgroup == "" || unix.Stat(filepath.Join(root, cgroup), &st) != nil {
		return bulkhead.Container{}, false
	}
	return a.lookup(st.Ino)
}

func driftMessage(d drift.Drift, container string) string {
	text := fmt.Sprintf("%s was %s and is %s", d.Check, d.Before, d.After)
	if d.Before == d.After {
		text = fmt.Sprintf("%s is %s as before, and sees something else", d.Check, d.After)
	}
	text += fmt.Sprintf(": %s (before: %s)", d.Is, d.Was)
	switch {
	case d.Seen:
		text += fmt.Sprintf("; changed by %s, process %d of %s", strings.Join(d.By.Args, " "), d.By.PID, d.User)
		if container != "" {
			text += " in container " + container
		}
	case len(d.Paths) > 0:
		text += "; who changed " + d.Paths[0] + " had ended before it could be looked at, or nobody watched"
	default:
		text += "; no file that is watched changed"
	}
	return text
}
