package kube

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/rule"
)

// Exception lets workloads of one namespace go past rules, for a time, on somebody's word.
type Exception struct {
	Name      string
	Namespace string
	Rules     []string // ids
	Workloads []string // names, with * for any part; empty: all of the namespace
	Images    []string // references, with * for any part; empty: any
	Owner     string
	Reason    string
	Expires   time.Time
}

// Check says what is missing: an exception that nobody answers for, or that never ends, is a hole.
func (e Exception) Check() error {
	var problems []error
	for what, missing := range map[string]bool{
		"namespace": e.Namespace == "", "owner": e.Owner == "", "reason": e.Reason == "", "expires": e.Expires.IsZero(), "rules": len(e.Rules) == 0,
	} {
		if missing {
			problems = append(problems, fmt.Errorf("exception %s has no %s", e.Name, what))
		}
	}
	if slices.Contains(e.Rules, "*") {
		problems = append(problems, fmt.Errorf("exception %s is from every rule: name the ones it needs", e.Name))
	}
	return errors.Join(problems...)
}

func (e Exception) String() string {
	return fmt.Sprintf("excepted by %s of %s until %s: %s", e.Name, e.Owner, e.Expires.UTC().Format(time.DateOnly), e.Reason)
}

// exceptionFor returns the exception that covers f, if one does.
func (j *judge) exceptionFor(f finding) *Exception {
	for i := range j.Exceptions {
		if e := &j.Exceptions[i]; e.Check() == nil && j.covers(e, f) {
			return e
		}
	}
	return nil
}

func (j *judge) covers(e *Exception, f finding) bool {
	if e.Namespace != j.request.Namespace && !j.withoutNamespace(e) || !slices.Contains(e.Rules, f.Rule) || !j.Now().Before(e.Expires) {
		return false
	}
	if len(e.Workloads) > 0 && !matchAny(e.Workloads, j.workload.names()...) {
		return false
	}
	return len(e.Images) == 0 || f.container != "" && matchAny(e.Images, j.workload.image(f.container))
}

func matchAny(patterns []string, texts ...string) bool {
	for _, pattern := range patterns {
		for _, text := range texts {
			if rule.MatchText(pattern, text) {
				return true
			}
		}
	}
	return false
}

// names are what a workload goes by: its own name and that of the object which made it, so that
// an exception for a Deployment covers its pods.
func (w *workload) names() []string {
	var names []string
	add := func(owner string) {
		names = append(names, owner)
		// A ReplicaSet is called like its Deployment, and the hash of the template behind it.
		if hash := w.meta.Labels["pod-template-hash"]; hash != "" {
			names = append(names, strings.TrimSuffix(owner, "-"+hash))
		}
	}
	if w.isPod() {
		names = append(names, w.meta.Name)
		for _, o := range w.meta.OwnerReferences {
			add(o.Name)
		}
	} else {
		metadata, _ := w.object["metadata"].(map[string]any)
		name, _ := metadata["name"].(string)
		names = append(names, name)
		owners, _ := metadata["ownerReferences"].([]any)
		for _, o := range owners {
			owner, _ := o.(map[string]any)
			name, _ := owner["name"].(string)
			add(name)
		}
	}
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

func (w *workload) image(name string) string {
	for _, c := range containers(w.spec) {
		if c.Name == name {
			return c.Image
		}
	}
	return ""
}
