package baseline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bulkhead/baseline/engine"
	"bulkhead/baseline/host"
	"bulkhead/baseline/node"
	"bulkhead/baseline/tree"
	"bulkhead/rule/condition"
)

// Options say what to audit.
type Options struct {
	Root    *tree.Tree
	Layers  []string   // Host, Docker, Containerd, Kubernetes; none: all
	Docker  engine.API // nil: the engine is not asked, and what it alone knows is manual
	Objects []Object   // of a cluster; nil: what is about them is manual
	NoNode  bool       // the cluster's objects alone: this host is not looked at
	Trace   *Trace     // notes what was looked at; nil: nobody asks
}

// Run collects the facts of each layer once and decides all its checks.
func Run(ctx context.Context, o Options) (Report, error) {
	checks, err := Load(o.groups()...)
	if err != nil {
		return Report{}, err
	}
	if o.Trace != nil {
		o.Root = o.Root.Traced(&o.Trace.tree)
	}
	results, err := Decide(ctx, checks, Facts(ctx, checks, o))
	if err != nil {
		return Report{}, err
	}
	if o.wants(Kubernetes) && o.Objects != nil {
		results = append(results, objectResults(o.Objects)...)
	}
	if o.Trace != nil {
		o.Trace.read(checks)
	}
	return NewReport(results), nil
}

func (o Options) wants(layer string) bool {
	return len(o.Layers) == 0 || slices.Contains(o.Layers, layer)
}

func (o Options) groups() (names []string) {
	for _, group := range []string{"host", "docker", "containerd", "node", "cluster"} {
		if o.wants(groups[group]) && (group != "node" || !o.NoNode) {
			names = append(names, group)
		}
	}
	return names
}

// Facts collects what these checks need.
func Facts(ctx context.Context, checks []Check, o Options) map[string]any {
	w := wants(checks)
	o.Root.For("file")
	facts := map[string]any{"file": host.Files(o.Root, w.Files), "host": host.Collect(ctx, o.Root, w)}
	for _, group := range o.groups() {
		o.Root.For(group)
		switch group {
		case "docker":
			facts["docker"] = engine.Docker(ctx, o.Root, o.Docker)
		case "containerd":
			facts["containerd"] = engine.Containerd(ctx, o.Root)
		case "node":
			facts["node"] = node.Collect(ctx, o.Root)
		case "cluster":
			n, _ := facts["node"].(map[string]any)
			facts["cluster"], facts["elsewhere"] = clusterFacts(o.Objects), o.Objects == nil && len(o.Layers) == 0 && n["installed"] == false
		}
	}
	return facts
}

// wants are the settings and files that checks name.
func wants(checks []Check) (w host.Wants) {
	for _, c := range checks {
		for _, e := range c.expressions() {
			for _, path := range e.Reads {
				if path[0] == "host" {
					w.Facts = append(w.Facts, path[1])
				}
				switch {
				case path[0] == "file":
					w.Files = append(w.Files, path[1])
				case len(path) > 2 && path[0] == "host" && (path[1] == "sysctl" || path[1] == "configured"):
					w.Sysctl = append(w.Sysctl, path[2])
				}
			}
		}
	}
	slices.Sort(w.Files)
	slices.Sort(w.Sysctl)
	slices.Sort(w.Facts)
	w.Facts = slices.Compact(w.Facts)
	w.Files, w.Sysctl = slices.Compact(w.Files), slices.Compact(w.Sysctl)
	return w
}

// expressions are those that a check has.
func (c Check) expressions() []*condition.Expression {
	return slices.DeleteFunc([]*condition.Expression{c.When, c.Test, c.Bad, c.Evidence}, func(e *condition.Expression) bool { return e == nil })
}

// Decide answers the checks on facts.
func Decide(ctx context.Context, checks []Check, facts map[string]any) ([]Result, error) {
	results := make([]Result, 0, len(checks))
	for _, c := range checks {
		r := Result{ID: c.ID, Title: c.Title, Layer: c.Layer, Severity: c.Severity, Remediation: c.Remediation, Fixable: len(c.Fix) > 0, Maps: c.Maps, Why: c.Why}
		r.Status, r.Evidence = decide(ctx, c, facts)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("decide check %s: %w", c.ID, ctx.Err())
		}
		results = append(results, r)
	}
	return results, nil
}

