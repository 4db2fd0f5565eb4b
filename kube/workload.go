package kube

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"bulkhead/rule"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/json"
)

// templates say where the pod is in each kind of object.
var templates = map[string][]string{
	"Pod":                   {},
	"PodTemplate":           {"template"},
	"ReplicationController": {"spec", "template"},
	"ReplicaSet":            {"spec", "template"},
	"Deployment":            {"spec", "template"},
	"StatefulSet":           {"spec", "template"},
	"DaemonSet":             {"spec", "template"},
	"Job":                   {"spec", "template"},
	"CronJob":               {"spec", "jobTemplate", "spec", "template"},
}

// Kinds are those that are known to hold pods.
func Kinds() []string {
	var kinds []string
	for kind := range templates {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// workload is an object that starts containers.
type workload struct {
	kind     string
	object   map[string]any
	path     []string // of the pod in the object
	meta     *metav1.ObjectMeta
	spec     *corev1.PodSpec
	pod      map[string]any // metadata and spec, only what Kubernetes knows
	unknown  []string       // fields that it does not know
	deleting bool
}

// parse returns nil for an object that starts no containers.
func parse(r Request) (*workload, error) {
	object, err := decode(r.Object)
	if err != nil {
		return nil, err
	}
	w := &workload{kind: r.Kind, object: object}
	path, known := templates[r.Kind]
	if !known {
		path = []string{"spec", "template"} // a custom resource that looks like a Deployment
	}
	template, found := below(object, path)
	if !found || !known && !holdsContainers(template) {
		return nil, nil
	}
	w.path = path
	metadata, _ := object["metadata"].(map[string]any)
	w.deleting = metadata["deletionTimestamp"] != nil
	if err := w.convert(template); err != nil {
		return nil, err
	}
	return w, nil
}

// parsePod reads a pod in one pass: enough to change it by. What is wrong with it the review says, which reads it whole.
func parsePod(text []byte) (*workload, error) {
	var pod corev1.Pod
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &pod); err != nil {
		return nil, fmt.Errorf("the pod cannot be read: %w", err)
	}
	return &workload{kind: "Pod", path: templates["Pod"], meta: &pod.ObjectMeta, spec: &pod.Spec, deleting: pod.DeletionTimestamp != nil}, nil
}

func decode(text []byte) (map[string]any, error) {
	var object map[string]any
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &object); err != nil {
		return nil, fmt.Errorf("the object is no JSON: %w", err)
	}
	return object, nil
}

func below(object map[string]any, path []string) (map[string]any, bool) {
	for _, name := range path {
		object, _ = object[name].(map[string]any)
	}
	return object, object != nil
}

func holdsContainers(template map[string]any) bool {
	spec, _ := template["spec"].(map[string]any)
	_, ok := spec["containers"].([]any)
	return ok
}

// convert makes Kubernetes' own types of the pod and goes back from them where that changes something: what the API
// server would drop is not judged, but named.
func (w *workload) convert(template map[string]any) error {
	typed := corev1.PodTemplateSpec{}
	part := map[string]any{}
	for _, key := range []string{"metadata", "spec"} {
		if value := template[key]; value != nil {
			part[key] = value
		}
	}
	if metadata, ok := part["metadata"].(map[string]any); ok && metadata["managedFields"] != nil { // half of what is sent, and nothing that runs
		metadata = maps.Clone(metadata)
		delete(metadata, "managedFields")
		part["metadata"] = metadata
	}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(part, &typed, true)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		for _, e := range strict.Errors() {
			w.unknown = append(w.unknown, e.Error())
		}
	} else if err != nil {
		return fmt.Errorf("the pod of the %s cannot be read: %w", w.kind, explain(part, err))
	}
	w.meta, w.spec = &typed.ObjectMeta, &typed.Spec
	if len(w.unknown) == 0 && !holdsNull(part) {
		w.pod = part
		return nil
	}
	w.pod, err = runtime.DefaultUnstructuredConverter.ToUnstructured(&typed)
	if err != nil {
		return fmt.Errorf("the pod of the %s cannot be read: %w", w.kind, err)
	}
	return nil
}

// holdsNull says whether something is there that means the same as if it were not.
func holdsNull(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		for _, each := range v {
			if holdsNull(each) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	}
	return false
}

// explain asks the JSON decoder, which says where a value has the wrong type.
func explain(part map[string]any, err error) error {
	text, failed := stdjson.Marshal(part)
	if failed != nil {
		return err
	}
	if better := stdjson.Unmarshal(text, &corev1.PodTemplateSpec{}); better != nil {
		return better
	}
	return err
}

