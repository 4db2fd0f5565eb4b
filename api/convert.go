package api

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
)

// Limits of one alert. What a process was called and given is chosen by whoever attacks it;
// an alert stays readable and a batch of them small whatever that was.
const (
	MaxText     = 16 << 10 // bytes of one text
	MaxArgs     = 256
	MaxAncestry = 64
)

// ToAlert writes an alert as a message.
func ToAlert(a bulkhead.Alert) *pb.Alert {
	return &pb.Alert{
		Id: Text(a.ID), Time: toTime(a.Time), Cluster: Text(a.Cluster), Node: Text(a.Node),
		Workload: Text(a.Workload), Container: Text(a.Container), Image: Text(a.Image), Digest: Text(a.Digest),
		Rule: Text(a.Rule), Title: Text(a.Title), Technique: Text(a.Technique), Tactic: Text(a.Tactic),
		Severity: Text(string(a.Severity)), Action: Text(a.Action), Message: Text(a.Message),
		Process: toProcess(a.Process),
		Cause:   &pb.AlertCause{Kind: Text(string(a.Cause.Kind)), Reason: Text(string(a.Cause.Reason)), Object: Text(a.Cause.Object), Request: toWebCause(a.Cause.Request), Drift: toDrift(a.Cause.Drift)},
		Count:   toCount(a.Count), Heal: toHeal(a.Heal), Healed: a.Healed, Web: toWeb(a.Web),
	}
}

// FromAlert reads an alert from a message, which may be hostile: too much of anything is cut.
func FromAlert(m *pb.Alert) bulkhead.Alert {
	return bulkhead.Alert{
		ID: Text(m.GetId()), Time: fromTime(m.GetTime()), Cluster: Text(m.GetCluster()), Node: Text(m.GetNode()),
		Workload: Text(m.GetWorkload()), Container: Text(m.GetContainer()), Image: Text(m.GetImage()), Digest: Text(m.GetDigest()),
		Rule: Text(m.GetRule()), Title: Text(m.GetTitle()), Technique: Text(m.GetTechnique()), Tactic: Text(m.GetTactic()),
		Severity: bulkhead.Severity(Text(m.GetSeverity())), Action: Text(m.GetAction()), Message: Text(m.GetMessage()),
		Process: fromProcess(m.GetProcess()),
		Cause: bulkhead.AlertCause{
			Kind:   bulkhead.EventKind(Text(m.GetCause().GetKind())),
			Reason: bulkhead.Reason(Text(m.GetCause().GetReason())),
			Object: Text(m.GetCause().GetObject()), Request: fromWebCause(m.GetCause().GetRequest()),
			Drift: fromDrift(m.GetCause().GetDrift()),
		},
		Count: fromCount(m.GetCount()), Heal: fromHeal(m.GetHeal()), Healed: m.GetHealed(), Web: fromWeb(m.GetWeb()),
	}
}

// ToMode writes a mode; what is none of the three becomes unspecified.
func ToMode(m bulkhead.Mode) pb.Mode {
	switch m {
	case bulkhead.Learn:
		return pb.Mode_MODE_LEARN
	case bulkhead.Monitor:
		return pb.Mode_MODE_MONITOR
	case bulkhead.Protect:
		return pb.Mode_MODE_PROTECT
	}
	return pb.Mode_MODE_UNSPECIFIED
}

// FromMode reads a mode; the result is not [bulkhead.Mode.Valid] when it was unspecified.
func FromMode(m pb.Mode) bulkhead.Mode {
	switch m {
	case pb.Mode_MODE_LEARN:
		return bulkhead.Learn
	case pb.Mode_MODE_MONITOR:
		return bulkhead.Monitor
	case pb.Mode_MODE_PROTECT:
		return bulkhead.Protect
	}
	return ""
}

// ToApproval writes an approval as a message.
func ToApproval(a bulkhead.Approval) *pb.Approval {
	return &pb.Approval{Workload: Text(a.Workload), Section: Text(string(a.Section)), Value: Text(a.Value), By: Text(a.By)}
}

// FromApproval reads an approval from a message.
func FromApproval(m *pb.Approval) bulkhead.Approval {
	return bulkhead.Approval{
		Workload: Text(m.GetWorkload()), Section: bulkhead.Section(Text(m.GetSection())),
		Value: Text(m.GetValue()), By: Text(m.GetBy()),
	}
}

// ToSections writes what a profile says of its completeness.
func ToSections(sections map[bulkhead.Section]bulkhead.Completeness) map[string]*pb.Completeness {
	out := make(map[string]*pb.Completeness, len(sections))
	for name, c := range sections {
		out[Text(string(name))] = toCompleteness(c)
	}
	return out
}

// FromSections reads what a profile says of its completeness.
func FromSections(sections map[string]*pb.Completeness) map[bulkhead.Section]bulkhead.Completeness {
	out := make(map[bulkhead.Section]bulkhead.Completeness, len(sections))
	for name, c := range sections {
		out[bulkhead.Section(Text(name))] = fromCompleteness(c)
	}
	return out
}

