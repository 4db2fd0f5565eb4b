package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead/kube"
	"bulkhead/rule"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// The documents that decide.
var (
	rules      = schema.GroupVersionResource{Group: kube.Group, Version: kube.Version, Resource: "admissionrules"}
	exceptions = schema.GroupVersionResource{Group: kube.Group, Version: kube.Version, Resource: "admissionexceptions"}
	trust      = schema.GroupVersionResource{Group: kube.Group, Version: kube.Version, Resource: "trustpolicies"}
)

// watch follows the cluster's policies and namespaces.
type watch struct {
	*server
	informers map[schema.GroupVersionResource]cache.SharedIndexInformer
	changes   chan struct{}
	told      map[string]string // the status that each document has from us
}

func newWatch(s *server) *watch {
	w := &watch{server: s, informers: map[schema.GroupVersionResource]cache.SharedIndexInformer{}, changes: make(chan struct{}, 1), told: map[string]string{}}
	for _, resource := range []schema.GroupVersionResource{rules, exceptions, trust, namespaces} {
		w.informers[resource] = follow(s.client.Resource(resource))
	}
	for _, resource := range []schema.GroupVersionResource{rules, exceptions, trust} {
		w.informers[resource].AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { w.changed() }, DeleteFunc: func(any) { w.changed() },
			UpdateFunc: func(old, latest any) {
				if generation(old) != generation(latest) { // not for our own word in its status
					w.changed()
				}
			},
		})
	}
	w.informers[namespaces].SetTransform(onlyLabels)
	return w
}

// follow is client-go's own dynamic informer without its factory, which brings the types of all of Kubernetes into every start of the program.
func follow(client dynamic.ResourceInterface) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return client.Watch(ctx, o)
		},
	}, &unstructured.Unstructured{}, 0, cache.Indexers{})
}

func generation(o any) int64 {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return 0
	}
	return u.GetGeneration()
}

// onlyLabels keeps ten thousand namespaces small.
func onlyLabels(o any) (any, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o, nil
	}
	slim := &unstructured.Unstructured{Object: map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind()}}
	slim.SetName(u.GetName())
	slim.SetLabels(u.GetLabels())
	slim.SetResourceVersion(u.GetResourceVersion())
	return slim, nil
}

func (w *watch) changed() {
	select {
	case w.changes <- struct{}{}:
	default: // one is waiting already, and will see this one too
	}
}

func (w *watch) run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, informer := range w.informers {
		all.Go(func() { informer.RunWithContext(ctx) })
	}
	for resource, informer := range w.informers {
		if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			return nil // ctx ended
		}
		w.Log.Debug("following", "resource", resource.Resource)
	}
	w.apply(ctx)
	w.synced.Store(true)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changes:
			time.Sleep(100 * time.Millisecond) // an apply of many documents is one change
			w.apply(ctx)
		}
	}
}

// apply decides with what there is now. A document with a mistake is left out and told so.
func (w *watch) apply(ctx context.Context) {
	o := w.Base
	o.Rules = w.applyRules(ctx)
	o.Exceptions = append(slices.Clone(w.Base.Exceptions), w.applyExceptions(ctx)...)
	if w.Trust != nil {
		o.Images = w.applyTrust(ctx)
		// Who verifies images may also know what is attested of them.
		if scans, ok := o.Images.(kube.Scans); ok {
			o.Scans = scans
		}
		if profiles, ok := o.Images.(kube.Profiles); ok {
			o.Profiles = profiles
		}
	}
	w.engine.Set(o)
	w.Log.Info("policies in force", "rules", len(o.Rules.Rules()), "exceptions", len(o.Exceptions), "verifying", o.Images != nil)
}

func (w *watch) list(resource schema.GroupVersionResource) []*unstructured.Unstructured {
	var all []*unstructured.Unstructured
	for _, o := range w.informers[resource].GetStore().List() {
		if u, ok := o.(*unstructured.Unstructured); ok {
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b *unstructured.Unstructured) int {
		return strings.Compare(a.GetNamespace()+"/"+a.GetName(), b.GetNamespace()+"/"+b.GetName())
	})
	return all
}

