package vuln

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/vuln/version"
)

// The limits of one OSV record. The largest record of the public feeds has 4 MiB (an advisory on every kernel package);
// details are shown beside a finding, not read as a book.
const (
	maxRecord   = 16 << 20
	maxAffected = 20_000
	maxEvents   = 5_000
	maxVersions = 100_000
	maxName     = 512
	maxNames    = 2_000
	maxDetails  = 400
	maxTitle    = 200
	maxURLs     = 5
	maxURL      = 500
)

// osvRecord is the part of OSV's schema 1.7 that is used.
type osvRecord struct {
	ID        string        `json:"id"`
	Modified  string        `json:"modified"`
	Published string        `json:"published"`
	Withdrawn string        `json:"withdrawn"`
	Aliases   []string      `json:"aliases"`
	Upstream  []string      `json:"upstream"`
	Related   []string      `json:"related"`
	Summary   string        `json:"summary"`
	Details   string        `json:"details"`
	Severity  []osvSeverity `json:"severity"`
	Affected  []osvAffected `json:"affected"`
	Refs      []struct {
		Type string `json:"type"`
		URL  string `json:"url"`
	} `json:"references"`
	Specific specific `json:"database_specific"`
}

type osvSeverity struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

type osvAffected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Severity []osvSeverity `json:"severity"`
	Ranges   []struct {
		Type   string     `json:"type"`
		Events []osvEvent `json:"events"`
	} `json:"ranges"`
	Versions  []string `json:"versions"`
	Ecosystem specific `json:"ecosystem_specific"`
	Database  specific `json:"database_specific"`
}

type osvEvent struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
	Limit        string `json:"limit"`
}

// specific is what some feeds say beyond the schema. A feed may put anything under these names, so that a value of
// another type is passed over.
type specific struct {
	severity, informational, urgency, state string
}

func (s *specific) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil
	}
	text := func(names ...string) (v string) {
		for _, name := range names {
			if json.Unmarshal(fields[name], &v) == nil && v != "" {
				return v
			}
		}
		return ""
	}
	s.severity, s.informational = text("severity"), text("informational")
	s.urgency, s.state = text("urgency"), text("fix_state", "status", "state")
	return nil
}

// record is one advisory as it is kept.
type record struct {
	id        string
	modified  time.Time
	published string
	aliases   []string // all other names that are no CVE
	cves      []string
	title     string
	details   string
	vector    string
	word      string // the vendor's severity
	urls      []string
	affected  []affected
}

// affected says which versions of one package are vulnerable.
type affected struct {
	ecosystem string // "Debian:12", canonical
	name      string
	modules   []string // of an rpm: "nodejs:18"
	modular   bool
	wontFix   bool
	ranges    [][]event
	versions  []string
}

type event struct {
	kind    eventKind
	version string
}

type eventKind uint8

const (
	introduced eventKind = iota
	fixed
	lastAffected
	limit
)

// Why a record is left out.
var (
	errWithdrawn  = errors.New("withdrawn")
	errNoSecurity = errors.New("no security advisory")
	errNoVersions = errors.New("names no version")
)

// parseRecord reads one record of OSV's schema.
func parseRecord(data []byte) (*record, error) {
	if len(data) > maxRecord {
		return nil, fmt.Errorf("is larger than %d bytes", maxRecord)
	}
	var o osvRecord
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("is no OSV record: %w", err)
	}
	if o.ID == "" || len(o.ID) > maxName {
		return nil, errors.New("is no OSV record: it has no id")
	}
	if o.Withdrawn != "" {
		return nil, errWithdrawn
	}
	return o.record()
}

func (o *osvRecord) record() (*record, error) {
	r := &record{
		id: o.ID, published: timestamp(o.Published), title: shorten(o.Summary, maxTitle), details: shorten(o.Details, maxDetails),
		vector: bestVector(o.Severity), word: o.severityWord(),
	}
	r.modified, _ = time.Parse(time.RFC3339, o.Modified)
	if err := o.limits(); err != nil {
		return nil, err
	}
	o.names(r)
	if len(r.cves) == 0 && maintenance(o.ID) {
		return nil, errNoSecurity
	}
	for _, ref := range o.Refs {
		if len(r.urls) < maxURLs && len(ref.URL) <= maxURL && webAddress(ref.URL) {
			r.urls = append(r.urls, ref.URL)
		}
	}
	for i := range o.Affected {
		a := &o.Affected[i]
		if r.vector == "" {
			r.vector = bestVector(a.Severity)
		}
		if kept := a.keep(o.Summary); len(kept.ranges)+len(kept.versions) > 0 {
			r.affected = append(r.affected, kept)
		}
	}
	if len(r.affected) == 0 {
		return nil, errNoVersions
	}
	return r, nil
}

