package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/image"
	"bulkhead/kube"
	"bulkhead/kube/webhook"
	"bulkhead/rule"
	"bulkhead/sign"
)

// webhookOptions are the flags of `admission serve`.
type webhookOptions struct {
	listen, kubeconfig, namespace, service, configuration, secret string
	podSecurity, imageFailure, cache                              string
	rules, exempt, plain                                          []string
	lifetime, drain, patience                                     time.Duration
	seccomp                                                       bool
}

func newAdmissionServe(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "The admission webhook of a Kubernetes cluster",
		Long: "Answers the API server's questions what may run. It makes and renews its own certificates, puts them into the webhook\n" +
			"configurations, and follows the cluster's AdmissionRules, AdmissionExceptions and TrustPolicies. Any number of replicas may run.\n" +
			"deploy/kubernetes has the manifests. kube-system and its own namespace are never judged.",
		Example: "  bulkhead admission serve --kubeconfig ~/.kube/config --listen :9443",
		Args:    cobra.NoArgs,
	}
	var o webhookOptions
	f := c.Flags()
	f.StringVar(&o.listen, "listen", ":9443", "`ADDRESS` for the API server")
	f.StringVar(&o.kubeconfig, "kubeconfig", a.env("KUBECONFIG"), "`FILE` to reach the cluster with, instead of the pod's service account [KUBECONFIG]")
	f.StringVar(&o.namespace, "namespace", or(a.env("BULKHEAD_NAMESPACE"), "bulkhead-system"), "`NAMESPACE` of the control plane [BULKHEAD_NAMESPACE]")
	f.StringVar(&o.service, "service", "bulkhead-admission", "`NAME` of the service under which the API server finds it")
	f.StringVar(&o.configuration, "configuration", "bulkhead-admission", "`NAME` of the webhook configurations that get the certificate")
	f.StringVar(&o.secret, "secret", "bulkhead-admission-tls", "`NAME` of the secret in which replicas share the certificate")
	f.StringVar(&o.podSecurity, "pod-security", "privileged", "`LEVEL` of Pod Security where a namespace's labels say nothing")
	f.StringVar(&o.imageFailure, "image-failure", "deny", "what is done when an image cannot be verified for want of an answer: deny, warn or audit")
	f.StringVar(&o.cache, "cache", or(a.env("BULKHEAD_CACHE"), "/cache"), "`DIR` of what was verified [BULKHEAD_CACHE]")
	f.StringArrayVar(&o.rules, "rules", nil, "`DIR` of admission rules that are laid over the default ones")
	f.StringArrayVar(&o.exempt, "exempt-namespace", nil, "`NAMESPACE` that is not judged")
	f.StringSliceVar(&o.plain, "insecure-http", nil, "`REGISTRY` that may be spoken to without TLS; no other is")
	f.BoolVar(&o.seccomp, "learned-seccomp", false, "put the seccomp profile of the image's signed behaviour profile into pods that name none; agents write the files on the nodes")
	f.DurationVar(&o.patience, "patience", 950*time.Millisecond, "how long each of the API server's two questions about a pod waits for registries; what takes longer is fetched all the same, for the next try")
	f.DurationVar(&o.lifetime, "certificate-lifetime", 90*24*time.Hour, "how long a certificate is good for; it is renewed after two thirds")
	f.DurationVar(&o.drain, "drain", 5*time.Second, "how long to go on answering once told to end")
	c.RunE = func(c *cobra.Command, _ []string) error {
		base, err := o.base()
		if err != nil {
			return err
		}
		return a.serveAdmission(c.Context(), o, base)
	}
	return c
}

func (o webhookOptions) base() (kube.Options, error) {
	level, err := kube.ParseLevel(o.podSecurity)
	if err != nil {
		return kube.Options{}, usageError{err}
	}
	failure := rule.AdmissionAction(o.imageFailure)
	if !slices.Contains([]rule.AdmissionAction{rule.Deny, rule.Warn, rule.Audit}, failure) {
		return kube.Options{}, usagef("--image-failure is deny, warn or audit, not %q", o.imageFailure)
	}
	if o.lifetime < time.Minute {
		return kube.Options{}, usagef("--certificate-lifetime must be a minute at least")
	}
	rules, err := loadAdmissionRules(o.rules)
	if err != nil {
		return kube.Options{}, err
	}
	return kube.Options{Rules: rules, PodSecurity: level, ImageFailure: failure, Patience: o.patience, Exempt: kube.Exempt{Namespaces: o.exempt}}, nil
}

func (a *app) serveAdmission(ctx context.Context, o webhookOptions, base kube.Options) error {
	log := slog.New(slog.NewTextHandler(a.err, nil))
	cache, err := sign.OpenCache(o.cache)
	if err != nil {
		log.Warn("verified images are not remembered", "error", err)
	}
	images := sign.Options{Registry: image.Options{PlainHTTP: o.plain}, Cache: cache, TagFresh: 2 * time.Second, Patience: o.patience / 3}
	return webhook.Run(ctx, webhook.Options{
		Listen: o.listen, Kubeconfig: o.kubeconfig, Namespace: o.namespace, Service: o.service, Configuration: o.configuration, Secret: o.secret,
		Lifetime: o.lifetime, Drain: o.drain, Base: base, Log: log,
		Trust: func(documents map[string][]byte) (kube.Verifier, map[string]error) {
			return trustedImages(documents, images, o.seccomp)
		},
	})
}

// trustedImages makes a verifier of the policies that can be read; each of the others is told.
func trustedImages(documents map[string][]byte, o sign.Options, seccomp bool) (kube.Verifier, map[string]error) {
	var policies []*sign.Policies
	problems := map[string]error{}
	for _, name := range slices.Sorted(maps.Keys(documents)) {
		p, err := sign.ParsePolicy(documents[name], name)
		if err != nil {
			problems[name] = err
			continue
		}
		policies = append(policies, p)
	}
	joined, err := sign.Join(policies...)
	if err == nil {
		var v *sign.Verifier
		if v, err = sign.New(joined, o); err == nil {
			return verifier{v, newAttested(v, seccomp)}, problems
		}
	}
	return broken{err}, problems
}

// verifier lets package kube ask package sign.
type verifier struct {
	images *sign.Verifier
	*attested
}

func (v verifier) Verify(ctx context.Context, reference string) (kube.ImageVerdict, error) {
	r, err := v.images.Verify(ctx, reference)
	if err != nil {
		return kube.ImageVerdict{}, err
	}
	verdict := kube.ImageVerdict{Digest: r.Digest, Allowed: r.Allowed && len(r.Reasons) == 0, Action: rule.AdmissionAction(r.Action)}
	for _, reason := range r.Reasons {
		verdict.Reasons = append(verdict.Reasons, kube.Reason{Rule: reason.Rule, Message: reason.Message})
	}
	return verdict, nil
}

// broken answers nothing: what then counts is --image-failure.
type broken struct{ err error }

func (b broken) Verify(context.Context, string) (kube.ImageVerdict, error) {
	return kube.ImageVerdict{}, fmt.Errorf("the trust policies cannot be used: %w", b.err)
}
