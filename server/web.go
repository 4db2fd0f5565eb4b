package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/store"
)

// Bounds of what is decided about one workload's requests: every request is held against all of it.
const (
	maxExceptions = 200
	maxPatches    = 200
	maxPorts      = 32
	maxWebs       = 2000
	maxWebPattern = 1000
)

type webService struct{ s *Server }

// wrong is a refusal of what somebody asks for.
func wrong(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// webSettings are all that was decided, by workload.
func (s *Server) webSettings(ctx context.Context) ([]*pb.WebSetting, error) {
	stored, err := s.db.WebSettings(ctx)
	if err != nil {
		return nil, err
	}
	var out []*pb.WebSetting
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		m := &pb.WebSetting{}
		if err := fromJSON.Unmarshal([]byte(stored[name]), m); err != nil {
			s.log.Warn("a setting of the layer-7 firewall cannot be read", "workload", name, "err", err)
			continue
		}
		out = append(out, m)
	}
	return out, nil
}

func setWebs(all []*pb.WebSetting, about string) *pb.NodeCommand {
	return &pb.NodeCommand{Command: &pb.NodeCommand_SetWebs{SetWebs: &pb.SetWebs{Settings: all, About: about}}}
}

func (w webService) ListWeb(ctx context.Context, r *connect.Request[pb.ListWebRequest]) (*connect.Response[pb.ListWebResponse], error) {
	settings, err := w.s.webSettings(ctx)
	if err != nil {
		return nil, failure(w.s, err)
	}
	reports, err := w.s.db.Workloads(ctx)
	if err != nil {
		return nil, failure(w.s, err)
	}
	answer := &pb.ListWebResponse{}
	for _, setting := range settings {
		if r.Msg.Workload != "" && r.Msg.Workload != setting.Workload {
			continue
		}
		one := &pb.ListWebResponse_WebWorkload{Setting: setting}
		for _, report := range reports {
			if m := workloadOf(report); report.Name == setting.Workload && m.GetWeb() != nil {
				one.States, one.Nodes = append(one.States, m.Web), append(one.Nodes, report.Node)
			}
		}
		answer.Workloads = append(answer.Workloads, one)
	}
	return connect.NewResponse(answer), nil
}

func (w webService) SetWeb(ctx context.Context, r *connect.Request[pb.SetWebRequest]) (*connect.Response[pb.SetWebResponse], error) {
	m := r.Msg
	if !bulkhead.WebMode(m.Mode).Valid() {
		return nil, wrong("mode %.20q: write off, learn, detect or block", m.Mode)
	}
	if m.Place != "" && !bulkhead.WebPlace(m.Place).Valid() {
		return nil, wrong("place %.20q: write inline or tap", m.Place)
	}
	if len(m.Ports) > maxPorts || slices.ContainsFunc(m.Ports, func(p uint32) bool { return p == 0 || p > 65535 }) {
		return nil, wrong("ports: name 1 to %d, each from 1 to 65535", maxPorts)
	}
	found, err := w.spoken(ctx, m)
	if err != nil {
		return nil, failure(w.s, err)
	}
	detail := m.Mode
	return w.change(ctx, m.Workload, "set web mode", func() string { return detail }, func(s *pb.WebSetting) error {
		s.Mode, s.Place = m.Mode, cmp.Or(m.Place, s.Place, string(bulkhead.PlaceInline))
		s.Closed = m.Closed || s.Closed && !m.Open
		if len(m.Ports) > 0 {
			s.Ports = slices.Compact(slices.Sorted(slices.Values(m.Ports)))
		}
		if len(s.Ports) == 0 {
			s.Ports = found
		}
		if len(s.Ports) == 0 && m.Mode != string(bulkhead.WebOff) {
			return wrong("%s was not seen to speak HTTP yet: name its ports with --port", m.Workload)
		}
		if s.Place == string(bulkhead.PlaceTap) && (s.Mode == string(bulkhead.WebBlock) || s.Closed) {
			return wrong("a tap refuses nothing: choose detect or learn, or the place inline")
		}
		detail = fmt.Sprintf("%s %s %v", s.Mode, s.Place, s.Ports)
		return nil
	})
}

