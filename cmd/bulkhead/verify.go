package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/image"
	"bulkhead/sign"
)

// verifyFlags say what is trusted, and where it is looked up.
type verifyFlags struct {
	policies, plain, bundles []string
	key, layout, cache       string
	record                   string
	offline, noCache         bool
	timeout                  time.Duration
}

func (f *verifyFlags) declare(c *cobra.Command, a *app) {
	flags := c.Flags()
	flags.StringSliceVar(&f.policies, "policy", nil, "`FILE` with trust policies; all of them that are about the image must be met")
	flags.StringVar(&f.key, "key", "", "`FILE` with a public key: instead of a policy, that this key signed the image")
	flags.BoolVar(&f.offline, "offline", false, "ask no registry: --bundle, --layout or the cache have everything")
	flags.StringSliceVar(&f.bundles, "bundle", nil, "`FILE` with a bundle; REF has the digest then")
	flags.StringVar(&f.layout, "layout", "", "`DIR` with an OCI layout: the image and what is attached to it")
	flags.StringVar(&f.cache, "cache", a.env("BULKHEAD_CACHE"), "`DIR` of what was fetched before, for when a registry is away [BULKHEAD_CACHE] (default the user's cache directory)")
	flags.BoolVar(&f.noCache, "no-cache", false, "remember nothing")
	flags.StringVar(&f.record, "record", "", "add a line of JSON to this `FILE` for every image that passes by break-glass alone")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "give up after so long")
	flags.StringSliceVar(&f.plain, "insecure-http", nil, "`REGISTRY` that may be spoken to without TLS; no other is")
}

func newVerify(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "verify REF",
		Short: "Say whether an image may be trusted, and why not",
		Long: "Looks at the signatures and attestations that are attached to an image, proves them, and holds them against policies (docs/trust.md).\n" +
			"REF's tag is asked for once; everything after that is by digest, and the digest is told, so that you can run what was verified.\n" +
			"Exit code 3 with each reason when the image is not allowed; 1 when there is no verdict, because a registry does not answer.",
		Example: "  bulkhead verify registry.example/shop:v2 --policy trust.yaml\n" +
			"  bulkhead verify registry.example/shop:v2 --key release.pub\n" +
			"  bulkhead verify registry.example/shop@sha256:… --policy trust.yaml --offline --bundle shop.bundle.json",
		Args: cobra.ExactArgs(1),
	}
	f := &verifyFlags{}
	f.declare(c, a)
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		verifier, policies, err := a.verifier(f)
		if err != nil {
			return err
		}
		return a.verify(c.Context(), verifier, policies, args[0], format.value)
	}
	return c
}

func (a *app) verify(ctx context.Context, verifier *sign.Verifier, policies *sign.Policies, ref, format string) error {
	for _, note := range policies.Notes() {
		fmt.Fprintln(a.err, "bulkhead:", oneLine(note))
	}
	for _, idle := range policies.Idle([]string{ref}) {
		fmt.Fprintf(a.err, "bulkhead: policy %s is not about this image\n", oneLine(idle))
	}
	r, err := verifier.Verify(ctx, ref)
	if err != nil {
		return err
	}
	if err := a.tellResult(r, format); err != nil {
		return err
	}
	if !r.Allowed {
		return policyError{fmt.Errorf("%s is not allowed: %s", ref, counted(len(r.Reasons), "reason"))}
	}
	return nil
}

func (a *app) tellResult(r sign.Result, format string) error {
	for _, note := range r.Notes {
		fmt.Fprintln(a.err, "bulkhead:", oneLine(note))
	}
	if b := r.BreakGlass; b != nil {
		fmt.Fprintf(a.err, "bulkhead: BREAK-GLASS: policy %s lets this image pass until %s, by %s: %s\n", oneLine(b.Policy), b.Until.UTC().Format(time.RFC3339), oneLine(b.By), oneLine(b.Reason))
	}
	if format == "json" {
		return writeJSON(a.out, r)
	}
	return a.resultTable(r).write(a.out, a.screen())
}

