package server_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/server"
	"bulkhead/vuln"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// hub is a registry. Each request is first asked about: what ask answers with false is not served.
type hub struct {
	*httptest.Server
	host string
	ask  atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newHub(t *testing.T) *hub {
	h := &hub{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ask := h.ask.Load(); ask == nil || (*ask)(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(h.Close)
	h.host = strings.TrimPrefix(h.URL, "http://")
	return h
}

func (h *hub) push(t *testing.T, tag string, made v1.Image) (digest string) {
	t.Helper()
	ref, err := name.NewTag(h.host+"/team/shop:"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, made); err != nil {
		t.Fatal(err)
	}
	d, err := made.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// hold keeps layers back until open is called, and tells when somebody waits for one.
func (h *hub) hold(t *testing.T) (waiting <-chan struct{}, open func()) {
	asked, gate := make(chan struct{}, 1), make(chan struct{})
	ask := func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			select {
			case asked <- struct{}{}:
			default:
			}
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		return true
	}
	h.ask.Store(&ask)
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	return asked, open
}

// shop is an image of Debian with one package.
func shop(t *testing.T, curl string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for path, content := range map[string]string{
		"etc/os-release":      "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian 12\"\n",
		"var/lib/dpkg/status": "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + curl + "\n\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	made, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// database builds one that knows these vulnerabilities of curl before 2.
func database(t *testing.T, path string, ids ...string) {
	t.Helper()
	records := map[string]string{}
	for _, id := range ids {
		records[id] = fmt.Sprintf(`{"id":"DEBIAN-%s","modified":"2026-05-01T00:00:00Z","upstream":[%q],"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},
			"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}]}`, id, id)
	}
	databaseOf(t, path, records)
}

// databaseOf builds one of Debian's records in OSV's form, by their CVE.
func databaseOf(t *testing.T, path string, records map[string]string) {
	t.Helper()
	feed := filepath.Join(t.TempDir(), "osv", "Debian", "all.zip")
	if err := os.MkdirAll(filepath.Dir(feed), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for id, record := range records {
		w, err := z.Create("DEBIAN-" + id + ".json")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, record); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(feed, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := vuln.Import(t.Context(), path, []string{feed}, vuln.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestImages goes the whole way: pushed, told, scanned, listed, looked up again, and compared.
func TestImages(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub := newHub(t)
	host := hub.host
	dir := t.TempDir()
	db := filepath.Join(dir, "vulnerabilities.db")
	database(t, db, "CVE-2026-0001")
	p := startWith(t, server.Options{Dir: dir, Images: server.ImageOptions{Database: db, PlainHTTP: []string{host}, Look: 20 * time.Millisecond}})
	images := bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL)
	token := func(registry string) string {
		r, err := images.AddHook(t.Context(), connect.NewRequest(&pb.AddHookRequest{Registry: registry}))
		if err != nil {
			t.Fatal(err)
		}
		return r.Msg.Token
	}
	get := func(reference string) *pb.GetImageResponse {
		r, err := images.GetImage(t.Context(), connect.NewRequest(&pb.GetImageRequest{Reference: reference}))
		if err != nil {
			return nil
		}
		return r.Msg
	}
	one, two := hub.push(t, "v1", shop(t, "1")), hub.push(t, "v2", shop(t, "2"))
	body := fmt.Sprintf(`{"events":[{"action":"push","target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","repository":"team/shop","tag":"v1","digest":%q}}]}`, one)
	for path, want := range map[string]int{"/hooks/push/" + token(host): 202, "/hooks/push/" + strings.Repeat("x", 52): 401, "/hooks/push/" + token("harbor"): 401} {
		r, err := p.Client().Post(p.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Error(path, r.StatusCode)
		}
	}
	v1, v2 := host+"/team/shop:v1", host+"/team/shop:v2"
	eventually(t, "v1 is scanned", func() bool { return get(v1) != nil })
	if got := get(v1); got.Image.Digest != one || got.Image.Vulnerabilities.Unknown != 1 || got.Image.Packages != 1 || got.Image.Fresh != 0 {
		t.Error(got.Image)
	}
	if _, err := images.ScanImage(t.Context(), connect.NewRequest(&pb.ScanImageRequest{Reference: v2})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "v2 is scanned", func() bool { return get(v2) != nil })
	if got := get(v2); got.Image.Digest != two || got.Image.Vulnerabilities.Unknown != 0 {
		t.Error(got.Image)
	}
	d, err := images.DiffImages(t.Context(), connect.NewRequest(&pb.DiffImagesRequest{From: v1, To: v2}))
	if err != nil || !strings.Contains(string(d.Msg.DifferenceJson), `"fixed":[{"id":"CVE-2026-0001"`) {
		t.Error(err, d)
	}
	hub.Close() // nothing is pulled any more
	database(t, db, "CVE-2026-0001", "CVE-2026-0002")
	eventually(t, "v1 has news", func() bool { return get(v1).GetImage().GetFresh() == 1 && len(get(v1).Image.Trend) > 1 })
	if list, err := images.ListImages(t.Context(), connect.NewRequest(&pb.ListImagesRequest{Filter: "v1"})); err != nil || len(list.Msg.Images) != 1 || len(list.Msg.Images[0].Trend) < 2 {
		t.Error(list, err)
	}
	for having, want := range map[string]int{"": 2, "fix": 1, "fix fresh": 1, "kev": 0, "running": 0} {
		list, err := images.ListImages(t.Context(), connect.NewRequest(&pb.ListImagesRequest{Having: strings.Fields(having)}))
		if err != nil || len(list.Msg.Images) != want {
			t.Errorf("having %q: %v %v", having, list, err)
		}
	}
	if _, err := images.ListImages(t.Context(), connect.NewRequest(&pb.ListImagesRequest{Having: []string{"nonsense"}})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error(err)
	}
}

// startWith serves with options of the test's own.
func startWith(t *testing.T, o server.Options) *plane {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &plane{dir: o.Dir}
	ready, done := make(chan server.Address, 1), make(chan error, 1)
	o.Listen, o.BusListen, o.Ready = "127.0.0.1:0", "127.0.0.1:0", func(a server.Address) { ready <- a }
	go func() { done <- server.Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("the control plane ended with: ", err)
		}
	})
	select {
	case p.Address = <-ready:
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return p
}
