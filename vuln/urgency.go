package vuln

import (
	"cmp"
	"strings"

	"bulkhead"
)

// unknownEPSS stands for a CVE that FIRST has not scored yet: the median of its scores in August 2026.
const unknownEPSS = 0.007

// ByUrgency orders what to fix first: what counts (see [Counts]) before what was judged away; what is known to be
// exploited; the expected harm, which is the probability of exploitation times the score; what has a fix; then by
// severity and by name, so that the order is always the same. It is for [slices.SortFunc].
func ByUrgency(a, b bulkhead.Vulnerability) int {
	return cmp.Or(
		yesFirst(Counts(a), Counts(b)),
		yesFirst(a.KEV, b.KEV),
		-cmp.Compare(harm(a), harm(b)),
		yesFirst(a.Fixed != "", b.Fixed != ""),
		-cmp.Compare(a.Severity.Rank(), b.Severity.Rank()),
		strings.Compare(a.ID, b.ID), strings.Compare(a.Package, b.Package),
		strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version),
	)
}

func yesFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// harm is EPSS × score. Without a score, the severity stands for the middle of its range in CVSS.
func harm(v bulkhead.Vulnerability) float64 {
	score, probability := v.CVSS, v.EPSS
	if score == 0 {
		score = [...]float64{1, 2, 5.5, 8, 9.5}[v.Severity.Rank()]
	}
	if probability == 0 {
		probability = unknownEPSS
	}
	return score * probability
}
