package rbac

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The bounds of one cluster.
const (
	// MaxBindings bounds the bindings of a cluster. The largest that are told of have some ten thousand.
	MaxBindings = 100_000
	// maxSubjects bounds the subjects of all bindings together.
	maxSubjects = 1_000_000
	// maxRules bounds the rules of all roles together, aggregated ones included.
	maxRules = 1_000_000
)

// rule is one of a role's.
type rule struct{ verbs, groups, resources, names []string }

// role has rules. Its name has its namespace before it, where it is in one.
type role struct {
	kind, name string
	labels     map[string]string
	selectors  []selector // of the roles that it is made of
	rules      []rule
}

type selector struct {
	labels map[string]string
	other  bool // it has more than labels, which is not understood: it takes nothing
}

// binding gives a role to subjects.
type binding struct {
	kind, name string
	namespace  string // that it is in; empty: the whole cluster
	role       string // the kind and name
	subjects   []subject
}

type subject struct{ kind, namespace, name string }

// String is how people call it: "ServiceAccount shop/web", "User ann", "Group dev".
func (s subject) String() string {
	if s.kind == account {
		return s.kind + " " + s.namespace + "/" + s.name
	}
	return s.kind + " " + s.name
}

const (
	account = "ServiceAccount"
	group   = "Group"
	user    = "User"
)

// cluster is what its objects say about rights.
type cluster struct {
	roles      map[string]*role // by kind and name
	bindings   []binding
	accounts   map[subject]bool
	tokens     map[subject][]string // secrets that have a token of the account, by account
	pods       map[subject][]string // what runs as an account and has its token
	templates  map[subject]bool     // accounts that something names that runs pods
	levels     map[string]string    // of Pod Security that is enforced, by namespace
	control    bool                 // a node of the control plane runs pods of the cluster
	kinds      map[string]bool
	configmaps map[string]bool
	problems   []string
	subjects   int
	rules      int
}

// read sorts objects by what they are. What is malformed is told and left out.
func read(objects []map[string]any) (*cluster, error) {
	c := &cluster{
		roles: map[string]*role{}, accounts: map[subject]bool{}, tokens: map[subject][]string{}, pods: map[subject][]string{},
		templates: map[subject]bool{}, levels: map[string]string{}, kinds: map[string]bool{}, configmaps: map[string]bool{},
	}
	automount := map[subject]bool{}
	for _, o := range objects {
		if a := newObject(o); a.kind == account {
			off, said := o["automountServiceAccountToken"].(bool)
			automount[subject{account, a.namespace, a.name}] = !said || off
		}
	}
	for _, o := range objects {
		if err := c.add(newObject(o), automount); err != nil {
			return nil, err
		}
	}
	c.aggregate()
	if c.rules > maxRules {
		return nil, fmt.Errorf("the roles have more than %d rules", maxRules)
	}
	return c, nil
}

// object is one of the cluster's.
type object struct {
	kind, namespace, name string
	raw                   map[string]any
}

func newObject(raw map[string]any) object {
	return object{textAt(raw, "kind"), textAt(raw, "metadata", "namespace"), textAt(raw, "metadata", "name"), raw}
}

func (o object) title() string {
	if o.namespace != "" {
		return o.kind + " " + o.namespace + "/" + o.name
	}
	return o.kind + " " + o.name
}

var errBindings = errors.New("too many")

func (c *cluster) add(o object, automount map[subject]bool) error {
	c.kinds[o.kind] = true
	switch o.kind {
	case "Role", "ClusterRole":
		r := &role{kind: o.kind, name: o.title(), labels: texts(at(o.raw, "metadata", "labels")), rules: rulesOf(o.raw["rules"])}
		for _, s := range list(at(o.raw, "aggregationRule", "clusterRoleSelectors")) {
			r.selectors = append(r.selectors, selector{texts(at(s, "matchLabels")), len(list(at(s, "matchExpressions"))) > 0})
		}
		c.roles[o.title()] = r
		c.rules += len(r.rules)
	case "RoleBinding", "ClusterRoleBinding":
		return c.bind(o)
	case account:
		s := subject{account, o.namespace, o.name}
		c.accounts[s] = true
		for _, secret := range list(o.raw["secrets"]) {
			c.tokens[s] = append(c.tokens[s], textAt(secret, "name"))
		}
	case "Secret":
		if s := textAt(o.raw, "metadata", "annotations", "kubernetes.io/service-account.name"); s != "" {
			of := subject{account, o.namespace, s}
			if !slices.Contains(c.tokens[of], o.name) {
				c.tokens[of] = append(c.tokens[of], o.name)
			}
		}
	case "Namespace":
		c.levels[o.name] = textAt(o.raw, "metadata", "labels", "pod-security.kubernetes.io/enforce")
	case "Node":
		labels := texts(at(o.raw, "metadata", "labels"))
		_, now := labels["node-role.kubernetes.io/control-plane"]
		_, old := labels["node-role.kubernetes.io/master"]
		c.control = c.control || now || old
	case "ConfigMap":
		c.configmaps[o.namespace+"/"+o.name] = true
	default:
		c.runs(o, automount)
	}
	return nil
}

