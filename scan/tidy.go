package scan

import (
	"cmp"
	"slices"

	"bulkhead"
	"bulkhead/vuln"
)

// Tidy puts a report in the order that is promised, without doubles, and every list in it.
func Tidy(r *bulkhead.Report) {
	r.Layers = listed(r.Layers)
	r.Packages = listed(sortedPackages(r.Packages))
	r.Vulnerabilities = listed(sortedVulnerabilities(r.Vulnerabilities))
	slices.SortStableFunc(r.Findings, compareFindings)
	r.Findings = listed(slices.CompactFunc(r.Findings, func(a, b bulkhead.Finding) bool { return compareFindings(a, b) == 0 }))
	slices.SortFunc(r.Incomplete, compareOmissions)
	r.Incomplete = listed(slices.Compact(r.Incomplete))
}

// listed makes a list that is written as [] when it is empty.
func listed[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// sortedPackages sorts, and leaves one of those that are the same thing at the same path.
func sortedPackages(list []bulkhead.Package) []bulkhead.Package {
	slices.SortStableFunc(list, comparePackages)
	return slices.CompactFunc(list, func(a, b bulkhead.Package) bool {
		return a.Type == b.Type && a.Name == b.Name && a.Version == b.Version && a.Path == b.Path && a.Arch == b.Arch && a.PURL == b.PURL
	})
}

func comparePackages(a, b bulkhead.Package) int {
	return cmp.Or(
		cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
		cmp.Compare(a.Path, b.Path), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.PURL, b.PURL),
	)
}

// sortedVulnerabilities puts first what is to be fixed first.
func sortedVulnerabilities(list []bulkhead.Vulnerability) []bulkhead.Vulnerability {
	slices.SortStableFunc(list, func(a, b bulkhead.Vulnerability) int {
		return cmp.Or(vuln.ByUrgency(a, b), cmp.Compare(a.PURL, b.PURL))
	})
	return slices.CompactFunc(list, func(a, b bulkhead.Vulnerability) bool {
		return a.ID == b.ID && a.PURL == b.PURL && a.Path == b.Path && a.Package == b.Package && a.Version == b.Version
	})
}

func compareFindings(a, b bulkhead.Finding) int {
	return cmp.Or(
		cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Path, b.Path),
		cmp.Compare(a.Line, b.Line), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Layer, b.Layer),
	)
}
