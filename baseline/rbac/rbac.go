// Package rbac says who can do what in a cluster of Kubernetes, by its objects: who can become its administrator and on which way,
// what is wrong with roles and bindings, and what of its rights a service account used. Start with [Analyze] and [ReadAuditLog].
//
// It promises a way that is shown step by step, each with the binding that gives the right; that what it cannot know (members of
// groups, secrets that were not given) is told and not guessed; and bounds: 100,000 bindings. It asks no cluster, and does not
// judge anything that is about to be applied: that is admission.
package rbac

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"bulkhead"
)

// Report is what an analysis found.
type Report struct {
	Bindings int       `json:"bindings"`
	Subjects int       `json:"subjects"` // distinct ones
	Accounts int       `json:"accounts"` // service accounts
	Admins   []Admin   `json:"admins"`   // who can become administrator, the shortest way first
	Findings []Finding `json:"findings"`
	Problems []string  `json:"problems"` // what is not known
}

// Admin is somebody who is the cluster's administrator, or can become so.
type Admin struct {
	Subject string   `json:"subject"`
	System  bool     `json:"system"` // the cluster's own
	Path    []Step   `json:"path"`
	Pods    []string `json:"pods"` // that run as it: whoever breaks into one has the way, too
}

// Step is one of a way.
type Step struct {
	From string `json:"from"`
	To   string `json:"to"`
	How  string `json:"how"`
	Via  string `json:"via"` // the binding and the role; empty: it follows
}

// Finding is something that is wrong.
type Finding struct {
	Kind     string            `json:"kind"`
	Severity bulkhead.Severity `json:"severity"`
	Object   string            `json:"object"`
	Subjects []string          `json:"subjects"`
	Message  string            `json:"message"`
	System   bool              `json:"system"`
}

// The kinds of findings.
const (
	Wildcard   = "wildcard"
	Escalation = "escalation"
	Stale      = "stale-binding"
	Default    = "default-account"
	Anonymous  = "anonymous"
	Unused     = "unused-account"
	Secrets    = "reads-secrets"
)

// mostPods and mostSubjects bound what is listed of one thing.
const (
	mostPods     = 16
	mostSubjects = 32
)

// Analyze judges the objects of one cluster.
func Analyze(objects []map[string]any) (Report, error) {
	c, err := read(objects)
	if err != nil {
		return Report{}, err
	}
	who := map[subject]bool{}
	for _, b := range c.bindings {
		for _, s := range b.subjects {
			who[s] = true
		}
	}
	g := build(c)
	r := Report{Bindings: len(c.bindings), Subjects: len(who), Accounts: len(c.accounts), Admins: g.admins(who), Findings: c.findings(), Problems: c.unknown()}
	return r, nil
}

// unknown says which objects are missing, and what is not known for it.
func (c *cluster) unknown() []string {
	all := append([]string{}, c.problems...)
	slices.Sort(all)
	all = all[:min(len(all), 100)]
	for _, k := range []struct{ kind, so string }{
		{"ClusterRole", "what bindings to cluster roles give is not known"},
		{"ServiceAccount", "whether subjects exist is not known"},
		{"Pod", "which service accounts run is not known"},
		{"Secret", "whether secrets have tokens of service accounts is not known"},
		{"Namespace", "which Pod Security levels are enforced is not known: none is taken to be"},
		{"Node", "whether nodes of the control plane are reached by pods is not known"},
	} {
		if !c.kinds[k.kind] {
			all = append(all, "there is no "+k.kind+" among the objects: "+k.so)
		}
	}
	return all
}

// admins are the subjects from which there is a way.
func (g *graph) admins(who map[subject]bool) []Admin {
	next := g.reach()
	all := []Admin{}
	everybody := maps.Clone(who)
	for s := range g.c.accounts {
		everybody[s] = true
	}
	for s := range everybody {
		if _, ok := next[node(s.String())]; !ok {
			continue
		}
		a := Admin{Subject: s.String(), System: system(s), Path: []Step{}, Pods: append([]string{}, g.c.pods[s]...)}
		slices.Sort(a.Pods)
		a.Pods = a.Pods[:min(len(a.Pods), mostPods)]
		for at := node(s.String()); at != admin; at = next[at].to {
			a.Path = append(a.Path, Step{string(at), string(next[at].to), next[at].how, next[at].via})
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b Admin) int {
		return cmp.Or(cmp.Compare(btoi(a.System), btoi(b.System)), cmp.Compare(len(a.Path), len(b.Path)), strings.Compare(a.Subject, b.Subject))
	})
	return all
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// system says whether somebody is the cluster's own. The groups that everybody is in are not.
func system(s subject) bool {
	switch {
	case s.kind == account:
		return s.namespace == "kube-system"
	case slices.Contains(everybodys, s.name) || strings.HasPrefix(s.name, "system:serviceaccounts") || s.name == "system:anonymous":
		return false
	}
	return strings.HasPrefix(s.name, "system:") || s.name == "kubeadm:cluster-admins"
}

var everybodys = []string{"system:authenticated", "system:unauthenticated", "system:serviceaccounts"}

func sortedKeys[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func sortedSubjects[V any](m map[subject]V) []subject {
	return slices.SortedFunc(maps.Keys(m), func(a, b subject) int { return strings.Compare(a.String(), b.String()) })
}
