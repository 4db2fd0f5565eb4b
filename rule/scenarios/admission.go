package scenarios

import (
	_ "embed"
	"fmt"
	"maps"

	"go.yaml.in/yaml/v3"
)

//go:embed admission/all.yaml
var admission []byte

// Admission is the pair of one admission rule.
type Admission struct {
	Rule  string              `yaml:"rule"`
	Lists map[string][]string `yaml:"lists"` // that the rule needs, and has none of by default
	Deny  Wish                `yaml:"deny"`
	Allow Wish                `yaml:"allow"`
}

// Wish is how a pod differs from one that meets no rule, or an object that starts no containers.
type Wish struct {
	Object    map[string]any `yaml:"object"`    // whole, instead of a pod
	Pod       map[string]any `yaml:"pod"`       // laid over the spec
	Container map[string]any `yaml:"container"` // laid over the container
	Namespace string         `yaml:"namespace"`
	Scan      map[string]any `yaml:"scan"`
}

// LoadAdmission returns the pairs of all admission rules.
func LoadAdmission() ([]Admission, error) {
	var all []Admission
	if err := yaml.Unmarshal(admission, &all); err != nil {
		return nil, fmt.Errorf("read the scenarios of admission rules: %w", err)
	}
	return all, nil
}

// Manifest is the object that w wishes for.
func (w Wish) Manifest() map[string]any {
	if w.Object != nil {
		return w.Object
	}
	container := lay(map[string]any{
		"name": "app", "image": "registry.example/shop:v1@sha256:1111111111111111111111111111111111111111111111111111111111111111",
		"securityContext": map[string]any{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}},
		},
		"resources": map[string]any{"limits": map[string]any{"cpu": "100m", "memory": "64Mi"}},
	}, w.Container)
	spec := lay(map[string]any{
		"automountServiceAccountToken": false,
		"securityContext":              map[string]any{"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"containers":                   []any{container},
	}, w.Pod)
	// A wish about the pod's user is about what its own context says.
	if own, ok := w.Pod["securityContext"].(map[string]any); ok && own["runAsNonRoot"] == false && own["runAsUser"] == nil {
		delete(spec["securityContext"].(map[string]any), "runAsUser")
	}
	namespace := w.Namespace
	if namespace == "" {
		namespace = "shop"
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "shop", "namespace": namespace}, "spec": spec,
	}
}

// lay is a JSON merge patch: null takes a field away.
func lay(base, patch map[string]any) map[string]any {
	out := maps.Clone(base)
	for key, value := range patch {
		below, ok := value.(map[string]any)
		under, both := out[key].(map[string]any)
		switch {
		case value == nil:
			delete(out, key)
		case ok && both:
			out[key] = lay(under, below)
		default:
			out[key] = value
		}
	}
	return out
}
