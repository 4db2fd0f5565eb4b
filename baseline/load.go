package baseline

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"bulkhead"
	"bulkhead/baseline/repair"
	"bulkhead/rule/condition"
	"bulkhead/rule/document"

	"go.yaml.in/yaml/v3"
)

//go:embed checks
var builtin embed.FS

// groups are the folders of checks, and the layer that each is of.
var groups = map[string]string{"host": Host, "docker": Docker, "containerd": Containerd, "node": Kubernetes, "cluster": Kubernetes}

var language = sync.OnceValues(func() (*condition.Language, error) {
	return condition.New(map[string]condition.Kind{
		"host": condition.Any, "file": condition.Any, "docker": condition.Any, "containerd": condition.Any, "node": condition.Any, "cluster": condition.Any,
	}, "docs/baseline.md")
})

// Load returns the checks of these groups, all of them where none is named. Those of a group are read and compiled once.
func Load(names ...string) ([]Check, error) {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(groups))
	}
	var all []Check
	for _, name := range names {
		checks, err := loaded[name]()
		if err != nil {
			return nil, err
		}
		all = append(all, checks...)
	}
	return all, twice(all)
}

var loaded = map[string]func() ([]Check, error){
	"host": onceLoaded("host"), "docker": onceLoaded("docker"), "containerd": onceLoaded("containerd"), "node": onceLoaded("node"), "cluster": onceLoaded("cluster"),
}

func onceLoaded(group string) func() ([]Check, error) {
	return sync.OnceValues(func() (all []Check, err error) {
		files, err := fs.Glob(builtin, "checks/"+group+"/*.yaml")
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			content, err := builtin.ReadFile(file)
			if err != nil {
				return nil, err
			}
			checks, err := Parse(file, content)
			if err != nil {
				return nil, err
			}
			all = append(all, checks...)
		}
		return all, nil
	})
}

func twice(all []Check) error {
	seen := map[string]bool{}
	for _, c := range all {
		if seen[c.ID] {
			return fmt.Errorf("check %s is there twice; give one of them the next free number", c.ID)
		}
		seen[c.ID] = true
	}
	return nil
}

// Parse reads the checks of one file, a document each. The folder that the file is in is its group.
func Parse(name string, content []byte) ([]Check, error) {
	places, err := document.Parse(name, content)
	if err != nil {
		return nil, err
	}
	lang, err := language()
	if err != nil {
		return nil, err
	}
	l := &loader{language: lang, group: path.Base(path.Dir(name))}
	var checks []Check
	for _, p := range places {
		if d := (defaults{}); l.defaults(p, &d) {
			l.given = d
			continue
		}
		checks = append(checks, l.check(p))
	}
	return checks, errors.Join(l.reader.Problems...)
}

// defaults are what the checks after it in the file share.
type defaults struct {
	when         *document.Place
	attack, mlps []string
	nsa          []string
}

type loader struct {
	reader   document.Reader
	language *condition.Language
	group    string
	given    defaults
	auto     []string // what a short form says of where it applies
}

// defaults reads a document that has only the field defaults.
func (l *loader) defaults(p document.Place, d *defaults) bool {
	if p.Node.Kind != yaml.MappingNode || len(p.Node.Content) != 2 || p.Node.Content[0].Value != "defaults" {
		return false
	}
	l.reader.Fields(p.At(p.Node.Content[1]), map[string]func(document.Place){
		"when":   func(p document.Place) { d.when = &p },
		"attack": func(p document.Place) { l.reader.Decode(p, &d.attack) },
		"mlps":   func(p document.Place) { l.reader.Decode(p, &d.mlps) },
		"nsa":    func(p document.Place) { l.reader.Decode(p, &d.nsa) },
	})
	return true
}

var idShape = regexp.MustCompile(`^BH-[HECNO]\d{3}$`)

