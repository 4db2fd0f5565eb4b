package rule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/rule/document"

	"go.yaml.in/yaml/v3"
)

// Error is a mistake in a rule file.
type Error = document.Error

// draft is a rule as its files say it.
type draft struct {
	rule Rule
	places
}

// places are where the fields and exceptions of a rule stand, which may be in different files.
type places struct{ at, exceptions map[string]document.Place }

func newPlaces() places {
	return places{map[string]document.Place{}, map[string]document.Place{}}
}

// where returns the place of a field, or of the rule where the field is missing.
func (p places) where(key string) document.Place {
	if at, ok := p.at[key]; ok {
		return at
	}
	return p.at["id"]
}

func (b *builder) file(name string, data []byte) {
	b.document(name, data, map[string]func(document.Place){"lists": b.readLists, "rules": b.readRules})
}

// document reads a file whose fields at the top are those that readers reads.
func (b *builder) document(name string, data []byte, readers map[string]func(document.Place)) {
	documents, err := document.Parse(name, data)
	if err != nil {
		b.Problems = append(b.Problems, err)
		return
	}
	if len(documents) > 1 {
		b.Wrong(documents[1], "put it into a file of its own", "a rule file is one document")
		return
	}
	for _, root := range documents {
		b.Fields(root, readers)
	}
}

var listName = regexp.MustCompile(`^[a-z][A-Za-z0-9]{0,39}$`)

// readLists adds to the named lists: a user's file may only make them longer.
func (b *builder) readLists(p document.Place) {
	lists := map[string][]string{}
	if !b.Decode(p, &lists) {
		return
	}
	for name, items := range lists {
		_, taken := variables[name]
		if taken || admissionVariables[name] != nil || !listName.MatchString(name) {
			b.Wrong(p, "use a word like webServers", "%q cannot be the name of a list", name)
			continue
		}
		all := append(b.lists[name], items...)
		if slices.Sort(all); len(all) > maxItems {
			b.Wrong(p, "make it shorter", "list %s has %d items, the limit is %d", name, len(all), maxItems)
		}
		b.lists[name] = slices.Compact(all)
	}
}

func (b *builder) readRules(p document.Place) {
	if p.Node.Kind != yaml.SequenceNode {
		b.Wrong(p, "write `- id: …`", "rules must be a list")
		return
	}
	for _, n := range p.Node.Content {
		b.readRule(p.At(n))
	}
}

func (b *builder) readRule(p document.Place) {
	id, ok := b.id(p)
	if !ok {
		return
	}
	d := b.drafts[id]
	if d == nil {
		d = &draft{Rule{Enabled: true, Action: Alert}, newPlaces()}
		b.drafts[id] = d
	}
	d.rule.Source = fmt.Sprintf("%s:%d", p.File, p.Node.Line)
	b.Fields(p, b.ruleFields(d))
}

var ruleID = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

func (b *builder) id(p document.Place) (string, bool) {
	node := p
	for i := 0; p.Node.Kind == yaml.MappingNode && i+1 < len(p.Node.Content); i += 2 {
		if p.Node.Content[i].Value == "id" {
			node.Node = p.Node.Content[i+1]
		}
	}
	id := node.Node.Value
	if node.Node.Kind != yaml.ScalarNode || !ruleID.MatchString(id) || len(id) > 64 {
		b.Wrong(node, "give it an id like shell-from-web-server", "a rule needs an id of small letters, digits and hyphens")
		return "", false
	}
	here := fmt.Sprintf("%s:%d", p.File, node.Node.Line)
	if before, twice := b.seen[id]; twice {
		b.Wrong(node, "give one of them another id", "rule %s is at %s already", id, before)
		return "", false
	}
	b.seen[id] = here
	return id, true
}

func (b *builder) ruleFields(d *draft) map[string]func(document.Place) {
	r := &d.rule
	readers := map[string]func(document.Place){}
	for key, into := range map[string]any{
		"id": &r.ID, "title": &r.Title, "description": &r.Description, "severity": &r.Severity, "technique": &r.Technique,
		"tactic": &r.Tactic, "action": &r.Action, "when": &r.When, "message": &r.Message, "enabled": &r.Enabled,
	} {
		readers[key] = func(p document.Place) { d.at[key] = p; b.Decode(p, into) }
	}
	readers["events"] = func(p document.Place) { d.at["events"] = p; r.Events = nil; b.Decode(p, &r.Events) }
	readers["needs"] = func(p document.Place) { b.readNeeds(d, p) }
	readers["exceptions"] = func(p document.Place) { b.readExceptions(&r.Exceptions, d.exceptions, p) }
	return readers
}

func (b *builder) readNeeds(d *draft, p document.Place) {
	d.at["needs"], d.rule.Needs = p, Needs{}
	n := &d.rule.Needs
	b.Fields(p, map[string]func(document.Place){
		"syscalls": func(p document.Place) { b.Decode(p, &n.Syscalls) },
		"reads":    func(p document.Place) { b.Decode(p, &n.Reads) },
	})
}

// readExceptions adds exceptions; one with a known name replaces it.
func (b *builder) readExceptions(into *[]Exception, places map[string]document.Place, p document.Place) {
	if p.Node.Kind != yaml.SequenceNode {
		b.Wrong(p, "write `- name: …` and `when: …`", "exceptions must be a list")
		return
	}
	if len(p.Node.Content) > maxItems {
		b.Wrong(p, "put them into one condition", "%d exceptions, the limit is %d", len(p.Node.Content), maxItems)
		return
	}
	for _, n := range p.Node.Content {
		var e Exception
		item := p.At(n)
		at := item
		b.Fields(item, map[string]func(document.Place){
			"name": func(p document.Place) { b.Decode(p, &e.Name) },
			"when": func(p document.Place) { at = p; b.Decode(p, &e.When) },
		})
		if e.Name == "" || e.When == "" {
			b.Wrong(item, "write `name:` and `when:`", "an exception needs a name and a condition")
			continue
		}
		*into = append(slices.DeleteFunc(*into, func(x Exception) bool { return x.Name == e.Name }), e)
		places[e.Name] = at
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
	if !slices.Contains([]Action{Alert, Kill, Pause, Isolate, Snapshot}, r.Action) {
		wrong("action", "use alert, kill, pause, quarantine or snapshot", "action %q of rule %s is unknown", r.Action, r.ID)
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
