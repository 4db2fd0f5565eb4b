package kube

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/pod-security-admission/admission"
	upstreamapi "k8s.io/pod-security-admission/admission/api"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"
	fixtures "k8s.io/pod-security-admission/test"
	"sigs.k8s.io/yaml"
)

// newest is the last version that the fixtures of the module are made for, and one beyond.
const newest = 38

// upstreamPods are all pods that upstream's generator of fixtures makes, each once. Its module
// carries what the generator made, and a test of its own that this is so.
func upstreamPods(t testing.TB) []*corev1.Pod {
	t.Helper()
	where, err := build.Import("k8s.io/pod-security-admission/test", ".", build.FindOnly)
	if err != nil {
		t.Fatal(err)
	}
	var pods []*corev1.Pod
	seen := map[[32]byte]bool{}
	files := 0
	err = filepath.WalkDir(filepath.Join(where.Dir, "testdata"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		if sum := sha256.Sum256(text); !seen[sum] {
			seen[sum] = true
			pod := &corev1.Pod{}
			pods = append(pods, pod)
			return yaml.UnmarshalStrict(text, pod)
		}
		return nil
	})
	if err != nil || files < 4000 {
		t.Fatalf("%d fixtures: %v", files, err)
	}
	for version := range newest {
		for _, level := range []psapi.Level{psapi.LevelBaseline, psapi.LevelRestricted} {
			pod, err := fixtures.GetMinimalValidPod(level, psapi.MajorMinorVersion(1, version))
			if err != nil {
				t.Fatal(err)
			}
			pods = append(pods, pod)
		}
	}
	t.Logf("%d fixtures, %d different pods", files, len(pods))
	return pods
}

// versions are all of them with the tag integration, else those in which something changed.
func versions() []string {
	if !everything {
		return []string{"latest", "v1.0", "v1.8", "v1.19", "v1.22", "v1.25", "v1.29"}
	}
	all := []string{"latest"}
	for v := range newest + 1 {
		all = append(all, fmt.Sprintf("v1.%d", v))
	}
	return all
}

// TestPodSecurityIsUpstreams compares every pod of upstream's fixtures, at both levels and in every
// version, with upstream's whole admission plug-in.
func TestPodSecurityIsUpstreams(t *testing.T) {
	u, e := newUpstream(t, upstreamapi.PodSecurityConfiguration{}), New(Options{})
	compared, refused := 0, 0
	for _, pod := range upstreamPods(t) {
		for _, version := range versions() {
			for _, level := range []string{"baseline", "restricted"} {
				labels := map[string]string{psapi.EnforceLevelLabel: level, psapi.EnforceVersionLabel: version}
				want, got := u.ask(t, pod, "Pod", "", labels, "", nil), review(t, e, pod, "Pod", "", labels, "", nil)
				compared++
				if !got.Allowed {
					refused++
				}
				if difference := want.differs(got); difference != "" {
					t.Errorf("%s:%s: %s\n%s", level, version, difference, asJSON(t, pod))
				}
			}
		}
	}
	if refused == 0 || refused == compared {
		t.Errorf("%d of %d refused", refused, compared)
	}
	t.Logf("%d verdicts, %d of them refusals: no difference", compared, refused)
}