func (a *app) resultTable(r sign.Result) *table {
	verdict := map[bool]string{true: "allowed", false: "denied"}[r.Allowed]
	t := &table{head: []string{strings.ToUpper(verdict), oneLine(r.Pinned())}, wrap: true, flex: []int{1}}
	signed := func(s sign.Signature, what string) {
		by := s.Signer
		if s.Identity != "" {
			by += " (" + s.Identity + ", " + s.Issuer + ")"
		}
		if s.Time != nil {
			by += ", " + s.Time.UTC().Format(time.RFC3339)
		}
		t.add(text(what), text(by))
	}
	for _, s := range r.Signatures {
		signed(s, "signed by")
	}
	for _, s := range r.Attestations {
		signed(s, sign.KindOf(s.Type))
	}
	for _, reason := range r.Reasons {
		t.add(text(string(reason.Action)), textf("%s: %s", reason.Rule, reason.Message))
	}
	return t
}

// verifier is what the flags ask for.
func (a *app) verifier(f *verifyFlags) (*sign.Verifier, *sign.Policies, error) {
	policies, err := f.load()
	if err != nil {
		return nil, nil, err
	}
	opt := sign.Options{
		Registry: image.Options{PlainHTTP: f.plain}, Timeout: f.timeout, Unmatched: sign.Deny,
		Record: func(r sign.Result) { a.recordPass(f.record, r) },
	}
	if opt.Source, err = f.source(); err != nil {
		return nil, nil, err
	}
	if opt.Cache, err = a.trustCache(f, opt.Source != nil); err != nil {
		return nil, nil, err
	}
	if f.offline && opt.Source == nil {
		opt.Source, opt.Cache = opt.Cache.Source(), nil // what is kept stays as old as it is
	}
	v, err := sign.New(policies, opt)
	return v, policies, err
}

func (f *verifyFlags) load() (*sign.Policies, error) {
	if (f.key == "") == (len(f.policies) == 0) {
		return nil, usagef("say what is trusted with --policy FILE or --key FILE, one of both")
	}
	if f.key != "" {
		return sign.LoadKey(f.key)
	}
	var all []*sign.Policies
	var wrong []error
	for _, file := range f.policies {
		p, err := sign.LoadPolicy(file)
		all, wrong = append(all, p), append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return sign.Join(all...)
}

// source is where the image is looked up, where that is no registry.
func (f *verifyFlags) source() (sign.Source, error) {
	switch {
	case len(f.bundles) > 0 && f.layout != "":
		return nil, usagef("give bundles or a layout, not both")
	case len(f.bundles) > 0:
		return sign.OpenFiles(f.bundles)
	case f.layout != "":
		return sign.OpenLayout(f.layout)
	}
	return nil, nil
}

// trustCache is where attestations are kept between commands. What was carried in is not kept: it is there already.
func (a *app) trustCache(f *verifyFlags, carried bool) (*sign.Cache, error) {
	base := or(f.cache, under(a.env("XDG_CACHE_HOME"), "bulkhead"), under(a.env("HOME"), ".cache/bulkhead"))
	if f.noCache && f.offline && !carried {
		return nil, usagef("--offline without --bundle, --layout or the cache has nothing to look at")
	}
	if f.noCache || carried || base == "" {
		return nil, nil
	}
	return sign.OpenCache(filepath.Join(base, "attestations"))
}

// recordPass keeps that somebody let an image pass. One that cannot be recorded is told loudly.
func (a *app) recordPass(file string, r sign.Result) {
	if file == "" {
		return
	}
	line, err := json.Marshal(struct {
		Time time.Time `json:"time"`
		sign.Result
	}{time.Now().UTC(), r})
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
			_, err = f.Write(append(line, '\n'))
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(a.err, "bulkhead: THE BREAK-GLASS WAS NOT RECORDED:", oneLine(err.Error()))
	}
}
