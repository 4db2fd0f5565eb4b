package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"bulkhead/kube"
	"bulkhead/rule"
)

// aPod is one as an API server sends it: with what it filled in, and whose field is whose.
const aPod = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-7d4b9c6f5-x2x9k","generateName":"web-7d4b9c6f5-","namespace":"shop","uid":"0b2c1b1e-1111-2222-3333-444455556666",
"creationTimestamp":"2026-11-27T07:00:00Z","labels":{"app":"web","pod-template-hash":"7d4b9c6f5"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-7d4b9c6f5","uid":"0b2c1b1e-1111-2222-3333-444455556667","controller":true,"blockOwnerDeletion":true}],
"managedFields":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-27T07:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"0b2c1b1e-1111-2222-3333-444455556667\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{".":{},"k:{\"name\":\"DB\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{".":{},"f:limits":{".":{},"f:cpu":{},"f:memory":{}}},"f:securityContext":{".":{},"f:allowPrivilegeEscalation":{},"f:runAsNonRoot":{}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}]},
"spec":{"volumes":[{"name":"kube-api-access-abcde","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],"defaultMode":420}}],
"containers":[{"name":"app","image":"registry.example/shop/web:v2","ports":[{"containerPort":8080,"protocol":"TCP"}],"env":[{"name":"DB","value":"db:5432"}],"resources":{"limits":{"cpu":"1","memory":"256Mi"},"requests":{"cpu":"1","memory":"256Mi"}},"volumeMounts":[{"name":"kube-api-access-abcde","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent","securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"capabilities":{"drop":["ALL"]}}}],
"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","serviceAccount":"default","securityContext":{"seccompProfile":{"type":"RuntimeDefault"}},"schedulerName":"default-scheduler","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}],"priority":0,"enableServiceLinks":true,"preemptionPolicy":"PreemptLowerPriority"},"status":{"phase":"Pending","qosClass":"Guaranteed"}}`

// trusting has verified every image already.
type trusting struct{}

func (trusting) Verify(context.Context, string) (kube.ImageVerdict, error) {
	return kube.ImageVerdict{Digest: "sha256:" + strings.Repeat("0", 64), Allowed: true}, nil
}

func newServer(tb testing.TB) (*server, http.Handler) {
	tb.Helper()
	rules, err := rule.DefaultAdmission()
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{Options: Options{Log: slog.New(slog.DiscardHandler)}, engine: kube.New(kube.Options{Rules: rules, Images: trusting{}})}
	known := cache.NewSharedIndexInformer(nil, &unstructured.Unstructured{}, 0, nil)
	shop := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "shop"}}}
	if err := known.GetStore().Add(shop); err != nil {
		tb.Fatal(err)
	}
	return s, s.handler(&watch{server: s, informers: map[schema.GroupVersionResource]cache.SharedIndexInformer{namespaces: known}})
}

func reviewOf(tb testing.TB, object string) []byte {
	tb.Helper()
	r := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespace: "shop", Operation: "CREATE",
	}}
	r.Request.Object.Raw = []byte(object)
	text, err := json.Marshal(r)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func ask(tb testing.TB, h http.Handler, path string, body []byte) *admissionv1.AdmissionResponse {
	tb.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || r.Response == nil {
		tb.Fatalf("%s: %d %v %s", path, w.Code, err, w.Body)
	}
	return r.Response
}

func TestAnswer(t *testing.T) {
	_, h := newServer(t)
	body := reviewOf(t, aPod)
	if r := ask(t, h, "/validate", body); !r.Allowed || r.UID != "1" {
		t.Errorf("%+v", r)
	}
	if r := ask(t, h, "/mutate", body); !strings.Contains(string(r.Patch), "@sha256:000") {
		t.Errorf("%s", r.Patch)
	}
}

// BenchmarkAnswer is a pod's two questions, of an image that was verified before.
func BenchmarkAnswer(b *testing.B) {
	_, h := newServer(b)
	body := reviewOf(b, aPod)
	for _, path := range []string{"/mutate", "/validate"} {
		b.Run(path[1:], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
				if w.Code != http.StatusOK {
					b.Fatal(fmt.Sprint(w.Code, w.Body))
				}
			}
		})
	}
}
