package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	"bulkhead/api"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/bus"
	"bulkhead/incident"
	"bulkhead/profile"
	"bulkhead/server"
)

// TestMain also is the control plane that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BULKHEAD_TEST_SERVE"); dir != "" {
		err := server.Run(context.Background(), server.Options{
			Dir: dir, Listen: "127.0.0.1:0", BusListen: "127.0.0.1:0",
			Images: server.ImageOptions{PlainHTTP: []string{os.Getenv("BULKHEAD_TEST_REGISTRY")}, Workers: 2},
		})
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// plane is a running control plane.
type plane struct {
	server.Address
	dir      string
	password string
	stop     func()
}

func start(t testing.TB, dir string) *plane {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{dir: dir}
	ready, done := make(chan server.Address, 1), make(chan error, 1)
	go func() {
		done <- server.Run(ctx, server.Options{
			Dir: dir, Listen: "127.0.0.1:0", BusListen: "127.0.0.1:0",
			FirstSignIn: func(_, password string) { p.password = password },
			Ready:       func(a server.Address) { ready <- a },
		})
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("the control plane ended with: ", err)
		}
	})
	select {
	case p.Address = <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

func (p *plane) alerts() bulkheadv1connect.AlertServiceClient {
	return bulkheadv1connect.NewAlertServiceClient(p.Client(), p.URL)
}

func (p *plane) workloads() bulkheadv1connect.WorkloadServiceClient {
	return bulkheadv1connect.NewWorkloadServiceClient(p.Client(), p.URL)
}

// node speaks the bus's real protocol, and puts things in force by remembering them.
type node struct {
	*bus.Client
	id string

	mu        sync.Mutex
	mode      pb.Mode
	approvals []bulkhead.Approval
	refuse    string
	profile   []byte // answered when it is asked for
	grants    []byte // the same
	network   *pb.NetworkState
	webs      []*pb.WebSetting
}

func join(t testing.TB, dir, id string) *node {
	t.Helper()
	client, err := bus.Connect(bus.Options{Credentials: filepath.Join(dir, "bus", "agent.json"), Node: id, Retry: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	n := &node{Client: client, id: id, mode: pb.Mode_MODE_LEARN}
	if err := client.Commands(n.obey); err != nil {
		t.Fatal(err)
	}
	n.tell(t)
	return n
}

func (n *node) obey(_ context.Context, c *pb.NodeCommand) *pb.NodeCommandAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse != "" {
		return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Error: n.refuse}}
	}
	switch c := c.Command.(type) {
	case *pb.NodeCommand_SetMode:
		n.mode = c.SetMode.Mode
	case *pb.NodeCommand_Approve:
		n.approvals = append(n.approvals, api.FromApproval(c.Approve))
	case *pb.NodeCommand_Network:
		n.network = c.Network
	case *pb.NodeCommand_SetWebs:
		n.webs = c.SetWebs.Settings
	case *pb.NodeCommand_GetGrants:
		return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: n.grants != nil}, GrantsJson: n.grants}
	case *pb.NodeCommand_GetProfile:
		return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: n.profile != nil}, ProfileJson: n.profile}
	}
	return &pb.NodeCommandAnswer{Answer: &pb.NodeAnswer{Ok: true}}
}

func (n *node) now() (pb.Mode, int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mode, len(n.approvals)
}

func (n *node) report(p bulkhead.Profile) *pb.NodeReport {
	mode, _ := n.now()
	return &pb.NodeReport{
		Node: &pb.Node{Id: n.id, Name: n.id, Kernel: "6.12"},
		Workloads: []*pb.WorkloadReport{{
			Workload:    &pb.Workload{Name: "docker/shop", Mode: mode, Containers: 1, Completeness: .5, Ready: true},
			ProfileJson: n.encode(p),
		}},
	}
}

func (n *node) encode(p bulkhead.Profile) []byte {
	if p.Workload == "" {
		return nil
	}
	var text bytes.Buffer
	_ = profile.Write(&text, p) // a buffer takes everything
	return text.Bytes()
}

func (n *node) tell(t testing.TB) {
	t.Helper()
	eventually(t, "report of "+n.id, func() bool { return n.Report(t.Context(), n.report(bulkhead.Profile{})) == nil })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen within 20 seconds: ", what)
		}
	}
}

