// Package sarif writes a report in the static analysis results interchange format, which code hosts show beside the
// code. Start with [Write].
//
// It promises a document that follows the schema of SARIF 2.1.0, one rule for each thing that can be wrong and one
// result for each place where it is, with marks that stay the same from scan to scan. It is not for package lists:
// those are in package sbom.
package sarif

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
)

// Tool is who writes the document.
type Tool struct{ Name, Version string }

const (
	schema  = "https://json.schemastore.org/sarif-2.1.0.json"
	version = "2.1.0"
	// root is what paths are below: the image's root directory.
	root = "IMAGEROOT"
)

type document struct {
	Schema  string `json:"$schema"`
	Version string `json:"version"`
	Runs    []run  `json:"runs"`
}

type run struct {
	Tool        tool                `json:"tool"`
	Invocations []invocation        `json:"invocations"`
	BaseIDs     map[string]location `json:"originalUriBaseIds"`
	Results     []result            `json:"results"`
	ColumnKind  string              `json:"columnKind"`
	Properties  map[string]any      `json:"properties"`
}

type tool struct {
	Driver driver `json:"driver"`
}

type driver struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Rules   []rule `json:"rules"`
}

type rule struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Short      message        `json:"shortDescription"`
	Full       message        `json:"fullDescription"`
	Help       *message       `json:"help,omitempty"`
	HelpURI    string         `json:"helpUri,omitempty"`
	Default    configuration  `json:"defaultConfiguration"`
	Properties map[string]any `json:"properties"`
}

type configuration struct {
	Level string `json:"level"`
}

type message struct {
	Text string `json:"text"`
}

type invocation struct {
	Successful    bool           `json:"executionSuccessful"`
	Notifications []notification `json:"toolExecutionNotifications,omitempty"`
}

type notification struct {
	Level   string  `json:"level"`
	Message message `json:"message"`
}

