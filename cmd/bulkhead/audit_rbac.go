package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/baseline"
	"bulkhead/baseline/rbac"
	"bulkhead/kube/objects"
)

// rbacFlags are what a person says about one analysis.
type rbacFlags struct {
	format     *choice
	failOn     *choice
	objects    []string
	kubeconfig string
	logs       []string
	account    string
	all        bool
}

func newAuditRBAC(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "rbac",
		Short: "Who can become administrator of a cluster, and which rights nobody uses",
		Long: "Shows who can become administrator of a Kubernetes cluster, step by step with the binding that gives each right: by reading secrets,\n" +
			"making tokens, running or entering pods, kubelets, escalate, bind, impersonate, certificates, webhooks. And what is wrong with roles and\n" +
			"bindings: wildcards, subjects that do not exist, rights of default accounts, accounts that nothing runs as.\n" +
			"With --audit-log it says instead what each service account in the log (or --account) was granted and used, and --format yaml writes the\n" +
			"smallest roles. Objects are read from --objects, or asked of the cluster. Exit code 3 when there is a finding at or above --fail-on,\n" +
			"or somebody who is not the cluster's own has a way that --fail-on critical tells of.",
		Example: "  kubectl get clusterroles,clusterrolebindings,roles,rolebindings,sa,pods,ns,nodes -A -o json > cluster.json\n" +
			"  bulkhead audit rbac --objects cluster.json\n" +
			"  bulkhead audit rbac --kubeconfig ~/.kube/config --format json\n" +
			"  bulkhead audit rbac --objects cluster.json --audit-log audit.log --account shop/web --format yaml",
		Args: cobra.NoArgs,
	}
	f := &rbacFlags{format: formatFlag(c, "table", "json", "yaml"), failOn: &choice{value: "high", words: []string{"low", "medium", "high", "critical", "none"}}}
	flags := c.Flags()
	flags.Var(f.failOn, "fail-on", "exit with 3 when there is something of this severity or above")
	flags.StringSliceVar(&f.objects, "objects", nil, "`FILE|DIR` with the cluster's objects, as kubectl get -o json or yaml writes them")
	flags.StringVar(&f.kubeconfig, "kubeconfig", a.env("KUBECONFIG"), "`FILE` to reach the cluster with, where there is no --objects [KUBECONFIG]")
	flags.StringSliceVar(&f.logs, "audit-log", nil, "`FILE` that the API server wrote: one event of audit.k8s.io in JSON a line")
	flags.StringVar(&f.account, "account", "", "only this service account, as `NAMESPACE/NAME`: its rights, and with --audit-log what it used of them")
	flags.BoolVar(&f.all, "all", false, "in the table, show also what belongs to the cluster itself")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.auditRBAC(c.Context(), f) }
	return c
}

func (a *app) auditRBAC(ctx context.Context, f *rbacFlags) error {
	if f.format.value == "yaml" && len(f.logs) == 0 {
		return usagef("--format yaml writes roles of what was used: give --audit-log")
	}
	all, problems, err := a.accessObjects(ctx, f)
	if err != nil {
		return err
	}
	if len(f.logs) > 0 || f.account != "" {
		return a.auditUsage(all, f)
	}
	report, err := rbac.Analyze(all)
	if err != nil {
		return fmt.Errorf("analyze the cluster's rights: %w", err)
	}
	report.Problems = append(problems, report.Problems...)
	if f.format.value == "json" {
		err = writeJSON(a.out, report)
	} else {
		err = a.rbacTable(report, f.all)
	}
	if err != nil {
		return err
	}
	return rbacVerdict(report, f.failOn.value)
}

// accessObjects reads files, or asks the cluster.
func (a *app) accessObjects(ctx context.Context, f *rbacFlags) (all []map[string]any, problems []string, err error) {
	if len(f.objects) == 0 {
		return objects.List(ctx, f.kubeconfig, objects.Access)
	}
	var read []baseline.Object
	for _, name := range f.objects {
		if err := readObjects(name, &read); err != nil {
			return nil, nil, fmt.Errorf("read the cluster's objects: %w", err)
		}
	}
	for _, o := range read {
		all = append(all, o.Raw)
	}
	return all, nil, nil
}

// rbacVerdict: a way to the administration that somebody has by chance is critical; who is administrator openly is not.
func rbacVerdict(r rbac.Report, failOn string) error {
	if failOn == "none" {
		return nil
	}
	ways, wrong := 0, 0
	for _, one := range r.Admins {
		if !one.System && len(one.Path) > 1 {
			ways++
		}
	}
	for _, one := range r.Findings {
		if !one.System && one.Severity.Rank() >= bulkhead.Severity(failOn).Rank() {
			wrong++
		}
	}
	if ways+wrong == 0 {
		return nil
	}
	return policyError{fmt.Errorf("%s can become administrator without being it; %s at or above %s", counted(ways, "subject"), counted(wrong, "finding"), failOn)}
}