func (c *cluster) bind(o object) error {
	ref := textAt(o.raw, "roleRef", "kind")
	b := binding{kind: o.kind, name: o.title(), namespace: o.namespace, role: ref + " " + textAt(o.raw, "roleRef", "name")}
	if ref == "Role" {
		b.role = ref + " " + o.namespace + "/" + textAt(o.raw, "roleRef", "name")
	}
	if o.kind == "RoleBinding" && o.namespace == "" {
		b.namespace = "default"
	}
	if ref != "Role" && ref != "ClusterRole" {
		c.problems = append(c.problems, o.title()+" names no role: it gives nothing")
		return nil
	}
	for _, s := range list(o.raw["subjects"]) {
		one := subject{textAt(s, "kind"), textAt(s, "namespace"), textAt(s, "name")}
		switch {
		case one.kind == account && one.namespace == "":
			one.namespace = b.namespace
		case one.kind != account:
			one.namespace = ""
		}
		if one.name == "" || !slices.Contains([]string{account, group, user}, one.kind) {
			c.problems = append(c.problems, o.title()+" has a subject that is nobody")
			continue
		}
		// A service account is also a user of a long name.
		if rest, ok := strings.CutPrefix(one.name, "system:serviceaccount:"); ok && one.kind == user {
			if namespace, name, ok := strings.Cut(rest, ":"); ok {
				one = subject{account, namespace, name}
			}
		}
		b.subjects = append(b.subjects, one)
	}
	c.bindings = append(c.bindings, b)
	c.subjects += len(b.subjects)
	if len(c.bindings) > MaxBindings || c.subjects > maxSubjects {
		return fmt.Errorf("%w bindings: more than %d, or %d subjects", errBindings, MaxBindings, maxSubjects)
	}
	return nil
}

// runs notes the service account of what runs a pod.
func (c *cluster) runs(o object, automount map[subject]bool) {
	spec := at(o.raw, "spec", "template", "spec")
	switch o.kind {
	case "Pod":
		spec = o.raw["spec"]
	case "CronJob":
		spec = at(o.raw, "spec", "jobTemplate", "spec", "template", "spec")
	}
	if at(spec, "containers") == nil {
		return
	}
	name := textAt(spec, "serviceAccountName")
	if name == "" {
		name = textAt(spec, "serviceAccount")
	}
	if name == "" {
		name = "default"
	}
	s := subject{account, o.namespace, name}
	if s.namespace == "" {
		s.namespace = "default"
	}
	c.templates[s] = true
	has, said := at(spec, "automountServiceAccountToken").(bool)
	if !said {
		off, known := automount[s]
		has = !known || off
	}
	if !has {
		return
	}
	if owned := len(list(at(o.raw, "metadata", "ownerReferences"))) > 0; owned && len(c.pods[s]) > 0 {
		return // what made it is told
	}
	if len(c.pods[s]) < 16 {
		c.pods[s] = append(c.pods[s], o.title())
	}
}

// aggregate completes roles that are made of others. In a live cluster that is done already.
func (c *cluster) aggregate() {
	var parts []*role
	for _, r := range c.roles {
		if r.kind == "ClusterRole" && len(r.labels) > 0 {
			parts = append(parts, r)
		}
	}
	slices.SortFunc(parts, func(a, b *role) int { return strings.Compare(a.name, b.name) })
	for _, r := range c.roles {
		for _, s := range r.selectors {
			for _, part := range parts {
				if part != r && s.takes(part) && c.rules <= maxRules {
					r.rules = append(r.rules, part.rules...)
					c.rules += len(part.rules)
				}
			}
		}
	}
}

func (s selector) takes(r *role) bool {
	if s.other || len(s.labels) == 0 {
		return false
	}
	for key, value := range s.labels {
		if r.labels[key] != value {
			return false
		}
	}
	return true
}

func rulesOf(v any) (all []rule) {
	for _, r := range list(v) {
		all = append(all, rule{strs(at(r, "verbs")), strs(at(r, "apiGroups")), strs(at(r, "resources")), strs(at(r, "resourceNames"))})
	}
	return all
}

// at walks into maps; nil where there is nothing.
func at(v any, path ...string) any {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func textAt(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func strs(v any) (out []string) {
	for _, item := range list(v) {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

func texts(v any) map[string]string {
	m, _ := v.(map[string]any)
	out := make(map[string]string, len(m))
	for key, item := range m {
		if s, ok := item.(string); ok {
			out[key] = s
		}
	}
	return out
}
