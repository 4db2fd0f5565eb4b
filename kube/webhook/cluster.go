package webhook

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	webhooks   = []schema.GroupVersionResource{
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	}
)

// The fields of the secret; two of them are those of a TLS secret.
const (
	fieldAuthorities = "ca.crt"
	fieldAuthority   = "ca.key"
	fieldCertificate = "tls.crt"
	fieldKey         = "tls.key"
)

// readSecret returns nil where there is none yet.
func (s *server) readSecret(ctx context.Context) (*bundle, string, error) {
	secret, err := s.client.Resource(secrets).Namespace(s.Namespace).Get(ctx, s.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the secret %s: %w", s.Secret, err)
	}
	field := func(name string) []byte {
		text, _, _ := unstructured.NestedString(secret.Object, "data", name)
		decoded, _ := base64.StdEncoding.DecodeString(text) // what is no base64 is made anew
		return decoded
	}
	b := &bundle{field(fieldAuthorities), field(fieldAuthority), field(fieldCertificate), field(fieldKey)}
	return b, secret.GetResourceVersion(), nil
}

// writeSecret fails when another replica wrote since version was read.
func (s *server) writeSecret(ctx context.Context, b *bundle, version string) error {
	encode := base64.StdEncoding.EncodeToString
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": map[string]any{"name": s.Secret, "namespace": s.Namespace},
		"data": map[string]any{
			fieldAuthorities: encode(b.authorities), fieldAuthority: encode(b.authority), fieldCertificate: encode(b.certificate), fieldKey: encode(b.key),
		},
	}}
	client := s.client.Resource(secrets).Namespace(s.Namespace)
	var err error
	if version == "" {
		_, err = client.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		secret.SetResourceVersion(version)
		_, err = client.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("writing the secret %s: %w", s.Secret, err)
	}
	return nil
}

// tell puts the authorities into both webhook configurations.
func (s *server) tell(ctx context.Context, authorities []byte) error {
	for _, resource := range webhooks {
		if err := s.tellOne(ctx, resource, authorities); err != nil {
			return fmt.Errorf("writing the certificate into %s %s: %w", resource.Resource, s.Configuration, err)
		}
	}
	return nil
}

func (s *server) tellOne(ctx context.Context, resource schema.GroupVersionResource, authorities []byte) error {
	client := s.client.Resource(resource)
	configuration, err := client.Get(ctx, s.Configuration, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // not installed (yet): somebody may want only one of the two
	}
	if err != nil {
		return err
	}
	hooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil {
		return err
	}
	encoded, changed := base64.StdEncoding.EncodeToString(authorities), false
	for _, h := range hooks {
		client, _ := h.(map[string]any)["clientConfig"].(map[string]any)
		if client != nil && client["caBundle"] != encoded {
			client["caBundle"], changed = encoded, true
		}
	}
	if !changed {
		return nil
	}
	// The version makes it fail if somebody changed the list meanwhile.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": configuration.GetResourceVersion()}, "webhooks": hooks})
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, s.Configuration, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "bulkhead-admission"})
	return err
}
