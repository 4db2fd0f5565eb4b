// Package kube is the door to Kubernetes: it judges what somebody wants to run there, before it
// runs. Start with [New] and [Engine.Review].
//
// It promises Pod Security's verdicts exactly as upstream gives them, for every version; that a
// rule which cannot be evaluated does what the rule says and says so; that the cluster's own
// namespaces and the control plane's are never judged, so that neither can lock itself out; and
// that judging costs bounded time and memory whatever the object. It is not for talking to a
// cluster: package kube/webhook answers the API server with what is decided here.
package kube

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"bulkhead/rule"

	psapi "k8s.io/pod-security-admission/api"
)

// Mode says what a verdict does.
type Mode string

// The modes of a namespace; its label admission.bulkhead.dev/mode chooses one.
const (
	Enforce Mode = "enforce" // what is denied is refused
	Dry     Mode = "audit"   // what would be refused is told, and admitted
	Off     Mode = "off"     // nothing is looked at
)

// ModeLabel is the label of a namespace that chooses its mode.
const ModeLabel = "admission.bulkhead.dev/mode"

// Verifier says whether an image may run here, by its signatures and attestations.
type Verifier interface {
	Verify(ctx context.Context, image string) (ImageVerdict, error)
}

// ImageVerdict is what is known about who vouches for an image.
type ImageVerdict struct {
	Digest  string               // "sha256:…", what was verified; empty where no policy is for the image
	Allowed bool                 //
	Action  rule.AdmissionAction // what to do when it is not allowed: deny, warn or audit
	Reasons []Reason
}

// Scans tells what the last scan of an image found.
type Scans interface {
	Scan(ctx context.Context, image string) (rule.Scan, error)
}

// Profiles names the seccomp profile that was learned for a workload's image, as the file below
// the kubelet's seccomp folder; "" where none was learned.
type Profiles interface {
	Seccomp(ctx context.Context, namespace, workload, image string) string
}

// Reason is one thing that is to be said about an object.
type Reason struct {
	Rule    string `json:"rule"`
	Message string `json:"message"`
}

// The reasons that are not rules of package rule.
const (
	RulePodSecurity  = "pod-security"       // of the namespace's level
	RuleVerification = "image-verification" // of the trust policies
	RuleMalformed    = "malformed"          // the object cannot be read
	RuleUnknownField = "unknown-field"      // the API server would drop it
)

// Options are what an engine decides with. What is nil is not asked.
type Options struct {
	Rules       *rule.Admission
	Images      Verifier
	Scans       Scans
	Profiles    Profiles
	PodSecurity psapi.Policy // for namespaces without labels
	Exempt      Exempt
	Exceptions  []Exception
	// Templates applies a namespace's Pod Security level to pod templates too. Upstream only warns
	// there and refuses the pods; before anything is applied, that is the answer one wants.
	Templates bool
	// ImageFailure is what is done when an image cannot be verified for want of an answer.
	ImageFailure rule.AdmissionAction
	// Patience bounds how long images and scans are waited for.
	Patience time.Duration
	Now      func() time.Time
}

// Exempt are who and what is never judged.
type Exempt struct{ Namespaces, Users, RuntimeClasses []string }

// SystemNamespaces are always exempt: a webhook that refuses them can take a cluster down with
// itself, and then nothing is left that could be asked to repair it.
var SystemNamespaces = []string{"kube-system", "kube-node-lease", "kube-public"}

// Engine judges objects. It may be used by many goroutines, and its options exchanged meanwhile.
type Engine struct{ options atomic.Pointer[Options] }

// New returns an engine; [Engine.Set] exchanges what it decides with.
func New(o Options) *Engine {
	e := &Engine{}
	e.Set(o)
	return e
}

