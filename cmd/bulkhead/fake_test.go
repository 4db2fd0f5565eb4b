package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/incident"
	"bulkhead/server"
)

// fake is a control plane with a node, in memory: two workloads, of which one may be protected, and alerts
// with everything that a container may put into a name.
type fake struct {
	bulkheadv1connect.UnimplementedAuthServiceHandler
	token string
	run   string

	mu        sync.Mutex
	workloads []*pb.Workload
	alerts    []bulkhead.Alert // newest first
	watchers  map[chan bulkhead.Alert]bool
}

const fakeToken = "bht_test"

var fakeNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func newFake(run string) *fake {
	f := &fake{token: fakeToken, run: run, watchers: map[chan bulkhead.Alert]bool{}}
	f.workloads = []*pb.Workload{
		{
			Name: "docker/shop", Kind: "container", Image: "shop:1", Digest: "sha256:0123", Mode: pb.Mode_MODE_MONITOR, Nodes: []string{"a"},
			Containers: 2, Completeness: 1, Ready: true, Blocked: 3, Detected: 4, LastSeen: timestamppb.New(fakeNow),
			Sections:    map[string]*pb.Completeness{"executables": {Score: 1, HeldOut: 1, Items: 3, Ready: true}},
			Enforcement: []*pb.Enforcement{{Kind: "executables", Backend: "tracepoint", Limits: "a killed program was started, and ended before its first instruction"}},
		},
		{
			Name: "docker/evil\x1b[2J\nname", Kind: "container", Image: "evil:latest", Digest: "sha256:4567", Mode: pb.Mode_MODE_LEARN,
			Completeness: 0.629, BlockedBy: "executables: still growing", LastSeen: timestamppb.New(fakeNow),
		},
		{Name: "compose/young", Kind: "compose", Image: "young:1", Mode: pb.Mode_MODE_LEARN, BlockedBy: "executables: still growing"},
	}
	f.alerts = []bulkhead.Alert{
		fakeAlert("boot-1a2b-1003", bulkhead.Critical, bulkhead.ActionBlocked, "docker/shop", "/tmp/miner"),
		fakeAlert("boot-1a2b-1002", bulkhead.Medium, bulkhead.ActionDetected, "docker/evil\x1b[2J\nname", "/\u202egpj.exe\x07"),
		fakeAlert("boot-1a2b-1001", bulkhead.Low, bulkhead.ActionDetected, "docker/shop", "/etc/passwd"),
	}
	f.alerts[2].Heal = nil
	f.alerts[2].Rule, f.alerts[2].Process.Args = "read-passwd", nil
	return f
}

func fakeAlert(id string, severity bulkhead.Severity, action, workload, object string) bulkhead.Alert {
	return bulkhead.Alert{
		ID: id, Time: fakeNow, Cluster: "local", Node: "a", Workload: workload, Container: "shop", Image: "shop:1", Digest: "sha256:0123",
		Rule: "profile/executables", Title: "A program outside the profile", Technique: "T1059", Tactic: "execution",
		Severity: severity, Action: action, Message: "was started",
		Process: bulkhead.AlertProcess{PID: 7, Exe: "/bin/sh", Args: []string{"sh", "-c", "x"}, Ancestry: []bulkhead.Ancestor{{PID: 1, Comm: "init", Exe: "/init"}}},
		Cause:   bulkhead.AlertCause{Kind: bulkhead.EventExec, Reason: bulkhead.ReasonForeignFile, Object: object},
		Count:   1, Heal: &bulkhead.Approval{Workload: workload, Section: bulkhead.SectionExecutables, Value: object},
	}
}

// start serves until stop is called, and leaves the access file for clients.
func (f *fake) start() (stop func(), err error) {
	mux := http.NewServeMux()
	mux.Handle(bulkheadv1connect.NewAuthServiceHandler(f))
	mux.Handle(bulkheadv1connect.NewWorkloadServiceHandler(f))
	mux.Handle(bulkheadv1connect.NewAlertServiceHandler(f))
	mux.Handle(bulkheadv1connect.NewNodeServiceHandler(f))
	s := httptest.NewUnstartedServer(f.guard(mux))
	s.EnableHTTP2 = true
	s.StartTLS()
	cert := filepath.Join(f.run, "server.crt")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	access, err1 := json.Marshal(server.Address{URL: s.URL, Token: f.token, Certificate: cert})
	err = errors.Join(err1, os.MkdirAll(f.run, 0o700), os.WriteFile(cert, block, 0o600),
		os.WriteFile(filepath.Join(f.run, "client.json"), access, 0o600))
	return func() { s.CloseClientConnections(); s.Close() }, err
}

