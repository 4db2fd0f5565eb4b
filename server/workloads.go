package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/profile"
	"bulkhead/store"
)

type workloadService struct{ s *Server }

func (w workloadService) ListWorkloads(ctx context.Context, _ *connect.Request[pb.ListWorkloadsRequest]) (*connect.Response[pb.ListWorkloadsResponse], error) {
	reports, err := w.s.db.Workloads(ctx)
	if err != nil {
		return nil, failure(w.s, err)
	}
	counts, err := w.s.db.AlertCounts(ctx)
	if err != nil {
		return nil, failure(w.s, err)
	}
	answer := &pb.ListWorkloadsResponse{}
	for len(reports) > 0 { // they are sorted by name
		n := 1
		for n < len(reports) && reports[n].Name == reports[0].Name {
			n++
		}
		answer.Workloads = append(answer.Workloads, w.s.join(reports[:n], counts[reports[0].Name]))
		reports = reports[n:]
	}
	return connect.NewResponse(answer), nil
}

func (w workloadService) GetWorkload(ctx context.Context, r *connect.Request[pb.GetWorkloadRequest]) (*connect.Response[pb.GetWorkloadResponse], error) {
	workload, _, err := w.s.workload(ctx, r.Msg.Name)
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(&pb.GetWorkloadResponse{Workload: workload}), nil
}

