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
	feed := filepath.Join(t.TempDir(), "osv", "Debian", "all.zip")
	if err := os.MkdirAll(filepath.Dir(feed), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, id := range ids {
		w, err := z.Create("DEBIAN-" + id + ".json")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, `{"id":"DEBIAN-%s","modified":"2026-05-01T00:00:00Z","upstream":[%q],"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},
			"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}]}`, id, id)
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

// TestImages goes the whole way: pushed, told, scanned, listed, looked up again, compared, and asked for by Harbor.
func TestImages(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer hub.Close()
	host := strings.TrimPrefix(hub.URL, "http://")
	push := func(tag, curl string) string {
		ref, err := name.NewTag(host+"/team/shop:"+tag, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		made := shop(t, curl)
		if err := remote.Write(ref, made); err != nil {
			t.Fatal(err)
		}
		digest, _ := made.Digest()
		return digest.String()
	}
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
	one, two := push("v1", "1"), push("v2", "2")
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
	hub.Config.Handler = http.NotFoundHandler() // nothing is pulled any more
	database(t, db, "CVE-2026-0001", "CVE-2026-0002")
	eventually(t, "v1 has news", func() bool { return get(v1).GetImage().GetFresh() == 1 })
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
	askAsHarbor(t, p, token("harbor"), host, one)
}

// askAsHarbor asks for an image that is gone: the answer is that the scan failed, after it was waited for.
func askAsHarbor(t *testing.T, p *plane, token, host, digest string) {
	t.Helper()
	client := p.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(method, path, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, p.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-ScannerAdapter-API-Key", token)
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text)
	}
	if status, text := ask("GET", "/api/v1/metadata", ""); status != 200 || !strings.Contains(text, `"type":"sbom"`) {
		t.Error(status, text)
	}
	for body, want := range map[string]int{
		`{`: 400, `{"registry":{"url":"ftp://x"}}`: 422, `{"registry":{"url":"https://x"},"artifact":{"repository":"a"}}`: 422,
		fmt.Sprintf(`{"registry":{"url":"http://%s"},"artifact":{"repository":"team/shop","digest":%q,"mime_type":"x"}}`, host, digest): 501,
	} {
		if status, text := ask("POST", "/api/v1/scan", body); status != want {
			t.Error(body, status, text)
		}
	}
	if status, _ := ask("GET", "/api/v1/scan/nobody/report", ""); status != 404 {
		t.Error(status)
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