func decide(ctx context.Context, c Check, facts map[string]any) (Status, string) {
	if reason, absent := absent(c.Group, facts); absent {
		return NotApplicable, reason
	}
	if reason, unreadable := condition.IsUnreadable(facts[c.Group]); unreadable {
		return Manual, reason
	}
	if c.When != nil {
		applies, err := c.When.Bool(ctx, facts)
		if err != nil {
			return Manual, "whether this is about this system cannot be told: " + reason(err)
		}
		if !applies {
			return NotApplicable, strings.Join(append([]string{"not so here: " + c.When.Text}, evidence(c.When.Reads, facts)...), "; ")
		}
	}
	if c.Bad != nil {
		return decideBad(ctx, c, facts)
	}
	ok, err := c.Test.Bool(ctx, facts)
	switch seen := c.seen(ctx, facts); {
	case err != nil:
		return Manual, reason(err)
	case ok:
		return Pass, seen
	default:
		return Fail, seen
	}
}

// seen is what the check was decided on.
func (c Check) seen(ctx context.Context, facts map[string]any) string {
	list := evidence(c.Show, facts)
	if c.Evidence != nil {
		if told, err := c.Evidence.Texts(ctx, facts); err == nil {
			list = some(told)
		}
	}
	return clip(strings.Join(list, "; "), maxEvidence)
}

func decideBad(ctx context.Context, c Check, facts map[string]any) (Status, string) {
	bad, err := c.Bad.Texts(ctx, facts)
	if err != nil {
		return Manual, reason(err)
	}
	if len(bad) == 0 {
		return Pass, "none found"
	}
	slices.Sort(bad) // maps come in any order
	return Fail, clip(strings.Join(some(bad), "; "), maxEvidence)
}

// maxNamed is how many of what is bad are named; the rest are counted.
const maxNamed = 10

func some(list []string) []string {
	if len(list) <= maxNamed {
		return list
	}
	return append(slices.Clone(list[:maxNamed]), fmt.Sprintf("and %d more", len(list)-maxNamed))
}

// absent reports whether what a group is about is not here at all.
func absent(group string, facts map[string]any) (string, bool) {
	if group == "cluster" && facts["elsewhere"] == true {
		return "this is no node of Kubernetes, and no objects were given", true
	}
	m, ok := facts[group].(map[string]any)
	if !ok || m["installed"] != false {
		return "", false
	}
	return map[string]string{
		"docker": "Docker is not installed here", "containerd": "containerd is not installed here", "node": "this is no node of Kubernetes",
	}[group], true
}

const missingKey = "no such key: "

// reason makes of an expression's error what a person can go by.
func reason(err error) string {
	text := err.Error()
	if _, key, ok := strings.Cut(text, missingKey); ok {
		return key + " was not found, so that this cannot be decided"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "there was no time left to decide this"
	}
	return text
}

// maxEvidence bounds what is told of one check.
const (
	maxEvidence = 600
	maxValue    = 160
	maxListed   = 6 // entries of a list that are told; of a longer one the number is
)

// evidence tells the facts that were read, as "sysctl kernel.kptr_restrict = 0".
func evidence(paths [][]string, facts map[string]any) (list []string) {
	for _, path := range paths {
		if path[0] == "file" {
			path = path[:2] // the file whole: mode and owner together
		}
		v, ok := lookup(facts, path)
		if !ok {
			v = nil
		}
		told := clip(strings.Join(path[1:], " ")+" = "+show(v), maxValue)
		if path[0] == "file" {
			told = path[1] + " " + showFile(v)
		}
		if !slices.Contains(list, told) {
			list = append(list, told)
		}
	}
	return list
}

// showFile tells of a file as ls does.
func showFile(v any) string {
	m, ok := v.(map[string]any)
	switch {
	case !ok:
		return "= " + show(v)
	case m["exists"] == false:
		return "is not there"
	}
	return fmt.Sprintf("is %v %v:%v", m["text"], m["user"], m["group"])
}

func lookup(v any, path []string) (any, bool) {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

func show(v any) string {
	if reason, ok := condition.IsUnreadable(v); ok {
		return reason
	}
	switch v := v.(type) {
	case nil:
		return "not set"
	case string:
		return v
	case []any:
		if len(v) > maxListed {
			return fmt.Sprintf("%d entries", len(v))
		}
	case map[string]any:
		if len(v) > maxListed {
			return fmt.Sprintf("%d entries", len(v))
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

func clip(s string, most int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
