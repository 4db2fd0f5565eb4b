package rbac

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	// maxLine bounds one line of an audit log: with whole requests and answers, of which etcd takes 1.5 MiB, it is two of those.
	maxLine = 4 << 20
	// maxUses bounds what is remembered of one log: distinct uses, of which an account has some dozen.
	maxUses = 200_000
)

// Log is what the service accounts in an audit log did.
type Log struct {
	Events      int
	First, Last time.Time
	Problems    []string
	uses        map[subject]map[use]int
	count       int
}

// use is one verb on one kind of object in one namespace.
type use struct {
	verb, group, resource, namespace string
	url                              string // of what is no object
}

// event is what we need of one of audit.k8s.io/v1.
type event struct {
	Kind, Stage, Verb, RequestURI string
	User, ImpersonatedUser        *struct{ Username string }
	ObjectRef                     *struct{ Resource, Subresource, Namespace, APIGroup string }
	ResponseStatus                *struct{ Code int }
	Annotations                   map[string]string
	StageTimestamp                time.Time
}

// ReadAuditLog reads what an API server wrote: one event in JSON a line. A line that is none is told and left out.
func ReadAuditLog(name string, r io.Reader) (*Log, error) {
	log := &Log{uses: map[subject]map[use]int{}}
	lines := bufio.NewReaderSize(r, 64<<10)
	bad, long, first := 0, 0, 0
	for n := 1; ; n++ {
		line, whole, err := nextLine(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the audit log %s, line %d: %w", name, n, err)
		}
		var e event
		switch {
		case !whole:
			long++
		case len(bytes.TrimSpace(line)) == 0:
		case json.Unmarshal(line, &e) != nil || e.Kind != "Event":
			if bad++; first == 0 {
				first = n
			}
		default:
			log.take(e)
		}
	}
	if bad > 0 {
		log.Problems = append(log.Problems, fmt.Sprintf("%s: %d lines are no events of audit.k8s.io, line %d first", name, bad, first))
	}
	if long > 0 {
		log.Problems = append(log.Problems, fmt.Sprintf("%s: %d lines are longer than %d MiB: what they tell is missing", name, long, maxLine>>20))
	}
	if log.count >= maxUses {
		log.Problems = append(log.Problems, fmt.Sprintf("%s: more than %d distinct uses: what came after is missing", name, maxUses))
	}
	if log.Events == 0 {
		return nil, fmt.Errorf("read the audit log %s: there is no event in it: give what the API server writes with --audit-log-path, JSON lines", name)
	}
	return log, nil
}

// nextLine reads a line; of one that is too long the rest is passed over, and it is not whole.
func nextLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	whole = true
	for {
		part, err := r.ReadSlice('\n')
		if whole = whole && len(line)+len(part) <= maxLine; whole {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(line) > 0 || !whole):
			return line, whole, nil
		}
		return line, whole, err
	}
}

// take counts what was allowed. The same request comes in several stages.
func (l *Log) take(e event) {
	l.Events++
	if at := e.StageTimestamp; !at.IsZero() {
		if l.First.IsZero() || at.Before(l.First) {
			l.First = at
		}
		if at.After(l.Last) {
			l.Last = at
		}
	}
	if e.Stage == "RequestReceived" || e.User == nil || e.Verb == "" || e.Annotations["authorization.k8s.io/decision"] == "forbid" ||
		e.ResponseStatus != nil && (e.ResponseStatus.Code == 401 || e.ResponseStatus.Code == 403) {
		return
	}
	who := e.User.Username
	if e.ImpersonatedUser != nil {
		resource := "users"
		if _, ok := accountOf(e.ImpersonatedUser.Username); ok {
			resource = "serviceaccounts"
		}
		l.note(who, use{verb: "impersonate", resource: resource})
		who = e.ImpersonatedUser.Username
	}
	u := use{verb: e.Verb}
	if o := e.ObjectRef; o != nil && o.Resource != "" {
		if u.group, u.resource, u.namespace = o.APIGroup, o.Resource, o.Namespace; o.Subresource != "" {
			u.resource += "/" + o.Subresource
		}
	} else {
		u.url, _, _ = strings.Cut(e.RequestURI, "?")
	}
	l.note(who, u)
}

func (l *Log) note(name string, u use) {
	s, ok := accountOf(name)
	if !ok || len(u.url) > 256 || len(u.resource) > 256 {
		return
	}
	if l.uses[s] == nil {
		l.uses[s] = map[use]int{}
	}
	if l.uses[s][u] == 0 {
		if l.count >= maxUses {
			return
		}
		l.count++
	}
	l.uses[s][u]++
}