// TestWiringIsUpstreams goes through kinds, debug containers, labels and exemptions.
func TestWiringIsUpstreams(t *testing.T) {
	configuration := upstreamapi.PodSecurityConfiguration{}
	configuration.Exemptions.Namespaces = []string{"exempt"}
	configuration.Exemptions.Usernames = []string{"trusted"}
	configuration.Exemptions.RuntimeClasses = []string{"sandbox"}
	u := newUpstream(t, configuration)
	e := New(Options{Exempt: Exempt{Namespaces: []string{"exempt"}, Users: []string{"trusted"}, RuntimeClasses: []string{"sandbox"}}})
	labelings := []map[string]string{
		nil,
		{psapi.EnforceLevelLabel: "baseline"},
		{psapi.EnforceLevelLabel: "restricted", psapi.WarnLevelLabel: "privileged"},
		{psapi.WarnLevelLabel: "restricted", psapi.WarnVersionLabel: "v1.20"},
		{psapi.AuditLevelLabel: "baseline", psapi.WarnLevelLabel: "baseline"},
		{psapi.EnforceLevelLabel: "Baseline"},
		{psapi.EnforceLevelLabel: "baseline", psapi.EnforceVersionLabel: "1.20"},
		{psapi.WarnLevelLabel: "wrong", psapi.AuditLevelLabel: "wrong"},
	}
	sandbox := "sandbox"
	compared := 0
	for i, pod := range upstreamPods(t) {
		if !everything && i%5 != 0 {
			continue
		}
		if i%7 == 3 {
			pod.Spec.RuntimeClassName = &sandbox
		}
		namespace, user := []string{"shop", "exempt"}[i%2], []string{"", "trusted", "other"}[i%3]
		for _, labels := range labelings {
			for kind, object := range wrap(pod) {
				want := u.ask(t, object, kind, namespace, labels, user, nil)
				got := review(t, e, object, kind, namespace, labels, user, nil)
				compared++
				if difference := want.differs(got); difference != "" {
					t.Fatalf("%s in %s with %v by %q: %s\n%s", kind, namespace, labels, user, difference, asJSON(t, object))
				}
			}
			for name, update := range updates(pod) {
				want := u.ask(t, update.pod, "Pod", "shop", labels, "", &update)
				got := review(t, e, update.pod, "Pod", "shop", labels, "", &update)
				compared++
				if difference := want.differs(got); difference != "" {
					t.Fatalf("%s with %v: %s\n%s", name, labels, difference, asJSON(t, update.pod))
				}
			}
		}
	}
	t.Logf("%d verdicts: no difference", compared)
}

// wrap puts the pod into every kind that holds one.
func wrap(pod *corev1.Pod) map[string]runtime.Object {
	template := corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
	meta := metav1.ObjectMeta{Name: "x"}
	return map[string]runtime.Object{
		"Pod":                   pod,
		"PodTemplate":           &corev1.PodTemplate{ObjectMeta: meta, Template: template},
		"ReplicationController": &corev1.ReplicationController{ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Template: &template}},
		"ReplicaSet":            &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Template: template}},
		"Deployment":            &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Template: template}},
		"StatefulSet":           &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Template: template}},
		"DaemonSet":             &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Template: template}},
		"Job":                   &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: template}},
		"CronJob":               &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: template}}}},
	}
}

type update struct {
	pod, old    *corev1.Pod
	subresource string
}

func updates(pod *corev1.Pod) map[string]update {
	labelled, moved, debugged := pod.DeepCopy(), pod.DeepCopy(), pod.DeepCopy()
	labelled.Labels = map[string]string{"a": "b"}
	moved.Spec.Containers[0].Image += "2"
	privileged := true
	debugged.Spec.EphemeralContainers = append(debugged.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debug", Image: "debug", SecurityContext: &corev1.SecurityContext{Privileged: &privileged},
	}})
	return map[string]update{
		"a label": {labelled, pod, ""}, "an image": {moved, pod, ""}, "a debug container": {debugged, pod, "ephemeralcontainers"},
		"a status": {debugged, pod, "status"}, "a new subresource": {moved, pod, "resize"},
	}
}

// upstreamAdmission is upstream's plug-in with namespaces that have the labels asked for.
type upstreamAdmission struct {
	*upstream.Admission
	labels map[string]string
}

