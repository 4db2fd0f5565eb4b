package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/scan/sbom"
	"bulkhead/store"
	"bulkhead/vuln"
)

// Harbor's pluggable scanner API, versions 1.0 to 1.2: https://github.com/goharbor/pluggable-scanner-spec. Harbor asks
// what we can do, asks for scans with credentials of its own, and comes back for the reports.

// The media types of the API. Their version is compared too.
const (
	typeMetadata   = "application/vnd.scanner.adapter.metadata+json; version=1.1"
	typeAccepted   = "application/vnd.scanner.adapter.scan.response+json; version=1.0"
	typeError      = "application/vnd.scanner.adapter.error+json; version=1.0"
	typeReport11   = "application/vnd.security.vulnerability.report; version=1.1"
	typeReport10   = "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0"
	typeReportRaw  = "application/vnd.scanner.adapter.vuln.report.raw"
	typeReportSBOM = "application/vnd.security.sbom.report+json; version=1.0"

	typeSPDX      = "application/spdx+json"
	typeCycloneDX = "application/vnd.cyclonedx+json"
)

var (
	harborConsumes = []string{"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
	harborSBOMs    = []string{typeSPDX, typeCycloneDX}
)

// harborAgain is after how many seconds Harbor asks again for a report.
const harborAgain = "5"

func (s *Server) harbor(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/metadata", s.forHarbor(s.harborMetadata))
	mux.HandleFunc("POST /api/v1/scan", s.forHarbor(s.harborScan))
	mux.HandleFunc("GET /api/v1/scan/{id}/report", s.forHarbor(s.harborReport))
}

// forHarbor lets nobody in without a token that was made for Harbor, and answers errors as it wants them.
func (s *Server) forHarbor(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		hook, err := s.hookOf(r)
		if err == nil && hook.Registry != "" {
			err = errToken
		}
		if errors.Is(err, errToken) {
			w.Header().Set("WWW-Authenticate", `Basic realm="bulkhead"`)
			err = harborf(http.StatusUnauthorized, "the token is unknown: make one with bulkhead images hook harbor")
		}
		if err != nil {
			s.harborError(w, r, err)
			return
		}
		if err := serve(w, r); err != nil {
			s.harborError(w, r, err)
		}
	}
}

// harborFailure is an error that Harbor is told with its status.
type harborFailure struct {
	status int
	error
}

func harborf(status int, format string, args ...any) error {
	return harborFailure{status, fmt.Errorf(format, args...)}
}

func (s *Server) harborError(w http.ResponseWriter, r *http.Request, err error) {
	var told harborFailure
	if !errors.As(err, &told) {
		s.log.Error("a request of Harbor failed", "path", r.URL.Path, "err", err)
		told = harborFailure{http.StatusInternalServerError, errors.New("the control plane failed: its log says why")}
	}
	var answer struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	answer.Error.Message = told.Error()
	writeHarbor(w, told.status, typeError, answer)
}

func writeHarbor(w http.ResponseWriter, status int, kind string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_, _ = w.Write(raw) // who hung up does not read an error
}

type harborScanner struct {
	Name    string `json:"name"`
	Vendor  string `json:"vendor"`
	Version string `json:"version"`
}

func (s *Server) harborScanner() harborScanner {
	return harborScanner{Name: "Bulkhead", Vendor: "Bulkhead", Version: s.version}
}

type harborCapability struct {
	Type       string              `json:"type"`
	Consumes   []string            `json:"consumes_mime_types"`
	Produces   []string            `json:"produces_mime_types"`
	Attributes map[string][]string `json:"additional_attributes,omitempty"`
}

func (s *Server) harborMetadata(w http.ResponseWriter, _ *http.Request) error {
	properties := map[string]string{"harbor.scanner-adapter/scanner-type": "os-package-vulnerability"}
	if built, _ := s.databaseInUse(); built != "" {
		properties["harbor.scanner-adapter/vulnerability-database-updated-at"] = built
	}
	writeHarbor(w, http.StatusOK, typeMetadata, map[string]any{
		"scanner": s.harborScanner(),
		"capabilities": []harborCapability{
			{Type: "vulnerability", Consumes: harborConsumes, Produces: []string{typeReport11, typeReport10, typeReportRaw}},
			{Type: "sbom", Consumes: harborConsumes, Produces: []string{typeReportSBOM}, Attributes: map[string][]string{"sbom_media_types": harborSBOMs}},
		},
		"properties": properties,
	})
	return nil
}

// harborRequest asks for a scan.
type harborRequest struct {
	Registry struct {
		URL           string `json:"url"`
		Authorization string `json:"authorization"`
	} `json:"registry"`
	Artifact     harborArtifact `json:"artifact"`
	Capabilities []struct {
		Type string `json:"type"`
	} `json:"enabled_capabilities"`
}

