package scan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/scan/look"
	"bulkhead/vuln"
)

// Gate says which results a policy does not let pass. The zero value lets everything pass.
type Gate struct {
	Severity bulkhead.Severity // at or above
	KEV      bool              // known to be exploited
	EPSS     float64           // at least so likely to be exploited; 0: not asked
}

// ParseGate reads "high", "kev", "epss=0.5", or several of them with commas: one that holds is enough.
func ParseGate(s string) (Gate, error) {
	var g Gate
	for word := range strings.SplitSeq(s, ",") {
		name, value, has := strings.Cut(strings.ToLower(strings.TrimSpace(word)), "=")
		switch {
		case name == "kev" && !has:
			g.KEV = true
		case name == "epss" && has:
			p, err := strconv.ParseFloat(value, 64)
			if err != nil || !(p > 0 && p <= 1) {
				return g, fmt.Errorf("%q is no probability: write epss=0.5, above 0 and up to 1", value)
			}
			g.EPSS = p
		case bulkhead.Severity(name).Rank() > 0 && !has:
			if lower := bulkhead.Severity(name); g.Severity == "" || lower.Rank() < g.Severity.Rank() {
				g.Severity = lower
			}
		default:
			return g, fmt.Errorf("%q is none of low, medium, high, critical, kev, epss=0.5", word)
		}
	}
	return g, nil
}

// String is what [ParseGate] reads.
func (g Gate) String() string {
	var words []string
	if g.Severity != "" {
		words = append(words, string(g.Severity))
	}
	if g.KEV {
		words = append(words, "kev")
	}
	if g.EPSS > 0 {
		words = append(words, "epss="+strconv.FormatFloat(g.EPSS, 'g', -1, 64))
	}
	return strings.Join(words, ",")
}

// Vulnerability reports whether this one is not let pass. What somebody judged not to count is.
func (g Gate) Vulnerability(v bulkhead.Vulnerability) bool {
	return vuln.Counts(v) && (g.atLeast(v.Severity) || g.KEV && v.KEV || g.EPSS > 0 && v.EPSS >= g.EPSS)
}

// Finding reports whether this one is not let pass.
func (g Gate) Finding(f bulkhead.Finding) bool { return g.atLeast(f.Severity) }

func (g Gate) atLeast(s bulkhead.Severity) bool {
	return g.Severity != "" && s.Rank() >= g.Severity.Rank()
}

// Stopped counts what is not let pass.
func (g Gate) Stopped(r bulkhead.Report) (n int) {
	for _, v := range r.Vulnerabilities {
		if g.Vulnerability(v) {
			n++
		}
	}
	for _, f := range r.Findings {
		if g.Finding(f) {
			n++
		}
	}
	return n
}

// ParseKinds reads what a person selects: vuln, malware, webshell, secret, misconfig.
func ParseKinds(words []string) ([]look.Kind, error) {
	all := []look.Kind{look.Packages, look.Malware, look.WebShell, look.Secret, look.Misconfig}
	var kinds []look.Kind
	for _, word := range words {
		kind := look.Kind(strings.TrimSpace(word))
		if !slices.Contains(all, kind) {
			return nil, fmt.Errorf("%q is none of vuln, malware, webshell, secret, misconfig", word)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// Matches reports whether packages are looked up in a vulnerability database.
func (o *Options) Matches() bool { return len(o.Only) == 0 || slices.Contains(o.Only, look.Packages) }

// Skims reports whether little of an image's bytes is read: nothing is looked for that may be anywhere in a file.
func (o *Options) Skims() bool {
	whole := func(k look.Kind) bool { return k == look.Malware || k == look.WebShell || k == look.Secret }
	return len(o.Only) > 0 && !slices.ContainsFunc(o.Only, whole)
}
