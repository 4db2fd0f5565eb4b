package server_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/server"
)

// The media types as Harbor writes them.
const (
	asReport   = "application/vnd.security.vulnerability.report; version=1.1"
	asReport10 = "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0"
	asRaw      = "application/vnd.scanner.adapter.vuln.report.raw"
	asSBOM     = "application/vnd.security.sbom.report+json; version=1.0"
	asError    = "application/vnd.scanner.adapter.error+json; version=1.0"
)

// harbor asks as Harbor's own client does: it follows no redirect, and says what it takes.
type harbor struct {
	t      *testing.T
	client *http.Client
	url    string
	token  string
}

// newHarbor gets a token for it.
func newHarbor(t *testing.T, p *plane) *harbor {
	t.Helper()
	images := bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL)
	r, err := images.AddHook(t.Context(), connect.NewRequest(&pb.AddHookRequest{Registry: "harbor"}))
	if err != nil {
		t.Fatal(err)
	}
	client := p.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &harbor{t, client, p.URL, r.Msg.Token}
}

// answered is what Harbor looks at.
type answered struct {
	status int
	header http.Header
	body   []byte
}

func (h *harbor) ask(method, path, accept, body string) answered {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("X-ScannerAdapter-API-Key", h.token)
	r.Header.Set("Accept", accept)
	got, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answered{got.StatusCode, got.Header, text}
}

// scan asks for one and returns its id.
func (h *harbor) scan(body string) string {
	h.t.Helper()
	got := h.ask("POST", "/api/v1/scan", "application/vnd.scanner.adapter.scan.response+json; version=1.0", body)
	var accepted struct{ ID string }
	if err := json.Unmarshal(got.body, &accepted); got.status != http.StatusAccepted || err != nil || accepted.ID == "" {
		h.t.Fatalf("%s: %d %s", body, got.status, got.body)
	}
	if kind := got.header.Get("Content-Type"); kind != "application/vnd.scanner.adapter.scan.response+json; version=1.0" {
		h.t.Error(kind)
	}
	return accepted.ID
}

// report comes back for a report until it is there, or the scan has failed.
func (h *harbor) report(id, query, accept string) answered {
	h.t.Helper()
	var got answered
	eventually(h.t, "the report "+accept, func() bool {
		got = h.ask("GET", "/api/v1/scan/"+id+"/report"+query, accept, "")
		return got.status != http.StatusFound
	})
	return got
}

// read takes a report that has to be there in this type.
func (h *harbor) read(id, query, accept string, into any) {
	h.t.Helper()
	got := h.report(id, query, accept)
	if kind := got.header.Get("Content-Type"); got.status != http.StatusOK || kind != accept {
		h.t.Fatalf("%s: %d, %s: %.500s", accept, got.status, kind, got.body)
	}
	if err := json.Unmarshal(got.body, into); err != nil {
		h.t.Fatalf("%s: %v: %.500s", accept, err, got.body)
	}
}

// failed is an error as Harbor reads it.
func (h *harbor) failed(got answered, status int, text string) {
	h.t.Helper()
	var told struct {
		Error struct{ Message string }
	}
	err := json.Unmarshal(got.body, &told)
	if got.status != status || err != nil || !strings.Contains(told.Error.Message, text) || got.header.Get("Content-Type") != asError {
		h.t.Errorf("want %d %q, got %d %v: %s", status, text, got.status, got.header, got.body)
	}
}

func wantScan(host, authorization, repository, digest, tag string) string {
	body, _ := json.Marshal(map[string]any{ // of texts: cannot fail
		"registry": map[string]string{"url": "http://" + host, "authorization": authorization},
		"artifact": map[string]string{"repository": repository, "digest": digest, "tag": tag, "mime_type": "application/vnd.docker.distribution.manifest.v2+json"},
	})
	return string(body)
}

// harborReport is a report of vulnerabilities as Harbor reads it.
type harborReport struct {
	Artifact struct {
		Repository, Digest, Tag string
	} `json:"artifact"`
	Scanner struct {
		Name, Vendor, Version string
	} `json:"scanner"`
	Severity        string `json:"severity"`
	Vulnerabilities []struct {
		ID         string `json:"id"`
		Package    string `json:"package"`
		Version    string `json:"version"`
		FixVersion string `json:"fix_version"`
		Severity   string `json:"severity"`
		CVSS       struct {
			Score  float64 `json:"score_v3"`
			Vector string  `json:"vector_v3"`
		} `json:"preferred_cvss"`
	} `json:"vulnerabilities"`
}

