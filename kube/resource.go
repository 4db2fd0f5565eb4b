package kube

import (
	"fmt"
	"time"

	"sigs.k8s.io/json"
)

// Group is the API group of Bulkhead's own documents, and Version their version.
const (
	Group   = "bulkhead.dev"
	Version = "v1alpha1"
)

// ExceptionSpec is the spec of an AdmissionException.
type ExceptionSpec struct {
	Rules     []string  `json:"rules"`
	Workloads []string  `json:"workloads,omitempty"`
	Images    []string  `json:"images,omitempty"`
	Owner     string    `json:"owner"`
	Reason    string    `json:"reason"`
	Expires   time.Time `json:"expires"`
}

// metadata is what is read of an object's own.
type metadata struct {
	Name       string `json:"name"`
	Namespace  string `json:"namespace"`
	Generation int64  `json:"generation"`
}

// DecodeException reads an AdmissionException and checks that it is whole.
func DecodeException(text []byte) (Exception, error) {
	var document struct {
		Metadata metadata      `json:"metadata"`
		Spec     ExceptionSpec `json:"spec"`
	}
	strict, err := json.UnmarshalStrict(text, &document, json.DisallowDuplicateFields)
	if err == nil && len(strict) > 0 {
		err = strict[0]
	}
	if err != nil {
		return Exception{}, fmt.Errorf("reading the exception: %w", err)
	}
	s := document.Spec
	e := Exception{
		Name: document.Metadata.Name, Namespace: document.Metadata.Namespace, Rules: s.Rules, Workloads: s.Workloads, Images: s.Images,
		Owner: s.Owner, Reason: s.Reason, Expires: s.Expires,
	}
	return e, e.Check()
}
