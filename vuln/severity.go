package vuln

import (
	"strings"

	cvss20 "github.com/pandatix/go-cvss/20"
	cvss30 "github.com/pandatix/go-cvss/30"
	cvss31 "github.com/pandatix/go-cvss/31"
	cvss40 "github.com/pandatix/go-cvss/40"

	"bulkhead"
)

// maxVector is twice the longest vector with every metric of CVSS 4.0 set.
const maxVector = 512

// Score returns the base score of a CVSS vector of version 2.0, 3.0, 3.1 or 4.0, from 0 to 10, and reports whether the
// vector is one.
func Score(vector string) (score float64, ok bool) {
	if len(vector) > maxVector {
		return 0, false
	}
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		if v, err := cvss40.ParseVector(vector); err == nil {
			return v.Score(), true
		}
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		if v, err := cvss31.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		if v, err := cvss30.ParseVector(vector); err == nil {
			return v.BaseScore(), true
		}
	default:
		if v, err := cvss20.ParseVector(strings.Trim(vector, "()")); err == nil {
			return v.BaseScore(), true
		}
	}
	return 0, false
}

// bestVector picks one of several: of the newest version of CVSS, and of that one the highest.
func bestVector(severities []osvSeverity) (best string) {
	bestScore, bestType := -1.0, ""
	for _, s := range severities {
		if !strings.HasPrefix(s.Type, "CVSS_V") || s.Type < bestType {
			continue
		}
		score, ok := Score(s.Score)
		if ok && (s.Type > bestType || score > bestScore) {
			best, bestScore, bestType = s.Score, score, s.Type
		}
	}
	return best
}

// wordSeverity translates a vendor's word, empty when it says nothing.
func wordSeverity(word string) bulkhead.Severity {
	switch strings.ToLower(word) {
	case "critical":
		return bulkhead.Critical
	case "high", "important":
		return bulkhead.High
	case "medium", "moderate":
		return bulkhead.Medium
	case "low", "negligible", "minor":
		return bulkhead.Low
	}
	return ""
}

// scoreSeverity is the qualitative scale of CVSS 3 and 4: a score of 0 has no severity.
func scoreSeverity(score float64) bulkhead.Severity {
	switch {
	case score >= 9:
		return bulkhead.Critical
	case score >= 7:
		return bulkhead.High
	case score >= 4:
		return bulkhead.Medium
	case score > 0:
		return bulkhead.Low
	}
	return ""
}
