package vuln

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/vuln/version"
)

// Options are the choices of matching; the zero value is right for most.
type Options struct {
	Owned bool // judge packages of a language also where a distribution package owns their files
}

// Match returns the vulnerabilities of packages that are installed on an operating system: one entry per package and
// CVE, in the order of the packages, then of ids. Packages of a distribution without advisories (see [DB.Covers]) have none.
func (db *DB) Match(os bulkhead.OS, packages []bulkhead.Package, o Options) ([]bulkhead.Vulnerability, error) {
	m := &matching{db: db, packages: packages, seen: map[place]*record{}}
	var err error
	if m.facts, err = db.facts(); err != nil {
		return nil, fmt.Errorf("match packages: %w", err)
	}
	m.questions(newSystem(os), o)
	if err := m.answer(); err != nil {
		return nil, fmt.Errorf("match packages: %w", err)
	}
	return m.list(), nil
}

// matching is one call of [DB.Match].
type matching struct {
	db       *DB
	packages []bulkhead.Package
	facts    *factTable
	asked    []question
	seen     map[place]*record
	found    []packageHits
}

// question is one name to look up for one package.
type question struct {
	target
	at     place
	pkg    int
	listed bool // the version is no number ("trunk"): only a feed that lists it knows about it
}

// packageHits are the advisories that hold for one package.
type packageHits struct {
	pkg      int
	answer   *answer
	override bool
}

// answer is what one name and version of one ecosystem have.
type answer struct {
	hits      []hit
	known     []place // of an overriding ecosystem: every record, also of what is fixed here
	ecosystem string
}

type hit struct {
	record place
	fixed  string
	status string
	order  version.Order
}

// questions finds where the names of all packages may lie in the file.
func (m *matching) questions(s *system, o Options) {
	var to []target
	for i := range m.packages {
		p := &m.packages[i]
		if p.Owner != "" && !o.Owned && !distributionType(p.Type) {
			continue
		}
		to = s.targets(p, to[:0])
		for n, t := range to {
			if t.version == "" || len(t.version) > maxName {
				continue
			}
			t.overrides = t.overrides && n > 0
			listed := !version.Valid(t.order, t.version)
			m.db.places(t.ecosystem, t.name, func(at place) { m.asked = append(m.asked, question{t, at, i, listed}) })
		}
	}
	// In the order of the file each block is unpacked once, and equal questions are neighbours.
	slices.SortFunc(m.asked, func(a, b question) int {
		return cmp.Or(cmp.Compare(a.at.block, b.at.block), cmp.Compare(a.at.offset, b.at.offset),
			strings.Compare(a.version, b.version), strings.Compare(a.module, b.module), cmp.Compare(a.pkg, b.pkg))
	})
}

func distributionType(kind string) bool { return kind == "deb" || kind == "apk" || kind == "rpm" }

func (m *matching) answer() error {
	var last *answer
	for i := range m.asked {
		q := &m.asked[i]
		if i == 0 || !q.same(&m.asked[i-1]) {
			var err error
			if last, err = m.ask(q); err != nil {
				return err
			}
		}
		if len(last.hits)+len(last.known) > 0 {
			m.found = append(m.found, packageHits{q.pkg, last, q.overrides})
		}
	}
	slices.SortStableFunc(m.found, func(a, b packageHits) int { return cmp.Compare(a.pkg, b.pkg) })
	return nil
}

func (q *question) same(r *question) bool {
	return q.at == r.at && q.version == r.version && q.module == r.module && q.ecosystem == r.ecosystem && q.name == r.name
}

// ask reads what is affected under a name, and which of it holds for the version.
func (m *matching) ask(q *question) (*answer, error) {
	text, err := m.db.at(q.at)
	if err != nil {
		return nil, err
	}
	in := reader{s: text}
	a := &answer{ecosystem: q.ecosystem}
	if in.text() != q.ecosystem || in.text() != q.name {
		return a, nil // another name with the same hash
	}
	for range in.count() {
		at := place{uint32(in.number()), uint32(in.number())}
		h, ok := evaluate(&in, q)
		if in.bad {
			return nil, errDamaged
		}
		if ok {
			h.record = at
			a.hits = append(a.hits, h)
		}
		if q.overrides {
			a.known = append(a.known, at)
		}
	}
	return a, m.readRecords(a)
}

// readRecords reads the records now, while the order of questions is that of the file.
func (m *matching) readRecords(a *answer) error {
	for _, h := range a.hits {
		if err := m.read(h.record); err != nil {
			return err
		}
	}
	for _, at := range a.known {
		if err := m.read(at); err != nil {
			return err
		}
	}
	return nil
}

// evaluate reads one entry and says whether the version is affected, and how that ends.
func evaluate(in *reader, q *question) (h hit, affected bool) {
	flags := in.octet()
	var modules []string
	if flags&flagModules != 0 {
		modules = in.texts()
	}
	h = hit{status: "open", order: q.order}
	switch flags & shapeMask {
	case shapeOpen:
		affected = !q.listed
	case shapeFixed:
		h.fixed = in.text()
		affected = !q.listed && version.Compare(q.order, q.version, h.fixed) < 0
	default:
		affected = evaluateRanges(in, q, &h)
	}
	if h.fixed != "" {
		h.status = "fixed"
	} else if flags&flagWontFix != 0 {
		h.status = "wont-fix"
	}
	return h, affected && q.inModule(flags&flagModular != 0, modules)
}

func evaluateRanges(in *reader, q *question, h *hit) (affected bool) {
	bounded := false
	for range in.count() {
		events := make([]event, 0, 8)
		for range in.count() {
			kind := eventKind(in.octet())
			events = append(events, event{kind, in.text()})
			bounded = bounded || kind != introduced
		}
		ok, next := inRange(q.order, events, q.version)
		if ok && !q.listed {
			affected = true
			h.fixed = later(q.order, h.fixed, next)
		}
	}
	for range in.count() {
		v := in.text()
		if v == q.version || !q.listed && version.Compare(q.order, v, q.version) == 0 {
			affected, bounded = true, true
		}
	}
	if affected && h.fixed == "" && bounded {
		h.status = "unknown" // later versions are not affected, but which one is the first is not said
	}
	return affected
}

// later returns the newer of two versions; an empty one is none.
func later(o version.Order, a, b string) string {
	if a == "" || b != "" && version.Compare(o, a, b) < 0 {
		return b
	}
	return a
}

// inModule keeps streams of modules apart: a fix of nodejs:18 says nothing about nodejs:20, and nothing about a
// package that is in no module.
func (q *question) inModule(modular bool, streams []string) bool {
	if q.order != version.RPM {
		return true
	}
	installed := q.module != "" || strings.Contains(q.version, moduleMark)
	if installed != modular {
		return false
	}
	if q.module == "" || len(streams) == 0 {
		return true
	}
	name, rest, _ := strings.Cut(q.module, ":")
	stream, _, _ := strings.Cut(rest, ":") // "nodejs:18:8060020220523160029:ad008a3a"
	return slices.Contains(streams, name+":"+stream)
}

// read reads a record, once for all packages.
func (m *matching) read(at place) error {
	if m.seen[at] != nil {
		return nil
	}
	text, err := m.db.at(at)
	if err != nil {
		return err
	}
	m.seen[at], err = decodeRecord(text)
	return err
}
