package rule

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/rule/document"
)

//go:embed admission/*.yaml
var embeddedAdmission embed.FS

// AdmissionAction says what is done with a workload that meets a rule.
type AdmissionAction string

// The actions.
const (
	Deny  AdmissionAction = "deny"  // refuse it
	Warn  AdmissionAction = "warn"  // admit it and tell whoever brings it
	Audit AdmissionAction = "audit" // admit it and write it down
)

// AdmissionRule is something that a workload, or an object that gives access, must not ask for.
type AdmissionRule struct {
	ID          string            `yaml:"id" json:"id"`
	Title       string            `yaml:"title" json:"title"`
	Description string            `yaml:"description" json:"description"` // what is wrong, why it matters, what to do
	Severity    bulkhead.Severity `yaml:"severity" json:"severity"`
	Technique   string            `yaml:"technique" json:"technique"`
	Tactic      string            `yaml:"tactic" json:"tactic"`
	Action      AdmissionAction   `yaml:"action" json:"action"`
	Failure     AdmissionAction   `yaml:"failure" json:"failure"` // what is done when the rule cannot be evaluated
	Each        string            `yaml:"each" json:"each"`       // pod, container, volume or object: what it is evaluated for
	Kinds       []string          `yaml:"kinds" json:"kinds"`     // of an object: "ClusterRoleBinding"
	When        string            `yaml:"when" json:"when"`       // CEL, bool
	Message     string            `yaml:"message" json:"message"` // CEL, string
	Exceptions  []Exception       `yaml:"exceptions" json:"exceptions"`
	Enabled     bool              `yaml:"enabled" json:"enabled"`
	Source      string            `yaml:"-" json:"source"`
}

// Admission is a set of admission rules, ready to be evaluated. It never changes and may be used
// by many goroutines.
type Admission struct {
	rules []*AdmissionRule
	ready []*admissionProgram
	lists map[string]any

	over  []fs.FS         // what it was made of
	files []admissionFile // and, over that, one after the other
}

type admissionFile struct {
	name string
	text []byte
}

// DefaultAdmission returns the admission rules that come with Bulkhead.
func DefaultAdmission() (*Admission, error) { return buildAdmission(nil, nil) }

// LoadAdmission returns the default admission rules with the files at the root of each fsys laid
// over them, as [Load] does with rules on events. Every problem of every file is reported, each
// as an [*Error]; then there is no set, and the caller keeps the one it has.
func LoadAdmission(over ...fs.FS) (*Admission, error) { return buildAdmission(over, nil) }

// With returns the set with one more file of rules laid over it; name is what errors call it.
func (a *Admission) With(name string, text []byte) (*Admission, error) {
	return buildAdmission(a.over, append(slices.Clone(a.files), admissionFile{name, text}))
}

// Rules returns the rules by id, those that are switched off included.
func (a *Admission) Rules() []AdmissionRule {
	rules := make([]AdmissionRule, 0, len(a.rules))
	for _, r := range a.rules {
		rules = append(rules, *r)
	}
	return rules
}

func buildAdmission(over []fs.FS, files []admissionFile) (*Admission, error) {
	base, err := fs.Sub(embeddedAdmission, "admission")
	if err != nil {
		return nil, fmt.Errorf("open the default admission rules: %w", err)
	}
	b := &admissionBuilder{builder: newBuilder(), drafts: map[string]*admissionDraft{}}
	for _, fsys := range append([]fs.FS{base}, over...) {
		if err := b.layerOf(fsys, b.file); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if b.seen = map[string]string{}; len(f.text) > maxFile {
			return nil, tooLarge(f.name)
		}
		b.file(f.name, f.text)
	}
	a, err := b.set()
	if err != nil {
		return nil, err
	}
	a.over, a.files = over, files
	return a, nil
}

// admissionBuilder lays layers of files over one another; the form of the files is that of the
// rules on events, the fields of a rule are others.
type admissionBuilder struct {
	*builder
	drafts map[string]*admissionDraft
}

type admissionDraft struct {
	rule AdmissionRule
	places
}

func (b *admissionBuilder) file(name string, data []byte) {
	b.document(name, data, map[string]func(document.Place){"lists": b.readLists, "rules": b.readRules})
}

func (b *admissionBuilder) readRules(p document.Place) {
	if len(p.Node.Content) > maxRules {
		b.Wrong(p, "take some away", "%d rules, the limit is %d", len(p.Node.Content), maxRules)
		return
	}
	for _, n := range p.Node.Content {
		b.readRule(p.At(n))
	}
}