func (o *osvRecord) limits() error {
	if len(o.Affected) > maxAffected || len(o.Aliases)+len(o.Upstream)+len(o.Related) > maxNames {
		return fmt.Errorf("has more than %d packages or %d other names", maxAffected, maxNames)
	}
	for _, a := range o.Affected {
		events := 0
		for _, r := range a.Ranges {
			events += len(r.Events)
		}
		if events > maxEvents || len(a.Versions) > maxVersions || len(a.Package.Name) > maxName || len(a.Package.Ecosystem) > maxName {
			return fmt.Errorf("has a package with more than %d events, %d versions or a name of more than %d bytes", maxEvents, maxVersions, maxName)
		}
	}
	return nil
}

// names sorts the record's names into CVEs and others. A language's feed has them in aliases; what is related there is
// another vulnerability. A distribution's advisory stands for the CVEs upstream of it, and AlmaLinux calls those related.
func (o *osvRecord) names(r *record) {
	all := slices.Concat([]string{o.ID}, o.Aliases, o.Upstream)
	if !slices.ContainsFunc(all, isCVE) && o.distribution() {
		all = append(all, o.Related...)
	}
	for _, name := range all {
		switch {
		case name == "" || len(name) > maxName:
		case isCVE(name):
			r.cves = append(r.cves, name)
		case name != o.ID:
			r.aliases = append(r.aliases, name)
		}
	}
	slices.Sort(r.cves)
	slices.Sort(r.aliases)
	r.cves, r.aliases = slices.Compact(r.cves), slices.Compact(r.aliases)
}

func (o *osvRecord) distribution() bool {
	return len(o.Affected) > 0 && isDistribution(o.Affected[0].Package.Ecosystem)
}

// isCVE knows "CVE-2024-3094".
func isCVE(name string) bool {
	_, ok := packCVE(name)
	return ok
}

// maintenance knows the advisories of Red Hat's family that bring no security fix: their ids say so.
func maintenance(id string) bool {
	for _, prefix := range [...]string{"ALBA-", "ALEA-", "RHBA-", "RHEA-", "RLBA-", "RLEA-"} {
		if strings.HasPrefix(id, prefix) {
			return true
		}
	}
	return false
}

// severityWord is the severity in the vendor's words, where the feed has one.
func (o *osvRecord) severityWord() string {
	for _, s := range o.Severity {
		if s.Type == "Ubuntu" {
			return s.Score
		}
	}
	if o.Specific.severity != "" {
		return o.Specific.severity
	}
	if before, _, ok := strings.Cut(o.Summary, ": "); ok && wordSeverity(before) != "" && o.distribution() {
		return before // "Important: kernel security update"
	}
	for _, a := range o.Affected {
		switch {
		case a.Database.informational != "":
			return "low" // unmaintained or unsound: no hole by itself
		case a.Database.severity != "":
			return a.Database.severity
		case a.Ecosystem.urgency == "unimportant":
			return "low"
		}
	}
	return ""
}

func (a *osvAffected) keep(summary string) affected {
	k := affected{ecosystem: canonical(a.Package.Ecosystem), wontFix: a.wontFix()}
	k.name = canonicalName(k.ecosystem, a.Package.Name)
	order := version.Of(k.ecosystem)
	for _, r := range a.Ranges {
		if r.Type == "GIT" {
			continue
		}
		if events := sortEvents(order, r.Events); len(events) > 0 {
			k.ranges = append(k.ranges, events)
		}
	}
	k.versions = uncovered(order, k.ranges, a.Versions)
	if order == version.RPM {
		k.modular, k.modules = modularity(k.ranges, summary)
	}
	return k
}

