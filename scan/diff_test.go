package scan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestDiff(t *testing.T) {
	pkg := func(text string) bulkhead.Package {
		var p bulkhead.Package
		fmt.Sscan(text, &p.Type, &p.Name, &p.Version, &p.Path)
		return p
	}
	report := func(packages []string, ids ...string) (r bulkhead.Report) {
		for _, p := range packages {
			r.Packages = append(r.Packages, pkg(p))
		}
		for _, id := range ids {
			v := bulkhead.Vulnerability{ID: strings.TrimPrefix(id, "judged "), Package: "curl", Type: "deb", Version: fmt.Sprint(len(packages))}
			if strings.HasPrefix(id, "judged ") {
				v.VEX = &bulkhead.Judgment{Status: "not_affected"}
			}
			r.Vulnerabilities = append(r.Vulnerabilities, v)
			r.Findings = append(r.Findings, bulkhead.Finding{Kind: bulkhead.FindingSecret, Rule: id, Path: "etc/x", Line: len(packages)})
		}
		return r
	}
	from := report([]string{"deb curl 1 a", "deb gone 1 a", "npm x 1 n/a", "npm x 2 n/b", "npm same 1 p"}, "CVE-1", "CVE-2", "judged CVE-4")
	to := report([]string{"deb curl 2 a", "deb came 1 a", "npm x 1 n/c", "npm x 3 n/b", "npm x 4 n/d", "npm same 1 q"}, "CVE-2", "CVE-3", "CVE-4")
	d := Diff(from, to)
	var got []string
	for _, p := range d.Packages.Added {
		got = append(got, "+ "+p.Name+" "+p.Version)
	}
	for _, p := range d.Packages.Removed {
		got = append(got, "- "+p.Name+" "+p.Version)
	}
	for _, c := range d.Packages.Changed {
		got = append(got, c.Name+" "+c.From+" → "+c.To)
	}
	for _, v := range d.Vulnerabilities.New {
		got = append(got, "new "+v.ID)
	}
	for _, v := range d.Vulnerabilities.Fixed {
		got = append(got, "fixed "+v.ID)
	}
	got = append(got, fmt.Sprint(d.Packages.Same, d.Vulnerabilities.Same, len(d.Findings.New), len(d.Findings.Fixed), d.Findings.Same))
	want := []string{"+ came 1", "+ x 4", "- gone 1", "curl 1 → 2", "x 2 → 3", "new CVE-3", "new CVE-4", "fixed CVE-1", "2 1 2 2 1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b, _ := json.Marshal(Diff(bulkhead.Report{}, bulkhead.Report{})); strings.Contains(string(b), "null") {
		t.Errorf("a list is missing: %s", b)
	}
}