type harborArtifact struct {
	Repository string `json:"repository"`
	Digest     string `json:"digest"`
	Tag        string `json:"tag,omitempty"`
	MimeType   string `json:"mime_type,omitempty"`
}

func (s *Server) harborScan(w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body) // bounded by timed
	if err != nil {
		return harborf(http.StatusBadRequest, "the request cannot be read, or has more than a megabyte")
	}
	wanted, pull, err := harborWants(body)
	if err != nil {
		return err
	}
	s.queue.hold(wanted.ID, pull)
	queued, err := s.enqueueScan(r.Context(), wanted)
	if err != nil || queued.ID != wanted.ID {
		s.queue.forget(wanted.ID)
	}
	if err != nil {
		return err
	}
	writeHarbor(w, http.StatusAccepted, typeAccepted, map[string]string{"id": queued.ID})
	return nil
}

// harborWants reads a request. Only Harbor has a token for it, but what it passes on was chosen by whoever pushed.
func harborWants(body []byte) (wanted store.Scan, pull harborPull, err error) {
	var m harborRequest
	if err := json.Unmarshal(body, &m); err != nil {
		return wanted, pull, harborf(http.StatusBadRequest, "the request is no JSON of a scan request")
	}
	u, err := url.Parse(m.Registry.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !hostPort(u.Host) || strings.Trim(u.Path, "/") != "" {
		return wanted, pull, harborf(http.StatusUnprocessableEntity, "registry.url %s is none of the form https://HOST", short(m.Registry.URL))
	}
	if len(m.Registry.Authorization) > 16<<10 {
		return wanted, pull, harborf(http.StatusUnprocessableEntity, "registry.authorization has more than 16 KiB")
	}
	name, err := pushedName(u.Host, m.Artifact.Repository, m.Artifact.Tag, m.Artifact.Digest)
	if err != nil || m.Artifact.Digest == "" {
		return wanted, pull, harborf(http.StatusUnprocessableEntity, "artifact needs the repository and digest of an image")
	}
	if kind := m.Artifact.MimeType; kind != "" && !slices.Contains(harborConsumes, kind) {
		return wanted, pull, harborf(http.StatusNotImplemented, "artifacts of the type %s are not scanned", short(kind))
	}
	for _, c := range m.Capabilities {
		if c.Type != "vulnerability" && c.Type != "sbom" {
			return wanted, pull, harborf(http.StatusNotImplemented, "the capability %s is not there", short(c.Type))
		}
	}
	pull.authorization = m.Registry.Authorization
	if u.Scheme == "http" {
		pull.plain = u.Host
	}
	return store.Scan{
		ID: rand.Text(), Subject: "harbor " + name.Pinned() + " " + name.Tag, Reference: name.String(), Target: name.Pinned(),
		Reason: reasonHarbor, By: hookHarbor, Created: time.Now(),
	}, pull, nil
}

func (s *Server) harborReport(w http.ResponseWriter, r *http.Request) error {
	kind, err := harborKind(r)
	if err != nil {
		return err
	}
	wanted, err := s.db.Scan(r.Context(), r.PathValue("id"))
	if errors.Is(err, store.ErrNotFound) || err == nil && wanted.Reason != reasonHarbor {
		return harborf(http.StatusNotFound, "there is no such scan request")
	}
	switch {
	case err != nil:
		return err
	case !wanted.Over():
		w.Header().Set("Refresh-After", harborAgain)
		w.Header().Set("Retry-After", harborAgain)
		w.Header().Set("Location", r.URL.RequestURI())
		w.WriteHeader(http.StatusFound)
		return nil
	case wanted.State == store.ScanFailed:
		return harborf(http.StatusInternalServerError, "the scan failed: %s", wanted.Error)
	}
	return s.harborWrite(r.Context(), w, kind, sbomType(r), wanted)
}

// sbomType is the one that is asked for. A plus that was not escaped has become a space, and no type has one.
func sbomType(r *http.Request) string {
	return strings.ReplaceAll(r.URL.Query().Get("sbom_media_type"), " ", "+")
}

// harborKind is the media type that the report has to have.
func harborKind(r *http.Request) (string, error) {
	accept := r.Header.Get("Accept")
	if accept == "" || accept == "*/*" {
		return typeReport11, nil
	}
	for _, kind := range []string{typeReport11, typeReport10, typeReportRaw, typeReportSBOM} {
		for offer := range strings.SplitSeq(accept, ",") {
			if !sameType(offer, kind) {
				continue
			}
			if kind == typeReportSBOM && !slices.Contains(harborSBOMs, sbomType(r)) {
				return "", harborf(http.StatusBadRequest, "sbom_media_type has to be one of %s", strings.Join(harborSBOMs, ", "))
			}
			return kind, nil
		}
	}
	return "", harborf(http.StatusNotImplemented, "reports of the type %s are not made", short(accept))
}

func sameType(a, b string) bool {
	ka, pa, err1 := mime.ParseMediaType(a)
	kb, pb, err2 := mime.ParseMediaType(b)
	return err1 == nil && err2 == nil && ka == kb && pa["version"] == pb["version"]
}

func (s *Server) harborWrite(ctx context.Context, w http.ResponseWriter, kind, sbomKind string, wanted store.Scan) error {
	figures, report, err := s.db.Report(ctx, wanted.Digest)
	if err != nil {
		return err
	}
	artifact := harborArtifactOf(wanted)
	switch kind {
	case typeReportRaw:
		writeHarbor(w, http.StatusOK, kind, report)
		return nil
	case typeReportSBOM:
		raw, err := s.harborSBOM(report, sbomKind, figures.Scanned)
		if err != nil {
			return err
		}
		writeHarbor(w, http.StatusOK, kind, map[string]any{
			"generated_at": figures.Scanned, "artifact": artifact, "scanner": s.harborScanner(), "vendor_attributes": map[string]any{},
			"media_type": sbomKind, "sbom": raw,
		})
		return nil
	}
	list, worst := harborVulnerabilities(report)
	writeHarbor(w, http.StatusOK, kind, map[string]any{
		"generated_at": figures.Matched, "artifact": artifact, "scanner": s.harborScanner(), "severity": worst, "vulnerabilities": list,
	})
	return nil
}

// harborArtifactOf is what Harbor called the image.
func harborArtifactOf(wanted store.Scan) harborArtifact {
	repository, digest, _ := strings.Cut(wanted.Target, "@")
	_, repository, _ = strings.Cut(repository, "/")
	a := harborArtifact{Repository: repository, Digest: digest}
	if rest, ok := strings.CutPrefix(wanted.Reference, strings.Split(wanted.Target, "@")[0]+":"); ok {
		a.Tag = rest
	}
	return a
}

func (s *Server) harborSBOM(r bulkhead.Report, kind string, when time.Time) (json.RawMessage, error) {
	var out bytes.Buffer
	write := sbom.WriteSPDX
	if kind == typeCycloneDX {
		write = sbom.WriteCycloneDX
	}
	err := write(&out, r, sbom.Tool{Name: "bulkhead", Version: s.version}, when)
	return out.Bytes(), err
}

// harborVulnerability is one as Harbor shows it.
type harborVulnerability struct {
	ID          string         `json:"id"`
	Package     string         `json:"package"`
	Version     string         `json:"version"`
	FixVersion  string         `json:"fix_version,omitempty"`
	Severity    string         `json:"severity"`
	Description string         `json:"description"`
	Links       []string       `json:"links"`
	CVSS        *harborCVSS    `json:"preferred_cvss,omitempty"`
	Vendor      map[string]any `json:"vendor_attributes,omitempty"`
}

type harborCVSS struct {
	Score  float64 `json:"score_v3,omitempty"`
	Vector string  `json:"vector_v3,omitempty"`
}

// harborSeverity is how Harbor calls a severity.
func harborSeverity(s bulkhead.Severity) string {
	switch s {
	case bulkhead.Critical:
		return "Critical"
	case bulkhead.High:
		return "High"
	case bulkhead.Medium:
		return "Medium"
	case bulkhead.Low:
		return "Low"
	}
	return "Unknown"
}

func harborVulnerabilities(r bulkhead.Report) (list []harborVulnerability, worst string) {
	list = []harborVulnerability{}
	var top bulkhead.Severity
	for _, v := range r.Vulnerabilities {
		if !vuln.Counts(v) {
			continue
		}
		if v.Severity.Rank() > top.Rank() {
			top = v.Severity
		}
		list = append(list, harborOne(v))
	}
	return list, harborSeverity(top)
}

func harborOne(v bulkhead.Vulnerability) harborVulnerability {
	h := harborVulnerability{
		ID: v.ID, Package: v.Package, Version: v.Version, FixVersion: v.Fixed, Severity: harborSeverity(v.Severity),
		Description: v.Title, Links: v.URLs, Vendor: map[string]any{"kev": v.KEV, "epss": v.EPSS, "status": v.Status, "path": v.Path, "layer": v.Layer},
	}
	if v.Details != "" {
		h.Description = v.Details
	}
	if h.Links == nil {
		h.Links = []string{}
	}
	if v.CVSS > 0 {
		h.CVSS = &harborCVSS{Score: v.CVSS}
		if strings.HasPrefix(v.Vector, "CVSS:3") {
			h.CVSS.Vector = v.Vector
		}
	}
	return h
}
