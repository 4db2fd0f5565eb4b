// Package objects lists what a cluster has of the kinds that an analysis asks for. Start with [List].
//
// It promises pages and bounds, that of secrets and config maps nothing but names and annotations is asked for, and that a kind
// which may not be listed is told beside the others. It is not for following a cluster: package kube/inventory does that.
package objects

import (
	"context"
	"fmt"

	"bulkhead/kube"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
)

const (
	page = 500     // objects in one answer
	most = 200_000 // of one cluster
)

// Kind is one that is listed.
type Kind struct {
	schema.GroupVersionResource
	Kind  string
	Names bool // nothing else is needed of them
}

// Access are the kinds that say who may do what.
var Access = []Kind{
	{resource("rbac.authorization.k8s.io", "clusterroles"), "ClusterRole", false},
	{resource("rbac.authorization.k8s.io", "clusterrolebindings"), "ClusterRoleBinding", false},
	{resource("rbac.authorization.k8s.io", "roles"), "Role", false},
	{resource("rbac.authorization.k8s.io", "rolebindings"), "RoleBinding", false},
	{resource("", "serviceaccounts"), "ServiceAccount", false},
	{resource("", "namespaces"), "Namespace", false},
	{resource("", "nodes"), "Node", false},
	{resource("", "pods"), "Pod", false},
	{resource("apps", "deployments"), "Deployment", false},
	{resource("apps", "daemonsets"), "DaemonSet", false},
	{resource("apps", "statefulsets"), "StatefulSet", false},
	{resource("batch", "jobs"), "Job", false},
	{resource("batch", "cronjobs"), "CronJob", false},
	{resource("", "secrets"), "Secret", true},
	{resource("", "configmaps"), "ConfigMap", true},
}

func resource(group, name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: name}
}

// List asks a cluster for all objects of some kinds. Problems are kinds that it does not show.
func List(ctx context.Context, kubeconfig string, kinds []Kind) (all []map[string]any, problems []string, err error) {
	config, err := kube.Connect(kubeconfig, "bulkhead-audit")
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the Kubernetes API: %w; --kubeconfig names a file, in a pod its service account is taken", err)
	}
	whole, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	names, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	for _, k := range kinds {
		get := objectsOf(whole, k)
		if k.Names {
			get = namesOf(names, k)
		}
		listed, err := pages(ctx, get, most-len(all))
		if err != nil {
			problems = append(problems, fmt.Sprintf("the cluster's %s are not listed: %v", k.Resource, err))
			continue
		}
		all = append(all, listed...)
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("list the cluster's objects: %s", problems[0])
	}
	return all, problems, nil
}

// getter asks for one page, and says what to ask for next.
type getter func(ctx context.Context, o metav1.ListOptions) (all []map[string]any, next string, err error)

func objectsOf(c dynamic.Interface, k Kind) getter {
	return func(ctx context.Context, o metav1.ListOptions) (all []map[string]any, next string, err error) {
		got, err := c.Resource(k.GroupVersionResource).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for _, one := range got.Items {
			unstructured.RemoveNestedField(one.Object, "metadata", "managedFields")
			unstructured.RemoveNestedField(one.Object, "status")
			one.SetKind(k.Kind)
			all = append(all, one.Object)
		}
		return all, got.GetContinue(), nil
	}
}

func namesOf(c metadata.Interface, k Kind) getter {
	return func(ctx context.Context, o metav1.ListOptions) (all []map[string]any, next string, err error) {
		got, err := c.Resource(k.GroupVersionResource).List(ctx, o)
		if err != nil {
			return nil, "", err
		}
		for _, one := range got.Items {
			annotations := map[string]any{}
			for key, value := range one.Annotations {
				if key == "kubernetes.io/service-account.name" { // others have had contents in them
					annotations[key] = value
				}
			}
			all = append(all, map[string]any{"kind": k.Kind, "metadata": map[string]any{"name": one.Name, "namespace": one.Namespace, "annotations": annotations}})
		}
		return all, got.GetContinue(), nil
	}
}

func pages(ctx context.Context, get getter, room int) (all []map[string]any, err error) {
	for o := (metav1.ListOptions{Limit: page}); ; {
		some, next, err := get(ctx, o)
		if err != nil {
			return nil, err
		}
		if all = append(all, some...); len(all) > room {
			return nil, fmt.Errorf("there are more than %d objects", most)
		}
		if o.Continue = next; next == "" {
			return all, nil
		}
	}
}
