package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/baseline"
	engines "bulkhead/baseline/engine"
	"bulkhead/baseline/pdf"
	"bulkhead/baseline/tree"
	"bulkhead/scan/sarif"
)

// auditFlags are what a person says about one audit.
type auditFlags struct {
	format     *choice
	failOn     *choice
	output     string
	exceptions string
	root       string
	docker     string
	objects    []string
	all        bool

	fix, dry bool
	rollback string
	force    bool
	probes   []string
	print    *choice

	manifests bool // are audited

	host string    // of a report that comes from elsewhere
	when time.Time // and when it was made
}

var auditFormats = []string{"table", "json", "sarif", "html", "pdf"}

func newAudit(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "audit [host|docker|containerd|kubernetes|manifest FILE…] [CHECK…]",
		Short: "How hard this host, its engines and its cluster are; fix it, and take the fix back",
		Long: "Collects facts, and judges them by checks that are data. A check passes only on what was really seen; what could not be read\n" +
			"makes it \"manual\", with the reason. Without a layer all that are here are audited. manifest takes files or directories of\n" +
			"Kubernetes manifests and Dockerfiles, or - for what `helm template` writes.\n" +
			"--fix plans the fix of each failed check (or of those that are named), backs up, applies, tests again, and undoes what did\n" +
			"not help. --dry-run prints the same plan. --rollback ID restores bytes, owners and modes.\n" +
			"Exit code 3 when a check failed at or above --fail-on, for which there is no exception.",
		Example: "  bulkhead audit\n" +
			"  bulkhead audit host --fix --dry-run\n" +
			"  bulkhead audit docker --fix BH-E012 BH-E013\n" +
			"  bulkhead audit --rollback 20261126-101500\n" +
			"  bulkhead audit --print-config docker --output /etc/docker/daemon.json\n" +
			"  bulkhead audit kubernetes --objects cluster.json --format html --output cluster.html\n" +
			"  bulkhead audit manifest deploy/ --fail-on high",
		ValidArgs: []string{baseline.Host, baseline.Docker, baseline.Containerd, baseline.Kubernetes, baseline.Manifest},
	}
	f := &auditFlags{print: &choice{words: []string{"docker", "containerd", "kubelet", "seccomp"}}, format: formatFlag(c, auditFormats...), failOn: &choice{value: "low", words: []string{"low", "medium", "high", "critical"}}}
	f.declare(c, a)
	c.AddCommand(newAuditHosts(a), newAuditHistory(a), newAuditShow(a), newAuditDrift(a), newAuditExceptions(a))
	c.RunE = func(c *cobra.Command, args []string) error { return a.audit(c.Context(), args, f) }
	c.AddCommand(newAuditRBAC(a))
	return c
}

func (f *auditFlags) declare(c *cobra.Command, a *app) {
	flags := c.Flags()
	flags.Var(f.failOn, "fail-on", "exit with 3 when a check of this severity or above failed")
	flags.StringVarP(&f.output, "output", "o", "", "write to this `FILE` instead of standard output")
	flags.StringVar(&f.exceptions, "exceptions", "", "`FILE` of checks that may fail, with owner, reason and last day")
	flags.StringVar(&f.root, "root", "/", "audit, and fix, the host whose files are in this `DIR`")
	flags.StringVar(&f.docker, "docker", a.env("DOCKER_HOST"), "`SOCKET` of Docker, as unix:///run/docker.sock [DOCKER_HOST]")
	flags.StringSliceVar(&f.objects, "objects", nil, "`FILE|DIR` with the cluster's objects, as kubectl get -o json or yaml writes them")
	flags.BoolVar(&f.all, "all", false, "in the table, show also what passed and what does not apply")
	flags.BoolVar(&f.fix, "fix", false, "fix the checks that fail, or of them those that are named")
	flags.BoolVar(&f.dry, "dry-run", false, "with --fix: print the plan and change nothing")
	flags.StringVar(&f.rollback, "rollback", "", "take the fixes with this `ID` back")
	flags.BoolVar(&f.force, "force", false, "with --rollback: also over what somebody else changed since")
	flags.Var(f.print, "print-config", "print a hardened configuration, ready to be used, and audit nothing")
	flags.StringArrayVar(&f.probes, "probe", nil, "with --fix: `COMMAND` that must go on working after each fix")
}

var auditLayers = []string{baseline.Host, baseline.Docker, baseline.Containerd, baseline.Kubernetes}

// target is what the arguments name.
type auditTarget struct {
	layers []string
	files  []string // of manifests
	ids    []string // of checks
}

func parseTarget(args []string) (t auditTarget, err error) {
	if len(args) > 0 && args[0] == baseline.Manifest {
		t.files = args[1:]
		if len(t.files) == 0 {
			return t, usagef("audit manifest needs a file or a directory")
		}
		return t, nil
	}
	for _, arg := range args {
		switch {
		case slices.Contains(auditLayers, arg):
			t.layers = append(t.layers, arg)
		case strings.HasPrefix(arg, "BH-"):
			t.ids = append(t.ids, arg)
		default:
			return t, usagef("%q is no layer (%s, manifest) and no check (BH-…)", arg, strings.Join(auditLayers, ", "))
		}
	}
	return t, nil
}

