package scan

import (
	"testing"

	"bulkhead"
)

// TestGate counts what each policy stops of a report with one result of each kind.
func TestGate(t *testing.T) {
	r := bulkhead.Report{
		Vulnerabilities: []bulkhead.Vulnerability{
			{ID: "exploited", Severity: bulkhead.Low, KEV: true, EPSS: 0.2},
			{ID: "likely", Severity: bulkhead.Medium, EPSS: 0.7},
			{ID: "bad", Severity: bulkhead.Critical},
			{ID: "judged", Severity: bulkhead.Critical, KEV: true, EPSS: 1, VEX: &bulkhead.Judgment{Status: "not_affected"}},
		},
		Findings: []bulkhead.Finding{{Kind: bulkhead.FindingSecret, Severity: bulkhead.High}},
	}
	for policy, want := range map[string]int{
		"kev": 1, "epss=0.7": 1, "epss=0.71": 0, "epss=0.1": 2, "critical": 1, "high": 2, "low": 4,
		"kev,epss=0.5": 2, "critical,kev": 2, "high,low": 4, " KEV , High ": 3,
	} {
		g, err := ParseGate(policy)
		if got := g.Stopped(r); err != nil || got != want {
			t.Errorf("%q stops %d (%v), want %d", policy, got, err, want)
		}
		if again, err := ParseGate(g.String()); err != nil || again != g {
			t.Errorf("%q is read again as %+v (%v), was %+v", g, again, err, g)
		}
	}
	for _, bad := range []string{"", "none", "epss", "epss=2", "epss=0", "kev=1", "high=1", "epss=NaN"} {
		if g, err := ParseGate(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, g)
		}
	}
	if (Gate{}).Stopped(r) != 0 {
		t.Error("no policy stops something")
	}
}