// applyRules adds one document after the other, and leaves out the one that does not compile.
func (w *watch) applyRules(ctx context.Context) *rule.Admission {
	set := w.Base.Rules
	for _, u := range w.list(rules) {
		text, err := json.Marshal(u.Object)
		if err != nil {
			continue
		}
		next, err := kube.WithRule(set, text)
		w.say(ctx, rules, u, err)
		if err == nil {
			set = next
		}
	}
	return set
}

func (w *watch) applyExceptions(ctx context.Context) []kube.Exception {
	var all []kube.Exception
	for _, u := range w.list(exceptions) {
		text, err := json.Marshal(u.Object)
		if err != nil {
			continue
		}
		e, err := kube.DecodeException(text)
		if err == nil && !time.Now().Before(e.Expires) {
			err = fmt.Errorf("it ended on %s", e.Expires.UTC().Format(time.DateOnly))
		}
		w.say(ctx, exceptions, u, err)
		if err == nil {
			all = append(all, e)
		}
	}
	return all
}

func (w *watch) applyTrust(ctx context.Context) kube.Verifier {
	documents, objects := map[string][]byte{}, map[string]*unstructured.Unstructured{}
	for _, u := range w.list(trust) {
		text, err := json.Marshal(map[string]any{"kind": "TrustPolicy", "metadata": map[string]any{"name": u.GetName()}, "spec": u.Object["spec"]})
		if err == nil {
			documents[u.GetName()], objects[u.GetName()] = text, u
		}
	}
	if len(documents) == 0 {
		return w.Base.Images
	}
	verifier, problems := w.Trust(documents)
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		w.say(ctx, trust, objects[name], problems[name])
	}
	return verifier
}

// say writes into a document's status whether it is in force, once.
func (w *watch) say(ctx context.Context, resource schema.GroupVersionResource, u *unstructured.Unstructured, problem error) {
	state, reason, message := "True", "InForce", "in force"
	if problem != nil {
		state, reason, message = "False", "Mistake", cut(problem.Error(), maxMessage)
	}
	key := fmt.Sprint(resource.Resource, "/", u.GetNamespace(), "/", u.GetName())
	if word := fmt.Sprint(u.GetUID(), u.GetGeneration(), state, message); w.told[key] != word && !already(u, state, message) {
		w.told[key] = word
		if err := w.writeStatus(ctx, resource, u, state, reason, message); err != nil && ctx.Err() == nil {
			w.Log.Warn("status not written", "document", key, "error", err)
		}
	}
	if problem != nil {
		w.Log.Warn("policy is not in force", "document", key, "error", problem)
	}
}

func already(u *unstructured.Unstructured, state, message string) bool {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	generation, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	for _, c := range conditions {
		if m, ok := c.(map[string]any); ok && m["status"] == state && m["message"] == message {
			return generation == u.GetGeneration()
		}
	}
	return false
}

func (w *watch) writeStatus(ctx context.Context, resource schema.GroupVersionResource, u *unstructured.Unstructured, state, reason, message string) error {
	next := u.DeepCopy()
	next.Object["status"] = map[string]any{
		"observedGeneration": u.GetGeneration(),
		"conditions": []any{map[string]any{
			"type": "Accepted", "status": state, "reason": reason, "message": message,
			"observedGeneration": u.GetGeneration(), "lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
		}},
	}
	_, err := w.client.Resource(resource).Namespace(u.GetNamespace()).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	return err
}

// namespaceLabels asks the API for a namespace that is too new to have been heard of.
func (w *watch) namespaceLabels(ctx context.Context, name string) (map[string]string, error) {
	if name == "" {
		return nil, nil
	}
	if o, ok, err := w.informers[namespaces].GetStore().GetByKey(name); ok && err == nil {
		if u, ok := o.(*unstructured.Unstructured); ok {
			return u.GetLabels(), nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	u, err := w.client.Resource(namespaces).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return u.GetLabels(), nil
}
