package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"bulkhead"
	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/drill"
	"bulkhead/kube"
	"bulkhead/kube/manifest"
)

// drillOptions are the flags of `drill`.
type drillOptions struct {
	drill.Options
	format, compare string
	list            bool
}

func newDrill(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "drill",
		Short: "Attacks run for real in throw-away containers: what is blocked, detected, missed",
		Long: "Does attack steps over all tactics of ATT&CK for Containers and of the threat matrix for Kubernetes, each first in a container that\n" +
			"nobody protects and then in one that is protected, beside the ordinary thing that looks most like it; and fills the matrix from what\n" +
			"happened. Harmless by construction, and cleaned up after. Where no server runs on this host it brings one, and an agent, and a container\n" +
			"engine. See docs/drill.md. Exit code 3 when --compare finds a technique worse off than before.",
		Example: "  bulkhead drill\n  bulkhead drill --only T1611,reverse-shell\n  bulkhead drill --format html > coverage.html\n  bulkhead drill --compare last",
		Args:    cobra.NoArgs,
	}
	o := drillOptions{}
	format := formatFlag(c, "table", "json", "html", "markdown")
	c.Flags().StringVar(&o.Engine, "engine", "", "`SOCKET` of the Docker engine to use")
	c.Flags().StringSliceVar(&o.Only, "only", nil, "only these `STEPS`, by id, technique or tactic")
	c.Flags().StringVar(&o.compare, "compare", "", "say what changed since the report in `FILE`, or the last one kept (last)")
	c.Flags().DurationVar(&o.Limit, "limit", 30*time.Minute, "end after so long, whatever is under way")
	c.Flags().IntVar(&o.Abreast, "abreast", 3, "how many groups of steps run at the same time")
	c.Flags().BoolVar(&o.list, "list", false, "list the steps and do nothing")
	verbose := c.Flags().Bool("verbose", false, "tell every step on standard error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o.format, o.Err = format.value, a.err
		if *verbose {
			o.Log = slog.New(slog.NewTextHandler(a.err, nil))
		}
		if o.list {
			return a.listSteps(o.format)
		}
		return a.drill(c.Context(), o)
	}
	return c
}

func (a *app) listSteps(format string) error {
	steps, err := drill.Steps()
	if err != nil {
		return err
	}
	if format == "json" {
		return writeJSON(a.out, steps)
	}
	t := &table{head: []string{"STEP", "TACTIC", "TECHNIQUES", "WHAT"}, flex: []int{2, 3}}
	for _, s := range steps {
		t.add(text(s.ID), text(s.Tactic), text(strings.Join(s.Techniques, " ")), text(s.Name))
	}
	return t.write(a.out, a.screen())
}

func (a *app) drill(ctx context.Context, o drillOptions) error {
	state, err := filepath.Abs(filepath.Join(a.state, "drill"))
	if err != nil {
		return err
	}
	before, err := earlier(o.compare, state)
	if err != nil {
		return err
	}
	release, err := onlyDrill(state)
	if err != nil {
		return err
	}
	defer release()
	here, end, err := a.bring(ctx, filepath.Join(state, "product"))
	if err != nil {
		return err
	}
	report, err := here.runDrill(ctx, o, state)
	if err := errors.Join(err, end()); err != nil {
		return err
	}
	if err := drill.Keep(filepath.Join(state, "history"), report); err != nil {
		return err
	}
	return a.tellDrill(report, before, o.format)
}

// earlier is the report to compare with.
func earlier(compare, state string) (*drill.Report, error) {
	switch compare {
	case "":
		return nil, nil
	case "last":
		return drill.Last(filepath.Join(state, "history"))
	}
	return drill.Read(compare)
}

