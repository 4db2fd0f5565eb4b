package kube

import (
	"fmt"
	"sync"

	"bulkhead/rule"

	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// evaluator is upstream's own, with upstream's own checks: no second reading of the standard.
var evaluator = sync.OnceValue(func() policy.Evaluator {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err) // the checks are compiled in: cannot happen
	}
	return e
})

// Privileged is the policy of a cluster in which no namespace asks for anything.
func Privileged() psapi.Policy { return Level(psapi.LevelPrivileged) }

// Level is the policy that enforces a level in its newest version, and warns of nothing else.
func Level(l psapi.Level) psapi.Policy {
	enforced := psapi.LevelVersion{Level: l, Version: psapi.LatestVersion()}
	open := psapi.LevelVersion{Level: psapi.LevelPrivileged, Version: psapi.LatestVersion()}
	return psapi.Policy{Enforce: enforced, Audit: open, Warn: open}
}

// ParseLevel reads "restricted" or "restricted:v1.30".
func ParseLevel(text string) (psapi.Policy, error) {
	name, version, versioned := cutVersion(text)
	level, err := psapi.ParseLevel(name)
	if err != nil {
		return psapi.Policy{}, fmt.Errorf("%q is no level of Pod Security: %w", name, err)
	}
	p := Level(level)
	if versioned {
		if p.Enforce.Version, err = psapi.ParseVersion(version); err != nil {
			return psapi.Policy{}, fmt.Errorf("%q is no version of Pod Security: %w", version, err)
		}
	}
	return p, nil
}

// podSecurity does as upstream's admission plug-in does: the enforced level refuses pods, while of
// templates the audited level is written down and the warned one told.
func (j *judge) podSecurity() {
	w := j.workload
	levels, wrong := psapi.PolicyToEvaluate(j.request.NamespaceLabels, j.PodSecurity)
	if j.PodSecurityExempt(w.spec.RuntimeClassName) {
		return
	}
	if len(wrong) > 0 {
		j.audits = append(j.audits, Reason{RulePodSecurity, fmt.Sprintf("the namespace's labels cannot be read: %v", wrong.ToAggregate())})
	}
	refused := false
	if w.isPod() || j.Templates {
		if detail := j.violates(levels.Enforce); detail != "" {
			refused = true
			j.find(finding{Reason: Reason{RulePodSecurity, fmt.Sprintf("violates PodSecurity %q: %s", levels.Enforce, detail)}, action: rule.Deny})
		}
	}
	if detail := j.violates(levels.Audit); detail != "" {
		j.audits = append(j.audits, Reason{RulePodSecurity, fmt.Sprintf("would violate PodSecurity %q: %s", levels.Audit, detail)})
	}
	if detail := j.violates(levels.Warn); detail != "" && !refused {
		j.warnings = append(j.warnings, Reason{RulePodSecurity, fmt.Sprintf("would violate PodSecurity %q: %s", levels.Warn, detail)})
	}
}

func (j *judge) violates(level psapi.LevelVersion) string {
	result := policy.AggregateCheckResults(evaluator().EvaluatePod(level, j.workload.meta, j.workload.spec))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}
