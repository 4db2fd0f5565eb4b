package rbac

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bulkhead"
)

// findings are what is wrong with roles, bindings and accounts.
func (c *cluster) findings() []Finding {
	all := []Finding{}
	holders := map[string][]string{} // of roles
	spread := map[string]bool{}      // roles that are given in the whole cluster
	rightful := map[subject]bool{}
	for _, b := range c.bindings {
		spread[b.role] = spread[b.role] || b.namespace == ""
		for _, s := range b.subjects {
			rightful[s] = true
			if len(holders[b.role]) < mostSubjects {
				holders[b.role] = append(holders[b.role], s.String())
			}
		}
		all = append(all, c.ofBinding(b)...)
	}
	for _, key := range sortedKeys(c.roles) {
		if len(holders[key]) > 0 {
			all = append(all, c.roles[key].wrong(holders[key], spread[key])...)
		}
	}
	all = append(all, c.unused(rightful)...)
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(btoi(a.System), btoi(b.System)), b.Severity.Rank()-a.Severity.Rank(), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Object, b.Object))
	})
	return all
}

// ofBinding looks at who it is for, and whether that and the role are there.
func (c *cluster) ofBinding(b binding) (all []Finding) {
	own := strings.HasPrefix(b.name, "ClusterRoleBinding system:") || strings.HasPrefix(b.name, "RoleBinding kube-") || strings.HasPrefix(b.name, "ClusterRoleBinding kubeadm:")
	find := func(kind string, severity bulkhead.Severity, message string, list ...string) {
		all = append(all, Finding{kind, severity, b.name, append([]string{}, list[:min(len(list), mostSubjects)]...), message, own})
	}
	kind, _, _ := strings.Cut(b.role, " ")
	if c.kinds[kind] && c.roles[b.role] == nil {
		find(Stale, bulkhead.Medium, b.role+" does not exist: whoever may make it gives its subjects what they like")
	}
	var gone, defaults []string
	for _, s := range b.subjects {
		switch {
		case s.kind == account && c.kinds[account] && !c.accounts[s]:
			gone = append(gone, s.String())
		case s.kind == account && s.name == "default":
			defaults = append(defaults, s.String())
		case s.kind == group && (s.name == "system:serviceaccounts" || strings.HasPrefix(s.name, "system:serviceaccounts:")) && !strings.HasPrefix(b.role, "ClusterRole system:"):
			defaults = append(defaults, s.String())
		case (s.name == "system:anonymous" || s.name == "system:unauthenticated") && b.role != "ClusterRole system:public-info-viewer" && !strings.Contains(b.name, "kubeadm:bootstrap-signer-clusterinfo"):
			find(Anonymous, bulkhead.Critical, b.role+" is given to whoever reaches the API server", s.String())
		case s.name == "system:authenticated" && !slices.Contains([]string{"ClusterRole system:basic-user", "ClusterRole system:discovery", "ClusterRole system:public-info-viewer"}, b.role):
			find(Default, bulkhead.High, b.role+" is given to everybody who can sign in, every pod included", s.String())
		}
	}
	if len(gone) > 0 {
		find(Stale, bulkhead.Low, "these do not exist: whoever may make one gets its rights", gone...)
	}
	if len(defaults) > 0 {
		find(Default, bulkhead.Medium, b.role+" is given to what every pod runs as that names no service account", defaults...)
	}
	return all
}

// wrong looks at what a role that somebody has allows.
func (r *role) wrong(holders []string, spread bool) (all []Finding) {
	own := strings.HasPrefix(r.name, "ClusterRole system:") || slices.Contains([]string{"ClusterRole cluster-admin", "ClusterRole admin", "ClusterRole edit", "ClusterRole view"}, r.name)
	find := func(kind string, severity bulkhead.Severity, message string) {
		if !slices.ContainsFunc(all, func(f Finding) bool { return f.Kind == kind && f.Message == message }) {
			all = append(all, Finding{kind, severity, r.name, slices.Clone(holders), message, own})
		}
	}
	for _, one := range r.rules {
		switch {
		case one.all():
			find(Wildcard, bulkhead.Critical, "it allows everything")
		case slices.Contains(one.verbs, "*") && slices.Contains(one.resources, "*"):
			find(Wildcard, bulkhead.High, "it allows every verb on every resource of "+some(one.groups))
		case slices.Contains(one.resources, "*"):
			find(Wildcard, bulkhead.Medium, "it allows "+some(one.verbs)+" on every resource of "+some(one.groups)+", those included that come later")
		case slices.Contains(one.verbs, "*"):
			find(Wildcard, bulkhead.Medium, "it allows every verb on "+some(one.resources)+", those included that come later")
		}
		for _, verb := range []string{"escalate", "bind", "impersonate"} {
			if slices.Contains(one.verbs, verb) {
				find(Escalation, bulkhead.High, "it allows "+verb+" on "+some(one.resources))
			}
		}
	}
	if slices.ContainsFunc(r.grants(spread), func(g grant) bool { return g.right == readSecrets && g.names == nil }) && !slices.ContainsFunc(r.rules, rule.all) {
		find(Secrets, bulkhead.Medium, "it allows to read every secret where it is given")
	}
	return all
}

func some(words []string) string {
	named := make([]string, 0, len(words))
	for _, w := range words[:min(len(words), 6)] {
		if w == "" {
			w = "the core group"
		}
		named = append(named, w)
	}
	if len(words) > 6 {
		named = append(named, fmt.Sprintf("%d more", len(words)-6))
	}
	return strings.Join(named, ", ")
}

// unused are service accounts with rights that nothing runs as.
func (c *cluster) unused(rightful map[subject]bool) (all []Finding) {
	if !c.kinds["Pod"] && len(c.templates) == 0 {
		return nil
	}
	for _, s := range sortedSubjects(c.accounts) {
		if rightful[s] && !c.templates[s] {
			all = append(all, Finding{Unused, bulkhead.Low, s.String(), []string{}, "it has rights, and no pod runs as it: who uses its tokens?", system(s)})
		}
	}
	return all
}