// ToWorkload writes which workload runs which image in which mode.
// Completeness, containers and back ends are for the caller to add.
func ToWorkload(w bulkhead.Workload, image bulkhead.Image, mode bulkhead.Mode) *pb.Workload {
	return &pb.Workload{
		Name: Text(w.Name), Kind: Text(w.Kind), Namespace: Text(w.Namespace),
		Image: Text(image.Reference), Digest: Text(image.Digest), Mode: ToMode(mode),
	}
}

// Text makes s fit for protobuf, JSON and a database: valid UTF-8, no NUL, at most [MaxText] bytes.
func Text(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText-len("…")] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "?")
	}
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "?")
	}
	return s
}

func toProcess(p bulkhead.AlertProcess) *pb.AlertProcess {
	m := &pb.AlertProcess{Pid: toInt32(p.PID), Uid: uidTo(p.UID), Exe: Text(p.Exe), Args: texts(p.Args)}
	for _, a := range p.Ancestry[:min(len(p.Ancestry), MaxAncestry)] {
		m.Ancestry = append(m.Ancestry, &pb.Ancestor{Pid: toInt32(a.PID), Comm: Text(a.Comm), Exe: Text(a.Exe)})
	}
	return m
}

// fromProcess gives lists that are never nil: scripts rely on their being present in JSON.
func fromProcess(m *pb.AlertProcess) bulkhead.AlertProcess {
	p := bulkhead.AlertProcess{
		PID: int(m.GetPid()), UID: uidFrom(m.GetUid()), Exe: Text(m.GetExe()),
		Args: texts(m.GetArgs()), Ancestry: []bulkhead.Ancestor{},
	}
	for _, a := range m.GetAncestry()[:min(len(m.GetAncestry()), MaxAncestry)] {
		p.Ancestry = append(p.Ancestry, bulkhead.Ancestor{PID: int(a.GetPid()), Comm: Text(a.GetComm()), Exe: Text(a.GetExe())})
	}
	return p
}

// uidTo and uidFrom carry the 32 unsigned bits of a user id in the signed field of the message.
func uidTo(uid int) int32   { return int32(uint32(uid)) }
func uidFrom(uid int32) int { return int(uint32(uid)) }

func toDrift(d *bulkhead.Drift) *pb.DriftCause {
	if d == nil {
		return nil
	}
	return &pb.DriftCause{
		Check: Text(d.Check), Title: Text(d.Title), Layer: Text(d.Layer), Before: Text(d.Before), After: Text(d.After), Was: Text(d.Was), Is: Text(d.Is),
		Paths: texts(d.Paths), User: Text(d.User),
	}
}

func fromDrift(m *pb.DriftCause) *bulkhead.Drift {
	if m == nil {
		return nil
	}
	return &bulkhead.Drift{
		Check: Text(m.Check), Title: Text(m.Title), Layer: Text(m.Layer), Before: Text(m.Before), After: Text(m.After), Was: Text(m.Was), Is: Text(m.Is),
		Paths: texts(m.Paths), User: Text(m.User),
	}
}

func toHeal(a *bulkhead.Approval) *pb.Approval {
	if a == nil {
		return nil
	}
	return ToApproval(*a)
}

func fromHeal(m *pb.Approval) *bulkhead.Approval {
	if m == nil {
		return nil
	}
	a := FromApproval(m)
	return &a
}

func toCompleteness(c bulkhead.Completeness) *pb.Completeness {
	m := &pb.Completeness{Score: c.Score, HeldOut: c.HeldOut, Items: toInt32(c.Items), Ready: c.Ready}
	for _, p := range c.Curve {
		m.Curve = append(m.Curve, &pb.Completeness_Point{Seconds: p.Seconds, Events: p.Events, Items: toInt32(p.Items)})
	}
	return m
}

func fromCompleteness(m *pb.Completeness) bulkhead.Completeness {
	c := bulkhead.Completeness{
		Score: m.GetScore(), HeldOut: m.GetHeldOut(), Items: int(m.GetItems()), Ready: m.GetReady(),
		Curve: []bulkhead.Point{},
	}
	for _, p := range m.GetCurve() {
		c.Curve = append(c.Curve, bulkhead.Point{Seconds: p.GetSeconds(), Events: p.GetEvents(), Items: int(p.GetItems())})
	}
	return c
}

func texts(list []string) []string {
	out := make([]string, 0, min(len(list), MaxArgs))
	for _, s := range list[:min(len(list), MaxArgs)] {
		out = append(out, Text(s))
	}
	return out
}

func toTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// fromTime gives the zero time for one that is absent or that JSON could not write.
func fromTime(m *timestamppb.Timestamp) time.Time {
	if m == nil || !m.IsValid() {
		return time.Time{}
	}
	return m.AsTime()
}

func toInt32(n int) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, n))) }

func toCount(n int) uint32 { return uint32(max(0, min(math.MaxUint32, n))) }

func fromCount(n uint32) int { return int(n) }
