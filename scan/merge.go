package scan

import (
	"cmp"
	"path"
	"slices"

	"bulkhead"
	"bulkhead/scan/binary"
	"bulkhead/scan/distro"
	"bulkhead/scan/language"
	"bulkhead/scan/secret"
)

// merge turns what each layer says into what a container of the image sees.
type merge struct {
	records []*record
	layers  []bulkhead.LayerInfo

	declared map[string]bool // analyzers that are not asked about the root of a system

	whiteouts, opaque []map[string]bool
	below             map[string]cover // directory → the highest layer that hides what lower layers have below it
	owners            map[mark]owner
}

// cover is a layer that hides something of a lower one, and whether it put something else in its place.
type cover struct {
	layer    int
	replaced bool
}

const nowhere = -1

// owner is the distribution package that a file belongs to, and the layer in which its database says so.
type owner struct {
	name  string
	layer int
}

func newMerge(records []*record, layers []bulkhead.LayerInfo) *merge {
	m := &merge{records: records, layers: layers, below: map[string]cover{}, owners: map[mark]owner{}}
	for _, r := range records {
		m.whiteouts = append(m.whiteouts, setOf(r.Whiteouts))
		m.opaque = append(m.opaque, setOf(r.Opaque))
	}
	m.findOwners()
	return m
}

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return set
}

// into fills in what the layers say.
func (m *merge) into(r *bulkhead.Report) {
	places := m.places()
	r.OS = m.system(places)
	for _, p := range places {
		// Lock files in an image are left behind from a build: what they name is found where it was installed.
		if r.OS.ID == "" || !m.declared[p[0].Analyzer] {
			m.take(p, r)
		}
	}
	r.Packages = language.Settle(binary.Distinct(distro.Complete(r.OS, sortedPackages(r.Packages))))
	for i, record := range m.records {
		for _, o := range record.Incomplete {
			o.Layer = m.layers[i].DiffID
			r.Incomplete = append(r.Incomplete, o)
		}
	}
}

// system is the distribution, as the files that are seen say.
func (m *merge) system(places [][]place) bulkhead.OS {
	found := map[string]bulkhead.OS{}
	for _, p := range places {
		top := p[len(p)-1]
		if top.OS != nil && m.hides(top.Path, top.layer).layer == nowhere {
			found[top.Path] = *top.OS
		}
	}
	return distro.Choose(found)
}

// place is what one analyzer said of one path in one layer.
type place struct {
	layer int
	*fact
}

// places groups facts by path and analyzer, each from the lowest layer upwards, in the order of paths.
func (m *merge) places() [][]place {
	type key struct{ path, analyzer string }
	groups := map[key][]place{}
	for i, r := range m.records {
		for n := range r.Facts {
			f := &r.Facts[n]
			k := key{f.Path, f.Analyzer}
			groups[k] = append(groups[k], place{i, f})
		}
	}
	list := make([][]place, 0, len(groups))
	for _, g := range groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b []place) int {
		return cmp.Or(cmp.Compare(a[0].Path, b[0].Path), cmp.Compare(a[0].Analyzer, b[0].Analyzer))
	})
	return list
}

func (m *merge) take(places []place, r *bulkhead.Report) {
	top := places[len(places)-1]
	if m.hides(top.Path, top.layer).layer != nowhere {
		m.takeBuried(places, nil, r)
		return
	}
	m.takePackages(places, r)
	m.takeFindings(places, r)
	m.takeBuried(places[:len(places)-1], top.Findings, r)
}

// takePackages keeps the packages that the topmost layer tells, each with the layer that brought it: a database is
// written again by every layer that installs something, and a file by every layer that changes its owner.
func (m *merge) takePackages(places []place, r *bulkhead.Report) {
	top := places[len(places)-1]
	sets := setsOf(places, func(f *fact) []bulkhead.Package { return f.Packages }, keyOfPackage)
	for _, p := range top.Packages {
		layer := since(m, places, sets, keyOfPackage(p))
		p.Layer, p.Base = m.layers[layer].DiffID, m.layers[layer].Base
		if o, ok := m.owner(p.Path, top.layer); ok && !isDistribution(p.Type) {
			if p.Type == "generic" || p.Type == "bitnami" {
				continue // the distribution's package says it better
			}
			p.Owner = o
		}
		r.Packages = append(r.Packages, p)
	}
}

func (m *merge) takeFindings(places []place, r *bulkhead.Report) {
	sets := setsOf(places, func(f *fact) []bulkhead.Finding { return f.Findings }, keyOfFinding)
	top := places[len(places)-1]
	for _, f := range top.Findings {
		if m.shipped(f, top) {
			continue
		}
		layer := since(m, places, sets, keyOfFinding(f))
		f.Layer, f.Base = m.layers[layer].DiffID, m.layers[layer].Base
		r.Findings = append(r.Findings, f)
	}
}

