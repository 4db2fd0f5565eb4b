package kube

import (
	"context"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Operation is one of a JSON patch.
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// Patch is what of a pod is made more exact before it is judged: the digest that was verified in
// place of a tag, so that exactly this runs, and the seccomp profile that was learned. It changes
// pods only, not what makes them, which people keep in their repositories.
func (e *Engine) Patch(ctx context.Context, r Request) ([]Operation, error) {
	o := e.options.Load()
	if r.Kind != "Pod" || o.exempt(r) != "" {
		return nil, nil
	}
	w, err := parsePod(r.Object)
	if err != nil || w.unchanged(r) != "" || w.mirrors(r) || o.PodSecurityExempt(w.spec.RuntimeClassName) {
		return nil, nil // the review that follows says what is wrong
	}
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	j := &judge{Options: o, request: r, workload: w}
	return append(j.pin(ctx), j.confine(ctx)...), nil
}

func (j *judge) pin(ctx context.Context) []Operation {
	if j.Images == nil {
		return nil
	}
	came := j.came()
	verdicts := verifyAll(ctx, j.Images, j.workload.spec, came)
	var patch []Operation
	for _, c := range containers(j.workload.spec) {
		v, asked := verdicts[c.Image]
		if !asked || came != nil && !came[c.Name] || v.err != nil || v.Digest == "" {
			continue
		}
		if pinned := Pin(c.Image, v.Digest); pinned != c.Image {
			patch = append(patch, Operation{"replace", j.workload.pointer("spec", c.kind, strconv.Itoa(c.index), "image"), pinned})
		}
	}
	return patch
}

// Pin puts the digest that was verified into a reference. The tag stays, for people to read; what
// pulls takes the digest.
func Pin(reference, digest string) string {
	name, old, pinned := strings.Cut(reference, "@")
	if pinned && old != "" {
		return reference
	}
	return name + "@" + digest
}

// confine puts learned profiles into containers for which nothing is chosen yet.
func (j *judge) confine(ctx context.Context) []Operation {
	if j.Profiles == nil || j.request.Subresource != "" || j.request.Operation == "UPDATE" {
		return nil
	}
	workload := ""
	if names := j.workload.names(); len(names) > 0 {
		workload = names[len(names)-1] // what made it, where something did
	}
	var patch []Operation
	for _, c := range containers(j.workload.spec) {
		if c.kind == "ephemeralContainers" || chosen(j.workload.spec, c) {
			continue
		}
		name := j.Profiles.Seccomp(ctx, j.request.Namespace, workload, c.Image)
		if name != "" {
			patch = append(patch, j.seccomp(c, name))
		}
	}
	return patch
}

// chosen says whether somebody wrote a seccomp profile down that is not just the runtime's own.
func chosen(spec *corev1.PodSpec, c container) bool {
	var profile *corev1.SeccompProfile
	if spec.SecurityContext != nil {
		profile = spec.SecurityContext.SeccompProfile
	}
	if c.SecurityContext != nil {
		if c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged {
			return true // no filter applies to it
		}
		if c.SecurityContext.SeccompProfile != nil {
			profile = c.SecurityContext.SeccompProfile
		}
	}
	return profile != nil && profile.Type != corev1.SeccompProfileTypeRuntimeDefault
}

func (j *judge) seccomp(c container, name string) Operation {
	profile := map[string]any{"type": "Localhost", "localhostProfile": name}
	at := []string{"spec", c.kind, strconv.Itoa(c.index), "securityContext"}
	if c.SecurityContext == nil {
		return Operation{"add", j.workload.pointer(at...), map[string]any{"seccompProfile": profile}}
	}
	return Operation{"add", j.workload.pointer(append(at, "seccompProfile")...), profile}
}

func cutVersion(text string) (level, version string, versioned bool) { return strings.Cut(text, ":") }