func newUpstream(t *testing.T, c upstreamapi.PodSecurityConfiguration) *upstreamAdmission {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []*string{&c.Defaults.Enforce, &c.Defaults.Audit, &c.Defaults.Warn} {
		*level = "privileged"
	}
	for _, version := range []*string{&c.Defaults.EnforceVersion, &c.Defaults.AuditVersion, &c.Defaults.WarnVersion} {
		*version = "latest"
	}
	u := &upstreamAdmission{}
	u.Admission = &upstream.Admission{Configuration: &c, Evaluator: evaluator, Metrics: noMetrics{}, NamespaceGetter: u, PodLister: u}
	if err := u.CompleteConfiguration(); err != nil {
		t.Fatal(err)
	}
	if err := u.ValidateConfiguration(); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *upstreamAdmission) GetNamespace(_ context.Context, name string) (*corev1.Namespace, error) {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: u.labels}}, nil
}

func (u *upstreamAdmission) ListPods(context.Context, string) ([]*corev1.Pod, error) { return nil, nil }

type noMetrics struct{}

func (noMetrics) RecordEvaluation(metrics.Decision, psapi.LevelVersion, metrics.Mode, psapi.Attributes) {
}
func (noMetrics) RecordExemption(psapi.Attributes)   {}
func (noMetrics) RecordError(bool, psapi.Attributes) {}

type upstreamVerdict struct{ *admissionv1.AdmissionResponse }

var resources = map[string]schema.GroupVersionResource{
	"Pod":                   corev1.SchemeGroupVersion.WithResource("pods"),
	"PodTemplate":           corev1.SchemeGroupVersion.WithResource("podtemplates"),
	"ReplicationController": corev1.SchemeGroupVersion.WithResource("replicationcontrollers"),
	"ReplicaSet":            appsv1.SchemeGroupVersion.WithResource("replicasets"),
	"Deployment":            appsv1.SchemeGroupVersion.WithResource("deployments"),
	"StatefulSet":           appsv1.SchemeGroupVersion.WithResource("statefulsets"),
	"DaemonSet":             appsv1.SchemeGroupVersion.WithResource("daemonsets"),
	"Job":                   batchv1.SchemeGroupVersion.WithResource("jobs"),
	"CronJob":               batchv1.SchemeGroupVersion.WithResource("cronjobs"),
}

func (u *upstreamAdmission) ask(t *testing.T, object runtime.Object, kind, namespace string, labels map[string]string, user string, up *update) upstreamVerdict {
	t.Helper()
	u.labels = labels
	attributes := &psapi.AttributesRecord{Name: "x", Namespace: namespace, Resource: resources[kind], Operation: admissionv1.Create, Object: object, Username: user}
	if up != nil {
		attributes.Operation, attributes.OldObject, attributes.Subresource = admissionv1.Update, up.old, up.subresource
	}
	return upstreamVerdict{u.Validate(t.Context(), attributes)}
}

// differs says how our verdict is another than upstream's: in the verdict, in what is said.
func (u upstreamVerdict) differs(got Verdict) string {
	if u.Allowed != got.Allowed {
		return fmt.Sprintf("upstream allows: %t, we: %t %v", u.Allowed, got.Allowed, got.Reasons)
	}
	if !u.Allowed && (len(got.Reasons) != 1 || !strings.HasSuffix(u.Result.Message, got.Reasons[0].Message)) {
		return fmt.Sprintf("upstream says %q, we %v", u.Result.Message, got.Reasons)
	}
	var warnings []string
	for _, w := range got.Warnings {
		if w.Rule == RulePodSecurity {
			warnings = append(warnings, w.Message)
		}
	}
	if strings.Join(warnings, "\n") != strings.Join(u.Warnings, "\n") {
		return fmt.Sprintf("upstream warns %q, we %q", u.Warnings, warnings)
	}
	return ""
}

func review(t *testing.T, e *Engine, object runtime.Object, kind, namespace string, labels map[string]string, user string, up *update) Verdict {
	t.Helper()
	r := Request{Kind: kind, Operation: "CREATE", Namespace: namespace, NamespaceLabels: labels, User: user, Object: asJSON(t, object)}
	if up != nil {
		r.Operation, r.Old, r.Subresource = "UPDATE", asJSON(t, up.old), up.subresource
	}
	return e.Review(t.Context(), r)
}

func asJSON(t testing.TB, object any) []byte {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