// onlyDrill makes sure that no other drill works in the same directory: what is left there is left over.
func onlyDrill(state string) (release func(), err error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for the drill: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(errors.New("another drill runs on this host: wait for it"), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// bring gives the app of the product that is attacked: the one that runs, or one that is started for the drill.
func (a *app) bring(ctx context.Context, dir string) (*app, func() error, error) {
	own := *a
	own.run, own.state = filepath.Join(dir, "run"), filepath.Join(dir, "state")
	if err := own.endOwn(ctx, dir); err != nil { // what a killed drill left
		return nil, nil, fmt.Errorf("ending what a drill that was killed left: %w", err)
	}
	nothing := func() error { return nil }
	if a.server != "" {
		return a, nothing, nil
	}
	if c, err := a.connect(); err == nil {
		if _, err := c.listWorkloads(ctx); err == nil {
			return a, nothing, nil
		}
	}
	fmt.Fprintln(a.err, "no server runs on this host: starting one, and an agent, for this drill")
	if err := own.startOwn(ctx); err != nil {
		return nil, nil, errors.Join(err, own.endOwn(ctx, dir))
	}
	return &own, func() error { return own.endOwn(context.WithoutCancel(ctx), dir) }, nil
}

// startOwn is `bulkhead up --detach` in directories of the drill's own, without its words.
func (a *app) startOwn(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("no server answers, and only root can start one: become root, or run `bulkhead up` first")
	}
	return a.self(ctx, io.Discard, "up", "--detach", "--run", a.run, "--state", a.state, "--listen", "127.0.0.1:0", "--bus-listen", "127.0.0.1:0")
}

// endOwn ends what startOwn started, and takes it out of the kernel.
func (a *app) endOwn(ctx context.Context, dir string) error {
	if _, err := os.Stat(a.run); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := a.self(ctx, io.Discard, "down", "--release", "--run", a.run, "--state", a.state); err != nil {
		return err
	}
	endKeepers(a.run)
	return os.RemoveAll(dir)
}

// endKeepers ends the keepers of the drill's own agent, which outlive it by design: what they held was released.
func endKeepers(run string) {
	socket := "--socket\x00" + filepath.Join(run, "keeper.sock") + "\x00"
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(line, []byte("bulkhead-keeper\x00")) || !bytes.Contains(line, []byte(socket)) {
			continue
		}
		if pid, err := strconv.Atoi(strings.Split(file, "/")[2]); err == nil && unix.Kill(pid, unix.SIGTERM) == nil {
			awaitEnd(pid)
		}
	}
}

