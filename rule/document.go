package rule

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bulkhead"

	"go.yaml.in/yaml/v3"
)

// Error is a mistake in a rule file.
type Error struct {
	File         string
	Line, Column int // from 1
	Problem      string
	Next         string // what to do about it
}

// Error implements error: FILE:LINE:COLUMN: problem; next step.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", e.File, e.Line, e.Column, e.Problem, e.Next)
}

// place is where something stands in a file.
type place struct {
	file  string
	node  *yaml.Node
	lines []string // of the file, to find how far a block is indented
}

func (p place) error(next, problem string, args ...any) *Error {
	return &Error{File: p.file, Line: max(p.node.Line, 1), Column: max(p.node.Column, 1), Problem: fmt.Sprintf(problem, args...), Next: next}
}

// inside turns a position in the text of a scalar (from 1, from 0) into one in the file. Of a
// folded or escaped text only the start is known.
func (p place) inside(line, column int) place {
	n := *p.node
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		n.Line += line
		n.Column = column + 1 + p.indent(n.Line)
	case line == 1 && n.Style&(yaml.FoldedStyle|yaml.DoubleQuotedStyle) == 0:
		n.Column += column
		if n.Style&yaml.SingleQuotedStyle != 0 {
			n.Column++
		}
	}
	return place{p.file, &n, p.lines}
}

// indent is how far the block that p begins is indented: as its first line that is not empty.
func (p place) indent(int) int {
	for i := p.node.Line; i < len(p.lines); i++ {
		if text := strings.TrimLeft(p.lines[i], " "); strings.TrimSpace(text) != "" {
			return len(p.lines[i]) - len(text)
		}
	}
	return 0
}

// draft is a rule with the places of its fields, which may lie in different files.
type draft struct {
	rule       Rule
	at         map[string]place
	exceptions map[string]place
}

// where returns the place of a field, or of the rule where the field is missing.
func (d *draft) where(key string) place {
	if p, ok := d.at[key]; ok {
		return p
	}
	return d.at["id"]
}

var syntaxLine = regexp.MustCompile(`line (\d+)`)

func (b *builder) file(name string, data []byte) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		b.problems = append(b.problems, syntaxError(name, data, err))
		return
	}
	if len(doc.Content) == 0 {
		return // nothing but comments
	}
	root := place{name, doc.Content[0], strings.Split(string(data), "\n")}
	if alias := findAlias(root.node); alias != nil {
		b.problem(place{name, alias, nil}, "write the value out", "anchors and aliases are not allowed")
		return
	}
	b.fields(root, map[string]func(place){"lists": b.readLists, "rules": b.readRules})
}

func syntaxError(name string, data []byte, err error) *Error {
	e := &Error{File: name, Line: 1, Column: 1, Problem: strings.TrimPrefix(err.Error(), "yaml: "), Next: "correct the YAML; lists and fields must be indented alike"}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Problem = strings.TrimPrefix(e.Problem, m[0]+": ")
	}
	if strings.Contains(e.Problem, "did not find expected") {
		e.Line = firstWrongLine(data, e.Line)
	}
	return e
}

// firstWrongLine is the line after the longest beginning of the file that is still YAML: for a
// value that goes on wrongly the parser only names the line where the value began.
func firstWrongLine(data []byte, known int) int {
	lines := strings.SplitAfter(string(data), "\n")
	for n := len(lines) - 1; n >= known && len(lines)-n < 300; n-- { // a bound on the work, not on the file
		if yaml.Unmarshal([]byte(strings.Join(lines[:n], "")), &yaml.Node{}) == nil {
			return n + 1
		}
	}
	return known
}

func findAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return n
	}
	for _, c := range n.Content {
		if found := findAlias(c); found != nil {
			return found
		}
	}
	return nil
}

func (b *builder) problem(p place, next, problem string, args ...any) {
	b.problems = append(b.problems, p.error(next, problem, args...))
}

