package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead/profile"
	"bulkhead/sign"
)

func newProfileAttach(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "attach REF FILE",
		Short: "Sign a profile onto the image that it is of",
		Long: "Signs a behaviour profile (JSON or YAML) and attaches it to the image, so that it travels with it. A profile of another image, or one that no node could\n" +
			"enforce, is refused.\n" + signLong,
		Example: "  bulkhead profile check shop.yaml\n  bulkhead profile attach registry.example/shop:v2 shop.yaml --key release.key",
		Args:    cobra.ExactArgs(2),
	}
	f := &signFlags{}
	f.declare(c, a)
	format := formatFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.attest(c.Context(), args[0], "profile", args[1], f, format.value)
	}
	return c
}

func newProfilePull(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "pull REF",
		Short: "Fetch the profile that is signed onto an image",
		Long: "Verifies an image and writes the newest profile that somebody whom the policy trusts signed onto it: for `profile diff`, `profile export`, or a node.\n" +
			"Exit code 3 when the image is not allowed or has no such profile.",
		Example: "  bulkhead profile pull registry.example/shop:v1 --policy trust.yaml -o old.json\n  bulkhead profile diff old.json new.json --fail-on-added",
		Args:    cobra.ExactArgs(1),
	}
	f := &verifyFlags{}
	f.declare(c, a)
	format := formatFlag(c, "json", "yaml")
	output := c.Flags().StringP("output", "o", "", "write to this `FILE`, as JSON or YAML by its name, instead of standard output")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *output != "" && !c.Flags().Changed("format") && isYAML(*output) {
			format.value = "yaml"
		}
		return a.pullProfile(c.Context(), args[0], f, format.value, *output)
	}
	return c
}

func (a *app) pullProfile(ctx context.Context, ref string, f *verifyFlags, format, output string) error {
	verifier, _, err := a.verifier(f)
	if err != nil {
		return err
	}
	raw, r, err := verifier.Attested(ctx, ref, "profile")
	if err != nil {
		return err
	}
	if raw == nil {
		return a.noProfile(r)
	}
	p, err := profile.Read(bytes.NewReader(raw), "the profile of "+r.Pinned())
	if err != nil {
		return err
	}
	if output == "" {
		return writeProfile(a.out, p, format)
	}
	return saveProfile(output, p, format)
}

func (a *app) noProfile(r sign.Result) error {
	for _, reason := range r.Reasons {
		fmt.Fprintf(a.err, "bulkhead: %s: %s\n", oneLine(reason.Rule), oneLine(reason.Message))
	}
	if !r.Allowed {
		return policyError{fmt.Errorf("%s is not allowed, so nothing that is said of it is believed", r.Image)}
	}
	return policyError{fmt.Errorf("nobody who is trusted signed a profile onto %s: attach one with `bulkhead profile attach`", r.Pinned())}
}
