package baseline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead"
	"bulkhead/rule/condition"
	"bulkhead/scan/config"
)

// Object is one Kubernetes object, with the file that it was read from.
type Object struct {
	Path string
	Raw  map[string]any
}

// MaxObjects bounds the objects of one cluster that are read, and MaxObjectFile one file of them: what `kubectl get -o json`
// writes of 5,000 objects has some 30 MiB.
const (
	MaxObjects    = 200_000
	MaxObjectFile = 256 << 20
)

// ReadObjects reads a file of JSON or YAML: one object, several documents, or a List of them.
func ReadObjects(name string, content []byte) ([]Object, error) {
	var all []Object
	add := func(raw map[string]any) error {
		if all = addObject(all, name, raw); len(all) > MaxObjects {
			return fmt.Errorf("%s: more than %d objects", name, MaxObjects)
		}
		return nil
	}
	decode := yaml.NewDecoder(bytes.NewReader(content)).Decode
	if strings.HasPrefix(strings.TrimSpace(string(content[:min(len(content), 64)])), "{") {
		decode = json.NewDecoder(bytes.NewReader(content)).Decode
	}
	err := decodeAll(name, add, decode)
	return all, err
}

func decodeAll(name string, add func(map[string]any) error, decode func(any) error) error {
	for n := 1; ; n++ {
		raw := map[string]any{}
		err := decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the objects in %s, document %d: %w", name, n, err)
		}
		if err := add(raw); err != nil {
			return err
		}
	}
}

func addObject(all []Object, name string, raw map[string]any) []Object {
	items, ok := raw["items"].([]any)
	if kind, _ := raw["kind"].(string); ok && strings.HasSuffix(kind, "List") {
		for _, item := range items {
			if m, ok := item.(map[string]any); ok {
				if m["kind"] == nil {
					m["kind"], m["apiVersion"] = strings.TrimSuffix(kind, "List"), raw["apiVersion"]
				}
				all = addObject(all, name, m)
			}
		}
		return all
	}
	if raw["kind"] == nil {
		return all
	}
	return append(all, Object{name, raw})
}

// text reads a field; empty where there is none.
func (o Object) text(path ...string) string {
	v, _ := lookup(o.Raw, path)
	s, _ := v.(string)
	return s
}

func (o Object) kind() string      { return o.text("kind") }
func (o Object) namespace() string { return o.text("metadata", "namespace") }

// title is how a person calls it: "Deployment shop/web".
func (o Object) title() string {
	name := o.text("metadata", "name")
	if ns := o.namespace(); ns != "" {
		name = ns + "/" + name
	}
	return o.kind() + " " + name
}

// Owned reports whether another object made it, which is looked at itself.
func (o Object) Owned() bool {
	owners, ok := lookup(o.Raw, []string{"metadata", "ownerReferences"})
	list, _ := owners.([]any)
	return ok && len(list) > 0
}

// template is the pod that an object runs.
func (o Object) template() map[string]any {
	path := []string{"spec", "template"}
	switch o.kind() {
	case "Pod":
		return o.Raw
	case "CronJob":
		path = []string{"spec", "jobTemplate", "spec", "template"}
	case "PodTemplate":
		path = []string{"template"}
	}
	v, _ := lookup(o.Raw, path)
	m, _ := v.(map[string]any)
	if spec, ok := m["spec"].(map[string]any); !ok || spec["containers"] == nil {
		return nil
	}
	return m
}

// systemNamespaces are the cluster's own: what runs there has rights that nothing else needs.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

func (o Object) system() bool {
	return slices.Contains(systemNamespaces, o.namespace()) || strings.HasPrefix(o.text("metadata", "name"), "system:")
}