// takeBuried keeps secrets and malware that no container sees any more: whoever has the image has them. What the file
// that is seen says too is told already.
func (m *merge) takeBuried(buried []place, seen []bulkhead.Finding, r *bulkhead.Report) {
	told := map[findingKey]bool{}
	for _, f := range seen {
		told[keyOfFinding(f)] = true
	}
	for _, p := range buried {
		for _, f := range p.Findings {
			k := keyOfFinding(f)
			if told[k] || f.Kind != bulkhead.FindingSecret && f.Kind != bulkhead.FindingMalware || m.shipped(f, p) {
				continue
			}
			told[k] = true
			f.Layer, f.Base = m.layers[p.layer].DiffID, m.layers[p.layer].Base
			f.Message += remark(m.hides(p.Path, p.layer))
			r.Findings = append(r.Findings, f)
		}
	}
}

// shipped reports whether a finding is a secret in a file as its distribution publishes it.
func (m *merge) shipped(f bulkhead.Finding, p place) bool {
	if !secret.Owned(f) {
		return false
	}
	_, owned := m.owner(p.Path, p.layer)
	return owned
}

func remark(by cover) string {
	if by.replaced {
		return " (replaced in a later layer, still in the image)"
	}
	return " (deleted in a later layer, still in the image)"
}

// since is the lowest layer from which on everything that tells of the path also tells of the key.
func since[K comparable](m *merge, places []place, sets []map[K]bool, key K) int {
	i := len(places) - 1
	for i > 0 && sets[i-1][key] && m.hidesBetween(places[i-1].Path, places[i-1].layer, places[i].layer) == nowhere {
		i--
	}
	return places[i].layer
}

// setsOf are the keys of what each place says; of one place alone nobody asks.
func setsOf[T any, K comparable](places []place, list func(*fact) []T, key func(T) K) []map[K]bool {
	if len(places) == 1 {
		return nil
	}
	sets := make([]map[K]bool, len(places))
	for i, p := range places {
		sets[i] = map[K]bool{}
		for _, v := range list(p.fact) {
			sets[i][key(v)] = true
		}
	}
	return sets
}

type packageKey struct{ kind, name, version, arch, path string }

func keyOfPackage(p bulkhead.Package) packageKey {
	return packageKey{p.Type, p.Name, p.Version, p.Arch, p.Path}
}

type findingKey struct {
	kind       bulkhead.FindingKind
	rule, path string
	line       int
}

func keyOfFinding(f bulkhead.Finding) findingKey { return findingKey{f.Kind, f.Rule, f.Path, f.Line} }

// hides is the highest layer above this one that hides what it has at the path.
func (m *merge) hides(p string, layer int) cover {
	best := m.coverOf(path.Dir(p))
	mark := markOf(p)
	for i := len(m.records) - 1; i > max(layer, best.layer); i-- {
		if c, ok := m.hidesItself(i, p, mark); ok {
			best = c
			break
		}
	}
	if best.layer <= layer {
		return cover{layer: nowhere}
	}
	return best
}

func (m *merge) hidesItself(i int, p string, mark mark) (cover, bool) {
	if r := m.records[i]; r.has(mark) || r.has(mark.directory()) {
		return cover{i, true}, true
	}
	return cover{i, false}, m.whiteouts[i][p]
}

// coverOf is what hides everything that lower layers have below a directory.
func (m *merge) coverOf(dir string) cover {
	if c, ok := m.below[dir]; ok {
		return c
	}
	best := cover{layer: nowhere}
	if dir != "." {
		best = m.coverOf(path.Dir(dir))
	}
	mark := markOf(dir)
	for i := len(m.records) - 1; i > best.layer; i-- {
		replaced := m.records[i].has(mark) // by something that is no directory
		if replaced || m.whiteouts[i][dir] || m.opaque[i][dir] {
			best = cover{i, replaced}
			break
		}
	}
	m.below[dir] = best
	return best
}

// hidesBetween is a layer between the two that hides what the lower one has, or nowhere.
func (m *merge) hidesBetween(p string, low, high int) int {
	for i := low + 1; i < high; i++ {
		if m.whiteouts[i][p] || m.records[i].has(markOf(p)) {
			return i
		}
		for dir := path.Dir(p); ; dir = path.Dir(dir) {
			if m.whiteouts[i][dir] || m.opaque[i][dir] {
				return i
			}
			if dir == "." {
				break
			}
		}
	}
	return nowhere
}

// findOwners reads what the databases that are in force say.
func (m *merge) findOwners() {
	for i, r := range m.records {
		for _, o := range r.owned {
			if m.hides(o.by, i).layer != nowhere {
				continue
			}
			for _, mark := range o.marks {
				m.owners[mark] = owner{o.name, i}
			}
		}
	}
}

// owner is the distribution package whose file this is. A file that came in a layer after the one where the package
// was installed is no longer that package's: somebody wrote another over it.
func (m *merge) owner(p string, layer int) (string, bool) {
	o, ok := m.owners[ownMark(p)]
	return o.name, ok && layer <= o.layer
}

func isDistribution(kind string) bool { return kind == "deb" || kind == "apk" || kind == "rpm" }
