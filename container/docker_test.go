package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

const imageID = "sha256:" + otherID

// fakeDocker is an engine on a unix socket of its own that answers as a test wants.
type fakeDocker struct {
	socket string
	server *httptest.Server
	mux    *http.ServeMux
	events chan string

	mu         sync.Mutex
	containers map[string]string // id → state
}

// newFakeDocker starts an engine; the handlers given replace its own.
func newFakeDocker(t *testing.T, handlers map[string]http.HandlerFunc) *fakeDocker {
	t.Helper()
	dir, err := os.MkdirTemp("", "bh") // a socket's path has at most 107 bytes: not t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &fakeDocker{socket: filepath.Join(dir, "s"), mux: http.NewServeMux(), events: make(chan string, 16), containers: map[string]string{}}
	for path, handler := range map[string]http.HandlerFunc{
		"/version":              func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"Version":"20.10"}`) },
		"/containers/json":      f.list,
		"/containers/{id}/json": f.inspect,
		"/events":               f.stream,
		"/images/{id}/json": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"Id":%q,"RepoDigests":["shop@sha256:%s"]}`, imageID, testID)
		},
	} {
		if own := handlers[path]; own != nil {
			handler = own
		}
		f.mux.HandleFunc(path, handler)
	}
	f.serve(t)
	return f
}

func (f *fakeDocker) serve(t *testing.T) {
	t.Helper()
	os.Remove(f.socket)
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: f.mux}}
	f.server.Start()
	t.Cleanup(f.stop)
}

func (f *fakeDocker) stop() {
	f.server.CloseClientConnections()
	f.server.Config.Close()
}

func (f *fakeDocker) set(id, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = state
}

func (f *fakeDocker) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []map[string]any{}
	for id, state := range f.containers {
		all = append(all, map[string]any{"Id": id, "Names": []string{"/web/db", "/shop"}, "Image": "shop:1", "ImageID": imageID, "State": state, "Labels": map[string]string{"a": "b"}})
	}
	json.NewEncoder(w).Encode(all)
}

func (f *fakeDocker) inspect(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, ok := f.containers[r.PathValue("id")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintf(w, `{"Id":%q,"Name":"/shop","Image":%q,"State":{"Status":%q},"Config":{"Image":"shop:1","Labels":{"a":"b"}}}`, r.PathValue("id"), imageID, state)
}

func (f *fakeDocker) stream(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	for {
		select {
		case event := <-f.events:
			fmt.Fprintln(w, event)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (f *fakeDocker) event(action, id string) {
	f.events <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{"name":"shop","image":"shop:1","a":"b"}}}`, action, id)
}

// open follows one Docker socket, and a cgroup hierarchy that is a plain directory.
func open(t *testing.T, socket string) (*Directory, string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	root := t.TempDir()
	d, err := Open(ctx, Options{Docker: []string{socket}, Containerd: []string{}, CRI: []string{}, CgroupRoot: root})
	if err != nil {
		t.Fatal(err)
	}
	return d, root
}

func next(t *testing.T, d *Directory) Change {
	t.Helper()
	select {
	case change := <-d.Changes():
		return change
	case <-time.After(5 * time.Second):
		t.Fatalf("no change came; engines: %+v", d.Engines())
		panic("unreachable")
	}
}

func want(t *testing.T, d *Directory, kind Kind) bulkhead.Container {
	t.Helper()
	change := next(t, d)
	if change.Kind != kind {
		t.Fatalf("change %s of %+v, want %s", change.Kind, change.Container, kind)
	}
	return change.Container
}

func TestLife(t *testing.T) {
	f := newFakeDocker(t, nil)
	f.set(otherID, "exited")
	d, root := open(t, f.socket)
	if got := d.List(); len(got) != 0 {
		t.Fatalf("stopped containers are listed: %+v", got)
	}
	f.event("create", testID)
	got := want(t, d, Created)
	expected := bulkhead.Container{
		ID: testID, Name: "shop", Engine: "docker", Labels: map[string]string{"a": "b"},
		Image:    bulkhead.Image{Reference: "shop:1", Digest: "sha256:" + testID, Config: imageID},
		Workload: bulkhead.Workload{Name: "docker/shop", Kind: "container"},
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		t.Fatal(diff)
	}
	for life := range 2 { // the second life is a restart
		if life > 0 { // a plain directory may get its number again at once, a cgroup never does: let the first one be forgotten
			time.Sleep(200 * time.Millisecond)
		}
		dir := filepath.Join(root, "docker", testID)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if kind := next(t, d).Kind; kind != Updated && kind != Created {
			t.Fatalf("the cgroup appeared: %s", kind)
		}
		id := cgroupID(root, "/docker/"+testID)
		if got, ok := d.Lookup(id); !ok || got.Cgroup != "/docker/"+testID || got.Workload.Name != "docker/shop" {
			t.Fatalf("Lookup before the start: %v %+v", ok, got)
		}
		f.event("start", testID)
		want(t, d, Started)
		if got, ok := d.Resolve(t.Context(), 4711, "/docker/"+testID+"/inner"); !ok || got.ID != testID {
			t.Fatalf("a cgroup below the container: %v %+v", ok, got)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if got := want(t, d, Ended); got.CgroupID != id {
			t.Fatalf("Ended with cgroup %d, want %d", got.CgroupID, id)
		}
		f.event("die", testID)
		if got, ok := d.Lookup(id); !ok || got.ID != testID {
			t.Fatalf("Lookup after the end: %v %+v", ok, got)
		}
	}
	if len(d.List()) != 0 {
		t.Fatalf("ended containers are listed: %+v", d.List())
	}
}

func TestUnknownEngine(t *testing.T) {
	d, root := open(t, "/nonexistent/docker.sock")
	dir := "/machine.slice/libpod-" + testID + ".scope"
	if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	got, ok := d.Resolve(t.Context(), cgroupID(root, dir), dir+"/container")
	if !ok || got.Engine != "unknown" || got.ID != testID || got.Cgroup != dir || got.Workload.Name != "unknown/"+testID[:12] {
		t.Fatalf("Resolve: %v %+v", ok, got)
	}
	if _, ok := d.Resolve(t.Context(), 1, "/default/shop"); ok {
		t.Error("a path that only looks like containerd's counts as a container")
	}
	if engines := d.Engines(); len(engines) != 1 || !strings.Contains(engines[0].Error, "no socket") {
		t.Errorf("Engines: %+v", engines)
	}
}

func TestEngineRestarts(t *testing.T) {
	f := newFakeDocker(t, nil)
	f.set(testID, "running")
	d, _ := open(t, f.socket)
	want(t, d, Created)
	want(t, d, Started)
	f.stop()
	f.mu.Lock()
	delete(f.containers, testID)
	f.mu.Unlock()
	f.set(otherID, "running")
	f.serve(t)
	kinds := map[Kind]string{}
	for range 3 {
		change := next(t, d)
		kinds[change.Kind] = change.Container.ID
	}
	if diff := cmp.Diff(map[Kind]string{Created: otherID, Started: otherID, Ended: testID}, kinds); diff != "" {
		t.Error(diff)
	}
}

// TestHostileEngine lets an engine misbehave in one call: Open comes back in time, the problem is
// named, memory stays bounded.
func TestHostileEngine(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	}
	flood := func(prefix, piece string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, prefix)
			chunk := []byte(strings.Repeat(piece, (1<<20)/len(piece)))
			for range 1024 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}
	}
	for _, test := range []struct {
		name, path string
		handler    http.HandlerFunc
		problem    string
	}{
		{"version stalls", "/version", stall, "version"},
		{"list stalls", "/containers/json", stall, "list the containers"},
		{"garbage", "/version", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "SSH-2.0 \x00\xff") }, "invalid character"},
		{"error page", "/containers/json", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "403"},
		{"redirect", "/version", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}, "302"},
		{"ids are paths", "/containers/json", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `[{"Id":"../../etc"}]`) }, `id "../../etc"`},
		{"list of 1 GB", "/containers/json", flood("[", `{"Id":"x"},`), "longer than"},
		{"string of 1 GB", "/containers/json", flood(`[{"Id":"`, "x"), "longer than"},
		{"version of 1 GB", "/version", flood(`{"Version":"`, "x"), "longer than"},
		{"event of 1 GB", "/events", flood(`{"Type":"`, "x"), "too long"},
		{"events are garbage", "/events", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "garbage\n") }, "not JSON"},
		{"events end", "/events", func(w http.ResponseWriter, _ *http.Request) {}, "closed the connection"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeDocker(t, map[string]http.HandlerFunc{test.path: test.handler})
			began := time.Now()
			d, _ := open(t, f.socket)
			if took := time.Since(began); took > openWait+2*time.Second {
				t.Errorf("Open took %s", took)
			}
			wantProblem(t, d, test.problem)
		})
	}
	t.Cleanup(func() {
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		if memory.Sys > 300<<20 {
			t.Errorf("all of it took %d MiB", memory.Sys>>20)
		}
	})
}