func alert(i int) bulkhead.Alert {
	return bulkhead.Alert{
		ID: fmt.Sprintf("boot-%06d", i), Time: time.Unix(1_800_000_000+int64(i), 0).UTC(), Node: "a", Workload: "docker/shop",
		Rule: "profile/writes", Severity: bulkhead.High, Action: bulkhead.ActionBlocked, Count: 1,
		Process: bulkhead.AlertProcess{Args: []string{"sh"}, Ancestry: []bulkhead.Ancestor{}},
		Heal:    &bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.SectionWrites, Value: "/tmp/*"},
	}
}

func alerts(from, to int) (out []bulkhead.Alert) {
	for i := from; i < to; i++ {
		out = append(out, alert(i))
	}
	return out
}

func (n *node) publish(t *testing.T, list []bulkhead.Alert) {
	t.Helper()
	eventually(t, "alerts published", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return n.PublishAlerts(ctx, list) == nil
	})
}

func (p *plane) total(t *testing.T) uint64 {
	t.Helper()
	r, err := p.alerts().ListAlerts(t.Context(), connect.NewRequest(&pb.ListAlertsRequest{Limit: 1}))
	if err != nil {
		t.Fatal(err)
	}
	return r.Msg.Total
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	n := join(t, p.dir, "a")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := p.alerts().WatchAlerts(ctx, connect.NewRequest(&pb.WatchAlertsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	n.publish(t, alerts(0, 3))
	var arrived []bulkhead.Alert
	for range 3 {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		arrived = append(arrived, api.FromAlert(stream.Msg()))
	}
	// As the bus is opening it may take the last one and not the others, which are sent again then.
	slices.SortFunc(arrived, func(a, b bulkhead.Alert) int { return strings.Compare(a.ID, b.ID) })
	if diff := cmp.Diff([]bulkhead.Alert{alert(0), alert(1), alert(2)}, arrived); diff != "" {
		t.Error(diff)
	}
	list, err := p.alerts().ListAlerts(t.Context(), connect.NewRequest(&pb.ListAlertsRequest{Workload: "docker/shop", Limit: 2}))
	if err != nil || len(list.Msg.Alerts) != 2 || list.Msg.Total != 3 || list.Msg.Alerts[0].Id != alert(2).ID || list.Msg.NextPage == "" {
		t.Error(list, err)
	}
	for _, bad := range []*pb.ListAlertsRequest{{Severity: "awful"}, {Page: "x"}} {
		if _, err := p.alerts().ListAlerts(t.Context(), connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Error(err)
		}
	}
	p.stop()
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Error("the stream ended with", stream.Err())
	}
}

// Alerts of one container are one incident, and nobody's workload has none.
func TestIncidents(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	join(t, p.dir, "a").publish(t, alerts(0, 5))
	eventually(t, "alerts stored", func() bool { return p.total(t) == 5 })
	since := timestamppb.New(time.Unix(1_700_000_000, 0))
	answer, err := p.alerts().ListIncidents(t.Context(), connect.NewRequest(&pb.ListIncidentsRequest{Since: since}))
	if err != nil {
		t.Fatal(err)
	}
	var all []incident.Incident
	if err := json.Unmarshal(answer.Msg.Json, &all); err != nil || len(all) != 1 || len(all[0].Alerts) != 5 || all[0].ID != alert(0).ID {
		t.Errorf("%v: %s", err, answer.Msg.Json)
	}
	answer, err = p.alerts().ListIncidents(t.Context(), connect.NewRequest(&pb.ListIncidentsRequest{Since: since, Workload: "nobody"}))
	if err != nil || string(answer.Msg.Json) != "[]" {
		t.Errorf("%v: %v", answer, err)
	}
}

func TestModeReachesEveryNode(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	a, b := join(t, p.dir, "a"), join(t, p.dir, "b")
	set := func(mode pb.Mode) *pb.SetModeResponse {
		t.Helper()
		r, err := p.workloads().SetMode(t.Context(), connect.NewRequest(&pb.SetModeRequest{Workload: "docker/shop", Mode: mode}))
		if err != nil {
			t.Fatal(err)
		}
		return r.Msg
	}
	got := set(pb.Mode_MODE_PROTECT)
	if len(got.Nodes) != 2 || !got.Nodes[0].Ok || !got.Nodes[1].Ok || got.Nodes[0].Microseconds == 0 || got.Workload.Mode != pb.Mode_MODE_PROTECT {
		t.Error(got)
	}
	a.tell(t)
	r, err := p.workloads().GetWorkload(t.Context(), connect.NewRequest(&pb.GetWorkloadRequest{Name: "docker/shop"}))
	if err != nil || r.Msg.Workload.Mode != pb.Mode_MODE_LEARN || len(r.Msg.Workload.Nodes) != 2 {
		t.Error("it is called protected before it is so everywhere", r, err) // b has not reported
	}
	b.Close() // away
	got = set(pb.Mode_MODE_MONITOR)
	if len(got.Nodes) != 2 || !got.Nodes[0].Ok || got.Nodes[1].Ok || got.Nodes[1].Error == "" {
		t.Error(got)
	}
	p.stop()
	p = start(t, p.dir) // what was decided survives
	b = join(t, p.dir, "b")
	eventually(t, "the mode is sent again", func() bool { mode, _ := b.now(); return mode == pb.Mode_MODE_MONITOR })
	b.tell(t)
	a.mu.Lock()
	a.refuse = "not complete: 3 syscalls are new"
	a.mu.Unlock()
	b.mu.Lock()
	b.refuse = a.refuse
	b.mu.Unlock()
	eventually(t, "a is back", func() bool { return a.Report(t.Context(), a.report(bulkhead.Profile{})) == nil })
	got = set(pb.Mode_MODE_PROTECT)
	if got.Nodes[0].Error != a.refuse || got.Workload.Mode == pb.Mode_MODE_PROTECT {
		t.Error(got)
	}
	b.mu.Lock()
	b.refuse = ""
	b.mu.Unlock()
	b.tell(t)
	time.Sleep(100 * time.Millisecond)
	if mode, _ := b.now(); mode != pb.Mode_MODE_MONITOR {
		t.Error("a mode that every node refused is sent again")
	}
	_, err = p.workloads().SetMode(t.Context(), connect.NewRequest(&pb.SetModeRequest{Workload: "nobody", Mode: pb.Mode_MODE_LEARN}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
}

func TestApprove(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	a := join(t, p.dir, "a")
	a.publish(t, alerts(0, 2))
	eventually(t, "alerts stored", func() bool { return p.total(t) == 2 })
	r, err := p.workloads().Approve(t.Context(), connect.NewRequest(&pb.ApproveRequest{AlertId: alert(1).ID}))
	if err != nil || len(r.Msg.Nodes) != 1 || !r.Msg.Nodes[0].Ok {
		t.Fatal(r, err)
	}
	want := bulkhead.Approval{Workload: "docker/shop", Section: bulkhead.SectionWrites, Value: "/tmp/*", By: "host"}
	if diff := cmp.Diff([]bulkhead.Approval{want}, a.approvals); diff != "" {
		t.Error(diff)
	}
	list, err := p.alerts().ListAlerts(t.Context(), connect.NewRequest(&pb.ListAlertsRequest{}))
	if err != nil || !list.Msg.Alerts[0].Healed || !list.Msg.Alerts[1].Healed {
		t.Error(list, err)
	}
	b := join(t, p.dir, "b") // runs the workload later
	eventually(t, "the approval reaches a later node", func() bool { _, n := b.now(); return n == 1 })
	for _, bad := range []*pb.ApproveRequest{{}, {Workload: "docker/shop", Section: "nonsense", Value: "x"}, {Workload: "docker/shop", Section: "writes"}} {
		if _, err := p.workloads().Approve(t.Context(), connect.NewRequest(bad)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Error(err)
		}
	}
}

func TestProfileIsMerged(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	get := func() (bulkhead.Profile, error) {
		r, err := p.workloads().GetProfile(t.Context(), connect.NewRequest(&pb.GetProfileRequest{Workload: "docker/shop"}))
		if err != nil {
			return bulkhead.Profile{}, err
		}
		return profile.Read(bytes.NewReader(r.Msg.Json), "answer")
	}
	a, b := join(t, p.dir, "a"), join(t, p.dir, "b")
	if _, err := get(); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error(err)
	}
	learned := func(path string) bulkhead.Profile {
		return profile.Tidy(bulkhead.Profile{
			Version: bulkhead.ProfileVersion, Workload: "docker/shop",
			Image:       bulkhead.Image{Reference: "shop:1", Digest: "sha256:" + strings.Repeat("a", 64)},
			Executables: []bulkhead.Executable{{Path: path}},
		})
	}
	a.mu.Lock()
	a.profile = a.encode(learned("/bin/asked"))
	a.mu.Unlock()
	if got, err := get(); err != nil || len(got.Executables) != 1 || got.Executables[0].Path != "/bin/asked" {
		t.Error("a profile that was sent to an earlier control plane is not asked for: ", got.Executables, err)
	}
	for n, path := range map[*node]string{a: "/bin/one", b: "/bin/two"} {
		if err := n.Report(t.Context(), n.report(learned(path))); err != nil {
			t.Fatal(err)
		}
	}
	bad := a.report(bulkhead.Profile{})
	bad.Workloads[0].ProfileJson = []byte(`{"version":`)
	if err := a.Report(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "docker/shop") {
		t.Error("a corrupt profile was taken", err)
	}
	got, err := get()
	if err != nil || len(got.Executables) != 2 {
		t.Error(got.Executables, err)
	}
}

// kill -9 at any moment: every alert that was acknowledged is there, once.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &node{id: "a"}
	sent := 0
	for range 3 {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), "BULKHEAD_TEST_SERVE="+dir)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		if n.Client == nil {
			eventually(t, "credentials", func() bool { _, err := bus.ReadCredentials(filepath.Join(dir, "bus", "agent.json")); return err == nil })
			n = join(t, dir, "a")
		}
		n.publish(t, alerts(sent, sent+700))
		sent += 700
		command.Process.Kill()
		command.Wait()
		if n.PublishAlerts(t.Context(), alerts(0, 1)) == nil {
			t.Error("a dead control plane acknowledged an alert")
		}
	}
	p := start(t, dir)
	n.publish(t, alerts(sent-50, sent+50)) // with doubles, as a spool that did not hear the answer
	eventually(t, "all alerts, once", func() bool { return p.total(t) == uint64(sent+50) })
}

