package eol

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func day(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestDistributions(t *testing.T) {
	tests := []struct {
		name     string
		os       bulkhead.OS
		now      string
		severity bulkhead.Severity // empty: no finding
		message  string
	}{
		{"maintained", bulkhead.OS{ID: "debian", Version: "12"}, "2026-07-10", "", ""},
		{"last day", bulkhead.OS{ID: "debian", Version: "12"}, "2026-07-11", "", ""},
		{"extended", bulkhead.OS{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)"}, "2026-07-12", bulkhead.Low, "until 2028-06-30"},
		{"over", bulkhead.OS{ID: "debian", Version: "10"}, "2026-07-12", bulkhead.High, "debian 10 has reached its end of life on 2022-09-10"},
		{"newer one named", bulkhead.OS{ID: "debian", Version: "10"}, "2026-07-12", bulkhead.High, "newest maintained release is 13"},
		{"three numbers", bulkhead.OS{ID: "alpine", Version: "3.18.4"}, "2026-01-01", bulkhead.High, "2025-05-09"},
		{"3.2 is not 3.20", bulkhead.OS{ID: "alpine", Version: "3.22.1"}, "2026-01-01", "", ""},
		{"edge", bulkhead.OS{ID: "alpine", Version: "3.99.0_alpha20260101"}, "2026-01-01", "", ""},
		{"minor of a major", bulkhead.OS{ID: "rhel", Version: "6.10"}, "2026-01-01", bulkhead.High, "2020-11-30"},
		{"centos 8", bulkhead.OS{ID: "centos", Version: "8", Name: "CentOS Linux 8"}, "2022-02-01", bulkhead.High, "2021-12-31"},
		{"centos stream 8", bulkhead.OS{ID: "centos", Version: "8", Name: "CentOS Stream 8"}, "2022-02-01", "", ""},
		{"by codename", bulkhead.OS{ID: "debian", Codename: "buster"}, "2026-01-01", bulkhead.High, "2022-09-10"},
		{"rolling", bulkhead.OS{ID: "wolfi", Version: "20230201"}, "2026-01-01", "", ""},
		{"none", bulkhead.OS{}, "2026-01-01", "", ""},
		{"amazon", bulkhead.OS{ID: "amzn", Version: "2018.03"}, "2026-01-01", bulkhead.High, "2023-12-31"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, Find(nil, tt.os, nil, day(t, tt.now)), tt.severity, tt.message)
		})
	}
}

func check(t *testing.T, findings []bulkhead.Finding, severity bulkhead.Severity, message string) {
	t.Helper()
	switch {
	case severity == "" && len(findings) == 0:
	case severity == "" || len(findings) != 1:
		t.Errorf("got %+v", findings)
	case findings[0].Severity != severity || findings[0].Kind != bulkhead.FindingEOL || !strings.Contains(findings[0].Message, message):
		t.Errorf("got %s %q, want %s with %q", findings[0].Severity, findings[0].Message, severity, message)
	}
}

func TestPrograms(t *testing.T) {
	cycles := Cycles{
		"nodejs":          {{Name: "24", End: "2028-04-30"}, {Name: "18", End: "2025-04-30"}},
		"php":             {{Name: "8.4", End: "2028-12-31"}, {Name: "7.4", End: "2022-11-28"}},
		"eclipse-temurin": {{Name: "8", End: "2026-01-01"}},
		"azul-zulu":       {{Name: "8", End: "2030-01-01"}},
		"rabbitmq":        {{Name: "4.2", End: "2026-07-31", Extended: "2030-06-30"}},
		"thing":           {{Name: "1", Ended: true}},
		"rust":            {{Name: "1.90", Ended: true}},
	}
	tests := []struct {
		name     string
		p        bulkhead.Package
		severity bulkhead.Severity
		message  string
	}{
		{"over", bulkhead.Package{Name: "node", Version: "18.20.4", Type: "bitnami"}, bulkhead.Medium, "node 18.20.4 (release 18) has reached its end of life on 2025-04-30"},
		{"maintained", bulkhead.Package{Name: "node", Version: "24.1.0", Type: "bitnami"}, "", ""},
		{"not known", bulkhead.Package{Name: "node", Version: "99.1.0", Type: "bitnami"}, "", ""},
		{"of the distribution", bulkhead.Package{Name: "php", Version: "7.4.33", Type: "deb"}, "", ""},
		{"owned", bulkhead.Package{Name: "php", Version: "7.4.33", Type: "bitnami", Owner: "php7.4-cli"}, "", ""},
		{"of nobody", bulkhead.Package{Name: "php", Version: "7.4.33", Type: "bitnami"}, bulkhead.Medium, "2022-11-28"},
		{"another vendor goes on", bulkhead.Package{Name: "java", Version: "8.0.392", Type: "bitnami"}, "", ""},
		{"extended", bulkhead.Package{Name: "rabbitmq", Version: "4.2.1", Type: "bitnami"}, bulkhead.Low, "until 2030-06-30"},
		{"no date", bulkhead.Package{Name: "thing", Version: "1.1", Type: "generic"}, bulkhead.Medium, "has reached its end of life:"},
		{"every release ends with the next", bulkhead.Package{Name: "rust", Version: "1.90.0", Type: "generic"}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, Find(cycles, bulkhead.OS{}, []bulkhead.Package{tt.p}, day(t, "2026-08-30")), tt.severity, tt.message)
		})
	}
}