type result struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Level        string            `json:"level"`
	Message      message           `json:"message"`
	Locations    []physical        `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
	Suppressions []suppression     `json:"suppressions,omitempty"`
	Properties   map[string]any    `json:"properties,omitempty"`
}

type physical struct {
	Physical place   `json:"physicalLocation"`
	Message  message `json:"message"`
}

type place struct {
	Artifact location `json:"artifactLocation"`
	Region   region   `json:"region"`
}

type location struct {
	URI    string `json:"uri"`
	BaseID string `json:"uriBaseId,omitempty"`
}

type region struct {
	StartLine int `json:"startLine"`
}

type suppression struct {
	Kind          string `json:"kind"`
	Status        string `json:"status"`
	Justification string `json:"justification,omitempty"`
}

// Write writes the report. What counts says of a vulnerability whether it is one here; the others are suppressed.
func Write(w io.Writer, r bulkhead.Report, t Tool, counts func(bulkhead.Vulnerability) bool) error {
	b := &builder{index: map[string]int{}}
	for _, v := range r.Vulnerabilities {
		b.vulnerability(v, r.Target, counts(v))
	}
	for _, f := range r.Findings {
		b.finding(f, r.Target)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(document{Schema: schema, Version: version, Runs: []run{{
		Tool:        tool{driver{Name: t.Name, Version: t.Version, Rules: b.rules()}},
		Invocations: []invocation{{Successful: len(r.Incomplete) == 0, Notifications: notes(r.Incomplete)}},
		BaseIDs:     map[string]location{root: {URI: "file:///"}},
		Results:     b.all(),
		ColumnKind:  "utf16CodeUnits",
		Properties:  map[string]any{"target": r.Target, "digest": r.Digest},
	}}})
}

func notes(incomplete []bulkhead.Omission) []notification {
	var list []notification
	for _, o := range incomplete {
		list = append(list, notification{Level: "error", Message: message{strings.TrimPrefix(o.Path+": "+o.Message, ": ")}})
	}
	return list
}

// builder collects rules by what they are called, in the order in which they are met, and results.
type builder struct {
	index   map[string]int
	known   []rule
	results []result
}

func (b *builder) rules() []rule { return append([]rule{}, b.known...) }

func (b *builder) all() []result { return append([]result{}, b.results...) }

func (b *builder) rule(id string, make func() rule) int {
	i, ok := b.index[id]
	if !ok {
		i = len(b.known)
		b.index[id] = i
		b.known = append(b.known, make())
	}
	return i
}

func (b *builder) vulnerability(v bulkhead.Vulnerability, target string, counts bool) {
	i := b.rule(v.ID, func() rule { return vulnerabilityRule(v) })
	text := fmt.Sprintf("%s %s has %s (%s).", v.Package, v.Version, v.ID, cmp.Or(string(v.Severity), "unknown"))
	if v.Fixed != "" {
		text += " Fixed in " + v.Fixed + "."
	}
	r := result{
		RuleID: v.ID, RuleIndex: i, Level: level(v.Severity), Message: message{text},
		Locations:    []physical{{Physical: at(v.Path, 1, target), Message: message{v.Package + "@" + v.Version}}},
		Fingerprints: fingerprint(v.ID, v.PURL, v.Path),
		Properties:   map[string]any{"purl": v.PURL, "layer": v.Layer, "base": v.Base, "fixed": v.Fixed, "kev": v.KEV, "epss": v.EPSS},
	}
	if !counts {
		r.Suppressions = []suppression{{Kind: "external", Status: "accepted", Justification: cmp.Or(v.VEX.Reason, v.VEX.Justification)}}
	}
	b.results = append(b.results, r)
}

func vulnerabilityRule(v bulkhead.Vulnerability) rule {
	short := cmp.Or(v.Title, v.ID+" in "+v.Package)
	r := rule{
		ID: v.ID, Name: "Vulnerability", Short: message{short}, Full: message{cmp.Or(v.Details, short)},
		Default: configuration{level(v.Severity)}, Properties: properties(score(v), "vulnerability", v.Severity),
	}
	r.Help = &message{fmt.Sprintf("Package: %s\nInstalled: %s\nFixed in: %s\n%s", v.Package, v.Version, cmp.Or(v.Fixed, "no version yet"), strings.Join(v.URLs, "\n"))}
	r.HelpURI = helpURI(v)
	return r
}

func helpURI(v bulkhead.Vulnerability) string {
	if strings.HasPrefix(v.ID, "CVE-") {
		return "https://www.cve.org/CVERecord?id=" + v.ID
	}
	i := slices.IndexFunc(v.URLs, func(s string) bool { return strings.HasPrefix(s, "https://") })
	if i < 0 {
		return ""
	}
	return v.URLs[i]
}

func (b *builder) finding(f bulkhead.Finding, target string) {
	id := string(f.Kind) + "/" + f.Rule
	i := b.rule(id, func() rule {
		text := message{fmt.Sprintf("%s: %s", f.Kind, f.Rule)}
		return rule{ID: id, Name: nameOf(f.Kind), Short: text, Full: text, Default: configuration{level(f.Severity)}, Properties: properties(scoreOf(f.Severity), string(f.Kind), f.Severity)}
	})
	b.results = append(b.results, result{
		RuleID: id, RuleIndex: i, Level: level(f.Severity), Message: message{f.Message},
		Locations:    []physical{{Physical: at(f.Path, f.Line, target), Message: message{f.Message}}},
		Fingerprints: fingerprint(id, f.Path, strconv.Itoa(f.Line)),
		Properties:   map[string]any{"layer": f.Layer, "base": f.Base},
	})
}

func nameOf(kind bulkhead.FindingKind) string {
	return map[bulkhead.FindingKind]string{
		bulkhead.FindingMalware: "Malware", bulkhead.FindingWebShell: "WebShell", bulkhead.FindingSecret: "Secret",
		bulkhead.FindingMisconfig: "Misconfiguration", bulkhead.FindingEOL: "EndOfLife",
	}[kind]
}

// at is where something is. What is about the whole image has the image's name, as a place must be told.
func at(p string, line int, target string) place {
	base := root
	if p == "" {
		p, base = target, ""
	}
	return place{Artifact: location{URI: (&url.URL{Path: strings.TrimPrefix(p, "/")}).String(), BaseID: base}, Region: region{StartLine: max(1, line)}}
}

func level(s bulkhead.Severity) string {
	switch s {
	case bulkhead.Critical, bulkhead.High:
		return "error"
	case bulkhead.Medium:
		return "warning"
	}
	return "note"
}

// score is what code hosts sort by: the CVSS score, or one that stands for the severity.
func score(v bulkhead.Vulnerability) float64 {
	if v.CVSS > 0 {
		return v.CVSS
	}
	return scoreOf(v.Severity)
}

// scoreOf is the middle of the severity's range in CVSS 3.1 (section 5, qualitative rating scale).
func scoreOf(s bulkhead.Severity) float64 {
	return map[bulkhead.Severity]float64{bulkhead.Low: 2, bulkhead.Medium: 5.5, bulkhead.High: 8, bulkhead.Critical: 9.5}[s]
}

func properties(score float64, kind string, s bulkhead.Severity) map[string]any {
	return map[string]any{
		"security-severity": strconv.FormatFloat(score, 'f', 1, 64), "precision": "very-high",
		"tags": []string{kind, "security", cmp.Or(string(s), "unknown")},
	}
}

func fingerprint(parts ...string) map[string]string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return map[string]string{"bulkhead/v1": hex.EncodeToString(sum[:16])}
}