// check reads one check.
func (l *loader) check(p document.Place) Check {
	c := Check{Group: l.group, Layer: groups[l.group], Maps: Maps{Attack: l.given.attack, MLPS: l.given.mlps, NSA: l.given.nsa}}
	before := len(l.reader.Problems)
	tests := 0
	test := func(read func(document.Place, *Check)) func(document.Place) {
		return func(p document.Place) { tests++; read(p, &c) }
	}
	when := l.given.when
	text := func(into *string) func(document.Place) {
		return func(p document.Place) { l.reader.Decode(p, into) }
	}
	list := func(into *[]string) func(document.Place) {
		return func(p document.Place) { l.reader.Decode(p, into) }
	}
	var severity string
	l.auto = nil
	l.reader.Fields(p, map[string]func(document.Place){
		"id": text(&c.ID), "title": text(&c.Title), "why": text(&c.Why), "remediation": text(&c.Remediation), "severity": text(&severity),
		"cis": list(&c.Maps.CIS), "attack": list(&c.Maps.Attack), "nsa": list(&c.Maps.NSA), "mlps": list(&c.Maps.MLPS),
		"when":     func(p document.Place) { when = &p },
		"test":     test(func(p document.Place, c *Check) { c.Test = l.expression(p) }),
		"bad":      test(func(p document.Place, c *Check) { c.Bad = l.expression(p) }),
		"evidence": func(p document.Place) { c.Evidence = l.expression(p) },
		"sysctl":   test(l.sysctl),
		"file":     test(l.file),
		"ssh":      test(l.ssh),
		"module":   test(l.module),
		"fix": func(p document.Place) {
			l.reader.List(p, 8, func(p document.Place) { c.Fix = append(c.Fix, l.action(p)) })
		},
	})
	c.When = l.when(p, when)
	c.Severity = bulkhead.Severity(severity)
	l.whole(p, c, tests)
	if len(l.reader.Problems) == before {
		c.Show = shown(c)
	}
	for _, list := range []*[]string{&c.Maps.CIS, &c.Maps.Attack, &c.Maps.NSA, &c.Maps.MLPS} {
		if *list == nil {
			*list = []string{}
		}
	}
	return c
}

// when puts together what the check, the file's defaults and a short form say of where it applies; "true" takes the
// defaults away.
func (l *loader) when(p document.Place, when *document.Place) *condition.Expression {
	given := when != nil && when.Node.Value != "true"
	switch {
	case given && len(l.auto) == 0:
		return l.expression(*when)
	case given:
		return l.written(p, "("+when.Node.Value+") && "+strings.Join(l.auto, " && "))
	case len(l.auto) > 0:
		return l.written(p, strings.Join(l.auto, " && "))
	}
	return nil
}

// whole says what is missing.
func (l *loader) whole(p document.Place, c Check, tests int) {
	switch {
	case !idShape.MatchString(c.ID):
		l.reader.Wrong(p, "write BH-H001 (host), BH-E001 (docker), BH-C001 (containerd), BH-N001 (node), BH-O001 (cluster)", "id %q has not the shape of one", c.ID)
	case c.Title == "" || c.Why == "" || c.Remediation == "":
		l.reader.Wrong(p, "write title, why and remediation", "%s is not whole", c.ID)
	case c.Severity.Rank() == 0:
		l.reader.Wrong(p, "write low, medium, high or critical", "%s has no severity", c.ID)
	case tests != 1:
		l.reader.Wrong(p, "write one of test, bad, sysctl, file, ssh, module", "%s has %d tests", c.ID, tests)
	case len(c.Maps.Attack) == 0:
		l.reader.Wrong(p, "name a technique of ATT&CK", "%s says not which attack it is against", c.ID)
	}
}

func (l *loader) expression(p document.Place) *condition.Expression {
	e, problems := l.language.Expression(p)
	l.reader.Problems = append(l.reader.Problems, problems...)
	return e
}

// written makes an expression of a text that a short form stands for.
func (l *loader) written(p document.Place, text string) *condition.Expression {
	n := *p.Node
	n.Kind, n.Value, n.Content = yaml.ScalarNode, text, nil
	return l.expression(p.At(&n))
}

// sysctl is the short form for a kernel setting: it runs with one of these values, and will do so after the next start.
// The first value is what the fix sets.
func (l *loader) sysctl(p document.Place, c *Check) {
	var settings map[string][]string
	if !l.reader.Decode(p, &settings) {
		return
	}
	var parts []string
	values := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		allowed := quoted(settings[name])
		parts = append(parts, fmt.Sprintf("host.sysctl[%q] in %s && (!(%q in host.configured) || host.configured[%q].value in %s)", name, allowed, name, name, allowed))
		values[name] = settings[name][0]
		l.auto = append(l.auto, fmt.Sprintf("%q in host.sysctl", name))
	}
	c.Test = l.written(p, strings.Join(parts, " && "))
	c.Fix = append(c.Fix, repair.Action{Sysctl: values})
}

func quoted(list []string) string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// fileForm is the short form for permissions. A file that is not there passes, unless it must be.
type fileForm struct {
	Paths  []string `yaml:"paths"`
	Mode   string   `yaml:"mode"` // the most that it may have
	Users  []string `yaml:"users"`
	Groups []string `yaml:"groups"`
	Must   bool     `yaml:"must"`
}