func (a *app) audit(ctx context.Context, args []string, f *auditFlags) error {
	t, err := parseTarget(args)
	switch {
	case err != nil:
		return err
	case f.print.value != "":
		content, err := baseline.Ready(f.print.value)
		if err != nil {
			return err
		}
		return a.put(f.output, content)
	case f.dry && !f.fix:
		return usagef("--dry-run belongs to --fix")
	case len(t.ids) > 0 && !f.fix:
		return usagef("checks are named with --fix")
	case t.files != nil && (f.fix || f.rollback != ""):
		return usagef("manifests are not fixed")
	case f.rollback != "":
		return a.auditRollback(f)
	}
	frugal()
	if t.files != nil {
		return a.auditManifests(t.files, f)
	}
	options, err := a.auditOptions(t, f)
	if err != nil {
		return err
	}
	if f.fix {
		return a.auditFix(ctx, options, t.ids, f)
	}
	report, err := baseline.Run(ctx, options)
	if err != nil {
		return err
	}
	return a.tellAudit(report, f)
}

func (a *app) auditOptions(t auditTarget, f *auditFlags) (baseline.Options, error) {
	o := baseline.Options{Root: tree.Open(f.root), Layers: t.layers}
	if info, err := os.Stat(f.root); err != nil || !info.IsDir() {
		return o, fmt.Errorf("audit %s: it is no directory", f.root)
	}
	socket, err := dockerSocket(f)
	if err != nil {
		return o, err
	}
	if socket != "" {
		o.Docker = engines.Socket(socket)
	}
	for _, name := range f.objects {
		if err := readObjects(name, &o.Objects); err != nil {
			return o, fmt.Errorf("read the cluster's objects: %w", err)
		}
	}
	return o, nil
}

// dockerSocket is where to ask; empty where there is nothing to ask. Files of another host are not those of this one's engine.
func dockerSocket(f *auditFlags) (string, error) {
	if f.docker != "" {
		path, ok := strings.CutPrefix(f.docker, "unix://")
		if !ok && strings.Contains(f.docker, "://") {
			return "", usagef("--docker %s: only unix:// can be asked for an audit: run it on the host itself", f.docker)
		}
		return path, nil
	}
	if f.root == "/" {
		for _, path := range []string{"/run/docker.sock", "/var/run/docker.sock"} {
			if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeSocket != 0 {
				return path, nil
			}
		}
	}
	return "", nil
}

func readObjects(name string, into *[]baseline.Object) error {
	files, err := manifestFiles([]string{name})
	if err != nil {
		return err
	}
	if *into == nil {
		*into = []baseline.Object{} // given, and none in it
	}
	for _, file := range files {
		objects, err := baseline.ReadObjects(file.Path, file.Content)
		if err != nil {
			return err
		}
		*into = append(*into, objects...)
	}
	return nil
}

// manifestFiles reads files, and of directories what is named like a manifest or a Dockerfile.
func manifestFiles(names []string) (files []baseline.File, err error) {
	for _, name := range names {
		if name == "-" {
			content, err := io.ReadAll(io.LimitReader(os.Stdin, baseline.MaxObjectFile+1))
			if err != nil {
				return nil, err
			}
			files = append(files, baseline.File{Path: "-", Content: content})
			continue
		}
		err := filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path != name && !manifestName(path) {
				return err
			}
			file, err := readManifest(path)
			files = append(files, file)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func manifestName(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) || strings.HasPrefix(name, "dockerfile") || strings.HasPrefix(name, "containerfile")
}

func readManifest(path string) (baseline.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return baseline.File{}, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, baseline.MaxObjectFile+1))
	if err == nil && len(content) > baseline.MaxObjectFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, baseline.MaxObjectFile>>20)
	}
	return baseline.File{Path: path, Content: content}, err
}

func (a *app) auditManifests(names []string, f *auditFlags) error {
	f.manifests = true
	files, err := manifestFiles(names)
	if err != nil {
		return fmt.Errorf("read the manifests: %w", err)
	}
	return a.tellAudit(baseline.Files(files), f)
}

// tellAudit writes the report, and says no where a check failed.
func (a *app) tellAudit(r baseline.Report, f *auditFlags) error {
	if err := a.except(&r, f); err != nil {
		return err
	}
	var b bytes.Buffer
	s := a.screen()
	if f.output != "" {
		s = screen{columns: defaultWidth}
	}
	if err := a.writeAudit(&b, s, r, f); err != nil {
		return err
	}
	if err := a.put(f.output, b.Bytes()); err != nil {
		return err
	}
	if n := len(r.Failed(bulkhead.Severity(f.failOn.value))); n > 0 {
		return policyError{fmt.Errorf("%s at or above %s failed", counted(n, "check"), f.failOn.value)}
	}
	if n := len(r.Incomplete); n > 0 {
		return fmt.Errorf("%s could not be read, so that checks are manual: %s", counted(n, "file"), r.Incomplete[0])
	}
	return nil
}

