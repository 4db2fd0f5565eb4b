// Package inventory follows what network policies ask of a cluster and no node knows: the labels of namespaces, the names of
// ports, and which addresses are services with whom behind them. Start with [Run].
//
// It promises to tell the whole of it whenever something of that changed, and again every few minutes; that a cluster's many
// changes in a moment are one; and to read nothing else: no secret, no status beside readiness. It is not for deciding anything:
// the control plane and nodes do.
package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"bulkhead/kube"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// Options say which cluster is followed, and who is told.
type Options struct {
	Kubeconfig string // empty: the pod's service account
	Log        *slog.Logger
	// Told gets the objects as `kubectl get namespaces,pods -A -o json` writes them, cut down to what matters, and the
	// services. What it fails at is tried again.
	Told func(ctx context.Context, objects []byte, services []Service) error
}

const (
	together   = 300 * time.Millisecond // changes that come so close are one
	again      = 5 * time.Minute        // also when nothing changed: who was told may have forgotten
	afterFault = 5 * time.Second
)

// resources that are followed, and what of each is kept.
var resources = []struct {
	schema.GroupVersionResource
	slim func(*unstructured.Unstructured) map[string]any
}{
	{schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, slimNamespace},
	{schema.GroupVersionResource{Version: "v1", Resource: "pods"}, slimPod},
	{schema.GroupVersionResource{Version: "v1", Resource: "services"}, slimService},
	{schema.GroupVersionResource{Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"}, slimSlice},
}

// Run follows a cluster until the context ends.
func Run(ctx context.Context, o Options) error {
	config, err := kube.Connect(o.Kubeconfig, "bulkhead-inventory")
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w; --kubeconfig names a file, in a pod its service account is taken", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	f := &follower{o, dynamicinformer.NewDynamicSharedInformerFactory(client, 0), make(chan struct{}, 1)}
	if err := f.watch(); err != nil {
		return fmt.Errorf("following the cluster: %w", err)
	}
	return f.run(ctx)
}

type follower struct {
	Options
	factory dynamicinformer.DynamicSharedInformerFactory
	changes chan struct{}
}

func (f *follower) watch() error {
	for _, r := range resources {
		informer := f.factory.ForResource(r.GroupVersionResource).Informer()
		if err := informer.SetTransform(func(o any) (any, error) { return slim(o, r.slim), nil }); err != nil {
			return err
		}
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { f.changed() }, DeleteFunc: func(any) { f.changed() },
			UpdateFunc: func(old, latest any) {
				if differ(old, latest) { // a pod's status is written often
					f.changed()
				}
			},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) changed() {
	select {
	case f.changes <- struct{}{}:
	default:
	}
}

func (f *follower) run(ctx context.Context) error {
	f.factory.Start(ctx.Done())
	for _, ok := range f.factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return nil // ctx ended
		}
	}
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changes:
		case <-time.After(wait):
		}
		time.Sleep(together)
		wait = again
		if err := f.tell(ctx); err != nil && ctx.Err() == nil {
			f.Log.Warn("the control plane was not told of the cluster", "err", err)
			wait = afterFault
		}
	}
}

func (f *follower) tell(ctx context.Context) error {
	objects, err := json.Marshal(map[string]any{"kind": "List", "items": append(f.list(0), f.list(1)...)})
	if err != nil {
		return err
	}
	return f.Told(ctx, objects, services(f.list(2), f.list(3)))
}

func (f *follower) list(resource int) []map[string]any {
	found, err := f.factory.ForResource(resources[resource].GroupVersionResource).Lister().List(labels.Everything())
	if err != nil {
		return nil
	}
	all := make([]map[string]any, 0, len(found))
	for _, o := range found {
		if u, ok := o.(*unstructured.Unstructured); ok {
			all = append(all, u.Object)
		}
	}
	return all
}

// slim keeps of an object what is told of it; ten thousand pods are held in memory.
func slim(o any, keep func(*unstructured.Unstructured) map[string]any) any {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o // the mark of a deletion
	}
	out := &unstructured.Unstructured{Object: keep(u)}
	out.SetAPIVersion(u.GetAPIVersion())
	out.SetKind(u.GetKind())
	out.SetName(u.GetName())
	out.SetNamespace(u.GetNamespace())
	out.SetLabels(u.GetLabels())
	out.SetResourceVersion(u.GetResourceVersion())
	return out
}

func differ(old, latest any) bool {
	a, ok1 := old.(*unstructured.Unstructured)
	b, ok2 := latest.(*unstructured.Unstructured)
	if !ok1 || !ok2 {
		return true
	}
	a, b = a.DeepCopy(), b.DeepCopy()
	a.SetResourceVersion("")
	b.SetResourceVersion("")
	return !reflect.DeepEqual(a.Object, b.Object)
}

func slimNamespace(*unstructured.Unstructured) map[string]any { return map[string]any{} }

// slimPod keeps the owner, and the ports of its containers. One that has ended has no port.
func slimPod(u *unstructured.Unstructured) map[string]any {
	owners, _, _ := unstructured.NestedSlice(u.Object, "metadata", "ownerReferences")
	host, _, _ := unstructured.NestedBool(u.Object, "spec", "hostNetwork")
	containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "containers")
	kept := make([]any, 0, len(containers))
	for _, c := range containers {
		if m, ok := c.(map[string]any); ok {
			kept = append(kept, map[string]any{"name": m["name"], "ports": m["ports"]})
		}
	}
	return map[string]any{
		"metadata": map[string]any{"ownerReferences": owners},
		"spec":     map[string]any{"hostNetwork": host, "containers": kept},
	}
}
