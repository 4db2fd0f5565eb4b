package scan

import (
	"cmp"
	"slices"

	"bulkhead"
	"bulkhead/vuln"
)

// Difference is what came and went from one image to another. Its JSON is a promise to scripts: fields may be added,
// and every list is present even when it is empty.
type Difference struct {
	Packages struct {
		Added   []bulkhead.Package `json:"added"`
		Removed []bulkhead.Package `json:"removed"`
		Changed []Change           `json:"changed"`
		Same    int                `json:"same"`
	} `json:"packages"`
	Vulnerabilities struct {
		New   []bulkhead.Vulnerability `json:"new"`
		Fixed []bulkhead.Vulnerability `json:"fixed"`
		Same  int                      `json:"same"`
	} `json:"vulnerabilities"`
	Findings struct {
		New   []bulkhead.Finding `json:"new"`
		Fixed []bulkhead.Finding `json:"fixed"`
		Same  int                `json:"same"`
	} `json:"findings"`
}

// Change is a package in another version.
type Change struct {
	Name string `json:"name"`
	Type string `json:"type"`
	From string `json:"from"`
	To   string `json:"to"`
	Path string `json:"path"`
	Base bool   `json:"base,omitempty"`
}

// Diff compares two reports. A package that is there several times, in several versions, is paired by its path first.
// A vulnerability stays the same while its package has it, in whatever version; one that was judged away does not count.
func Diff(from, to bulkhead.Report) (d Difference) {
	d.packages(from.Packages, to.Packages)
	counting := func(list []bulkhead.Vulnerability) []bulkhead.Vulnerability {
		return slices.DeleteFunc(slices.Clone(list), func(v bulkhead.Vulnerability) bool { return !vuln.Counts(v) })
	}
	a, b := counting(from.Vulnerabilities), counting(to.Vulnerabilities)
	d.Vulnerabilities.Fixed, _ = without(a, b, sameVulnerability)
	d.Vulnerabilities.New, d.Vulnerabilities.Same = without(b, a, sameVulnerability)
	d.Findings.Fixed, _ = without(from.Findings, to.Findings, sameFinding)
	d.Findings.New, d.Findings.Same = without(to.Findings, from.Findings, sameFinding)
	return d
}

func sameVulnerability(v bulkhead.Vulnerability) [3]string { return [3]string{v.ID, v.Type, v.Package} }

// sameFinding leaves out the line, which moves with everything above it.
func sameFinding(f bulkhead.Finding) [4]string {
	return [4]string{string(f.Kind), f.Rule, f.Path, f.Message}
}

// without returns what of a list has no equal in another, once each, and how many have one.
func without[T any, K comparable](list, other []T, key func(T) K) (left []T, same int) {
	there, seen := map[K]bool{}, map[K]bool{}
	for _, o := range other {
		there[key(o)] = true
	}
	left = []T{}
	for _, one := range list {
		k := key(one)
		switch {
		case seen[k]:
		case there[k]:
			same++
		default:
			left = append(left, one)
		}
		seen[k] = true
	}
	return left, same
}

type installedName struct{ kind, name, arch string }

func (d *Difference) packages(from, to []bulkhead.Package) {
	d.Packages.Added, d.Packages.Removed, d.Packages.Changed = []bulkhead.Package{}, []bulkhead.Package{}, []Change{}
	before, after := byName(from), byName(to)
	for key, a := range before {
		d.pair(a, after[key])
	}
	for key, b := range after {
		if _, known := before[key]; !known {
			d.pair(nil, b)
		}
	}
	slices.SortFunc(d.Packages.Added, comparePackages)
	slices.SortFunc(d.Packages.Removed, comparePackages)
	slices.SortFunc(d.Packages.Changed, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Path, b.Path), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
}

func byName(list []bulkhead.Package) map[installedName][]bulkhead.Package {
	out := map[installedName][]bulkhead.Package{}
	for _, p := range list {
		key := installedName{p.Type, p.Name, p.Arch}
		out[key] = append(out[key], p)
	}
	return out
}

// pair takes away what is the same, then what is at the same path, then in order; the rest came or went.
func (d *Difference) pair(a, b []bulkhead.Package) {
	a, b = slices.Clone(a), slices.Clone(b)
	for _, alike := range []func(p, q bulkhead.Package) bool{
		func(p, q bulkhead.Package) bool { return p.Version == q.Version && p.Path == q.Path },
		func(p, q bulkhead.Package) bool { return p.Version == q.Version },
		func(p, q bulkhead.Package) bool { return p.Path == q.Path },
		func(bulkhead.Package, bulkhead.Package) bool { return true },
	} {
		a = slices.DeleteFunc(a, func(p bulkhead.Package) bool {
			i := slices.IndexFunc(b, func(q bulkhead.Package) bool { return alike(p, q) })
			if i >= 0 {
				d.matched(p, b[i])
				b = slices.Delete(b, i, i+1)
			}
			return i >= 0
		})
	}
	d.Packages.Removed = append(d.Packages.Removed, a...)
	d.Packages.Added = append(d.Packages.Added, b...)
}

func (d *Difference) matched(p, q bulkhead.Package) {
	if p.Version == q.Version {
		d.Packages.Same++
		return
	}
	d.Packages.Changed = append(d.Packages.Changed, Change{Name: q.Name, Type: q.Type, From: p.Version, To: q.Version, Path: q.Path, Base: q.Base})
}
