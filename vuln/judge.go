package vuln

import (
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Subject is what was scanned, as far as statements about products speak of it.
type Subject struct {
	Digests []string // of the image: manifest and index, "sha256:…"
	Name    string   // of the image's repository, "registry.example/shop/web"; empty: not an image
	OS      bulkhead.OS
}

// Judgments are all statements that may hold for a scan.
type Judgments struct {
	Subject Subject
	VEX     []*VEX
	Ignores []*Ignores
	Now     time.Time // zero: the time of the call
}

// Verdicts tell what became of an ignore file's entries.
type Verdicts struct {
	Expired []Ignore // would have held, and are over: the findings count again
	Unused  []Ignore // hold, and no finding is theirs
}

// Counts reports whether a vulnerability counts: nobody has judged that it does not.
func Counts(v bulkhead.Vulnerability) bool {
	return v.VEX == nil || v.VEX.Status == statusAffected || v.VEX.Status == statusInvestigated
}

// Judge sets the field VEX of each vulnerability that a statement is about. Of statements in documents the latest holds;
// an ignore file, which is this user's own, goes before them.
func Judge(list []bulkhead.Vulnerability, j Judgments) Verdicts {
	if j.Now.IsZero() {
		j.Now = time.Now()
	}
	statements := indexStatements(j.VEX)
	ignores := newIgnoring(j.Ignores)
	for i := range list {
		v := &list[i]
		if s := statements.about(v, &j.Subject); s != nil {
			v.VEX = s.judgment()
		}
		if judged := ignores.about(v, j.Now); judged != nil {
			v.VEX = judged
		}
	}
	return ignores.verdicts(j.Now)
}

// statementIndex finds statements by the names of vulnerabilities, the latest first.
type statementIndex map[string][]*statement

func indexStatements(documents []*VEX) statementIndex {
	index := statementIndex{}
	for _, d := range documents {
		for i := range d.statements {
			s := &d.statements[i]
			for _, name := range s.names {
				index[name] = append(index[name], s)
			}
		}
	}
	for _, list := range index {
		slices.Reverse(list) // of two with one time, the later document holds
		slices.SortStableFunc(list, func(a, b *statement) int { return b.time.Compare(a.time) })
	}
	return index
}

func (x statementIndex) about(v *bulkhead.Vulnerability, s *Subject) (latest *statement) {
	if len(x) == 0 {
		return nil
	}
	pkg := parsePURL(v.PURL)
	for _, name := range append([]string{v.ID}, v.Aliases...) {
		for _, st := range x[name] {
			if latest != nil && !st.time.After(latest.time) {
				break
			}
			if st.holds(pkg, s) {
				latest = st
				break
			}
		}
	}
	return latest
}

// statement is one document's word on one vulnerability of some products.
type statement struct {
	names         []string // of the vulnerability
	products      []product
	status        string
	justification string
	reason        string
	by            string
	time          time.Time
}

// product is what a statement is about: something, or a part of something.
type product struct {
	whole []purl // any of them
	parts []purl // any of them; none: the whole
	sums  []string
	cpe   string // of the system that it belongs to
}

func (s *statement) judgment() *bulkhead.Judgment {
	return &bulkhead.Judgment{Status: s.status, Justification: s.justification, Reason: s.reason, By: s.by}
}

func (s *statement) holds(pkg purl, subject *Subject) bool {
	return slices.ContainsFunc(s.products, func(p product) bool { return p.holds(pkg, subject) })
}

// holds: a part of a product is the package, and the product is the image or its system; or the product is the package.
func (p *product) holds(pkg purl, s *Subject) bool {
	if p.cpe != "" && !systemIs(p.cpe, s.OS) {
		return false
	}
	if len(p.parts) > 0 && !slices.ContainsFunc(p.parts, func(part purl) bool { return part.covers(pkg) }) {
		return false
	}
	if len(p.parts) > 0 && len(p.whole)+len(p.sums) == 0 {
		return p.cpe != ""
	}
	if slices.ContainsFunc(p.sums, func(sum string) bool { return slices.Contains(s.Digests, sum) }) {
		return true
	}
	return slices.ContainsFunc(p.whole, func(w purl) bool { return w.covers(pkg) || w.isImage(s) })
}

// systemIs reports whether a CPE of Red Hat's, "cpe:/o:redhat:enterprise_linux:9::baseos", names the system. Other
// systems are not named by CPEs in the documents that there are.
func systemIs(cpe string, os bulkhead.OS) bool {
	text := strings.TrimPrefix(strings.TrimPrefix(cpe, "cpe:2.3"), "cpe:/")
	parts := strings.Split(strings.TrimPrefix(text, ":"), ":")
	if len(parts) < 4 || parts[1] != "redhat" || parts[2] != "enterprise_linux" {
		return false
	}
	id := strings.ToLower(os.ID)
	major, _, _ := strings.Cut(os.Version, ".")
	want, _, _ := strings.Cut(parts[3], ".")
	return (id == "rhel" || id == "redhat") && major == want
}