func (a *app) rbacTable(r rbac.Report, all bool) error {
	ways := &table{head: []string{"WHO CAN BECOME ADMINISTRATOR", "STEPS", "HOW"}, flex: []int{0, 2}, wrap: true}
	hidden := 0
	for _, one := range r.Admins {
		if one.System && !all {
			hidden++
			continue
		}
		for i, step := range one.Path {
			how := step.How
			if i < len(one.Path)-1 {
				how += " → " + step.To
			}
			if step.Via != "" {
				how += " (" + step.Via + ")"
			}
			who, steps := one.Subject, fmt.Sprint(len(one.Path))
			if i > 0 {
				who, steps = "", ""
			}
			ways.add(text(who), text(steps), text(how))
		}
		if len(one.Pods) > 0 {
			ways.add(text(""), text(""), text("whoever breaks into "+strings.Join(one.Pods, ", ")+" has it too"))
		}
	}
	wrong := &table{head: []string{"SEVERITY", "FINDING", "OBJECT", "WHY"}, flex: []int{2, 3}, wrap: true}
	for _, one := range r.Findings {
		if one.System && !all {
			hidden++
			continue
		}
		why := one.Message
		if len(one.Subjects) > 0 {
			why += ": " + strings.Join(one.Subjects[:min(len(one.Subjects), 5)], ", ")
		}
		if n := len(one.Subjects) - 5; n > 0 {
			why += fmt.Sprintf(", and %d more", n)
		}
		wrong.add(text(string(one.Severity)), text(one.Kind), text(one.Object), text(why))
	}
	for _, t := range []*table{ways, wrong} {
		if len(t.rows) == 0 {
			continue
		}
		if err := t.write(a.out, a.screen()); err != nil {
			return err
		}
		fmt.Fprintln(a.out)
	}
	if _, err := fmt.Fprintf(a.out, "%s, %s, %s", counted(r.Bindings, "binding"), counted(r.Subjects, "subject"), counted(r.Accounts, "service account")); err != nil {
		return err
	}
	if hidden > 0 {
		fmt.Fprintf(a.out, "; %d entries belong to the cluster itself: --all shows them", hidden)
	}
	_, err := fmt.Fprintln(a.out)
	for _, problem := range r.Problems {
		_, err = fmt.Fprintln(a.out, "note:", oneLine(problem))
	}
	return err
}

// auditUsage compares rights with what a log says that was used of them.
func (a *app) auditUsage(all []map[string]any, f *rbacFlags) error {
	var log *rbac.Log
	for _, name := range f.logs {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		one, err := rbac.ReadAuditLog(name, file)
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
		if log == nil {
			log = one
		} else {
			log.Add(one)
		}
	}
	accounts := []string{f.account}
	if f.account == "" {
		accounts = log.Accounts()
	}
	usages, err := rbac.Compare(all, log, accounts...)
	if err != nil {
		return err
	}
	switch f.format.value {
	case "json":
		return writeJSON(a.out, list(usages))
	case "yaml":
		var documents []string
		for _, u := range usages {
			if u.Role != "" {
				documents = append(documents, u.Role)
			}
		}
		_, err := a.out.Write(harmless([]byte(strings.Join(documents, "---\n"))))
		return err
	}
	return a.usageTable(usages)
}

func (a *app) usageTable(usages []rbac.Usage) error {
	t := &table{head: []string{"SERVICE ACCOUNT", "REQUESTS", "GRANTED", "USED", "NEVER USED"}, flex: []int{0, 3, 4}, wrap: true}
	var notes []string
	for _, u := range usages {
		unused := strings.Join(u.Unused, "; ")
		if u.Role == "" && len(u.Used) == 0 && u.Requests == 0 && len(u.Unused) == 0 {
			unused = strings.Join(u.Granted, "; ")
		}
		t.add(text(u.Account), textf("%d", u.Requests), textf("%d", len(u.Granted)), text(strings.Join(u.Used, "; ")), text(unused))
		notes = append(notes, u.Notes...)
	}
	if err := t.write(a.out, a.screen()); err != nil {
		return err
	}
	for _, note := range slices.Compact(slices.Sorted(slices.Values(notes))) {
		if _, err := fmt.Fprintln(a.out, "note:", oneLine(note)); err != nil {
			return err
		}
	}
	return nil
}
