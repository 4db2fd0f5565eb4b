package inventory

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic/dynamicinformer"
)

// objects are what an API server would answer, from testdata/objects.json, by the order of resources.
func objects(t *testing.T) [4][]*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("testdata/objects.json")
	if err != nil {
		t.Fatal(err)
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	at := map[string]int{"Namespace": 0, "Pod": 1, "Service": 2, "EndpointSlice": 3}
	var all [4][]*unstructured.Unstructured
	for i := range list.Items {
		n := at[list.Items[i].GetKind()]
		all[n] = append(all[n], &list.Items[i])
	}
	return all
}

// TestTold puts objects where informers do, and looks at what is told.
func TestTold(t *testing.T) {
	var told []byte
	var served []Service
	f := &follower{
		Options: Options{Log: slog.New(slog.DiscardHandler), Told: func(_ context.Context, objects []byte, services []Service) error {
			told, served = objects, services
			return nil
		}},
		factory: dynamicinformer.NewDynamicSharedInformerFactory(nil, 0), changes: make(chan struct{}, 1),
	}
	for i, list := range objects(t) {
		store := f.factory.ForResource(resources[i].GroupVersionResource).Informer().GetStore()
		for _, o := range list {
			if err := store.Add(slim(o, resources[i].slim)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.tell(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantServices := []Service{
		{"10.96.0.7", "tcp", 80, []string{"10.244.1.5:8080", "10.244.2.6:8080"}},
		{"10.96.0.7", "udp", 53, nil},
		{"fd00:10:96::7", "tcp", 80, []string{"[fd00:10:244:1::5]:8080"}},
		{"fd00:10:96::7", "udp", 53, nil},
	}
	if diff := cmp.Diff(wantServices, served); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	var list struct{ Items []map[string]any }
	if err := json.Unmarshal(told, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 3 {
		t.Fatalf("%d objects are told, want a namespace and two pods: %s", len(list.Items), told)
	}
	for _, o := range list.Items {
		u := unstructured.Unstructured{Object: o}
		if o["status"] != nil || u.GetAnnotations() != nil || u.GetKind() == "Namespace" && u.GetLabels()["team"] != "shop" {
			t.Errorf("more or less than wanted: %v", o)
		}
	}
}

// TestDiffer: what is written into a pod's status again and again is no change; another label, owner or port is one.
func TestDiffer(t *testing.T) {
	pod := objects(t)[1][0]
	kept := func(change func(*unstructured.Unstructured)) any {
		u := pod.DeepCopy()
		u.SetResourceVersion("77")
		change(u)
		return slim(u, slimPod)
	}
	for name, c := range map[string]struct {
		change func(*unstructured.Unstructured)
		want   bool
	}{
		"status": {func(u *unstructured.Unstructured) { u.Object["status"] = map[string]any{"phase": "Running"} }, false},
		"label":  {func(u *unstructured.Unstructured) { u.SetLabels(map[string]string{"app": "other"}) }, true},
		"ports": {func(u *unstructured.Unstructured) {
			_ = unstructured.SetNestedSlice(u.Object, []any{map[string]any{"name": "main"}}, "spec", "containers")
		}, true},
	} {
		if got := differ(slim(pod.DeepCopy(), slimPod), kept(c.change)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestOddObjects: what an object lacks, or has of another kind, is left out.
func TestOddObjects(t *testing.T) {
	odd := []map[string]any{
		{},
		{"spec": "text"},
		{"spec": map[string]any{"clusterIPs": []any{"None", "not an address", "10.96.0.1"}, "ports": []any{"text", map[string]any{"port": int64(99999)}, map[string]any{"port": int64(80)}}}},
		{"ports": []any{nil, map[string]any{"port": "http"}}, "endpoints": []any{nil, map[string]any{"addresses": "text"}}},
	}
	got := services(odd, odd)
	if diff := cmp.Diff([]Service{{Address: "10.96.0.1", Protocol: "tcp", Port: 80}}, got); diff != "" {
		t.Error(diff)
	}
}