// spoken are the ports on which a workload was seen to speak HTTP, when nobody names any.
func (w webService) spoken(ctx context.Context, m *pb.SetWebRequest) (ports []uint32, err error) {
	if len(m.Ports) > 0 {
		return nil, nil
	}
	flows, err := w.s.db.Flows(ctx, store.FlowQuery{From: time.Now().Add(-7 * 24 * time.Hour), To: time.Now()})
	for _, f := range flows {
		if f.Destination.Kind == bulkhead.EndWorkload && f.Destination.Name == m.Workload && strings.HasPrefix(f.Application, "http") && !slices.Contains(ports, uint32(f.Port)) {
			ports = append(ports, uint32(f.Port))
		}
	}
	slices.Sort(ports)
	return ports[:min(len(ports), maxPorts)], err
}

// change stores what was decided, and brings every node to it. Nodes that are away get it when they are back.
func (w webService) change(ctx context.Context, workload, action string, detail func() string, change func(*pb.WebSetting) error) (*connect.Response[pb.SetWebResponse], error) {
	reports, err := w.s.db.Workload(ctx, workload)
	if err != nil {
		return nil, failure(w.s, err)
	}
	setting, err := w.store(ctx, workload, change)
	var answers []*pb.NodeAnswer
	if err == nil {
		answers, err = w.spread(ctx, workload, nodesOf(reports))
	}
	w.s.audit(ctx, action, short(workload), detail(), cmp.Or(err, refusals(answers)))
	var refused *connect.Error
	if errors.As(err, &refused) {
		return nil, err
	}
	if err != nil {
		return nil, failure(w.s, err)
	}
	return connect.NewResponse(&pb.SetWebResponse{Setting: setting, Nodes: answers}), nil
}

func (w webService) store(ctx context.Context, workload string, change func(*pb.WebSetting) error) (*pb.WebSetting, error) {
	var setting *pb.WebSetting
	err := w.s.db.ChangeWeb(ctx, workload, func(before string) (string, error) {
		setting = &pb.WebSetting{Workload: workload, Mode: string(bulkhead.WebOff), Place: string(bulkhead.PlaceInline)}
		if before != "" {
			if err := fromJSON.Unmarshal([]byte(before), setting); err != nil {
				return "", err
			}
		}
		if err := change(setting); err != nil {
			return "", err
		}
		setting.By, setting.At = callerOf(ctx).Name, timestamppb.Now()
		text, err := protojson.Marshal(setting)
		return string(text), err
	})
	return setting, err
}

