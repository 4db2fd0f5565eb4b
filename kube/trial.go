package kube

import (
	"context"
	"fmt"
	"strings"

	"bulkhead/kube/manifest"
	"bulkhead/rule"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Trial judges manifests as if they were applied together: namespaces among them bring their
// labels, rules and exceptions among them count, wherever they stand.
type Trial struct {
	engine     *Engine
	namespace  string
	objects    []trialObject
	namespaces map[string]map[string]string
	exceptions []Exception
	rules      *rule.Admission
}

type trialObject struct {
	manifest.Object
	kind, namespace, name string
}

// Judged is the answer to one object.
type Judged struct {
	File    string
	Line    int
	Object  string // "Deployment/shop/web"
	Verdict Verdict
}

// NewTrial asks engine; what names no namespace is in the given one.
func NewTrial(engine *Engine, namespace string) *Trial {
	return &Trial{engine: engine, namespace: namespace, namespaces: map[string]map[string]string{}, rules: engine.Options().Rules}
}

// Add takes one object up.
func (t *Trial) Add(o manifest.Object) error {
	kind, namespace, name, err := Identify(o.JSON)
	if err != nil {
		return &manifest.Error{File: o.File, Line: o.Line, Problem: err.Error()}
	}
	for _, part := range []string{kind, namespace, name} {
		if len(part) > validation.DNS1123SubdomainMaxLength+1 {
			return &manifest.Error{File: o.File, Line: o.Line, Problem: fmt.Sprintf("the name %.20q… is too long", part)}
		}
	}
	switch kind {
	case "Namespace":
		t.namespaces[name] = Labels(o.JSON)
	case "AdmissionRule":
		if err := t.addRule(o); err != nil {
			return err
		}
	case "AdmissionException":
		e, err := DecodeException(o.JSON)
		if err != nil {
			return &manifest.Error{File: o.File, Line: o.Line, Problem: err.Error()}
		}
		t.exceptions = append(t.exceptions, e)
	}
	t.objects = append(t.objects, trialObject{o, kind, namespace, name})
	return nil
}

func (t *Trial) addRule(o manifest.Object) error {
	if t.rules == nil {
		return nil
	}
	rules, err := WithRule(t.rules, o.JSON)
	if err != nil {
		return &manifest.Error{File: o.File, Line: o.Line, Problem: err.Error()}
	}
	t.rules = rules
	return nil
}

// Judge returns the answers in the order in which the objects were added.
func (t *Trial) Judge(ctx context.Context) []Judged {
	o := t.engine.Options()
	o.Rules, o.Exceptions = t.rules, append(o.Exceptions, t.exceptions...)
	engine := New(o)
	judged := make([]Judged, 0, len(t.objects))
	for _, object := range t.objects {
		judged = append(judged, Judged{object.File, object.Line, object.String(), engine.Review(ctx, t.request(object))})
	}
	return judged
}

func (o trialObject) String() string {
	parts := []string{o.kind}
	if o.namespace != "" {
		parts = append(parts, o.namespace)
	}
	return strings.Join(append(parts, o.name), "/")
}

func (t *Trial) request(o trialObject) Request {
	namespace := o.namespace
	if namespace == "" && !ofCluster(o.kind) {
		namespace = t.namespace
	}
	return Request{Kind: o.kind, Operation: "CREATE", Namespace: namespace, NamespaceLabels: t.namespaces[namespace], Object: o.JSON}
}
