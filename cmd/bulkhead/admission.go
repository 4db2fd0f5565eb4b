package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bulkhead/kube"
	"bulkhead/kube/manifest"
	"bulkhead/rule"
)

func newAdmission(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "admission",
		Short:   "What may run on Kubernetes",
		Long:    "Judges what somebody wants to run on Kubernetes: Pod Security, admission rules, images. See docs/admission.md.",
		Example: "  bulkhead admission test -f manifests/",
		RunE:    needsCommand,
	}
	c.AddCommand(newAdmissionTest(a), newAdmissionRules(a), newAdmissionServe(a))
	return c
}

// admissionOptions are the flags of `admission test`.
type admissionOptions struct {
	files, rules []string
	podSecurity  string
	namespace    string
	strict       bool
	failures     int
	refused      int
}

func newAdmissionTest(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "test -f FILE…",
		Short: "What admission would answer to manifests",
		Long: "Reads manifests (YAML, JSON, lists, whole directories) and writes one JSON line for each object: whether it would be admitted, and if not,\n" +
			"every reason. It needs no server and no cluster. Namespaces and Bulkhead's own documents (AdmissionRule, AdmissionException) among the files count:\n" +
			"labels of Pod Security, rules, exceptions. For what makes pods, the answer is the one that its pods would get.\n" +
			"Exit code 3 when anything would be refused; 1 when anything could not be read.",
		Example: "  bulkhead admission test -f manifests/\n  helm template shop | bulkhead admission test -f - --pod-security restricted",
		Args:    cobra.ArbitraryArgs,
	}
	var o admissionOptions
	c.Flags().StringArrayVarP(&o.files, "filename", "f", nil, "`FILE` or directory of manifests, - for standard input; more may follow as arguments")
	c.Flags().StringArrayVar(&o.rules, "rules", nil, "`DIR` of admission rules that are laid over the default ones")
	c.Flags().StringVar(&o.podSecurity, "pod-security", "baseline", "`LEVEL` where a namespace's labels say nothing: privileged, baseline or restricted, with a version as restricted:v1.30")
	c.Flags().StringVarP(&o.namespace, "namespace", "n", "default", "`NAMESPACE` of what names none")
	c.Flags().BoolVar(&o.strict, "strict", false, "refuse what is only warned of")
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.files = append(o.files, args...); len(o.files) == 0 {
			return usagef("admission test needs -f FILE")
		}
		return a.testAdmission(c.Context(), &o)
	}
	return c
}

// admissionResult is one line of the answer. Fields are added, never renamed.
type admissionResult struct {
	File     string        `json:"file"`
	Line     int           `json:"line"`
	Object   string        `json:"object"`
	Allowed  bool          `json:"allowed"`
	Reasons  []kube.Reason `json:"reasons"`
	Warnings []kube.Reason `json:"warnings"`
	Excepted []kube.Reason `json:"excepted"`
}

func (a *app) testAdmission(ctx context.Context, o *admissionOptions) error {
	engine, err := o.engine()
	if err != nil {
		return err
	}
	trial := kube.NewTrial(engine, o.namespace)
	for _, file := range o.files {
		err := manifest.Walk(file, a.in, func(object manifest.Object, err error) error { return a.gather(trial, o, object, err) })
		if err != nil {
			return err
		}
	}
	for _, judged := range trial.Judge(ctx) {
		if err := a.tellVerdict(o, judged); err != nil {
			return err
		}
	}
	switch {
	case o.failures > 0:
		return fmt.Errorf("%d objects could not be read", o.failures)
	case o.refused > 0:
		return policyError{fmt.Errorf("%d objects would be refused", o.refused)}
	}
	return nil
}

func (o *admissionOptions) engine() (*kube.Engine, error) {
	level, err := kube.ParseLevel(o.podSecurity)
	if err != nil {
		return nil, usageError{err}
	}
	rules, err := loadAdmissionRules(o.rules)
	if err != nil {
		return nil, err
	}
	return kube.New(kube.Options{Rules: rules, PodSecurity: level, Templates: true}), nil
}

func loadAdmissionRules(dirs []string) (*rule.Admission, error) {
	var over []fs.FS
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("reading admission rules: %s is no directory; --rules names one with *.yaml files", filepath.Clean(dir))
		}
		over = append(over, os.DirFS(dir))
	}
	rules, err := rule.LoadAdmission(over...)
	if err != nil {
		return nil, fmt.Errorf("reading admission rules: %w", err)
	}
	return rules, nil
}

func (a *app) gather(trial *kube.Trial, o *admissionOptions, object manifest.Object, err error) error {
	if err == nil {
		err = trial.Add(object)
	}
	if err == nil {
		return nil
	}
	o.failures++
	fmt.Fprintln(a.err, "bulkhead:", oneLine(err.Error()))
	reason := kube.Reason{Rule: kube.RuleMalformed, Message: err.Error()}
	return a.writeLine(admissionResult{File: object.File, Line: object.Line, Reasons: []kube.Reason{reason}})
}

func (a *app) tellVerdict(o *admissionOptions, j kube.Judged) error {
	v := j.Verdict
	if o.strict {
		v.Reasons, v.Warnings = append(v.Reasons, v.Warnings...), nil
		v.Allowed = len(v.Reasons) == 0
	}
	if !v.Allowed {
		o.refused++
	}
	return a.writeLine(admissionResult{
		File: j.File, Line: j.Line, Object: j.Object, Allowed: v.Allowed, Reasons: v.Reasons, Warnings: v.Warnings, Excepted: v.Audits,
	})
}

func (a *app) writeLine(r admissionResult) error {
	r.Reasons, r.Warnings, r.Excepted = list(r.Reasons), list(r.Warnings), list(r.Excepted)
	return writeJSONLine(a.out, r)
}

func newAdmissionRules(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "rules",
		Short:   "The admission rules, and what each does",
		Long:    "Lists the admission rules that come with Bulkhead, with yours laid over them.",
		Example: "  bulkhead admission rules\n  bulkhead admission rules --rules policy/ --format json",
		Args:    cobra.NoArgs,
	}
	dirs := c.Flags().StringArray("rules", nil, "`DIR` of admission rules that are laid over the default ones")
	format := formatFlag(c, "table", "json")
	c.RunE = func(*cobra.Command, []string) error {
		rules, err := loadAdmissionRules(*dirs)
		if err != nil {
			return err
		}
		if format.value == "json" {
			return writeJSON(a.out, rules.Rules())
		}
		t := &table{head: []string{"RULE", "ACTION", "SEVERITY", "TECHNIQUE", "TITLE"}, wrap: true}
		for _, r := range rules.Rules() {
			action := string(r.Action)
			if !r.Enabled {
				action = "off"
			}
			t.add(text(r.ID), text(action), text(string(r.Severity)), text(r.Technique), text(r.Title))
		}
		return t.write(a.out, a.screen())
	}
	return c
}
