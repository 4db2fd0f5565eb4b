package kube

import (
	"encoding/json"
	"fmt"

	"bulkhead/rule"
)

// WithRule returns the set with an AdmissionRule document laid over it: the spec is what a file of rules says of one
// rule, and may bring lists; the document's name is the rule's id.
func WithRule(set *rule.Admission, object []byte) (*rule.Admission, error) {
	var d struct {
		Metadata struct{ Name string }
		Spec     map[string]any
	}
	if err := json.Unmarshal(object, &d); err != nil {
		return nil, fmt.Errorf("reading the AdmissionRule: %w", err)
	}
	file := map[string]any{}
	if lists, ok := d.Spec["lists"]; ok {
		file["lists"] = lists
		delete(d.Spec, "lists")
	}
	if len(d.Spec) > 0 {
		d.Spec["id"] = d.Metadata.Name
		file["rules"] = []any{d.Spec}
	}
	text, err := json.Marshal(file) // JSON is YAML
	if err != nil {
		return nil, fmt.Errorf("writing the AdmissionRule: %w", err)
	}
	return set.With(d.Metadata.Name+".yaml", text)
}
