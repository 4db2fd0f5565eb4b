package junit

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestWrite(t *testing.T) {
	r := bulkhead.Report{
		Target: "shop:v1",
		Vulnerabilities: []bulkhead.Vulnerability{
			{ID: "CVE-1", Package: "a", Version: "1", Severity: bulkhead.High, Fixed: "2", Path: "var/lib/dpkg/status"},
			{ID: "CVE-2", Package: "a", Version: "1", Severity: bulkhead.Low},
			{ID: "CVE-3", Package: "a", Version: "1", VEX: &bulkhead.Judgment{Status: "not_affected", Reason: "not reached"}},
		},
		Findings:   []bulkhead.Finding{{Kind: bulkhead.FindingSecret, Rule: "key", Severity: bulkhead.High, Path: "x\x00<&\"\x1b[31m", Line: 3, Message: "a key \xff"}},
		Incomplete: []bulkhead.Omission{{Path: "z.zip", Message: "too deep"}},
	}
	high := func(s bulkhead.Severity) bool { return s == bulkhead.High }
	var b bytes.Buffer
	err := Write(&b, r, Fails{
		Vulnerability: func(v bulkhead.Vulnerability) bool { return v.VEX == nil && high(v.Severity) },
		Finding:       func(f bulkhead.Finding) bool { return high(f.Severity) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var got suites
	decoder := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	decoder.Strict = true
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v in:\n%s", err, b.String())
	}
	var lines []string
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			line := s.Name + ": " + c.Class + ": " + c.Name
			switch {
			case c.Failure != nil:
				line += ": failed: " + c.Failure.Message
			case c.Error != nil:
				line += ": error: " + c.Error.Message
			case c.Skipped != nil:
				line += ": skipped: " + c.Skipped.Message
			}
			lines = append(lines, line)
		}
		checkNumbers(t, s)
	}
	want := []string{
		"vulnerabilities: var/lib/dpkg/status: CVE-1 a 1: failed: a 1: high, fixed in 2",
		"vulnerabilities: shop:v1: CVE-2 a 1: skipped: a 1: low, no fixed version yet",
		"vulnerabilities: shop:v1: CVE-3 a 1: skipped: not_affected: not reached",
		"malware: shop:v1: none found",
		"web shells: shop:v1: none found",
		"secrets: x\ufffd<&\"\ufffd[31m: key line 3: failed: a key \ufffd",
		"misconfiguration: shop:v1: none found",
		"end of life: shop:v1: none found",
		"completeness: shop:v1: z.zip: error: too deep",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.Tests != len(want) || got.Failures != 2 || got.Errors != 1 {
		t.Errorf("totals: %d tests, %d failures, %d errors", got.Tests, got.Failures, got.Errors)
	}
	if !strings.HasPrefix(b.String(), "<?xml") {
		t.Error("no XML declaration")
	}
}

func checkNumbers(t *testing.T, s suite) {
	t.Helper()
	failures, errors, skipped := 0, 0, 0
	for _, c := range s.Cases {
		if c.Failure != nil {
			failures++
		}
		if c.Error != nil {
			errors++
		}
		if c.Skipped != nil {
			skipped++
		}
	}
	if s.Tests != len(s.Cases) || s.Failures != failures || s.Errors != errors || s.Skipped != skipped {
		t.Errorf("%s says %d/%d/%d/%d of %d/%d/%d/%d", s.Name, s.Tests, s.Failures, s.Errors, s.Skipped, len(s.Cases), failures, errors, skipped)
	}
}
