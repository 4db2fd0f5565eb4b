package vuln

import (
	"maps"
	"slices"
	"strings"

	"bulkhead"
)

// list makes the report's entries of what holds for each package.
func (m *matching) list() []bulkhead.Vulnerability {
	groups, total := m.groups()
	list := make([]bulkhead.Vulnerability, 0, total)
	for _, g := range groups {
		list = m.stamp(list, g.entries, &m.packages[g.pkg])
	}
	return list
}

// group is one package and its vulnerabilities, still without the package's own words.
type group struct {
	pkg     int
	entries []bulkhead.Vulnerability
}

// groups are all packages with vulnerabilities, and how many these are together.
func (m *matching) groups() (groups []group, total int) {
	merged := map[*answer][]bulkhead.Vulnerability{} // the binary packages of one source share the answer
	for i := 0; i < len(m.found); {
		j := i + 1
		for j < len(m.found) && m.found[j].pkg == m.found[i].pkg {
			j++
		}
		entries, ok := merged[m.found[i].answer]
		if !ok || j > i+1 {
			entries = m.merge(m.found[i:j])
		}
		if j == i+1 {
			merged[m.found[i].answer] = entries
		}
		groups, total = append(groups, group{m.found[i].pkg, entries}), total+len(entries)
		i = j
	}
	return groups, total
}

// stamp appends the entries with the words of one package.
func (m *matching) stamp(list, entries []bulkhead.Vulnerability, p *bulkhead.Package) []bulkhead.Vulnerability {
	for _, v := range entries {
		v.Package, v.Version, v.Type = p.Name, p.Version, p.Type
		v.PURL, v.Path, v.Layer, v.Base = p.PURL, p.Path, p.Layer, p.Base
		list = append(list, v)
	}
	return list
}

// telling is one record that tells of a vulnerability.
type telling struct {
	hit
	*record
	source string
}

// merge makes one entry of all records that tell of one CVE. A record without a CVE joins those that share a name with
// it; what is left then is joined by names alone.
func (m *matching) merge(found []packageHits) []bulkhead.Vulnerability {
	byCVE := map[string][]telling{}
	var nameless []telling
	for _, t := range m.tellings(found) {
		for _, cve := range t.cves {
			byCVE[cve] = append(byCVE[cve], t)
		}
		if len(t.cves) == 0 {
			nameless = append(nameless, t)
		}
	}
	entries := make([]bulkhead.Vulnerability, 0, len(byCVE)+len(nameless))
	for _, group := range joinNameless(byCVE, nameless) {
		entries = append(entries, m.entry(preferred(group), group))
	}
	for cve, group := range byCVE {
		entries = append(entries, m.entry(cve, group))
	}
	slices.SortFunc(entries, func(a, b bulkhead.Vulnerability) int { return strings.Compare(a.ID, b.ID) })
	return entries
}

// tellings lists the records, without those that an overriding ecosystem decides by itself.
func (m *matching) tellings(found []packageHits) (list []telling) {
	decided := map[string]bool{}
	for _, f := range found {
		for _, at := range f.answer.known {
			if f.override {
				for _, cve := range m.seen[at].cves {
					decided[cve] = true
				}
			}
		}
	}
	for _, f := range found {
		source, _, _ := strings.Cut(f.answer.ecosystem, ":")
		for _, h := range f.answer.hits {
			r := m.seen[h.record]
			if f.override || !slices.ContainsFunc(r.cves, func(cve string) bool { return decided[cve] }) {
				list = append(list, telling{h, r, source})
			}
		}
	}
	return list
}

// joinNameless puts records without a CVE to those that know them, and the rest into groups that share a name.
func joinNameless(byCVE map[string][]telling, nameless []telling) (groups [][]telling) {
	if len(nameless) == 0 {
		return nil
	}
	owner := map[string][]string{} // name → CVEs
	for _, cve := range slices.Sorted(maps.Keys(byCVE)) {
		for _, t := range byCVE[cve] {
			for _, name := range t.names() {
				owner[name] = append(owner[name], cve)
			}
		}
	}
	group := map[string]int{}
	for _, t := range nameless {
		if cve := ownerOf(owner, t); cve != "" {
			byCVE[cve] = append(byCVE[cve], t)
			continue
		}
		groups = joinGroup(groups, group, t)
	}
	return slices.DeleteFunc(groups, func(g []telling) bool { return len(g) == 0 })
}