// accountOf reads the name that a service account has as a user.
func accountOf(name string) (subject, bool) {
	rest, ok := strings.CutPrefix(name, "system:serviceaccount:")
	namespace, name, found := strings.Cut(rest, ":")
	return subject{account, namespace, name}, ok && found && name != "" && namespace != ""
}

// Usage is what one service account may do, and did.
type Usage struct {
	Account  string    `json:"account"`
	Requests int       `json:"requests"`
	From     time.Time `json:"from,omitzero"` // of the log
	To       time.Time `json:"to,omitzero"`
	Granted  []string  `json:"granted"`
	Used     []string  `json:"used"`
	Unused   []string  `json:"unused"`
	Role     string    `json:"role"` // YAML: the smallest roles and their bindings
	Notes    []string  `json:"notes"`
}

// enough is how long a log should be before something that it does not have is taken away.
const enough = 7 * 24 * time.Hour

// Compare holds what service accounts ("NAMESPACE/NAME") were granted against what a log says that they used. Without a log it
// says what was granted.
func Compare(objects []map[string]any, log *Log, names ...string) ([]Usage, error) {
	c, err := read(objects)
	if err != nil {
		return nil, err
	}
	all := []Usage{}
	for _, name := range names {
		u, err := c.usage(log, name)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

func (c *cluster) usage(log *Log, name string) (u Usage, err error) {
	namespace, own, ok := strings.Cut(name, "/")
	s := subject{account, namespace, own}
	if !ok || c.kinds[account] && !c.accounts[s] {
		return Usage{}, fmt.Errorf("there is no service account %q among the objects: it is NAMESPACE/NAME", name)
	}
	u = Usage{Account: name, Granted: []string{}, Used: []string{}, Unused: []string{}, Notes: []string{}}
	rights := c.rightsOf(s)
	for _, r := range rights {
		u.Granted = append(u.Granted, r.String())
	}
	u.Granted = slices.Compact(slices.Sorted(slices.Values(u.Granted)))
	if log == nil {
		return u, nil
	}
	u.From, u.To = log.First, log.Last
	u.Notes = append(u.Notes, log.Problems...)
	if span := log.Last.Sub(log.First); span < enough {
		u.Notes = append(u.Notes, fmt.Sprintf("the log has %s only: what is done less often is missing in the role", span.Round(time.Minute)))
	}
	uses := log.of(s)
	for one, times := range uses {
		u.Requests += times
		u.Used = append(u.Used, one.String())
	}
	slices.Sort(u.Used)
	for _, r := range rights {
		if !slices.ContainsFunc(sortedUses(uses), r.covers) {
			u.Unused = append(u.Unused, r.String())
		}
	}
	u.Unused = slices.Compact(slices.Sorted(slices.Values(u.Unused)))
	u.Role, err = smallest(s, uses)
	return u, err
}

// of is what an account did, without what everybody may.
func (l *Log) of(s subject) map[use]int {
	out := map[use]int{}
	for u, times := range l.uses[s] {
		if !u.everybodys() {
			out[u] = times
		}
	}
	return out
}

// everybodys are the rights of system:basic-user and system:discovery.
func (u use) everybodys() bool {
	if u.url != "" {
		for _, open := range []string{"/api", "/apis", "/healthz", "/livez", "/readyz", "/openapi", "/version"} {
			if u.verb == "get" && (u.url == open || strings.HasPrefix(u.url, open+"/")) {
				return true
			}
		}
	}
	return u.verb == "create" && slices.Contains([]string{"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"}, u.resource)
}

func (u use) String() string {
	if u.url != "" {
		return u.verb + " " + u.url
	}
	return u.verb + " " + named(u.group, u.resource) + in(u.namespace)
}

// named is how kubectl calls a resource: deployments.apps.
func named(group, resource string) string {
	if group == "" {
		return resource
	}
	plain, sub, ok := strings.Cut(resource, "/")
	if ok {
		return plain + "." + group + "/" + sub
	}
	return plain + "." + group
}

// permission is one verb on one resource that a rule allows, where its binding says.
type permission struct {
	rule
	verb, group, resource, namespace string
}

func (p permission) String() string {
	text := p.verb + " " + named(p.group, p.resource) + in(p.namespace)
	if len(p.names) > 0 {
		text += " named " + some(p.names)
	}
	return text
}

// covers reports whether a use was by this permission.
func (p permission) covers(u use) bool {
	one := rule{[]string{p.verb}, []string{p.group}, []string{p.resource}, nil}
	return u.url == "" && one.allows(u.verb, u.group, u.resource) && (p.namespace == "" || p.namespace == u.namespace)
}

// mostPermissions bounds what is listed of one account.
const mostPermissions = 2000

// rightsOf are all permissions of an account that are its own: not those of groups that everybody is in.
func (c *cluster) rightsOf(s subject) (all []permission) {
	for _, b := range c.bindings {
		r := c.roles[b.role]
		if r == nil || !slices.Contains(b.subjects, s) {
			continue
		}
		for _, one := range r.rules {
			for _, g := range one.groups {
				for _, resource := range one.resources {
					for _, verb := range one.verbs {
						if len(all) < mostPermissions {
							all = append(all, permission{one, verb, g, resource, b.namespace})
						}
					}
				}
			}
		}
	}
	return all
}

func sortedUses(uses map[use]int) []use {
	list := make([]use, 0, len(uses))
	for u := range uses {
		list = append(list, u)
	}
	slices.SortFunc(list, func(a, b use) int {
		return strings.Compare(strings.Join([]string{a.namespace, a.group, a.resource, a.url, a.verb}, "\x00"), strings.Join([]string{b.namespace, b.group, b.resource, b.url, b.verb}, "\x00"))
	})
	return list
}

// smallest writes the roles that have just what was used: one for each namespace, and one for the cluster.
func smallest(s subject, uses map[use]int) (string, error) {
	spaces := map[string][]use{}
	for _, u := range sortedUses(uses) {
		spaces[u.namespace] = append(spaces[u.namespace], u)
	}
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	for _, namespace := range sortedKeys(spaces) {
		kind, meta := "Role", map[string]any{"name": s.name + "-used", "namespace": namespace}
		if namespace == "" {
			kind, meta = "ClusterRole", map[string]any{"name": s.namespace + "-" + s.name + "-used"}
		}
		role := map[string]any{"apiVersion": rbacGroup + "/v1", "kind": kind, "metadata": meta, "rules": rulesFor(spaces[namespace])}
		binding := map[string]any{
			"apiVersion": rbacGroup + "/v1", "kind": kind + "Binding", "metadata": meta,
			"roleRef":  map[string]any{"apiGroup": rbacGroup, "kind": kind, "name": meta["name"]},
			"subjects": []any{map[string]any{"kind": account, "name": s.name, "namespace": s.namespace}},
		}
		for _, document := range []any{role, binding} {
			if err := encoder.Encode(document); err != nil {
				return "", fmt.Errorf("write the smallest role of %s: %w", s, err)
			}
		}
	}
	err := encoder.Close()
	return b.String(), err
}

// rulesFor joins resources of one group with the same verbs.
func rulesFor(uses []use) []any {
	type key struct{ group, resource, url string }
	verbs, order := map[key][]string{}, []key{}
	for _, u := range uses {
		k := key{u.group, u.resource, u.url}
		if verbs[k] == nil {
			order = append(order, k)
		}
		verbs[k] = append(verbs[k], u.verb)
	}
	rules := []any{}
	done := map[string]map[string]any{}
	for _, k := range order {
		if k.url != "" {
			rules = append(rules, map[string]any{"nonResourceURLs": []string{k.url}, "verbs": verbs[k]})
			continue
		}
		same := k.group + " " + strings.Join(verbs[k], " ")
		if rule := done[same]; rule != nil {
			rule["resources"] = append(rule["resources"].([]string), k.resource)
			continue
		}
		done[same] = map[string]any{"apiGroups": []string{k.group}, "resources": []string{k.resource}, "verbs": verbs[k]}
		rules = append(rules, done[same])
	}
	return rules
}

// Add takes over what another log has, as where a log was cut into several files.
func (l *Log) Add(other *Log) {
	l.Events += other.Events
	l.Problems = append(l.Problems, other.Problems...)
	if l.First.IsZero() || !other.First.IsZero() && other.First.Before(l.First) {
		l.First = other.First
	}
	if other.Last.After(l.Last) {
		l.Last = other.Last
	}
	for s, uses := range other.uses {
		if l.uses[s] == nil {
			l.uses[s] = map[use]int{}
		}
		for u, times := range uses {
			l.uses[s][u] += times
		}
	}
}

// Accounts are the service accounts of a log, as NAMESPACE/NAME.
func (l *Log) Accounts() (all []string) {
	for _, s := range sortedSubjects(l.uses) {
		all = append(all, s.namespace+"/"+s.name)
	}
	return all
}