// fields calls the reader of each field of a mapping, and refuses fields that nobody reads.
func (b *builder) fields(p place, readers map[string]func(place)) {
	if p.node.Kind != yaml.MappingNode {
		b.problem(p, "write `name: value` lines", "here must be the fields %s", names(readers))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(p.node.Content); i += 2 {
		key, value := place{p.file, p.node.Content[i], p.lines}, place{p.file, p.node.Content[i+1], p.lines}
		read := readers[key.node.Value]
		switch {
		case read == nil:
			b.problem(key, "use one of "+names(readers), "unknown field %q", key.node.Value)
		case seen[key.node.Value]:
			b.problem(key, "keep one of them", "field %q appears twice", key.node.Value)
		default:
			seen[key.node.Value] = true
			read(value)
		}
	}
}

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

func (b *builder) decode(p place, into any) bool {
	err := p.node.Decode(into)
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && len(wrong.Errors) > 0 {
		b.problem(p, "correct the value", "%s", syntaxLine.ReplaceAllString(wrong.Errors[0], "value"))
	} else if err != nil {
		b.problem(p, "correct the value", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return err == nil
}

var listName = regexp.MustCompile(`^[a-z][A-Za-z0-9]{0,39}$`)

// readLists adds to the named lists: a user's file may only make them longer.
func (b *builder) readLists(p place) {
	lists := map[string][]string{}
	if !b.decode(p, &lists) {
		return
	}
	for name, items := range lists {
		if _, taken := variables[name]; taken || !listName.MatchString(name) {
			b.problem(p, "use a word like webServers", "%q cannot be the name of a list", name)
			continue
		}
		all := append(b.lists[name], items...)
		if slices.Sort(all); len(all) > maxItems {
			b.problem(p, "make it shorter", "list %s has %d items, the limit is %d", name, len(all), maxItems)
		}
		b.lists[name] = slices.Compact(all)
	}
}

func (b *builder) readRules(p place) {
	if p.node.Kind != yaml.SequenceNode {
		b.problem(p, "write `- id: …`", "rules must be a list")
		return
	}
	for _, n := range p.node.Content {
		b.readRule(place{p.file, n, p.lines})
	}
}

func (b *builder) readRule(p place) {
	id, ok := b.id(p)
	if !ok {
		return
	}
	d := b.drafts[id]
	if d == nil {
		d = &draft{rule: Rule{Enabled: true, Action: Alert}, at: map[string]place{}, exceptions: map[string]place{}}
		b.drafts[id] = d
	}
	d.rule.Source = fmt.Sprintf("%s:%d", p.file, p.node.Line)
	b.fields(p, b.ruleFields(d))
}

var ruleID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (b *builder) id(p place) (string, bool) {
	node := p
	for i := 0; p.node.Kind == yaml.MappingNode && i+1 < len(p.node.Content); i += 2 {
		if p.node.Content[i].Value == "id" {
			node.node = p.node.Content[i+1]
		}
	}
	id := node.node.Value
	if node.node.Kind != yaml.ScalarNode || !ruleID.MatchString(id) || len(id) > 64 {
		b.problem(node, "give it an id like shell-from-web-server", "a rule needs an id of small letters, digits and hyphens")
		return "", false
	}
	here := fmt.Sprintf("%s:%d", p.file, node.node.Line)
	if before, twice := b.seen[id]; twice {
		b.problem(node, "give one of them another id", "rule %s is at %s already", id, before)
		return "", false
	}
	b.seen[id] = here
	return id, true
}

func (b *builder) ruleFields(d *draft) map[string]func(place) {
	r := &d.rule
	readers := map[string]func(place){}
	for key, into := range map[string]any{
		"id": &r.ID, "title": &r.Title, "description": &r.Description, "severity": &r.Severity, "technique": &r.Technique,
		"tactic": &r.Tactic, "action": &r.Action, "when": &r.When, "message": &r.Message, "enabled": &r.Enabled,
	} {
		readers[key] = func(p place) { d.at[key] = p; b.decode(p, into) }
	}
	readers["events"] = func(p place) { d.at["events"] = p; r.Events = nil; b.decode(p, &r.Events) }
	readers["needs"] = func(p place) { b.readNeeds(d, p) }
	readers["exceptions"] = func(p place) { b.readExceptions(d, p) }
	return readers
}

func (b *builder) readNeeds(d *draft, p place) {
	d.at["needs"], d.rule.Needs = p, Needs{}
	n := &d.rule.Needs
	b.fields(p, map[string]func(place){
		"syscalls": func(p place) { b.decode(p, &n.Syscalls) },
		"reads":    func(p place) { b.decode(p, &n.Reads) },
	})
}

// readExceptions adds exceptions; one with a known name replaces it.
func (b *builder) readExceptions(d *draft, p place) {
	if p.node.Kind != yaml.SequenceNode {
		b.problem(p, "write `- name: …` and `when: …`", "exceptions must be a list")
		return
	}
	if len(p.node.Content) > maxItems {
		b.problem(p, "put them into one condition", "%d exceptions, the limit is %d", len(p.node.Content), maxItems)
		return
	}
	for _, n := range p.node.Content {
		var e Exception
		item := place{p.file, n, p.lines}
		at := item
		b.fields(item, map[string]func(place){
			"name": func(p place) { b.decode(p, &e.Name) },
			"when": func(p place) { at = p; b.decode(p, &e.When) },
		})
		if e.Name == "" || e.When == "" {
			b.problem(item, "write `name:` and `when:`", "an exception needs a name and a condition")
			continue
		}
		d.rule.Exceptions = slices.DeleteFunc(d.rule.Exceptions, func(x Exception) bool { return x.Name == e.Name })
		d.rule.Exceptions = append(d.rule.Exceptions, e)
		d.exceptions[e.Name] = at
	}
}

var kinds = []bulkhead.EventKind{
	bulkhead.EventExec, bulkhead.EventFile, bulkhead.EventConnect, bulkhead.EventListen,
	bulkhead.EventSyscall, bulkhead.EventMemory, bulkhead.EventCapability, bulkhead.EventContainer,
}

// check looks at everything but the conditions.
func check(d *draft) (problems []error) {
	r := d.rule
	wrong := func(key, next, problem string, args ...any) {
		problems = append(problems, d.where(key).error(next, problem, args...))
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
	if r.Action != Alert && r.Action != Kill {
		wrong("action", "use alert or kill", "action %q of rule %s is unknown", r.Action, r.ID)
	}
	if len(r.Events) == 0 {
		wrong("events", "write `events: [exec]`", "rule %s looks at no events", r.ID)
	}
	for _, k := range r.Events {
		if !slices.Contains(kinds, k) {
			wrong("events", fmt.Sprintf("use some of %v", kinds), "rule %s looks at events of the unknown kind %q", r.ID, k)
		}
	}
	if !techniqueID.MatchString(r.Technique) {
		wrong("technique", "use an ATT&CK id like T1059.004", "technique %q of rule %s is no ATT&CK id", r.Technique, r.ID)
	}
	if !slices.Contains(Tactics, r.Tactic) {
		wrong("tactic", "use one of "+strings.Join(Tactics, ", "), "tactic %q of rule %s is unknown", r.Tactic, r.ID)
	}
	return problems
}

var techniqueID = regexp.MustCompile(`^T\d{4}(\.\d{3})?$`)