func TestTenThousandAlerts(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	n := join(t, p.dir, "a")
	began := time.Now()
	n.publish(t, alerts(0, 10_000))
	published := time.Since(began)
	eventually(t, "10,000 alerts stored", func() bool { return p.total(t) == 10_000 })
	t.Logf("10,000 alerts: acknowledged in %v, all in the database after %v", published, time.Since(began))
}

// browser keeps cookies and says where a page came from.
func browser(t *testing.T, p *plane, origin, site string) *http.Client {
	jar, _ := cookiejar.New(nil)
	return &http.Client{Jar: jar, Transport: page{p.Client().Transport, origin, site}}
}

type page struct {
	next         http.RoundTripper
	origin, site string
}

func (b page) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Origin", b.origin)
	r.Header.Set("Sec-Fetch-Site", b.site)
	return b.next.RoundTrip(r)
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	p.Token = "" // a browser has none
	if p.password == "" {
		t.Fatal("nobody was told the first password")
	}
	if raw, err := os.ReadFile(filepath.Join(p.dir, "first-sign-in.json")); err != nil || !strings.Contains(string(raw), p.password) {
		t.Error("the first password cannot be shown again", err)
	}
	web := browser(t, p, p.URL, "same-origin")
	account := bulkheadv1connect.NewAuthServiceClient(web, p.URL)
	who := func(c *http.Client) error {
		_, err := bulkheadv1connect.NewAuthServiceClient(c, p.URL).WhoAmI(t.Context(), connect.NewRequest(&pb.WhoAmIRequest{}))
		return err
	}
	signIn := func(c *http.Client, password string) (*connect.Response[pb.SignInResponse], error) {
		return bulkheadv1connect.NewAuthServiceClient(c, p.URL).SignIn(t.Context(), connect.NewRequest(&pb.SignInRequest{Name: "admin", Password: password}))
	}
	if err := who(web); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Error(err)
	}
	if _, err := signIn(web, "wrong"); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Error(err)
	}
	r, err := signIn(web, p.password)
	if err != nil {
		t.Fatal(err)
	}
	cookie := r.Header().Get("Set-Cookie")
	for _, want := range []string{"__Host-bulkhead=", "HttpOnly", "Secure", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(cookie, want) {
			t.Errorf("the cookie %q lacks %s", cookie, want)
		}
	}
	if err := who(web); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "first-sign-in.json")); err == nil {
		t.Error("the first password is still written somewhere")
	}
	evil := browser(t, p, "https://evil.example", "cross-site")
	evil.Jar = web.Jar // a browser that does not know SameSite
	if err := who(evil); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Error("another site's page acts as the user: ", err)
	}
	if _, err := signIn(evil, p.password); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Error("another site's page signs in: ", err)
	}
	if _, err := account.SignOut(t.Context(), connect.NewRequest(&pb.SignOutRequest{})); err != nil {
		t.Error(err)
	}
	if err := who(web); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Error("signed out and still in", err)
	}
}