// spread tells every node, and answers for those that have run the workload.
func (w webService) spread(ctx context.Context, workload string, run []string) ([]*pb.NodeAnswer, error) {
	all, err := w.s.webSettings(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) > maxWebs {
		return nil, wrong("settings of %d workloads are more than %d", len(all), maxWebs)
	}
	nodes, err := w.s.connected(ctx)
	for _, n := range run {
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	answers := plain(w.s.each(ctx, nodes, setWebs(all, workload)))
	return slices.DeleteFunc(answers, func(a *pb.NodeAnswer) bool { return !slices.Contains(run, a.Node) }), err
}

func (w webService) AllowWeb(ctx context.Context, r *connect.Request[pb.AllowWebRequest]) (*connect.Response[pb.SetWebResponse], error) {
	m, workload, fresh := r.Msg, r.Msg.Workload, []bulkhead.WebException{}
	if m.Event != "" {
		event, err := w.event(ctx, m.Event)
		if err != nil {
			return nil, err
		}
		workload = event.Workload
		if fresh = exceptionsOf(event.Web); len(fresh) == 0 {
			return nil, wrong("nothing of event %.60q can be allowed: servers understand such a request differently", m.Event)
		}
	} else if m.Remove == "" {
		fresh = append(fresh, api.FromWebException(m.Exception))
	}
	for _, e := range fresh {
		if e.Rule == "" || e.Path != "" && !strings.HasPrefix(e.Path, "/") {
			return nil, wrong("an exception names a rule, and a path that begins with /")
		}
	}
	detail := "remove " + m.Remove
	return w.change(ctx, workload, "web exception", func() string { return detail }, func(s *pb.WebSetting) error {
		if m.Remove != "" {
			n := len(s.Exceptions)
			s.Exceptions = slices.DeleteFunc(s.Exceptions, func(e *pb.WebException) bool { return e.Id == m.Remove })
			return found(n != len(s.Exceptions), "exception", m.Remove)
		}
		detail = ""
		for _, e := range fresh {
			e.ID, e.By, e.At = newWebID(), callerOf(ctx).Name, time.Now()
			s.Exceptions = slices.DeleteFunc(s.Exceptions, func(have *pb.WebException) bool {
				return have.Rule == e.Rule && have.Path == e.Path && have.Name == e.Name
			})
			s.Exceptions = append(s.Exceptions, api.ToWebException(e))
			detail += short(e.Rule+" "+e.Path+" "+e.Name) + " "
		}
		if len(s.Exceptions) > maxExceptions {
			return wrong("%d exceptions are more than %d: remove some", len(s.Exceptions), maxExceptions)
		}
		return nil
	})
}

func found(is bool, what, id string) error {
	if is {
		return nil
	}
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no %s %.40q: `bulkhead waf WORKLOAD` lists them", what, id))
}

func newWebID() string { return strings.ToLower(rand.Text()[:8]) }

// exceptionsOf are what would have let a request pass: its reasons, at its endpoint. What is refused in every mode stays so.
func exceptionsOf(r *bulkhead.WebRequest) (list []bulkhead.WebException) {
	for _, reason := range r.Reasons {
		if reason.Class == "protocol" || reason.Class == "virtual-patch" {
			continue
		}
		e := bulkhead.WebException{Rule: reason.Rule, Path: r.Endpoint, Name: reason.Name}
		if !slices.ContainsFunc(list, func(have bulkhead.WebException) bool { return have.Rule == e.Rule && have.Name == e.Name }) {
			list = append(list, e)
		}
	}
	return list
}

func (w webService) PatchWeb(ctx context.Context, r *connect.Request[pb.PatchWebRequest]) (*connect.Response[pb.SetWebResponse], error) {
	m, workload := r.Msg, r.Msg.Workload
	patch := api.FromWebPatch(m.Patch)
	if m.Alert != "" {
		alert, err := w.s.db.Alert(ctx, m.Alert)
		if err != nil {
			return nil, failure(w.s, err)
		}
		if alert.Cause.Request == nil || alert.Cause.Request.Patch == nil {
			return nil, wrong("alert %.60q has no cause for which a patch was proposed", m.Alert)
		}
		workload, patch = alert.Workload, *alert.Cause.Request.Patch
	}
	if m.Remove == "" {
		if !strings.HasPrefix(patch.Path, "/") {
			return nil, wrong("a patch names a path that begins with /")
		}
		if _, err := regexp.Compile(patch.Pattern); err != nil || len(patch.Pattern) > maxWebPattern {
			return nil, wrong("the pattern is no regular expression of at most %d bytes: %v", maxWebPattern, err)
		}
	}
	detail := "remove " + m.Remove
	return w.change(ctx, workload, "web patch", func() string { return detail }, func(s *pb.WebSetting) error {
		if m.Remove != "" {
			n := len(s.Patches)
			s.Patches = slices.DeleteFunc(s.Patches, func(p *pb.WebPatch) bool { return p.Id == m.Remove })
			return found(n != len(s.Patches), "patch", m.Remove)
		}
		patch.ID, patch.By, patch.At = newWebID(), callerOf(ctx).Name, time.Now()
		s.Patches = append(s.Patches, api.ToWebPatch(patch))
		detail = short(patch.Method + " " + patch.Path + " " + patch.Name + " " + patch.Pattern)
		if len(s.Patches) > maxPatches {
			return wrong("%d patches are more than %d: remove some", len(s.Patches), maxPatches)
		}
		return nil
	})
}

func (w webService) ListWebEvents(ctx context.Context, r *connect.Request[pb.ListWebEventsRequest]) (*connect.Response[pb.ListWebEventsResponse], error) {
	f := store.Filter{Workload: r.Msg.Workload, Action: r.Msg.Action, Limit: int(r.Msg.Limit), Page: r.Msg.Page, Web: true}
	if r.Msg.Since.IsValid() {
		f.Since = r.Msg.Since.AsTime()
	}
	page, err := w.s.db.Alerts(ctx, f)
	if err != nil {
		return nil, failure(w.s, err)
	}
	answer := &pb.ListWebEventsResponse{NextPage: page.Next, Total: uint64(page.Total)}
	for _, alert := range page.Alerts {
		answer.Events = append(answer.Events, api.ToAlert(alert))
	}
	return connect.NewResponse(answer), nil
}

// event finds an alert about a request by the id that its client was shown, or by its own.
func (w webService) event(ctx context.Context, id string) (bulkhead.Alert, error) {
	if !strings.HasPrefix(id, "web-") {
		id = "web-" + id
	}
	alert, err := w.s.db.Alert(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		alert, err = w.s.db.Alert(ctx, id+bulkhead.WebLater)
	}
	if err == nil && alert.Web == nil {
		err = fmt.Errorf("event %.60q: %w", id, store.ErrNotFound)
	}
	if err != nil {
		return alert, failure(w.s, err)
	}
	return alert, nil
}

func (w webService) GetWebEvent(ctx context.Context, r *connect.Request[pb.GetWebEventRequest]) (*connect.Response[pb.GetWebEventResponse], error) {
	alert, err := w.event(ctx, r.Msg.Id)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetWebEventResponse{Event: api.ToAlert(alert)}), nil
}