func (a *osvAffected) wontFix() bool {
	for _, s := range [...]string{a.Ecosystem.urgency, a.Ecosystem.state, a.Database.state} {
		if s == "" {
			continue
		}
		switch strings.ToLower(strings.NewReplacer("_", "-", " ", "-").Replace(s)) {
		case "end-of-life", "wont-fix", "won't-fix", "will-not-fix", "ignored", "out-of-support-scope":
			return true
		}
	}
	return false
}

// sortEvents puts the events of one range into the order of their versions, so that matching reads them once.
func sortEvents(order version.Order, events []osvEvent) []event {
	var sorted []event
	for _, e := range events {
		for _, x := range [...]event{{introduced, e.Introduced}, {fixed, e.Fixed}, {lastAffected, e.LastAffected}, {limit, e.Limit}} {
			if x.version != "" && len(x.version) <= maxName && (x.kind != limit || x.version != "*") {
				sorted = append(sorted, x)
			}
		}
	}
	slices.SortStableFunc(sorted, func(a, b event) int { return compareEvents(order, a, b) })
	if len(sorted) == 0 || sorted[0].kind != introduced {
		return nil // by the schema, nothing is affected before something was introduced
	}
	return sorted
}

// compareEvents orders events; an introduction at "0" is before everything, even before 0~alpha.
func compareEvents(order version.Order, a, b event) int {
	az, bz := a.kind == introduced && a.version == "0", b.kind == introduced && b.version == "0"
	switch {
	case az && bz:
		return 0
	case az:
		return -1
	case bz:
		return 1
	}
	return version.Compare(order, a.version, b.version)
}

// uncovered returns the enumerated versions that no range covers: the others add nothing.
func uncovered(order version.Order, ranges [][]event, versions []string) (left []string) {
	for _, v := range versions {
		// What is no number ("trunk") is in no range when it is installed, so that it has to stay listed.
		if v != "" && len(v) <= maxName && (!version.Valid(order, v) || !inRanges(order, ranges, v)) {
			left = append(left, v)
		}
	}
	slices.Sort(left)
	return slices.Compact(left)
}

func inRanges(order version.Order, ranges [][]event, v string) bool {
	for _, events := range ranges {
		if in, _ := inRange(order, events, v); in {
			return true
		}
	}
	return false
}

// inRange walks the sorted events of one range. Where v is affected, next is the version that ends it, if there is one.
func inRange(order version.Order, events []event, v string) (in bool, next string) {
	for _, e := range events {
		c := 1
		if e.kind != introduced || e.version != "0" {
			c = version.Compare(order, v, e.version)
		}
		switch {
		case e.kind == introduced && c >= 0:
			in = true
		case e.kind == lastAffected && c > 0, (e.kind == fixed || e.kind == limit) && c >= 0:
			in = false
		case e.kind == fixed && in:
			return true, e.version
		case c < 0 && in:
			return true, ""
		}
	}
	return in, ""
}

// modularity tells whether the fix is a build of a module, and of which streams the advisory's title speaks:
// "Important: nodejs:18 security update".
func modularity(ranges [][]event, summary string) (modular bool, streams []string) {
	for _, events := range ranges {
		for _, e := range events {
			modular = modular || strings.Contains(e.version, moduleMark)
		}
	}
	if !modular {
		return false, nil
	}
	for _, word := range strings.Fields(summary) {
		name, stream, ok := strings.Cut(strings.TrimRight(word, ","), ":")
		if ok && name != "" && stream != "" {
			streams = append(streams, name+":"+stream)
		}
	}
	return true, streams
}

// moduleMark is in the release of every build of a module.
const moduleMark = ".module"

// timestamp keeps a time as RFC 3339 in UTC and to the second; anything else is dropped.
func timestamp(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// shorten makes one line of the text and cuts it at a word.
func shorten(s string, limit int) string {
	if len(s) > 8*limit {
		s = s[:8*limit]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if len(s) <= limit {
		return s
	}
	cut := strings.LastIndexByte(s[:limit-3], ' ')
	if cut < limit/2 {
		cut = limit - 3
	}
	return strings.ToValidUTF8(s[:cut], "") + "…"
}

func webAddress(s string) bool {
	return (strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")) && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}