func (b *admissionBuilder) readRule(p document.Place) {
	id, ok := b.id(p)
	if !ok {
		return
	}
	d := b.drafts[id]
	if d == nil {
		d = &admissionDraft{AdmissionRule{Enabled: true, Failure: Deny, Each: eachContainer}, newPlaces()}
		b.drafts[id] = d
	}
	d.rule.Source = fmt.Sprintf("%s:%d", p.File, p.Node.Line)
	b.Fields(p, b.ruleFields(d))
}

func (b *admissionBuilder) ruleFields(d *admissionDraft) map[string]func(document.Place) {
	r := &d.rule
	readers := map[string]func(document.Place){}
	for key, into := range map[string]any{
		"id": &r.ID, "title": &r.Title, "description": &r.Description, "severity": &r.Severity, "technique": &r.Technique,
		"tactic": &r.Tactic, "action": &r.Action, "failure": &r.Failure, "each": &r.Each, "kinds": &r.Kinds, "when": &r.When, "message": &r.Message, "enabled": &r.Enabled,
	} {
		readers[key] = func(p document.Place) { d.at[key] = p; b.Decode(p, into) }
	}
	readers["exceptions"] = func(p document.Place) { b.readExceptions(&r.Exceptions, d.exceptions, p) }
	return readers
}

func (b *admissionBuilder) set() (*Admission, error) {
	if err := errors.Join(b.Problems...); err != nil {
		return nil, err
	}
	c, err := newAdmissionCompiler(b.lists)
	if err != nil {
		return nil, err
	}
	a := &Admission{lists: c.values}
	for _, id := range slices.Sorted(maps.Keys(b.drafts)) {
		d := b.drafts[id]
		b.Problems = append(b.Problems, checkAdmission(d)...)
		b.Problems = append(b.Problems, a.add(c, d)...)
	}
	if err := errors.Join(b.Problems...); err != nil {
		return nil, err
	}
	return a, nil
}

// checkAdmission looks at everything but the conditions.
func checkAdmission(d *admissionDraft) (problems []error) {
	r := &d.rule
	if r.Action == "" {
		r.Action = usualAction(r.Severity)
	}
	wrong := func(key, next, problem string, args ...any) {
		problems = append(problems, d.where(key).Wrong(next, problem, args...))
	}
	for key, text := range map[string]string{"title": r.Title, "description": r.Description, "when": r.When, "message": r.Message} {
		if strings.TrimSpace(text) == "" {
			wrong(key, "write `"+key+": …`, or correct the id if you meant a rule that exists", "rule %s has no %s", r.ID, key)
		}
		if len(text) > maxText {
			wrong(key, "make it shorter", "%s of rule %s has %d bytes, the limit is %d", key, r.ID, len(text), maxText)
		}
	}
	if r.Severity.Rank() == 0 {
		wrong("severity", "use low, medium, high or critical", "severity %q of rule %s is unknown", r.Severity, r.ID)
	}
	for key, action := range map[string]AdmissionAction{"action": r.Action, "failure": r.Failure} {
		if action != Deny && action != Warn && action != Audit {
			wrong(key, "use deny, warn or audit", "%s %q of rule %s is unknown", key, action, r.ID)
		}
	}
	if !slices.Contains([]string{eachPod, eachContainer, eachVolume, eachObject}, r.Each) {
		wrong("each", "use pod, container, volume or object", "rule %s is for each %q, which is unknown", r.ID, r.Each)
	}
	if (r.Each == eachObject) != (len(r.Kinds) > 0) {
		wrong("kinds", "write `each: object` and `kinds: [ClusterRoleBinding, …]` together", "rule %s is for each %s and for the kinds %v", r.ID, r.Each, r.Kinds)
	}
	if !techniqueID.MatchString(r.Technique) {
		wrong("technique", "use an ATT&CK id like T1611", "technique %q of rule %s is no ATT&CK id", r.Technique, r.ID)
	}
	if !slices.Contains(Tactics, r.Tactic) {
		wrong("tactic", "use one of "+strings.Join(Tactics, ", "), "tactic %q of rule %s is unknown", r.Tactic, r.ID)
	}
	return problems
}

// usualAction is what a rule does that does not say: what hands the node over is refused, what
// is only untidy is told.
func usualAction(s bulkhead.Severity) AdmissionAction {
	if s.Rank() >= bulkhead.High.Rank() {
		return Deny
	}
	return Warn
}
