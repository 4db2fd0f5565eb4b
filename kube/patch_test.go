package kube

import (
	"encoding/json"
	"os"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// TestLeastPrivilegePatch applies what package profile/least writes as an API server does: what it does not speak of stays.
func TestLeastPrivilegePatch(t *testing.T) {
	text, err := os.ReadFile("../profile/least/testdata/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	patch, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &appsv1.Deployment{}); err != nil {
		t.Errorf("an API server would not take it whole: %v", err)
	}
	const before = `{"spec":{"template":{"spec":{"containers":[{"name":"sidecar","image":"s"},{"name":"nginx","image":"n","securityContext":{"capabilities":{"add":["SYS_ADMIN"]},"runAsGroup":7},"volumeMounts":[{"name":"data","mountPath":"/data"}]}],"volumes":[{"name":"data"}]}}}}`
	after, err := strategicpatch.StrategicMergePatch([]byte(before), patch, appsv1.Deployment{})
	if err != nil {
		t.Fatal(err)
	}
	var d appsv1.Deployment
	if err := json.Unmarshal(after, &d); err != nil {
		t.Fatal(err)
	}
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 2 || len(pod.Volumes) != 3 || pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Fatalf("%s", after)
	}
	for _, c := range pod.Containers {
		if c.Name == "sidecar" {
			continue
		}
		s := c.SecurityContext
		if c.Image != "n" || len(c.VolumeMounts) != 3 || *s.RunAsGroup != 7 || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || len(s.Capabilities.Add) != 4 || s.Capabilities.Drop[0] != "ALL" || *s.SeccompProfile.LocalhostProfile == "" {
			t.Errorf("%s", after)
		}
	}
}