// always are kinds that every cluster has: none of them among the objects means that they were not asked for, and not
// that there are none.
var always = []string{"Namespace", "Pod", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Node", "Service", "ConfigMap", "Secret"}

// optional are kinds of which there may be none.
var optional = []string{"NetworkPolicy", "ResourceQuota", "LimitRange", "PodDisruptionBudget", "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "Ingress", "StorageClass", "PersistentVolume", "CertificateSigningRequest", "APIService", "RuntimeClass", "HorizontalPodAutoscaler", "IngressClass", "EndpointSlice"}

// clusterFacts are the objects by their kinds: "cluster" of a check's names. Workloads are what runs pods and is owned by
// nothing else.
func clusterFacts(objects []Object) any {
	if objects == nil {
		return condition.Unreadable("the cluster's objects were not given: name them with --objects")
	}
	x := newIndex(objects)
	kinds, workloads := map[string][]any{}, []any{}
	for _, o := range objects {
		entry := x.entry(o)
		kinds[o.kind()] = append(kinds[o.kind()], entry)
		if t := o.template(); t != nil && !o.Owned() {
			entry = maps.Clone(entry)
			entry["pod"], entry["kind"], entry["bound"] = t["spec"], o.kind(), x.isBound(o.namespace(), t["spec"])
			workloads = append(workloads, entry)
		}
	}
	facts := map[string]any{"workloads": workloads}
	if len(workloads) == 0 {
		facts["workloads"] = condition.Unreadable("there is nothing among the objects that runs a pod")
	}
	for _, kind := range always {
		facts[kind] = none(kind)
	}
	for _, kind := range optional {
		facts[kind] = []any{}
	}
	for kind, list := range kinds {
		facts[kind] = list
	}
	return facts
}

func none(kind string) any { return condition.Unreadable("there is no " + kind + " among the objects") }

// index knows what objects say of each other, so that no check has to compare all with all.
type index struct {
	kinds    map[string]bool
	used     map[string]bool  // namespaces that something runs in
	policies map[string][]any // network policies by namespace
	quotas   map[string]bool
	limits   map[string]bool
	rules    map[string]any // of cluster roles by name
	accounts map[string]bool
	bound    map[string]bool // service accounts with rights in the whole cluster
}

func newIndex(objects []Object) *index {
	x := &index{kinds: map[string]bool{}, used: map[string]bool{}, policies: map[string][]any{}, quotas: map[string]bool{}, limits: map[string]bool{}, rules: map[string]any{}, accounts: map[string]bool{}, bound: map[string]bool{}}
	for _, o := range objects {
		x.add(o)
	}
	return x
}

func (x *index) add(o Object) {
	ns, name := o.namespace(), o.text("metadata", "name")
	x.kinds[o.kind()] = true
	x.used[ns] = x.used[ns] || o.template() != nil
	switch o.kind() {
	case "NetworkPolicy":
		x.policies[ns] = append(x.policies[ns], map[string]any{"name": name, "object": o.Raw})
	case "ResourceQuota":
		x.quotas[ns] = true
	case "LimitRange":
		x.limits[ns] = true
	case "ClusterRole":
		x.rules[name] = listOf(o.Raw["rules"])
	case "ServiceAccount":
		x.accounts[ns+"/"+name] = true
	case "ClusterRoleBinding":
		for _, s := range listOf(o.Raw["subjects"]) {
			x.bound[field(s, "namespace")+"/"+field(s, "name")] = true
		}
	}
}

func listOf(v any) []any {
	l, ok := v.([]any)
	if !ok {
		return []any{}
	}
	return l
}

func field(v any, name string) string {
	m, _ := v.(map[string]any)
	s, _ := m[name].(string)
	return s
}

func (x *index) entry(o Object) map[string]any {
	name := o.text("metadata", "name")
	e := map[string]any{"name": name, "namespace": o.namespace(), "title": o.title(), "system": o.system(), "object": o.Raw, "labels": labels(o)}
	switch o.kind() {
	case "Namespace":
		e["used"], e["policies"], e["quota"], e["limits"] = x.used[name], listOf(any(x.policies[name])), x.quotas[name], x.limits[name]
	case "ClusterRoleBinding", "RoleBinding":
		e["role"], e["subjects"], e["rules"] = o.text("roleRef", "name"), x.subjects(o), x.rulesOf(o)
	}
	return e
}

func (x *index) subjects(o Object) []any {
	out := []any{}
	for _, s := range listOf(o.Raw["subjects"]) {
		there := any(x.accounts[field(s, "namespace")+"/"+field(s, "name")])
		if !x.kinds["ServiceAccount"] {
			there = none("ServiceAccount")
		}
		out = append(out, map[string]any{"kind": field(s, "kind"), "name": field(s, "name"), "namespace": field(s, "namespace"), "there": there})
	}
	return out
}

func (x *index) rulesOf(o Object) any {
	if !x.kinds["ClusterRole"] {
		return none("ClusterRole")
	}
	return listOf(x.rules[o.text("roleRef", "name")])
}

func (x *index) isBound(namespace string, spec any) any {
	if !x.kinds["ClusterRoleBinding"] {
		return none("ClusterRoleBinding")
	}
	account := field(spec, "serviceAccountName")
	return x.bound[namespace+"/"+or(account, "default")]
}

func labels(o Object) map[string]any {
	v, _ := lookup(o.Raw, []string{"metadata", "labels"})
	m, ok := v.(map[string]any)
	if !ok {
		return map[string]any{}
	}
	return m
}

// objectResults answers the checks that package scan/config has for manifests on the objects of a cluster. What belongs to
// the cluster itself, and what another object made, is left out.
func objectResults(objects []Object) []Result {
	a := newAudit(Kubernetes)
	for _, o := range objects {
		if o.system() || o.Owned() {
			continue
		}
		content, err := json.Marshal(o.Raw)
		if err != nil {
			a.failed = append(a.failed, fmt.Sprintf("%s: %v", o.title(), err))
			continue
		}
		a.manifest(o.title(), content, []Object{o})
	}
	return a.results()
}

// File is one file of manifests, or a Dockerfile.
type File struct {
	Path    string
	Content []byte
}

// Files audits manifests (what `helm template` writes, too) and Dockerfiles.
func Files(files []File) Report {
	a := newAudit(Manifest)
	for _, f := range files {
		if isDockerfile(f.Path) {
			a.dockerfile(f)
			continue
		}
		objects, err := ReadObjects(f.Path, f.Content)
		if err != nil {
			a.failed = append(a.failed, err.Error())
		}
		a.manifest(f.Path, f.Content, objects)
	}
	r := NewReport(a.results())
	r.Incomplete = append(r.Incomplete, a.failed...)
	return r
}

func isDockerfile(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	return strings.HasPrefix(name, "dockerfile") || strings.HasPrefix(name, "containerfile") || strings.HasSuffix(name, ".dockerfile")
}

// audit collects findings of package scan/config as answers of checks.
type audit struct {
	layer   string
	found   map[string][]bulkhead.Finding
	kinds   map[string]bool
	pods    bool
	files   int // Dockerfiles
	failed  []string
	objects int
}

func newAudit(layer string) *audit {
	return &audit{layer: layer, found: map[string][]bulkhead.Finding{}, kinds: map[string]bool{}}
}

func (a *audit) manifest(path string, content []byte, objects []Object) {
	for _, o := range objects {
		a.objects++
		a.kinds[o.kind()] = true
		a.pods = a.pods || o.template() != nil
	}
	found, err := config.Manifest(path, content)
	if err != nil {
		a.failed = append(a.failed, err.Error())
	}
	a.add(found)
}

func (a *audit) dockerfile(f File) {
	found, err := config.Dockerfile(f.Path, f.Content)
	if err != nil {
		a.failed = append(a.failed, err.Error())
		return
	}
	a.files++
	a.add(found)
}

func (a *audit) add(found []bulkhead.Finding) {
	for _, f := range found {
		a.found[f.Rule] = append(a.found[f.Rule], f)
	}
}

// results answers each check once: with the places where it failed.
func (a *audit) results() (all []Result) {
	meaning := manifestMaps()
	for _, c := range config.ManifestChecks() {
		applies := a.pods && len(c.Kinds) == 0 || slices.ContainsFunc(c.Kinds, func(k string) bool { return a.kinds[k] })
		all = append(all, a.result(c.Check, meaning[c.ID], applies, "there is no such object: "+or(strings.Join(c.Kinds, ", "), "nothing runs a pod")))
	}
	if a.layer == Manifest && a.files > 0 {
		for _, c := range config.DockerfileChecks() {
			all = append(all, a.result(c, meaning[c.ID], true, ""))
		}
	}
	return all
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (a *audit) result(c config.Check, m Maps, applies bool, why string) Result {
	r := Result{ID: c.ID, Title: c.Title, Layer: a.layer, Severity: c.Severity, Remediation: c.Fix, Maps: m.whole(), Why: c.Title}
	found := a.found[c.ID]
	switch {
	case len(found) > 0:
		r.Status, r.Path, r.Line = Fail, found[0].Path, found[0].Line
		r.Evidence = clip(strings.Join(some(places(found)), "; "), maxEvidence)
	case len(a.failed) > 0:
		r.Status, r.Evidence = Manual, "not everything could be read: "+clip(strings.Join(some(a.failed), "; "), maxEvidence)
	case !applies:
		r.Status, r.Evidence = NotApplicable, why
	default:
		r.Status, r.Evidence = Pass, fmt.Sprintf("none found in %d objects", a.objects)
	}
	return r
}

func places(found []bulkhead.Finding) (list []string) {
	for _, f := range found {
		place := f.Path
		if f.Line > 1 {
			place = fmt.Sprintf("%s:%d", f.Path, f.Line)
		}
		if _, after, ok := strings.Cut(f.Message, "("); ok {
			detail, _, _ := strings.Cut(after, ")")
			place += " " + detail
		}
		list = append(list, place)
	}
	return list
}

func (m Maps) whole() Maps {
	for _, list := range []*[]string{&m.CIS, &m.Attack, &m.NSA, &m.MLPS} {
		if *list == nil {
			*list = []string{}
		}
	}
	return m
}

// manifestMaps tells where others ask for what package scan/config checks.
func manifestMaps() map[string]Maps {
	content, err := builtin.ReadFile("checks/manifest.yaml")
	if err != nil {
		return nil
	}
	var found map[string]struct{ CIS, Attack, NSA, MLPS []string }
	if yaml.Unmarshal(content, &found) != nil {
		return nil
	}
	all := map[string]Maps{}
	for id, m := range found {
		all[id] = Maps{CIS: m.CIS, Attack: m.Attack, NSA: m.NSA, MLPS: m.MLPS}
	}
	return all
}