func (l *loader) file(p document.Place, c *Check) {
	var f fileForm
	if !l.reader.Decode(p, &f) {
		return
	}
	var mode uint32
	if _, err := fmt.Sscanf(f.Mode, "%o", &mode); err != nil || len(f.Paths) == 0 {
		l.reader.Wrong(p, `write paths: [/etc/shadow] and mode: "0640"`, "paths or mode is missing")
		return
	}
	if len(f.Users) == 0 {
		f.Users = []string{"root"}
	}
	var parts []string
	for _, path := range f.Paths {
		have := fmt.Sprintf("file[%q]", path)
		ok := fmt.Sprintf("math.bitAnd(%s.mode, %d) == 0 && %s.user in %s", have, 0o7777&^mode, have, quoted(f.Users))
		if len(f.Groups) > 0 {
			ok += fmt.Sprintf(" && %s.group in %s", have, quoted(f.Groups))
		}
		if f.Must {
			parts = append(parts, fmt.Sprintf("%s.exists && %s", have, ok))
		} else {
			parts = append(parts, fmt.Sprintf("(!%s.exists || (%s))", have, ok))
		}
		group := ""
		if len(f.Groups) > 0 {
			group = f.Groups[0]
		}
		c.Fix = append(c.Fix, repair.Action{Permissions: &repair.Permissions{Path: path, Mode: f.Mode, User: f.Users[0], Users: f.Users, Group: group, Groups: f.Groups}})
	}
	if !f.Must {
		var there []string
		for _, path := range f.Paths {
			there = append(there, fmt.Sprintf("file[%q].exists", path))
		}
		l.auto = append(l.auto, "("+strings.Join(there, " || ")+")")
	}
	c.Test = l.written(p, strings.Join(parts, " && "))
}

// ssh is the short form for keywords of sshd: the value in effect is one of these, and no Match block changes it to another.
func (l *loader) ssh(p document.Place, c *Check) {
	var settings map[string][]string
	if !l.reader.Decode(p, &settings) {
		return
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		allowed := quoted(settings[key])
		parts = append(parts, fmt.Sprintf("host.ssh.set[%q].lowerAscii() in %s && host.ssh.match.all(m, m.key != %q || m.value.lowerAscii() in %s)", key, allowed, key, allowed))
		c.Fix = append(c.Fix, repair.Action{SSH: map[string]string{key: settings[key][0]}})
	}
	l.auto = append(l.auto, "host.ssh.installed")
	c.Test = l.written(p, strings.Join(parts, " && "))
}

// module is the short form for a module of the kernel that is not to be had.
func (l *loader) module(p document.Place, c *Check) {
	var name string
	if !l.reader.Decode(p, &name) {
		return
	}
	c.Test = l.written(p, fmt.Sprintf("!(%q in host.modules) && %q in host.blocked_modules", name, name))
	c.Evidence = l.written(p, fmt.Sprintf(`[(%q in host.modules ? "loaded" : "not loaded"), (%q in host.blocked_modules ? "refused by modprobe" : "not refused by modprobe")]`, name, name))
	c.Fix = append(c.Fix, repair.Action{Module: name})
}

func (l *loader) action(p document.Place) (a repair.Action) {
	known := map[string]bool{"sysctl": true, "permissions": true, "ssh": true, "module": true, "set": true, "json": true, "yaml": true, "content": true, "line": true}
	for i := 0; i+1 < len(p.Node.Content); i += 2 {
		if key := p.Node.Content[i]; !known[key.Value] {
			l.reader.Wrong(p.At(key), "use one of "+strings.Join(slices.Sorted(maps.Keys(known)), ", "), "unknown action %q", key.Value)
		}
	}
	if l.reader.Decode(p, &a) {
		if err := a.Valid(); err != nil {
			l.reader.Wrong(p, "correct the fix", "%v", err)
		}
	}
	return a
}

// shown are the facts that a check reads: its evidence. Long lists are left to expressions that name what is bad.
func shown(c Check) [][]string {
	return slices.DeleteFunc(slices.Clone(cmp.Or(c.Test, c.Bad).Reads), func(path []string) bool {
		_, fact := groups[path[0]]
		return !fact && path[0] != "file" || slices.Contains(hidden, strings.Join(path, ".")) // others are names inside an expression
	})
}

// hidden facts are maps that are too long to be shown whole, beside the one setting that is meant.
var hidden = []string{"host.sysctl", "host.configured", "host.kernel.config", "host.pam"}