// awaitEnd gives a process that was told to end two seconds for it.
func awaitEnd(pid int) {
	for range 200 {
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// self runs this program; what it says on standard error is for a person only when it fails.
func (a *app) self(ctx context.Context, out io.Writer, args ...string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	c := exec.CommandContext(ctx, program, args...) //nolint:gosec // this very program
	c.Args[0] = "bulkhead"
	c.Stdout, c.Stderr = out, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("`bulkhead %s`: %w: %s", strings.Join(args[:2], " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// runDrill attacks the product that a is a client of.
func (a *app) runDrill(ctx context.Context, o drillOptions, state string) (*drill.Report, error) {
	c, err := a.connect()
	if err != nil {
		return nil, err
	}
	machine, err := describeNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	note := filepath.Join(a.run, "engines.d", "drill")
	defer func() { _ = os.Remove(note) }()
	o.State, o.Product = state, attacked{product{c}, a}
	o.OnEngine = func(socket string) error { return noteEngine(note, socket) }
	report, err := drill.Run(ctx, o.Options)
	if err != nil {
		return nil, err
	}
	report.Machine = machine
	if len(o.Only) > 0 {
		return report, nil // a part is no matrix
	}
	return report, handIn(ctx, c, report)
}

// handIn gives the matrix to the control plane, whose console shows it.
func handIn(ctx context.Context, c *client, report *drill.Report) error {
	told := &pb.Drill{Time: timestamppb.New(report.Time), Machine: report.Machine}
	for _, cell := range report.Cells {
		one := &pb.DrillCell{Technique: cell.Technique, Name: cell.Name, Tactic: cell.Tactic, Matrix: cell.Matrix, Result: cell.Result, Reason: cell.Reason}
		for _, e := range cell.Evidence {
			one.Steps = append(one.Steps, e.Step+": "+e.Result)
		}
		told.Cells = append(told.Cells, one)
	}
	if _, err := c.drills.PutDrill(ctx, request(&pb.PutDrillRequest{Drill: told})); err != nil {
		return fmt.Errorf("handing the matrix in: %w", err)
	}
	return nil
}

// describeNodes says what decides where.
func describeNodes(ctx context.Context, c *client) (string, error) {
	nodes, err := c.listNodes(ctx)
	if err != nil {
		return "", err
	}
	var all []string
	for _, n := range nodes {
		var by []string
		for _, b := range n.Backends {
			by = append(by, b.Kind+" by "+b.Backend)
		}
		all = append(all, fmt.Sprintf("Linux %s, %s", n.Kernel, strings.Join(by, ", ")))
	}
	return strings.Join(all, "; "), nil
}

// attacked shows the product to the drill.
type attacked struct {
	product
	app *app
}

func (p attacked) Alerts(ctx context.Context, workload string, since time.Time) ([]bulkhead.Alert, error) {
	return p.listAlerts(ctx, alertFilter{workload: workload, since: moment{since}})
}

// Admit asks the engine that also answers the API server.
func (p attacked) Admit(ctx context.Context, text string) ([]drill.Objection, error) {
	o := admissionOptions{podSecurity: "baseline"}
	engine, err := o.engine()
	if err != nil {
		return nil, err
	}
	trial := kube.NewTrial(engine, "default")
	err = manifest.Walk("-", strings.NewReader(text), func(object manifest.Object, err error) error {
		if err != nil {
			return err
		}
		return trial.Add(object)
	})
	if err != nil {
		return nil, err
	}
	about, err := admissionTechniques()
	if err != nil {
		return nil, err
	}
	var all []drill.Objection
	for _, judged := range trial.Judge(ctx) {
		for _, r := range judged.Verdict.Reasons {
			all = append(all, drill.Objection{Refuses: true, Rule: "admission/" + r.Rule, Technique: about[r.Rule], Message: r.Message})
		}
		for _, r := range judged.Verdict.Warnings {
			all = append(all, drill.Objection{Rule: "admission/" + r.Rule, Technique: about[r.Rule], Message: r.Message})
		}
	}
	return all, nil
}

// admissionTechniques says which technique each default rule is about.
func admissionTechniques() (map[string]string, error) {
	rules, err := loadAdmissionRules(nil)
	if err != nil {
		return nil, err
	}
	about := map[string]string{}
	for _, r := range rules.Rules() {
		about[r.ID] = r.Technique
	}
	return about, nil
}

// Scan is `bulkhead scan --fail-on high`.
func (p attacked) Scan(ctx context.Context, archive string) ([]drill.Objection, error) {
	var out bytes.Buffer
	err := p.app.self(ctx, &out, "scan", "--format", "json", "--no-cache", "--only", "webshell,secret,misconfig", "--fail-on", "high", archive)
	var exit *exec.ExitError
	if err == nil {
		return nil, nil
	}
	if !errors.As(err, &exit) || exit.ExitCode() != exitPolicy {
		return nil, err
	}
	var report bulkhead.Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		return nil, fmt.Errorf("reading the scan's report: %w", err)
	}
	var all []drill.Objection
	for _, f := range report.Findings {
		all = append(all, drill.Objection{Refuses: true, Rule: "scan/" + f.Rule, Message: f.Path + ": " + f.Message})
	}
	return all, nil
}

// tellDrill writes the report, and fails if it is worse than one before.
func (a *app) tellDrill(report, before *drill.Report, format string) error {
	var changes []drill.Change
	if before != nil {
		changes = drill.Compare(before, report)
	}
	if err := a.writeDrill(report, changes, format); err != nil {
		return err
	}
	if err := drill.Fell(changes); err != nil {
		return policyError{err}
	}
	return nil
}

func (a *app) writeDrill(report *drill.Report, changes []drill.Change, format string) error {
	switch format {
	case "json":
		return writeJSON(a.out, struct {
			*drill.Report
			Changes []drill.Change `json:"changes"`
		}{report, list(changes)})
	case "html":
		return report.WriteHTML(a.out)
	case "markdown":
		return report.WriteMarkdown(a.out)
	}
	if err := cellTable(report).write(a.out, a.screen()); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	for _, c := range report.Coverage {
		fmt.Fprintf(a.out, "%s: of %d techniques %d apply here: %d blocked (%.0f %%), %d detected, %d missed\n", drill.Title(c.Matrix), c.Techniques, c.Applicable, c.Blocked, 100*c.BlockedShare, c.Detected, c.Missed)
	}
	fmt.Fprintf(a.out, "%d near-twins: %d alarms, %d broken\n", report.Twins.Count, len(report.Twins.Alarms), len(report.Twins.Broken))
	for _, text := range append(report.Twins.Alarms, report.Twins.Broken...) {
		fmt.Fprintln(a.out, "  ", oneLine(text))
	}
	for _, c := range changes {
		fmt.Fprintf(a.out, "%s %s: %s, was %s\n", c.Technique, c.Name, c.After, c.Before)
	}
	return nil
}

// cellTable is the matrix for a person, one technique a line.
func cellTable(report *drill.Report) *table {
	t := &table{head: []string{"TECHNIQUE", "NAME", "TACTIC", "RESULT", "STEPS"}, flex: []int{1, 4}}
	styles := map[string]style{drill.Blocked: green, drill.Detected: yellow, drill.Missed: red, drill.NotApplicable: faint}
	for _, c := range report.Cells {
		steps := []string{}
		for _, e := range c.Evidence {
			if e.Result == c.Result || c.Result == drill.Blocked {
				steps = append(steps, e.Step)
			}
		}
		t.add(text(c.Technique), text(c.Name), text(c.Tactic), cell{c.Result, styles[c.Result]}, text(strings.Join(steps, " ")))
	}
	return t
}