// GetPortrait asks every node that runs the workload at once, and takes the largest: nodes learn apart from each other.
func (w webService) GetPortrait(ctx context.Context, r *connect.Request[pb.GetPortraitRequest]) (*connect.Response[pb.GetPortraitResponse], error) {
	reports, err := w.s.db.Workload(ctx, r.Msg.Workload)
	if err != nil {
		return nil, failure(w.s, err)
	}
	nodes := nodesOf(reports)
	portraits, errs := make([]*pb.GetPortraitResponse, len(nodes)), make([]error, len(nodes))
	var wait sync.WaitGroup
	for i, node := range nodes {
		wait.Go(func() { portraits[i], errs[i] = w.portraitOf(ctx, node, r.Msg) })
	}
	wait.Wait()
	best := slices.MaxFunc(append(portraits, nil), func(a, b *pb.GetPortraitResponse) int { return cmp.Compare(len(a.GetJson()), len(b.GetJson())) })
	if best == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.Join(errs...))
	}
	return connect.NewResponse(best), nil
}

func (w webService) portraitOf(ctx context.Context, node string, r *pb.GetPortraitRequest) (*pb.GetPortraitResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	got, err := w.s.bus.Command(ctx, node, &pb.NodeCommand{Command: &pb.NodeCommand_GetPortrait{GetPortrait: r}})
	if err != nil {
		return nil, err
	}
	if got.Portrait == nil {
		return nil, errors.New(node + ": " + cmp.Or(got.Answer.GetError(), "the node has none"))
	}
	got.Portrait.Node = node
	return got.Portrait, nil
}