func ownerOf(owner map[string][]string, t telling) string {
	for _, name := range t.names() {
		if cves := owner[name]; len(cves) > 0 {
			return cves[0]
		}
	}
	return ""
}

// joinGroup adds t to the group that has one of its names; groups that it connects become one.
func joinGroup(groups [][]telling, group map[string]int, t telling) [][]telling {
	at := len(groups)
	groups = append(groups, []telling{t})
	for _, name := range t.names() {
		old, ok := group[name]
		if ok && old != at {
			for _, o := range groups[old] {
				for _, n := range o.names() {
					group[n] = at
				}
			}
			groups[at] = append(groups[at], groups[old]...)
			groups[old] = nil
		}
		group[name] = at
	}
	return groups
}

// names are the record's id and other names, without those of CVEs.
func (t telling) names() []string {
	if isCVE(t.id) {
		return t.aliases
	}
	return append([]string{t.id}, t.aliases...)
}

// preferred is the name by which a vulnerability without a CVE is known best: GitHub's, else the least of its records'.
func preferred(group []telling) string {
	best := ""
	for _, t := range group {
		for _, name := range t.names() {
			better := strings.HasPrefix(name, "GHSA-") && !strings.HasPrefix(best, "GHSA-")
			equal := strings.HasPrefix(name, "GHSA-") == strings.HasPrefix(best, "GHSA-")
			if best == "" || better || equal && name == t.id && name < best {
				best = name
			}
		}
	}
	return best
}

// entry makes one vulnerability of the records that tell of it. What is about this CVE alone goes before what an
// advisory says of several.
func (m *matching) entry(id string, group []telling) bulkhead.Vulnerability {
	slices.SortStableFunc(group, func(a, b telling) int {
		if len(a.cves) != len(b.cves) {
			return len(a.cves) - len(b.cves)
		}
		return strings.Compare(a.id, b.id)
	})
	v := bulkhead.Vulnerability{ID: id, Aliases: aliasesOf(id, group)}
	v.Fixed, v.Status = outcome(group)
	for _, t := range group {
		v.Title, v.Details = first(v.Title, t.title), first(v.Details, t.details)
		v.Published, v.Source = first(v.Published, t.published), first(v.Source, t.source)
		v.URLs = append(v.URLs, t.urls...)
	}
	v.URLs = distinct(v.URLs)
	m.rate(&v, group)
	return v
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// maxAliases and maxLinks keep an entry readable where dozens of advisories tell of one CVE.
const (
	maxAliases = 50
	maxLinks   = 10
)

func aliasesOf(id string, group []telling) []string {
	names := []string{}
	for _, t := range group {
		for _, name := range t.names() {
			if name != id {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), maxAliases)]
}

func distinct(list []string) (once []string) {
	for _, s := range list {
		if len(once) < maxLinks && !slices.Contains(once, s) {
			once = append(once, s)
		}
	}
	return once
}

// outcome is the first version that no record calls vulnerable. Where one names none, the others' does not help.
func outcome(group []telling) (fixed, status string) {
	rank := map[string]int{"fixed": 0, "unknown": 1, "open": 2, "wont-fix": 3}
	for _, t := range group {
		fixed = later(t.order, fixed, t.fixed)
		if status == "" || rank[t.status] > rank[status] {
			status = t.status
		}
	}
	if status != "fixed" {
		fixed = ""
	}
	return fixed, status
}

// rate fills in severity, CVSS, KEV and EPSS.
func (m *matching) rate(v *bulkhead.Vulnerability, group []telling) {
	known, vector := m.facts.of(v.ID)
	v.KEV, v.EPSS = known.kev, round(known.epss)
	for _, t := range group {
		if len(t.cves) <= 1 {
			v.Vector = first(v.Vector, t.vector)
		}
	}
	v.Vector = first(v.Vector, vector)
	for _, t := range group {
		v.Vector = first(v.Vector, t.vector)
		if v.Severity == "" {
			v.Severity = wordSeverity(t.word)
		}
	}
	v.CVSS, _ = Score(v.Vector)
	if v.Severity == "" {
		v.Severity = scoreSeverity(v.CVSS)
	}
}

// round keeps the five digits that FIRST publishes, which a 32-bit number does not write exactly.
func round(score float32) float64 {
	return float64(int64(float64(score)*1e5+0.5)) / 1e5
}
