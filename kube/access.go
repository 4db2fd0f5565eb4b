package kube

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// access are the kinds that start no containers and are judged all the same: they say who may do what, and who is asked
// about everything. The API server asks about them by a webhook of their own, which fails open: a cluster whose roles
// cannot be changed cannot be repaired.
var access = map[string]bool{
	"ClusterRole": true, "ClusterRoleBinding": true, "Role": true, "RoleBinding": true,
	"MutatingWebhookConfiguration": true, "ValidatingWebhookConfiguration": true,
}

// ofCluster says whether objects of a kind are in no namespace.
func ofCluster(kind string) bool { return access[kind] && kind != "Role" && kind != "RoleBinding" }

// parseAccess makes of such an object a workload without containers.
func parseAccess(r Request) (*workload, error) {
	object, err := decode(r.Object)
	if err != nil {
		return nil, err
	}
	metadata, _ := object["metadata"].(map[string]any)
	return &workload{kind: r.Kind, object: object, meta: &metav1.ObjectMeta{}, spec: &corev1.PodSpec{}, deleting: metadata["deletionTimestamp"] != nil}, nil
}

// sameAccess says that an update changes nothing but the object's metadata.
func (w *workload) sameAccess(r Request) bool {
	old, err := decode(r.Old)
	if err != nil || r.Operation != "UPDATE" || len(r.Old) == 0 {
		return false
	}
	for key := range w.object {
		if key != "metadata" && !reflect.DeepEqual(w.object[key], old[key]) {
			return false
		}
	}
	return len(w.object) == len(old)
}

// withoutNamespace are exceptions for objects in no namespace: those in namespaces that are never judged themselves, where only
// administrators write.
func (j *judge) withoutNamespace(e *Exception) bool {
	return ofCluster(j.request.Kind) && slices.Contains(j.Exempt.Namespaces, e.Namespace)
}
