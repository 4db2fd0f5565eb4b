package webhook

import (
	"context"
	"encoding/base64"
	"fmt"

	"bulkhead/kube"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// ShareSecret writes a secret of the pod's own namespace, by its service account.
func ShareSecret(ctx context.Context, namespace, name string, fields map[string][]byte) error {
	config, err := kube.Connect("", "bulkhead-server")
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("reaching the Kubernetes API: %w", err)
	}
	return writeFields(ctx, client, namespace, name, fields)
}

func writeFields(ctx context.Context, client dynamic.Interface, namespace, name string, fields map[string][]byte) error {
	data := map[string]any{}
	for field, value := range fields {
		data[field] = base64.StdEncoding.EncodeToString(value)
	}
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": map[string]any{"name": name, "namespace": namespace}, "data": data,
	}}
	all := client.Resource(secrets).Namespace(namespace)
	have, err := all.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = all.Create(ctx, object, metav1.CreateOptions{})
	case err == nil:
		object.SetResourceVersion(have.GetResourceVersion())
		_, err = all.Update(ctx, object, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("writing the secret %s: %w", name, err)
	}
	return nil
}