// put writes to standard output, or replaces a file whole or not at all.
func (a *app) put(output string, content []byte) error {
	if output == "" {
		_, err := a.out.Write(content)
		return err
	}
	if err := replaceFile(output, content); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// except applies the exceptions, and tells of those that are over or about nothing.
func (a *app) except(r *baseline.Report, f *auditFlags) error {
	if f.exceptions == "" {
		return nil
	}
	content, err := os.ReadFile(f.exceptions)
	if err != nil {
		return fmt.Errorf("read the exceptions: %w", err)
	}
	e, err := baseline.ReadExceptions(f.exceptions, content)
	if err != nil {
		return fmt.Errorf("read the exceptions: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("ask for the host's name, by which exceptions may hold: %w", err)
	}
	for _, remark := range e.Apply(r, hostname, a.now()) {
		fmt.Fprintln(a.err, "bulkhead:", oneLine(remark))
	}
	return nil
}

func (a *app) writeAudit(w io.Writer, s screen, r baseline.Report, f *auditFlags) error {
	switch f.format.value {
	case "json":
		return writeJSON(w, r)
	case "sarif":
		return escaped(w, func(w io.Writer) error {
			return sarif.Write(w, auditFindings(r), sarif.Tool{Name: "Bulkhead", Version: version()}, func(bulkhead.Vulnerability) bool { return true })
		})
	case "pdf":
		return pdf.Write(w, r, pdf.Cover{Host: f.hostName(), When: f.time(a.now())})
	case "html":
		return baseline.WriteHTML(w, r, f.time(a.now()))
	}
	return writeAuditTable(w, s, r, f.all)
}

// time is when the report was made.
func (f *auditFlags) time(now time.Time) time.Time {
	if f.when.IsZero() {
		return now
	}
	return f.when
}

// hostName is whose report it is; manifests are nobody's.
func (f *auditFlags) hostName() string {
	if f.host != "" || f.root != "/" || f.manifests {
		return f.host
	}
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// auditFindings are the failed checks in the words of a scan, for the writers that know those.
func auditFindings(r baseline.Report) bulkhead.Report {
	report := bulkhead.Report{Target: "audit"}
	for _, c := range r.Checks {
		if c.Status != baseline.Fail || c.Exception != nil {
			continue
		}
		report.Findings = append(report.Findings, bulkhead.Finding{
			Kind: bulkhead.FindingMisconfig, Rule: c.ID, Severity: c.Severity, Path: or(c.Path, c.Layer), Line: c.Line,
			Message: c.Title + ": failed (" + c.Evidence + "). " + c.Remediation,
		})
	}
	return report
}

var statusStyles = map[baseline.Status]style{baseline.Pass: green, baseline.Fail: red, baseline.Manual: yellow, baseline.NotApplicable: faint}

func writeAuditTable(w io.Writer, s screen, r baseline.Report, all bool) error {
	t := &table{head: []string{"CHECK", "SEVERITY", "STATUS", "WHAT SHOULD BE", "SEEN"}, flex: []int{3, 4}, wrap: true}
	for _, c := range r.Checks {
		if !all && c.Status != baseline.Fail && c.Status != baseline.Manual {
			continue
		}
		status := cell{string(c.Status), statusStyles[c.Status]}
		if c.Exception != nil {
			status = cell{"excepted", faint}
		}
		id := c.ID
		if c.Fixable && c.Status == baseline.Fail {
			id += "*"
		}
		t.add(text(id), text(string(c.Severity)), status, text(c.Title), text(c.Evidence))
	}
	if len(t.rows) > 0 {
		if err := t.write(w, s); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return writeAuditSummary(w, r)
}

func writeAuditSummary(w io.Writer, r baseline.Report) error {
	var parts []string
	for _, layer := range append(slices.Clone(auditLayers), baseline.Manifest) {
		if score, ok := r.Layers[layer]; ok {
			parts = append(parts, fmt.Sprintf("%s %.1f", layer, score))
		}
	}
	n := r.Counts
	_, err := fmt.Fprintf(w, "Score %.1f of 100 (%s): %d pass, %d fail, %d manual, %d not applicable", r.Score, or(strings.Join(parts, ", "), "nothing decided"), n.Pass, n.Fail, n.Manual, n.NotApplicable)
	if n.Excepted > 0 {
		_, err = fmt.Fprintf(w, "; of those that fail %d by exception", n.Excepted)
	}
	_, wrong := fmt.Fprintln(w)
	if slices.ContainsFunc(r.Checks, func(c baseline.Result) bool { return c.Fixable && c.Status == baseline.Fail }) {
		_, wrong = fmt.Fprintln(w, "* can be fixed: bulkhead audit --fix --dry-run shows how")
	}
	return errors.Join(err, wrong)
}
