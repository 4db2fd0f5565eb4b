package kube

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bulkhead/rule"

	corev1 "k8s.io/api/core/v1"
)

// judge is one review under way.
type judge struct {
	*Options
	request  Request
	workload *workload
	found    []finding
	warnings []Reason // of Pod Security, which has its own ways
	audits   []Reason
}

// finding is something that speaks against the object, before exceptions.
type finding struct {
	Reason
	action    rule.AdmissionAction
	container string // empty: the pod
}

func (j *judge) find(f finding) { j.found = append(j.found, f) }

// rules asks the CEL rules. Of an update only what came is told: the rest was judged before.
func (j *judge) rules(ctx context.Context) {
	if j.Rules == nil {
		return
	}
	request := j.workload.request(j.request)
	if j.Scans != nil {
		request.Scan = func(image string) (rule.Scan, error) { return j.Scans.Scan(ctx, image) }
	}
	came := j.came()
	for _, m := range j.Rules.Eval(request) {
		name, isContainer := strings.CutPrefix(m.Subject, "container ")
		if came != nil && (!isContainer || !came[name]) {
			continue
		}
		f := finding{Reason: Reason{m.Rule.ID, m.Message}, action: m.Action}
		if isContainer {
			f.container = name
		}
		j.find(f)
	}
}

// came are the containers that an update of a pod brings; nil where everything is new.
func (j *judge) came() map[string]bool {
	if !j.workload.isPod() || j.request.Operation != "UPDATE" || len(j.request.Old) == 0 {
		return nil
	}
	before := j.request
	before.Object = j.request.Old
	old, err := parse(before)
	if err != nil || old == nil {
		return nil
	}
	return changed(j.workload.spec, old.spec)
}

// images verifies every image once, several at a time: a registry may take its time.
func (j *judge) images(ctx context.Context) {
	if j.Images == nil {
		return
	}
	came := j.came()
	verdicts := verifyAll(ctx, j.Images, j.workload.spec, came)
	for _, c := range containers(j.workload.spec) {
		v, asked := verdicts[c.Image]
		if !asked {
			continue
		}
		j.imageFindings(c, v)
	}
}

func (j *judge) imageFindings(c container, v answer) {
	if v.err != nil {
		message := fmt.Sprintf("image %s of container %s cannot be verified: %v", c.Image, c.Name, v.err)
		j.find(finding{Reason{RuleVerification, message}, j.ImageFailure, c.Name})
		return
	}
	if v.Allowed {
		return
	}
	for _, r := range v.Reasons {
		message := fmt.Sprintf("image %s of container %s: %s", c.Image, c.Name, r.Message)
		j.find(finding{Reason{cmp.Or(r.Rule, RuleVerification), message}, cmp.Or(v.Action, rule.Deny), c.Name})
	}
	if len(v.Reasons) == 0 {
		j.find(finding{Reason{RuleVerification, fmt.Sprintf("image %s of container %s is not allowed", c.Image, c.Name)}, cmp.Or(v.Action, rule.Deny), c.Name})
	}
}

type answer struct {
	ImageVerdict
	err error
}

// atOnce is how many images of one pod are verified at a time.
const atOnce = 8

func verifyAll(ctx context.Context, images Verifier, spec *corev1.PodSpec, came map[string]bool) map[string]answer {
	var (
		answers = map[string]answer{}
		lock    sync.Mutex
		group   sync.WaitGroup
		slots   = make(chan struct{}, atOnce)
	)
	for _, image := range wantedImages(spec, came) {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			v, err := images.Verify(ctx, image)
			lock.Lock()
			defer lock.Unlock()
			answers[image] = answer{v, err}
		})
	}
	group.Wait()
	return answers
}

func wantedImages(spec *corev1.PodSpec, came map[string]bool) []string {
	var images []string
	for _, c := range containers(spec) {
		if came == nil || came[c.Name] {
			images = append(images, c.Image)
		}
	}
	slices.Sort(images)
	return slices.Compact(images)
}

// maxUnknown is how many unknown fields of one object are named.
const maxUnknown = 10

func (j *judge) unknownFields() {
	for i, field := range j.workload.unknown {
		if i == maxUnknown {
			return
		}
		j.find(finding{Reason: Reason{RuleUnknownField, field + ": Kubernetes does not know the field and drops it"}, action: rule.Warn})
	}
}

// decide lays exceptions and the namespace's mode over what was found.
func (j *judge) decide() Verdict {
	v := Verdict{Warnings: j.warnings, Audits: j.audits}
	for _, f := range j.found {
		action, message := f.action, f.Message
		if e := j.exceptionFor(f); e != nil && action != rule.Audit {
			action, message = rule.Audit, message+" ("+e.String()+")"
		}
		if j.lenient() && action == rule.Deny {
			action, message = rule.Warn, message+" (admitted, as the namespace is only audited)"
		}
		v.add(action, Reason{f.Rule, message})
	}
	if j.workload.mirrors(j.request) { // its containers run already
		v.Audits, v.Reasons = append(v.Audits, v.Reasons...), nil
	}
	v.Allowed = len(v.Reasons) == 0
	return v
}

func (j *judge) lenient() bool { return Mode(j.request.NamespaceLabels[ModeLabel]) == Dry }
