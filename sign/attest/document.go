package attest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/profile"
	trust "bulkhead/sign"
)

// Document is a file that is to be signed onto an image.
type Document struct {
	Kind string // "scan", "cyclonedx", "profile" …, or the URI of a predicate
	Raw  []byte
	Name string    // of the file, for errors
	At   time.Time // when it was made, where it does not say so itself
}

// OtherImageError says that a document is about another image than the one it was to be signed onto.
type OtherImageError struct{ What, Digest string }

func (e *OtherImageError) Error() string {
	return fmt.Sprintf("the %s is about another image (%s): make it of this one; a document that is signed onto an image is believed of it", e.What, e.Digest)
}

// Predicate makes of a document what a statement says. Digests are the names of the image: its own, those of the images
// in its index and of their configurations.
func (d Document) Predicate(digests []string) (predicateType string, predicate any, err error) {
	read := map[string]func([]string) (string, any, error){
		"cyclonedx": d.field(trust.TypeCycloneDX, "bomFormat"), "spdx": d.field(trust.TypeSPDX, "spdxVersion"), "sbom": d.packages,
		"vex": d.field(trust.TypeVEX, "statements"), "provenance": d.field(trust.TypeProvenance, "buildDefinition"),
		"scan": d.scan, "profile": d.profile,
	}[d.Kind]
	if read == nil && strings.Contains(d.Kind, ":") {
		read = d.field(d.Kind, "")
	}
	if read == nil {
		return "", nil, fmt.Errorf("attestations of the kind %q are not known: use one of %s, or the URI of a predicate", d.Kind, strings.Join(trust.Kinds(), ", "))
	}
	return read(digests)
}

// object reads a document as it is, also out of a statement that a builder wrote.
func (d Document) object() (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(d.Raw, &object); err != nil {
		return nil, fmt.Errorf("%s is no JSON object: %w", d.Name, err)
	}
	if object["predicateType"] != nil && object["predicate"] != nil {
		inner := Document{Raw: object["predicate"], Name: d.Name}
		return inner.object()
	}
	return object, nil
}

// field reads a document that must have a field by which it is known.
func (d Document) field(predicateType, known string) func([]string) (string, any, error) {
	return func([]string) (string, any, error) {
		object, err := d.object()
		if err != nil {
			return "", nil, err
		}
		if known != "" && object[known] == nil {
			return "", nil, fmt.Errorf("%s is no %s document: it has no %s", d.Name, trust.KindOf(predicateType), known)
		}
		return predicateType, object, nil
	}
}

func (d Document) packages(digests []string) (string, any, error) {
	object, err := d.object()
	if err == nil && object["spdxVersion"] != nil {
		return d.field(trust.TypeSPDX, "spdxVersion")(digests)
	}
	return d.field(trust.TypeCycloneDX, "bomFormat")(digests)
}

// scanned is a scan in the form that cosign gave it; readers of that form find Bulkhead's report as the result.
type scanned struct {
	Invocation struct{}    `json:"invocation"`
	Scanner    scanner     `json:"scanner"`
	Metadata   scannedWhen `json:"metadata"`
}

type scanner struct {
	URI     string          `json:"uri"`
	Version string          `json:"version"`
	DB      scannerDB       `json:"db"`
	Result  json.RawMessage `json:"result"`
}

type scannerDB struct {
	URI        string `json:"uri"`
	Version    string `json:"version"`
	LastUpdate string `json:"lastUpdate"`
}

type scannedWhen struct {
	Started  time.Time `json:"scanStartedOn"`
	Finished time.Time `json:"scanFinishedOn"`
}

// scan reads Bulkhead's report, or a document that has the form already.
func (d Document) scan(digests []string) (string, any, error) {
	object, err := d.object()
	if err != nil {
		return "", nil, err
	}
	if object["scanner"] != nil && object["metadata"] != nil {
		return trust.TypeScan, object, nil
	}
	var report bulkhead.Report
	if err := json.Unmarshal(d.Raw, &report); err != nil || object["vulnerabilities"] == nil {
		return "", nil, fmt.Errorf("%s is no report of bulkhead scan --format json: it has no vulnerabilities", d.Name)
	}
	if !slices.Contains(digests, report.Digest) {
		return "", nil, &OtherImageError{"report", report.Digest}
	}
	at := d.At.UTC().Truncate(time.Second)
	s := scanned{Scanner: scanner{URI: "bulkhead", Result: d.Raw}, Metadata: scannedWhen{at, at}}
	if report.Database != nil {
		s.Scanner.DB.LastUpdate = report.Database.Built
	}
	return trust.TypeScan, s, nil
}

// profile reads a behaviour profile whole, so that nothing is signed that no node could enforce.
func (d Document) profile(digests []string) (string, any, error) {
	p, err := profile.Read(bytes.NewReader(d.Raw), d.Name)
	if err != nil {
		return "", nil, err
	}
	if !slices.Contains(digests, p.Image.Digest) && !slices.Contains(digests, p.Image.Config) {
		return "", nil, &OtherImageError{"profile", p.Image.Digest}
	}
	var text bytes.Buffer
	if err := profile.Write(&text, p); err != nil {
		return "", nil, err
	}
	return trust.TypeProfile, json.RawMessage(text.Bytes()), nil
}

// maxChildren bounds the images of an index that are asked for their configuration.
const maxChildren = 64

// Digests are all the names of an image: engines that know no manifest call it by its configuration.
func Digests(ctx context.Context, repository *image.Repository, m image.Manifest) ([]string, error) {
	all := []string{m.Digest}
	var shape struct {
		Config    struct{ Digest string }
		Manifests []struct {
			Digest   string
			Platform struct{ OS string }
		}
	}
	if err := json.Unmarshal(m.Raw, &shape); err != nil {
		return nil, fmt.Errorf("read the manifest %s: %w", m.Digest, err)
	}
	if shape.Config.Digest != "" {
		return append(all, shape.Config.Digest), nil
	}
	for _, child := range shape.Manifests[:min(len(shape.Manifests), maxChildren)] {
		if child.Platform.OS == "unknown" {
			continue // a builder's attestations
		}
		inner, err := repository.Manifest(ctx, child.Digest)
		if err != nil {
			return nil, err
		}
		names, err := Digests(ctx, repository, image.Manifest{Digest: inner.Digest, Raw: noIndex(inner.Raw)})
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return all, nil
}

// noIndex keeps an index inside an index from being followed without end.
func noIndex(raw []byte) []byte {
	var shape struct {
		Config json.RawMessage `json:"config,omitempty"`
	}
	if json.Unmarshal(raw, &shape) != nil {
		return []byte("{}")
	}
	out, _ := json.Marshal(shape)
	return out
}
