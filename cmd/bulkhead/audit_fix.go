package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"bulkhead/baseline"
	"bulkhead/baseline/repair"
)

// fixReport is what --fix answers.
type fixReport struct {
	ID     string           `json:"id"` // for --rollback; empty when nothing was changed
	DryRun bool             `json:"dryRun"`
	Fixes  []baseline.Fixed `json:"fixes"`
	Before float64          `json:"before"` // scores
	After  float64          `json:"after"`
	Next   []string         `json:"next"` // what puts it in force
}

// auditFix fixes what fails, and tells what was done and what it changed.
func (a *app) auditFix(ctx context.Context, o baseline.Options, ids []string, f *auditFlags) error {
	before, err := baseline.Run(ctx, o)
	if err != nil {
		return err
	}
	fix := baseline.Fix{IDs: ids, Dir: f.root, State: a.state, Dry: f.dry, Now: time.Now(), Probe: probes(f)}
	if f.format.value == "table" {
		fix.Tell = func(x baseline.Fixed) { a.tellPlan(x) }
	}
	report := fixReport{DryRun: f.dry, Before: before.Score, After: before.Score, Fixes: []baseline.Fixed{}, Next: []string{}}
	var failed error
	report.ID, report.Fixes, failed = fix.Run(ctx, o)
	report.Fixes, report.Next = list(report.Fixes), next(report.Fixes)
	if !f.dry && failed == nil {
		after, err := baseline.Run(ctx, o)
		if err != nil {
			return err
		}
		report.After = after.Score
	}
	return errors.Join(failed, a.tellFix(report, f))
}

func (a *app) tellPlan(x baseline.Fixed) {
	fmt.Fprintf(a.out, "%s %s\n", x.ID, oneLine(x.Title))
	for _, line := range x.Plan {
		fmt.Fprintln(a.out, " ", oneLine(line))
	}
}

func (a *app) tellFix(r fixReport, f *auditFlags) error {
	bad := 0
	for _, x := range r.Fixes {
		if x.Outcome == baseline.Undone || x.Outcome == baseline.Refused {
			bad++
		}
	}
	if f.format.value != "table" {
		if err := writeJSON(a.out, r); err != nil {
			return err
		}
	} else {
		a.summarize(r)
	}
	if bad > 0 && !r.DryRun {
		return fmt.Errorf("%s could not be fixed, as told above; everything about them is as it was", counted(bad, "check"))
	}
	return nil
}

func (a *app) summarize(r fixReport) {
	fmt.Fprintln(a.out)
	for _, x := range r.Fixes {
		if x.Reason != "" {
			fmt.Fprintf(a.out, "%s %s: %s\n", x.ID, x.Outcome, oneLine(x.Reason))
		}
	}
	switch n := fixed(r.Fixes); {
	case len(r.Fixes) == 0:
		fmt.Fprintln(a.out, "Nothing that fails can be fixed.")
	case r.DryRun:
		fmt.Fprintln(a.out, "Nothing was changed (--dry-run).")
	default:
		fmt.Fprintf(a.out, "%s fixed, score %.1f -> %.1f. Take it back with: bulkhead audit --rollback %s\n", counted(n, "check"), r.Before, r.After, r.ID)
	}
	for _, n := range r.Next {
		fmt.Fprintln(a.out, "To put it in force:", n)
	}
}

func fixed(list []baseline.Fixed) (n int) {
	for _, x := range list {
		if x.Outcome == baseline.Done {
			n++
		}
	}
	return n
}

// reloads say which program reads which file only when it is told to.
var reloads = []struct{ path, command string }{
	{"/etc/ssh/", "systemctl reload ssh (sshd on RHEL)"},
	{"/etc/docker/daemon.json", "systemctl restart docker"},
	{"/etc/audit/", "augenrules --load"},
	{"/etc/systemd/journald.conf.d/", "systemctl restart systemd-journald"},
	{"/var/lib/kubelet/config.yaml", "systemctl restart kubelet"},
	{"/etc/rsyslog", "systemctl restart rsyslog"},
}

// next is what a person has to do for the fixes to hold.
func next(fixes []baseline.Fixed) []string {
	out := []string{}
	for _, r := range reloads {
		if slices.ContainsFunc(fixes, func(x baseline.Fixed) bool {
			return x.Outcome != baseline.Undone && x.Outcome != baseline.Refused && slices.ContainsFunc(x.Plan, func(line string) bool { return strings.HasPrefix(line, r.path) })
		}) {
			out = append(out, r.command)
		}
	}
	return out
}

// ownTests are how programs test their own configuration, by the files that they are asked about.
var ownTests = []struct {
	path    string
	command []string
}{
	{"/etc/ssh/", []string{"sshd", "-t"}},
	{"/etc/sudoers", []string{"visudo", "-c", "-q"}},
	{"/etc/docker/daemon.json", []string{"dockerd", "--validate", "--config-file", "/etc/docker/daemon.json"}},
	{"/etc/rsyslog", []string{"rsyslogd", "-N1"}},
}

// probeTime is how long one test may take; those of programs take well under a second.
const probeTime = time.Minute

// probes asks the programs whose files were changed, on this host, and the person's own commands. What failed before the
// first change cannot be the change's fault, and is not asked again.
func probes(f *auditFlags) func(context.Context, []string) error {
	broken := map[string]bool{}
	if f.root == "/" && !f.dry {
		for _, t := range ownTests {
			if _, err := exec.LookPath(t.command[0]); err != nil || runProbe(context.Background(), t.command) != nil {
				broken[t.path] = true
			}
		}
	}
	return func(ctx context.Context, changed []string) error {
		for _, t := range ownTests {
			if f.root != "/" || broken[t.path] || !slices.ContainsFunc(changed, func(c string) bool { return strings.HasPrefix(c, t.path) }) {
				continue
			}
			if err := runProbe(ctx, t.command); err != nil {
				return err
			}
		}
		for _, p := range f.probes {
			if err := runProbe(ctx, []string{"sh", "-c", p}); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	}
}

func runProbe(ctx context.Context, command []string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out[:min(len(out), 500)]))
	}
	return nil
}

// auditRollback takes a run of fixes back.
func (a *app) auditRollback(f *auditFlags) error {
	if _, err := os.Stat(f.root); err != nil {
		return err
	}
	disk, err := repair.OpenDisk(f.root)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	done, err := repair.Rollback(a.state, f.rollback, disk, f.force)
	if err != nil {
		return fmt.Errorf("take back %s: %w", f.rollback, err)
	}
	if f.format.value == "json" {
		return writeJSON(a.out, map[string]any{"id": f.rollback, "files": done.Files, "settings": done.Settings, "already": done.Already})
	}
	if done.Already {
		fmt.Fprintf(a.out, "%s was taken back before; nothing to do.\n", f.rollback)
		return nil
	}
	fmt.Fprintf(a.out, "%s is taken back: %s and %s of the running kernel are as they were.\n", f.rollback, counted(done.Files, "change"), counted(done.Settings, "setting"))
	return nil
}