func (s *Server) workload(ctx context.Context, name string) (*pb.Workload, []store.Workload, error) {
	reports, err := s.db.Workload(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	counts, err := s.db.AlertCounts(ctx)
	if err != nil {
		return nil, nil, err
	}
	return s.join(reports, counts[name]), reports, nil
}

// join makes one workload of what its nodes say. Where they differ it says the weaker: a workload is
// protected when it is protected everywhere.
func (s *Server) join(reports []store.Workload, counts store.Counts) *pb.Workload {
	var out *pb.Workload
	var seen time.Time
	for _, report := range reports {
		m := &pb.Workload{}
		if err := fromJSON.Unmarshal([]byte(report.Report), m); err != nil {
			s.log.Warn("a workload's report in the database cannot be read", "workload", report.Name, "node", report.Node, "err", err)
			continue
		}
		if report.Seen.After(seen) {
			seen = report.Seen
		}
		if m.Nodes = []string{report.Node}; out == nil {
			out = m
		} else {
			weaken(out, m)
		}
	}
	if out == nil {
		out = &pb.Workload{}
	}
	out.Name, out.Blocked, out.Detected, out.LastSeen = reports[0].Name, counts.Blocked, counts.Detected, timestamppb.New(seen)
	return out
}

func weaken(a, b *pb.Workload) {
	a.Nodes = append(a.Nodes, b.Nodes...)
	a.Mode = min(a.Mode, b.Mode)
	a.Containers += b.Containers
	a.Completeness = min(a.Completeness, b.Completeness)
	a.Ready = a.Ready && b.Ready
	a.BlockedBy = cmp.Or(a.BlockedBy, b.BlockedBy)
	if a.Web == nil {
		a.Web = b.Web
	}
	if trustRank(b.Trust) > trustRank(a.Trust) {
		a.Trust = b.Trust
	}
	for name, section := range b.Sections {
		if mine := a.Sections[name]; mine == nil || section.GetScore() < mine.GetScore() {
			if a.Sections == nil {
				a.Sections = map[string]*pb.Completeness{}
			}
			a.Sections[name] = section
		}
	}
	for _, e := range b.Enforcement {
		if !slices.ContainsFunc(a.Enforcement, func(have *pb.Enforcement) bool {
			return have.Kind == e.Kind && have.Backend == e.Backend && have.Limits == e.Limits
		}) {
			a.Enforcement = append(a.Enforcement, e)
		}
	}
}

// trustRank orders what is said of an image: the worse is shown.
func trustRank(t *pb.ImageTrust) int {
	return map[string]int{"trusted": 1, "unknown": 2, "untrusted": 3}[t.GetStatus()]
}

func (w workloadService) SetMode(ctx context.Context, r *connect.Request[pb.SetModeRequest]) (*connect.Response[pb.SetModeResponse], error) {
	mode := api.FromMode(r.Msg.Mode)
	if !mode.Valid() {
		return nil, connect.NewError(connect.CodeInvalidArgument, errors.New("mode: use learn, monitor or protect"))
	}
	answer, err := w.s.setMode(ctx, r.Msg.Workload, mode, r.Msg.Anyway)
	w.s.audit(ctx, "set mode", short(r.Msg.Workload), modeDetail(mode, r.Msg.Anyway), cmp.Or(err, refusals(answer.GetNodes())))
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(answer), nil
}

func modeDetail(mode bulkhead.Mode, anyway bool) string {
	if anyway {
		return string(mode) + " anyway"
	}
	return string(mode)
}

// setMode stores the wish before it is sent: if the control plane is killed between, it is sent again.
// A wish that every node refuses is forgotten; nodes that are away get it when they are back.
func (s *Server) setMode(ctx context.Context, name string, mode bulkhead.Mode, anyway bool) (*pb.SetModeResponse, error) {
	workload, reports, err := s.workload(ctx, name)
	if err != nil {
		return nil, err
	}
	decisions, err := s.db.Decisions(ctx)
	if err != nil {
		return nil, err
	}
	wish := store.Decision{Workload: name, Mode: mode, Anyway: anyway, By: callerOf(ctx).Name, At: time.Now()}
	if err := s.db.Decide(ctx, wish); err != nil {
		return nil, err
	}
	answers := s.each(ctx, nodesOf(reports), setModeCommand(wish))
	if allRefused(answers) {
		return &pb.SetModeResponse{Workload: workload, Nodes: plain(answers)}, s.restore(ctx, name, decisions)
	}
	if slices.ContainsFunc(answers, func(a answer) bool { return a.Ok }) {
		workload.Mode = api.ToMode(mode)
	}
	return &pb.SetModeResponse{Workload: workload, Nodes: plain(answers)}, nil
}

func (s *Server) restore(ctx context.Context, workload string, before map[string]store.Decision) error {
	ctx = context.WithoutCancel(ctx)
	if old, ok := before[workload]; ok {
		return s.db.Decide(ctx, old)
	}
	return s.db.Undecide(ctx, workload)
}

func setModeCommand(d store.Decision) *pb.NodeCommand {
	return &pb.NodeCommand{Command: &pb.NodeCommand_SetMode{SetMode: &pb.SetModeRequest{
		Workload: d.Workload, Mode: api.ToMode(d.Mode), Anyway: d.Anyway,
	}}}
}

func (w workloadService) Approve(ctx context.Context, r *connect.Request[pb.ApproveRequest]) (*connect.Response[pb.ApproveResponse], error) {
	approval, err := w.approval(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	answers, err := w.s.approve(ctx, approval)
	w.s.audit(ctx, "approve", short(approval.Workload), short(string(approval.Section)+" "+approval.Value), cmp.Or(err, refusals(answers)))
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(&pb.ApproveResponse{Nodes: answers}), nil
}

// approval takes what an alert would heal by, or what the request names.
func (w workloadService) approval(ctx context.Context, m *pb.ApproveRequest) (bulkhead.Approval, error) {
	a := bulkhead.Approval{Workload: api.Text(m.Workload), Section: bulkhead.Section(m.Section), Value: api.Text(m.Value)}
	if m.AlertId != "" {
		alert, err := w.s.db.Alert(ctx, m.AlertId)
		if err != nil {
			return a, failure(w.s, err)
		}
		if alert.Heal == nil {
			return a, connect.NewError(connect.CodeFailedPrecondition, errors.New("this alert has nothing to approve: it is about an attack, not about a profile"))
		}
		a = *alert.Heal
		a.Workload = cmp.Or(a.Workload, alert.Workload)
	}
	a.By = callerOf(ctx).Name
	if a.Workload == "" || a.Value == "" || !slices.Contains(sections, a.Section) {
		return a, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("approve: name an alert, or a workload, a value and one of the sections %v", sections))
	}
	return a, nil
}

var sections = []bulkhead.Section{
	bulkhead.SectionExecutables, bulkhead.SectionScripts, bulkhead.SectionSyscalls, bulkhead.SectionWrites, bulkhead.SectionReads,
	bulkhead.SectionCapabilities, bulkhead.SectionListens, bulkhead.SectionPeers, bulkhead.SectionMemory,
}

// approve stores it first and forgets it if every node refuses, as setMode does.
func (s *Server) approve(ctx context.Context, a bulkhead.Approval) ([]*pb.NodeAnswer, error) {
	reports, err := s.db.Workload(ctx, a.Workload)
	if err != nil {
		return nil, err
	}
	id, err := s.db.AddApproval(ctx, a, time.Now())
	if err != nil {
		return nil, err
	}
	answers := s.each(ctx, nodesOf(reports), approveCommand(a))
	if allRefused(answers) {
		return plain(answers), s.db.DropApproval(context.WithoutCancel(ctx), id)
	}
	for _, answer := range answers {
		if answer.Ok {
			err = errors.Join(err, s.db.Delivered(context.WithoutCancel(ctx), id, answer.Node))
		}
	}
	return plain(answers), errors.Join(err, s.db.Heal(context.WithoutCancel(ctx), a))
}

func approveCommand(a bulkhead.Approval) *pb.NodeCommand {
	return &pb.NodeCommand{Command: &pb.NodeCommand_Approve{Approve: api.ToApproval(a)}}
}

func (w workloadService) GetProfile(ctx context.Context, r *connect.Request[pb.GetProfileRequest]) (*connect.Response[pb.GetProfileResponse], error) {
	reports, err := w.s.db.Workload(ctx, r.Msg.Workload)
	if err != nil {
		return nil, failure(w.s, err)
	}
	w.s.fetchProfiles(ctx, reports)
	text, err := merged(reports)
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(&pb.GetProfileResponse{Json: text}), nil
}

// fetchProfiles asks nodes whose profile is not stored: they send it only when it changed, and this
// control plane may be newer than that.
func (s *Server) fetchProfiles(ctx context.Context, reports []store.Workload) {
	for i, report := range reports {
		if report.Profile != "" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		got, err := s.bus.Command(ctx, report.Node, &pb.NodeCommand{Command: &pb.NodeCommand_GetProfile{GetProfile: &pb.GetProfileRequest{Workload: report.Name}}})
		cancel()
		if err != nil || len(got.ProfileJson) == 0 || len(got.ProfileJson) > maxProfile {
			continue // the answer is made of the other nodes' profiles, or says that there is none
		}
		if reports[i].Profile, err = canonical(got.ProfileJson, report.Name); err != nil {
			s.log.Warn("a node's profile was refused", "node", report.Node, "workload", report.Name, "err", err)
		}
	}
}

// merged is what the workload does on all its nodes.
func merged(reports []store.Workload) ([]byte, error) {
	var all *bulkhead.Profile
	for _, report := range reports {
		if report.Profile == "" {
			continue
		}
		p, err := profile.Read(strings.NewReader(report.Profile), "profile of "+report.Name+" on "+report.Node)
		if err != nil {
			return nil, err
		}
		if all != nil {
			if p, err = profile.Merge(*all, p); err != nil {
				return nil, err
			}
		}
		all = &p
	}
	if all == nil {
		return nil, fmt.Errorf("profile of %.80q: no node has sent one yet: %w", reports[0].Name, store.ErrNotFound)
	}
	var out bytes.Buffer
	err := profile.Write(&out, *all)
	return out.Bytes(), err
}

func nodesOf(reports []store.Workload) []string {
	var out []string
	for _, r := range reports {
		out = append(out, r.Node)
	}
	return out
}