func (r harborReport) summary() string {
	s := fmt.Sprint(r.Artifact.Repository, " ", r.Artifact.Tag, " ", r.Scanner.Name, " ", r.Severity)
	for _, v := range r.Vulnerabilities {
		s += fmt.Sprint("; ", v.ID, " ", v.Package, " ", v.Version, " -> ", v.FixVersion, " ", v.Severity, " ", v.CVSS.Score, " ", v.CVSS.Vector)
	}
	return s
}

// sbomReport is one of packages.
type sbomReport struct {
	MediaType string                         `json:"media_type"`
	Artifact  struct{ Digest string }        `json:"artifact"`
	SBOM      map[string]any                 `json:"sbom"`
	Vendor    map[string]any                 `json:"vendor_attributes"`
	Scanner   struct{ Version, Name string } `json:"scanner"`
}

const critical = `{"id":"DEBIAN-CVE-2026-0001","modified":"2026-05-01T00:00:00Z","upstream":["CVE-2026-0001"],
	"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
	"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2"}]}]}]}`

// TestHarbor is Harbor: what can you do, scan this with these credentials, is it done, and the reports in every type.
func TestHarbor(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	dir := t.TempDir()
	databaseOf(t, filepath.Join(dir, "v.db"), map[string]string{"CVE-2026-0001": critical})
	p := startWith(t, server.Options{Dir: dir, Version: "1.2.3", Images: server.ImageOptions{Database: filepath.Join(dir, "v.db")}})
	hub, h := newHub(t), newHarbor(t, p)
	digest := hub.push(t, "v1", shop(t, "1"))
	h.capabilities()

	waiting, open := hub.hold(t)
	held := *hub.ask.Load()
	robot := "Basic " + base64.StdEncoding.EncodeToString([]byte("robot$scan:secret"))
	guarded := func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != robot {
			w.Header().Set("WWW-Authenticate", `Basic realm="harbor"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return false
		}
		return held(w, r)
	}
	hub.ask.Store(&guarded)

	id := h.scan(wantScan(hub.host, robot, "team/shop", digest, "v1"))
	<-waiting
	got := h.ask("GET", "/api/v1/scan/"+id+"/report", asReport, "")
	if got.status != http.StatusFound || got.header.Get("Refresh-After") != "5" || len(got.body) > 0 {
		t.Errorf("while it runs: %d %v", got.status, got.header)
	}
	if again := h.scan(wantScan(hub.host, robot, "team/shop", digest, "v1")); again != id {
		t.Errorf("asked twice it is scanned twice: %s and %s", id, again)
	}
	open()
	const want = "team/shop v1 Bulkhead Critical; CVE-2026-0001 curl 1 -> 2 Critical 9.8 CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
	for _, kind := range []string{asReport, asReport10} {
		var r harborReport
		h.read(id, "", kind, &r)
		if diff := cmp.Diff(want, r.summary()); diff != "" || r.Artifact.Digest != digest {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
	var raw struct{ Packages []struct{ Name string } }
	if h.read(id, "", asRaw, &raw); len(raw.Packages) != 1 || raw.Packages[0].Name != "curl" {
		t.Error(raw)
	}
	for kind, field := range map[string]string{"application/spdx+json": "spdxVersion", "application/vnd.cyclonedx+json": "bomFormat"} {
		var r sbomReport
		h.read(id, "?sbom_media_type="+kind, asSBOM, &r) // with the plus as it is
		h.read(id, "?sbom_media_type="+url.QueryEscape(kind), asSBOM, &r)
		if r.MediaType != kind || r.Artifact.Digest != digest || r.SBOM[field] == nil || r.Scanner.Version != "1.2.3" || !strings.Contains(fmt.Sprint(r.SBOM), "pkg:deb/debian/curl@1") {
			t.Errorf("%s: %+v", kind, r)
		}
	}
	h.refusals(id, hub.host, digest)

	// Neither wrong credentials nor none are helped out with our own, and the report says what was wrong.
	other := hub.pushInside(t, "v2", "1.5")
	for _, authorization := range []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("a:b")), ""} {
		h.failed(h.report(h.scan(wantScan(hub.host, authorization, "team/shop", other, "v2")), "", asReport), http.StatusInternalServerError, "the scan failed")
	}
}

// pushInside pushes past the guard.
func (h *hub) pushInside(t *testing.T, tag, curl string) string {
	t.Helper()
	guard := h.ask.Swap(nil)
	defer h.ask.Store(guard)
	return h.push(t, tag, shop(t, curl))
}

func (h *harbor) capabilities() {
	h.t.Helper()
	got := h.ask("GET", "/api/v1/metadata", "application/vnd.scanner.adapter.metadata+json; version=1.0", "")
	var m struct {
		Scanner      struct{ Name, Vendor, Version string }
		Capabilities []struct {
			Type       string
			Consumes   []string            `json:"consumes_mime_types"`
			Produces   []string            `json:"produces_mime_types"`
			Attributes map[string][]string `json:"additional_attributes"`
		}
		Properties map[string]string
	}
	if err := json.Unmarshal(got.body, &m); err != nil || got.status != http.StatusOK || len(m.Capabilities) != 2 {
		h.t.Fatalf("%d %v %s", got.status, err, got.body)
	}
	seen := fmt.Sprint(m.Scanner, m.Capabilities[0].Type, m.Capabilities[0].Produces, m.Capabilities[1].Type, m.Capabilities[1].Produces, m.Capabilities[1].Attributes)
	want := fmt.Sprint("{Bulkhead Bulkhead 1.2.3}", "vulnerability", []string{asReport, asReport10, asRaw}, "sbom", []string{asSBOM},
		map[string][]string{"sbom_media_types": {"application/spdx+json", "application/vnd.cyclonedx+json"}})
	if diff := cmp.Diff(want, seen); diff != "" || m.Properties["harbor.scanner-adapter/vulnerability-database-updated-at"] == "" || len(m.Capabilities[1].Consumes) != 2 {
		h.t.Errorf("(-want +got):\n%s\n%v", diff, m.Properties)
	}
}

func (h *harbor) refusals(id, host, digest string) {
	h.t.Helper()
	report := "/api/v1/scan/" + id + "/report"
	for _, c := range []struct {
		method, path, accept, body string
		status                     int
		text                       string
	}{
		{"GET", report, asSBOM, "", 400, "sbom_media_type"},
		{"GET", report + "?sbom_media_type=text/plain", asSBOM, "", 400, "application/spdx+json"},
		{"GET", report, "application/vnd.security.malware.report; version=1.0", "", 501, "are not made"},
		{"GET", report, "application/vnd.security.vulnerability.report; version=9", "", 501, "are not made"},
		{"GET", "/api/v1/scan/nobody/report", asReport, "", 404, "no such scan request"},
		{"POST", "/api/v1/scan", "", `{`, 400, "no JSON"},
		{"POST", "/api/v1/scan", "", `{"registry":{"url":"ftp://x"}}`, 422, "registry.url"},
		{"POST", "/api/v1/scan", "", `{"registry":{"url":"https://x/../y"},"artifact":{"repository":"a"}}`, 422, "registry.url"},
		{"POST", "/api/v1/scan", "", `{"registry":{"url":"https://x"},"artifact":{"repository":"a"}}`, 422, "digest"},
		{"POST", "/api/v1/scan", "", `{"registry":{"url":"https://x"},"artifact":{"repository":"a","digest":"sha256:1"}}`, 422, "digest"},
		{"POST", "/api/v1/scan", "", `{"registry":{"url":"https://x","authorization":"` + strings.Repeat("a", 17<<10) + `"}}`, 422, "16 KiB"},
		{"POST", "/api/v1/scan", "", fmt.Sprintf(`{"registry":{"url":"http://%s"},"artifact":{"repository":"a","digest":%q,"mime_type":"application/vnd.cncf.helm.config.v1+json"}}`, host, digest), 501, "helm"},
		{"POST", "/api/v1/scan", "", fmt.Sprintf(`{"registry":{"url":"http://%s"},"artifact":{"repository":"a","digest":%q},"enabled_capabilities":[{"type":"malware"}]}`, host, digest), 501, "malware"},
	} {
		h.failed(h.ask(c.method, c.path, c.accept, c.body), c.status, c.text)
	}
	stranger := *h
	stranger.token = strings.Repeat("x", 52)
	for _, path := range []string{"/api/v1/metadata", report} {
		h.failed(stranger.ask("GET", path, asReport, ""), 401, "bulkhead images hook harbor")
	}
}