func (w *workload) isPod() bool { return w.kind == "Pod" }

// mirrors says that w is the shadow of a static pod, which a kubelet shows the API server. Its
// containers run already; refusing or changing the shadow would only hide them.
func (w *workload) mirrors(r Request) bool {
	_, mirror := w.meta.Annotations[corev1.MirrorPodAnnotationKey]
	return w.isPod() && mirror && slices.Contains(r.Groups, "system:nodes")
}

// unchanged says why an update need not be judged again: what runs must be able to be labelled,
// scaled and taken away, whatever the rules say by now.
func (w *workload) unchanged(r Request) string {
	if w.deleting {
		return "it is being deleted"
	}
	if r.Operation != "UPDATE" || len(r.Old) == 0 {
		return ""
	}
	before := r
	before.Object = r.Old
	old, err := parse(before)
	if err != nil || old == nil {
		return ""
	}
	if w.isPod() && !significant(w.spec, old.spec) || !w.isPod() && reflect.DeepEqual(w.spec, old.spec) && reflect.DeepEqual(w.meta, old.meta) {
		return "its containers stay as they are"
	}
	return ""
}

// significant is what of a pod can change that matters: images, and debug containers that come.
func significant(pod, old *corev1.PodSpec) bool {
	if len(pod.Containers) != len(old.Containers) || len(pod.InitContainers) != len(old.InitContainers) {
		return true
	}
	return len(changed(pod, old)) > 0
}

// changed names the containers that are new or have another image.
func changed(pod, old *corev1.PodSpec) map[string]bool {
	before := map[string]string{}
	for _, c := range containers(old) {
		before[c.kind+c.Name] = c.Image
	}
	names := map[string]bool{}
	for _, c := range containers(pod) {
		if image, there := before[c.kind+c.Name]; !there || image != c.Image {
			names[c.Name] = true
		}
	}
	return names
}

// container is any of a pod's, with its place in the pod.
type container struct {
	*corev1.Container
	kind  string // the field of the spec
	index int
}

func containers(spec *corev1.PodSpec) []container {
	var all []container
	for i := range spec.InitContainers {
		all = append(all, container{&spec.InitContainers[i], "initContainers", i})
	}
	for i := range spec.Containers {
		all = append(all, container{&spec.Containers[i], "containers", i})
	}
	for i := range spec.EphemeralContainers {
		all = append(all, container{(*corev1.Container)(&spec.EphemeralContainers[i].EphemeralContainerCommon), "ephemeralContainers", i})
	}
	return all
}

// Identify reads the kind, namespace and name that an object gives itself.
func Identify(text []byte) (kind, namespace, name string, err error) {
	object, err := decode(text)
	if err != nil {
		return "", "", "", err
	}
	metadata, _ := object["metadata"].(map[string]any)
	version, _ := object["apiVersion"].(string)
	kind, _ = object["kind"].(string)
	namespace, _ = metadata["namespace"].(string)
	name, _ = metadata["name"].(string)
	if prefix, ok := metadata["generateName"].(string); ok && name == "" {
		name = prefix + "*"
	}
	if kind == "" || version == "" {
		return "", "", "", errors.New("the object has no apiVersion and kind")
	}
	return kind, namespace, name, nil
}

// Labels reads the labels of an object.
func Labels(text []byte) map[string]string {
	object, err := decode(text)
	if err != nil {
		return nil
	}
	metadata, _ := object["metadata"].(map[string]any)
	labels := map[string]string{}
	found, _ := metadata["labels"].(map[string]any)
	for key, value := range found {
		if s, ok := value.(string); ok {
			labels[key] = s
		}
	}
	return labels
}

// request is what the rules see.
func (w *workload) request(r Request) rule.AdmissionRequest {
	return rule.AdmissionRequest{
		Object: w.object, Kind: w.kind, Pod: w.pod,
		Namespace:  rule.Namespace{Name: r.Namespace, Labels: r.NamespaceLabels},
		Submission: rule.Submission{Operation: r.Operation, User: r.User, Groups: r.Groups},
	}
}

// pointer is a JSON pointer to a part of the pod.
func (w *workload) pointer(parts ...string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, part := range append(slices.Clone(w.path), parts...) {
		b.WriteString("/" + escape.Replace(part))
	}
	return b.String()
}