func wantProblem(t *testing.T, d *Directory, problem string) {
	t.Helper()
	var engines []Engine
	for range 80 {
		engines = d.Engines()
		if len(engines) == 1 && strings.Contains(engines[0].Error, problem) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("Engines() = %+v, want a problem with %q", engines, problem)
}

func TestSocketsOf(t *testing.T) {
	for _, test := range []struct {
		name, environment string
		given, want       []string
		named             bool
	}{
		{"given", "unix:///e", []string{"/a", "unix:///a", "/b"}, []string{"/a", "/b"}, true},
		{"none", "unix:///e", []string{}, nil, true},
		{"environment", "unix:///e", nil, []string{"/e"}, true},
		{"well known, twice the same", "", nil, []string{"/run/docker.sock"}, false},
	} {
		got, named := socketsOf(test.given, test.environment, dockerSockets)
		if diff := cmp.Diff(test.want, got); diff != "" || named != test.named {
			t.Errorf("%s: %v\n%s", test.name, named, diff)
		}
	}
}

func TestCgroupPath(t *testing.T) {
	for given, want := range map[string]string{
		"":                                      "",
		"/default/shop":                         "/default/shop",
		"default/shop/":                         "/default/shop",
		"a-b.slice:p:id":                        "/a.slice/a-b.slice/p-id.scope",
		"system.slice:cri-containerd:" + testID: "/system.slice/cri-containerd-" + testID + ".scope",
	} {
		if got := cgroupPath(given); got != want {
			t.Errorf("cgroupPath(%q) = %q, want %q", given, got, want)
		}
	}
}

func FuzzDockerEvent(f *testing.F) {
	f.Add(`{"Type":"container","Action":"start","Actor":{"ID":"` + testID + `","Attributes":{"name":"x"}}}`)
	d := newDocker("/nonexistent/s").(*docker)
	f.Fuzz(func(t *testing.T, line string) {
		var event dockerEvent
		if json.Unmarshal([]byte(line), &event) != nil {
			return
		}
		d.event(t.Context(), event, make(chan struct{}), func(seen sighting) {
			if !isHexID(seen.key) || len(seen.container.Labels) > maxLabels || len(seen.container.Name) > maxText {
				t.Fatalf("%+v", seen)
			}
		})
	})
}