// Every method refuses who has no token, over the wire.
func TestNobodyMayCallAnything(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	p.Token = "guess"
	services := pb.File_bulkhead_v1_bulkhead_proto.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			method := services.Get(i).Methods().Get(j)
			if method.Name() == "SignIn" || method.Name() == "SignOut" {
				continue
			}
			kind, body := "application/json", "{}"
			if method.IsStreamingServer() {
				kind, body = "application/connect+json", "\x00\x00\x00\x00\x02{}"
			}
			r, err := p.Client().Post(p.URL+"/"+string(services.Get(i).FullName())+"/"+string(method.Name()), kind, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if !strings.Contains(string(text), `"unauthenticated"`) {
				t.Errorf("%s: %d %s", method.FullName(), r.StatusCode, text)
			}
		}
	}
}

func TestHeadersAndProbes(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	for _, path := range []string{"/", "/healthz", "/readyz", "/bulkhead.v1.NodeService/ListNodes"} {
		r, err := p.Client().Get(p.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		for _, name := range []string{"Content-Security-Policy", "Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
			if r.Header.Get(name) == "" {
				t.Errorf("%s lacks %s", path, name)
			}
		}
		if strings.HasSuffix(path, "z") && r.StatusCode != http.StatusOK {
			t.Error(path, r.StatusCode)
		}
	}
	r, err := p.Client().Post(p.URL+bulkheadv1connect.AuthServiceSignInProcedure, "application/json", io.LimitReader(zeros{}, 10<<20))
	if err == nil {
		r.Body.Close()
		if r.StatusCode < 400 {
			t.Error("ten megabytes were read to sign in")
		}
	}
	for _, name := range []string{"client.json", "first-sign-in.json", "host.token", "tls.key", "bulkhead.db"} {
		if info, err := os.Stat(filepath.Join(p.dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(name, info, err)
		}
	}
	if err := server.Run(t.Context(), server.Options{Dir: p.dir, Listen: "127.0.0.1:0", BusListen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "another control plane") {
		t.Error("two control planes share a folder: ", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestReadAddress(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	a, err := server.ReadAddress(p.dir)
	if err != nil || a.URL != p.URL || a.Token != p.Token {
		t.Error(a.URL, err)
	}
	if _, err := bulkheadv1connect.NewNodeServiceClient(a.Client(), a.URL).ListNodes(t.Context(), connect.NewRequest(&pb.ListNodesRequest{})); err != nil {
		t.Error(err)
	}
	if _, err := server.ReadAddress(t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "bulkhead up") {
		t.Error(err)
	}
}

// TestLeast: what a node says that a workload was granted is held against its profile.
func TestLeast(t *testing.T) {
	t.Parallel()
	p := start(t, t.TempDir())
	n := join(t, p.dir, "a")
	ask := func() (*pb.GetLeastResponse, error) {
		r, err := p.workloads().GetLeast(t.Context(), connect.NewRequest(&pb.GetLeastRequest{Workload: "docker/shop"}))
		if err != nil {
			return nil, err
		}
		return r.Msg, nil
	}
	n.mu.Lock()
	n.profile = n.encode(profile.Tidy(bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/shop"}))
	n.mu.Unlock()
	if _, err := ask(); connect.CodeOf(err) != connect.CodeUnavailable { // the node says nothing
		t.Error(err)
	}
	n.mu.Lock()
	n.grants = []byte(`[{"container":"shop","source":"docker","capabilities":["CAP_KILL"]}]`)
	n.mu.Unlock()
	got, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got.Json), `"kind":"capabilities","granted":["CAP_KILL"]`) || !strings.Contains(string(got.GrantsJson), `"container":"shop"`) {
		t.Errorf("%s\n%s", got.Json, got.GrantsJson)
	}
}