func (f *fake) guard(next http.Handler) http.Handler {
	refuse := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+f.token {
			_ = refuse.Write(w, r, connect.NewError(connect.CodeUnauthenticated, errors.New("unknown token")))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (f *fake) WhoAmI(context.Context, *connect.Request[pb.WhoAmIRequest]) (*connect.Response[pb.WhoAmIResponse], error) {
	return connect.NewResponse(&pb.WhoAmIResponse{Name: "local", Roles: []string{"admin"}}), nil
}

func (f *fake) ListWorkloads(context.Context, *connect.Request[pb.ListWorkloadsRequest]) (*connect.Response[pb.ListWorkloadsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return connect.NewResponse(&pb.ListWorkloadsResponse{Workloads: f.workloads}), nil
}

func (f *fake) find(name string) (*pb.Workload, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.workloads {
		if w.Name == name {
			return w, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, errors.New("no workload "+name))
}

func (f *fake) GetWorkload(_ context.Context, r *connect.Request[pb.GetWorkloadRequest]) (*connect.Response[pb.GetWorkloadResponse], error) {
	w, err := f.find(r.Msg.Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetWorkloadResponse{Workload: w}), nil
}

func (f *fake) SetMode(_ context.Context, r *connect.Request[pb.SetModeRequest]) (*connect.Response[pb.SetModeResponse], error) {
	w, err := f.find(r.Msg.Workload)
	if err != nil {
		return nil, err
	}
	if r.Msg.Mode == pb.Mode_MODE_PROTECT && !w.Ready && !r.Msg.Anyway {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(w.BlockedBy))
	}
	if w.Name == "compose/young" {
		return connect.NewResponse(&pb.SetModeResponse{Workload: w, Nodes: []*pb.NodeAnswer{{Node: "b", Error: "the disk is full"}}}), nil
	}
	return connect.NewResponse(&pb.SetModeResponse{Workload: w, Nodes: []*pb.NodeAnswer{{Node: "a", Ok: true, Microseconds: 1500}}}), nil
}

func (f *fake) GetProfile(_ context.Context, r *connect.Request[pb.GetProfileRequest]) (*connect.Response[pb.GetProfileResponse], error) {
	if _, err := f.find(r.Msg.Workload); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.run), "live.json"))
	return connect.NewResponse(&pb.GetProfileResponse{Json: text}), err
}

func (f *fake) GetLeast(_ context.Context, r *connect.Request[pb.GetLeastRequest]) (*connect.Response[pb.GetLeastResponse], error) {
	if _, err := f.find(r.Msg.Workload); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(f.run), "least.json"))
	return connect.NewResponse(&pb.GetLeastResponse{Json: text}), err
}

func (f *fake) Approve(_ context.Context, r *connect.Request[pb.ApproveRequest]) (*connect.Response[pb.ApproveResponse], error) {
	return connect.NewResponse(&pb.ApproveResponse{Nodes: []*pb.NodeAnswer{{Node: "a", Ok: true, Microseconds: 900}}}), nil
}

// ListAlerts gives two at a time, so that clients have to turn pages.
func (f *fake) ListAlerts(_ context.Context, r *connect.Request[pb.ListAlertsRequest]) (*connect.Response[pb.ListAlertsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fit []*pb.Alert
	for _, alert := range f.alerts {
		filter := alertFilter{workload: r.Msg.Workload, rule: r.Msg.Rule, technique: r.Msg.Technique}
		filter.severity.value, filter.action.value = r.Msg.Severity, r.Msg.Action
		if filter.wants(alert) && (r.Msg.Page == "" || alert.ID < r.Msg.Page) && !alert.Time.Before(r.Msg.Since.AsTime()) {
			fit = append(fit, api.ToAlert(alert))
		}
	}
	answer := &pb.ListAlertsResponse{Alerts: fit, Total: uint64(len(fit))}
	if most := min(2, int(r.Msg.Limit)); len(fit) > most {
		answer.Alerts, answer.NextPage = fit[:most], fit[most-1].Id
	}
	return connect.NewResponse(answer), nil
}

// ListIncidents is the engine's own answer.
func (f *fake) ListIncidents(_ context.Context, r *connect.Request[pb.ListIncidentsRequest]) (*connect.Response[pb.ListIncidentsResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.DeleteFunc(incident.Of(f.alerts, incident.Options{}), func(in incident.Incident) bool {
		return r.Msg.Workload != "" && !slices.Contains(in.Workloads, r.Msg.Workload)
	})
	text, err := json.Marshal(all)
	return connect.NewResponse(&pb.ListIncidentsResponse{Json: text}), err
}

func (f *fake) WatchAlerts(ctx context.Context, _ *connect.Request[pb.WatchAlertsRequest], stream *connect.ServerStream[pb.Alert]) error {
	arrived := make(chan bulkhead.Alert, 16)
	f.mu.Lock()
	f.watchers[arrived] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, arrived)
		f.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case alert := <-arrived:
			if err := stream.Send(api.ToAlert(alert)); err != nil {
				return err
			}
		}
	}
}

// raise adds an alert; told says whether those who watch hear of it.
func (f *fake) raise(id string, told bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	alert := fakeAlert(id, bulkhead.High, bulkhead.ActionBlocked, "docker/shop", "/tmp/"+id)
	f.alerts = append([]bulkhead.Alert{alert}, f.alerts...)
	for watcher := range f.watchers {
		if told {
			watcher <- alert
		}
	}
}

func (f *fake) ListNodes(context.Context, *connect.Request[pb.ListNodesRequest]) (*connect.Response[pb.ListNodesResponse], error) {
	node := &pb.Node{
		Id: "1", Name: "a", Cluster: "local", Kernel: "6.1.0", Version: "1.0", Connected: true, LastSeen: timestamppb.Now(), Containers: 2,
		Events: 1000, LostEvents: 5, MemoryBytes: 42 << 20,
		Backends: []*pb.Enforcement{
			{Kind: "executables", Backend: "tracepoint", Limits: strings.Repeat("what this cannot do is told in a long sentence, ", 4) + "end"},
			{Kind: "network", Backend: "cgroup"},
		},
		Engines:  []*pb.Engine{{Name: "docker", Socket: "/run/docker.sock", Version: "20.10"}, {Name: "containerd", Socket: "/run/c.sock", Error: "connection refused"}},
		Problems: []string{"the spool is nearly full: mount a larger disk"},
	}
	return connect.NewResponse(&pb.ListNodesResponse{Nodes: []*pb.Node{node}}), nil
}