// Set exchanges the options for everything that is reviewed from now on.
func (e *Engine) Set(o Options) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = 2 * time.Second
	}
	if o.ImageFailure == "" {
		o.ImageFailure = rule.Deny
	}
	if o.PodSecurity.Enforce.Level == "" {
		o.PodSecurity = Privileged()
	}
	o.Exempt.Namespaces = append(slices.Clone(SystemNamespaces), o.Exempt.Namespaces...)
	e.options.Store(&o)
}

// Options returns what the engine decides with at present.
func (e *Engine) Options() Options { return *e.options.Load() }

// Request is one object on its way into a cluster.
type Request struct {
	Kind            string // "Deployment"
	Subresource     string // "ephemeralcontainers"
	Operation       string // CREATE or UPDATE
	Namespace       string
	NamespaceLabels map[string]string
	User            string
	Groups          []string
	Object, Old     []byte // JSON
}

// Verdict is the answer to a [Request].
type Verdict struct {
	Allowed  bool
	Reasons  []Reason // why it is refused
	Warnings []Reason // what its author should know
	Audits   []Reason // what is only written down: dry runs, exceptions, audit rules
	Exempt   string   // why it was not looked at
}

func (v *Verdict) add(action rule.AdmissionAction, r Reason) {
	switch action {
	case rule.Deny:
		v.Reasons = append(v.Reasons, r)
	case rule.Warn:
		v.Warnings = append(v.Warnings, r)
	default:
		v.Audits = append(v.Audits, r)
	}
}

// Review judges one object.
func (e *Engine) Review(ctx context.Context, r Request) Verdict {
	o := e.options.Load()
	if why := o.exempt(r); why != "" {
		return Verdict{Allowed: true, Exempt: why}
	}
	if access[r.Kind] {
		return o.reviewAccess(ctx, r)
	}
	w, err := parse(r)
	if err != nil {
		return Verdict{Reasons: []Reason{{RuleMalformed, err.Error()}}}
	}
	if w == nil {
		return Verdict{Allowed: true, Exempt: "it starts no containers"}
	}
	if why := w.unchanged(r); why != "" {
		return Verdict{Allowed: true, Exempt: why}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	j := &judge{Options: o, request: r, workload: w}
	j.podSecurity()
	if o.PodSecurityExempt(w.spec.RuntimeClassName) {
		return Verdict{Allowed: true, Exempt: "its runtime class is exempt"}
	}
	j.rules(ctx)
	j.images(ctx)
	j.unknownFields()
	return j.decide()
}

// reviewAccess asks the rules alone.
func (o *Options) reviewAccess(ctx context.Context, r Request) Verdict {
	w, err := parseAccess(r)
	if err != nil {
		return Verdict{Reasons: []Reason{{RuleMalformed, err.Error()}}}
	}
	if w.deleting || w.sameAccess(r) {
		return Verdict{Allowed: true, Exempt: "the access that it gives stays as it is"}
	}
	j := &judge{Options: o, request: r, workload: w}
	j.rules(ctx)
	return j.decide()
}

// PodSecurityExempt says whether a runtime class is exempt.
func (o *Options) PodSecurityExempt(class *string) bool {
	return class != nil && *class != "" && slices.Contains(o.Exempt.RuntimeClasses, *class)
}

func (o *Options) exempt(r Request) string {
	switch {
	case r.Namespace != "" && slices.Contains(o.Exempt.Namespaces, r.Namespace):
		return "its namespace is exempt"
	case r.User != "" && slices.Contains(o.Exempt.Users, r.User):
		return "its author is exempt"
	case Mode(r.NamespaceLabels[ModeLabel]) == Off:
		return "admission is off in its namespace"
	case ignoredSubresources[r.Subresource]:
		return "the subresource starts no containers"
	}
	return ""
}

// ignoredSubresources start no containers. Any other one is looked at, so that one which is added
// to Kubernetes later is not a way around.
var ignoredSubresources = map[string]bool{
	"attach": true, "binding": true, "eviction": true, "exec": true, "log": true, "portforward": true, "proxy": true, "status": true, "scale": true,
}
