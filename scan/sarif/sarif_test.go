package sarif

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/url"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

var update = flag.Bool("update", false, "write golden files again")

func report() bulkhead.Report {
	return bulkhead.Report{
		Target: "shop:v1", Digest: "sha256:22",
		Vulnerabilities: []bulkhead.Vulnerability{
			{ID: "CVE-2023-0001", Package: "libssl3", Version: "3.0.9-1", Severity: bulkhead.High, CVSS: 7.5, Fixed: "3.0.11-1", PURL: "pkg:deb/debian/libssl3@3.0.9-1", Path: "var/lib/dpkg/status", URLs: []string{"https://example.com/a"}, Title: "a title", Details: "details"},
			{ID: "CVE-2023-0001", Package: "openssl", Version: "3.0.9-1", Severity: bulkhead.High, CVSS: 7.5, PURL: "pkg:deb/debian/openssl@3.0.9-1", Path: "var/lib/dpkg/status"},
			{ID: "GO-2024-0002", Package: "example.com/x", Version: "v1", PURL: "pkg:golang/example.com/x@v1", Path: "usr/bin/a b", VEX: &bulkhead.Judgment{Status: "not_affected", Reason: "not reached"}},
		},
		Findings: []bulkhead.Finding{
			{Kind: bulkhead.FindingSecret, Rule: "aws-key", Severity: bulkhead.Critical, Path: "srv/config%.txt", Line: 7, Message: "an AWS key"},
			{Kind: bulkhead.FindingMisconfig, Rule: "root-user", Severity: bulkhead.Medium, Message: "runs as root"},
		},
		Incomplete: []bulkhead.Omission{{Path: "a.zip", Message: "too deep"}},
	}
}

func write(t *testing.T, r bulkhead.Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r, Tool{Name: "Bulkhead", Version: "1.2.3"}, func(v bulkhead.Vulnerability) bool { return v.VEX == nil }); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	const golden = "testdata/report.sarif"
	got := write(t, report())
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRules holds documents against what SARIF 2.1.0 demands (its sections in brackets) and what GitHub reads.
func TestRules(t *testing.T) {
	for name, r := range map[string]bulkhead.Report{"full": report(), "empty": {Target: "dir:x"}} {
		var d document
		decoder := json.NewDecoder(bytes.NewReader(write(t, r)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&d); err != nil {
			t.Fatal(err)
		}
		if d.Version != "2.1.0" || len(d.Runs) != 1 { // [3.13.2, 3.13.4]
			t.Fatalf("%s: version %q, %d runs", name, d.Version, len(d.Runs))
		}
		run := d.Runs[0]
		if run.Results == nil || run.Tool.Driver.Rules == nil || run.Tool.Driver.Name == "" { // [3.14.23, 3.19.8]
			t.Errorf("%s: a list is null, or the driver has no name", name)
		}
		for _, result := range run.Results {
			checkResult(t, run, result)
		}
		for i, rule := range run.Tool.Driver.Rules {
			if score, err := strconv.ParseFloat(rule.Properties["security-severity"].(string), 64); err != nil || score < 0 || score > 10 {
				t.Errorf("rule %s: security-severity %v", rule.ID, rule.Properties["security-severity"])
			}
			if slices.ContainsFunc(run.Tool.Driver.Rules[:i], func(other ruleOf) bool { return other.ID == rule.ID }) { // [3.49.3]
				t.Errorf("rule %s is there twice", rule.ID)
			}
			if _, err := url.Parse(rule.HelpURI); err != nil { // [3.49.12]
				t.Error(err)
			}
		}
	}
}

// ruleOf is a rule where that name is taken.
type ruleOf = rule

func checkResult(t *testing.T, run run, r result) {
	t.Helper()
	if r.RuleIndex >= len(run.Tool.Driver.Rules) || run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID { // [3.27.6]
		t.Errorf("%s: rule index %d is another rule", r.RuleID, r.RuleIndex)
	}
	if !slices.Contains([]string{"none", "note", "warning", "error"}, r.Level) || r.Message.Text == "" || len(r.Locations) == 0 {
		t.Errorf("%s: level %q, message %q, %d places", r.RuleID, r.Level, r.Message.Text, len(r.Locations))
	}
	for _, l := range r.Locations {
		if _, err := url.Parse(l.Physical.Artifact.URI); err != nil || l.Physical.Artifact.URI == "" { // [3.4.3]
			t.Errorf("%s: place %q: %v", r.RuleID, l.Physical.Artifact.URI, err)
		}
		if base := l.Physical.Artifact.BaseID; base != "" && run.BaseIDs[base].URI == "" { // [3.4.4]
			t.Errorf("%s: nobody says where %s is", r.RuleID, base)
		}
		if l.Physical.Region.StartLine < 1 { // [3.30.5]
			t.Errorf("%s: line %d", r.RuleID, l.Physical.Region.StartLine)
		}
	}
	for _, s := range r.Suppressions {
		if s.Kind != "external" && s.Kind != "inSource" { // [3.35.2]
			t.Errorf("%s: suppression %q", r.RuleID, s.Kind)
		}
	}
}
