//go:build integration

// Package apps proves the product on real applications: seven images of Debian packages, in real Docker, learned
// under one script of traffic and protected under another. Start with [TestRealApplications] and [apps].
//
// It promises that a request counts as broken when its answer is not the right one, and that the second script uses
// the functions of the first with other names, sizes and numbers. It is not for attacks: package demo has those.
package apps

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/test/lab"
	"bulkhead/test/product"
)

// app is one application and what its users do.
type app struct {
	name     string // of the image too
	port     int
	visitors int
	serves   func(context.Context, *box) error
	script   func(ctx context.Context, v *visitor, round int)
}

var apps = []*app{
	{"nginx", 80, 2, serves(80), nginxScript},
	{"redis", 6379, 2, redisServes, redisScript},
	{"postgresql", 5432, 2, postgresServes, postgresScript},
	{"php-apache", 80, 2, serves(80), phpScript},
	{"nodejs", 3000, 2, serves(3000), nodeScript},
	{"tomcat", 8080, 2, serves(8080), tomcatScript},
	{"mariadb", 3306, 2, mariadbServes, mariadbScript},
}

const (
	beforeRestart = 6 * time.Second  // of learning: what a restart shows is then no news of the later half
	leastLearning = 52 * time.Second // the gate wants 46 s at work
	mostLearning  = 85 * time.Second
	protectedEach = 14 * time.Second // before and after the restart
)

// result is one line of the table in docs/benchmarks.md.
type result struct {
	app       *app
	learned   time.Duration
	learning  tally
	sections  map[bulkhead.Section]bulkhead.Completeness
	gate      string // what it said, when it did not let pass
	switching time.Duration
	protected tally
	ended     [2]string        // exit codes of the graceful stops, learning and protected
	noise     []bulkhead.Alert // of rules, while learning
	alerts    []bulkhead.Alert
	err       error
}

// TestRealApplications learns all applications at the same time, then protects them.
func TestRealApplications(t *testing.T) {
	chosen := apps
	if only := os.Getenv("BULKHEAD_APPS"); only != "" { // while working on one
		chosen = slices.DeleteFunc(slices.Clone(apps), func(a *app) bool { return !slices.Contains(strings.Split(only, ","), a.name) })
	}
	l := lab.Start(t)
	var names []string
	for _, a := range chosen {
		names = append(names, a.name)
	}
	if err := l.Images(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	p := product.New(t)
	p.Engines("docker " + l.Docker())
	p.Start()
	results := make([]*result, len(chosen))
	var group sync.WaitGroup
	for i, a := range chosen {
		results[i] = &result{app: a}
		group.Go(func() { results[i].err = results[i].play(t, p) })
	}
	group.Wait()
	report(t, results)
	for _, r := range results {
		t.Run(r.app.name, r.judge)
	}
}

// play is the life of one application.
func (r *result) play(t *testing.T, p *product.Product) error {
	ctx := t.Context()
	b, err := run(ctx, r.app, lab.Reference(r.app.name))
	if err != nil {
		return err
	}
	defer func() {
		if err := b.remove(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	name := "docker/" + b.name
	if err := r.learn(ctx, p, b, name); err != nil {
		return fmt.Errorf("learning: %w", err)
	}
	r.keep(t, p, name)
	if r.switching, err = p.Decide("mode", name, "protect"); err != nil {
		r.gate = err.Error()
		if r.switching, err = p.Decide("mode", name, "protect", "--anyway"); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := r.hold(ctx, b); err != nil {
		return fmt.Errorf("protected: %w", err)
	}
	time.Sleep(time.Second) // for the last alert to arrive
	all, err := p.Alerts("--workload", name)
	for _, a := range all {
		if a.Time.Before(began) {
			r.noise = append(r.noise, a)
		} else {
			r.alerts = append(r.alerts, a)
		}
	}
	return err
}

// learn sends the first script until the gate would open, with a restart early on.
func (r *result) learn(ctx context.Context, p *product.Product, b *box, name string) error {
	began := time.Now()
	if err := b.await(ctx, r.app.serves); err != nil {
		return err
	}
	traffic(ctx, &r.learning, b, r.app, false, beforeRestart)
	var err error
	if r.ended[0], _, err = b.restart(ctx); err != nil {
		return err
	}
	if err := b.await(ctx, r.app.serves); err != nil {
		return err
	}
	for served := time.Now(); ; {
		traffic(ctx, &r.learning, b, r.app, false, 5*time.Second)
		w, err := look(p, name)
		if err != nil {
			return err
		}
		r.sections, r.learned = w.Sections, time.Since(began)
		if w.Ready && r.learned > leastLearning || time.Since(served) > mostLearning {
			return nil
		}
	}
}

// hold sends the second script to the protected container, with a restart in the middle.
func (r *result) hold(ctx context.Context, b *box) error {
	traffic(ctx, &r.protected, b, r.app, true, protectedEach)
	var err error
	if r.ended[1], _, err = b.restart(ctx); err != nil {
		return err
	}
	if err := b.await(ctx, r.app.serves); err != nil {
		return err
	}
	traffic(ctx, &r.protected, b, r.app, true, protectedEach)
	return ctx.Err()
}

// keep leaves the profile where a person can look at it, if one said where.
func (r *result) keep(t *testing.T, p *product.Product, name string) {
	dir := os.Getenv("BULKHEAD_KEEP")
	if dir == "" {
		return
	}
	out, err := p.Bulkhead("profile", "show", name, "--format", "yaml")
	if err != nil {
		t.Log(err)
	}
	if err := os.WriteFile(filepath.Join(dir, r.app.name+".yaml"), []byte(out), 0o644); err != nil {
		t.Log(err)
	}
}

// judge is the verdict on one application.
func (r *result) judge(t *testing.T) {
	if r.err != nil {
		t.Error(r.err)
	}
	for _, phase := range []struct {
		name string
		*tally
	}{{"learning", &r.learning}, {"protected", &r.protected}} {
		if n := phase.broken.Load(); n > 0 || phase.requests.Load() == 0 {
			t.Errorf("%s: %d of %d requests broken:\n%s", phase.name, n, phase.requests.Load(), strings.Join(phase.complaints, "\n"))
		}
	}
	if r.ended[0] != r.ended[1] {
		t.Errorf("a graceful stop ended with %s while learning, with %s when protected", r.ended[0], r.ended[1])
	}
	if r.gate != "" {
		t.Errorf("the gate: %s", r.gate)
	}
	for _, a := range r.noise {
		t.Logf("while learning: %s %s: %s", a.Rule, a.Cause.Object, a.Message)
	}
	for _, a := range r.alerts {
		complain := t.Logf
		if a.Cause.Reason != "" {
			complain = t.Errorf
		}
		complain("%s x%d: %s %s: %s (%s, by %s %q)", a.Action, a.Count, a.Rule, a.Cause.Object, a.Message, a.Cause.Reason, a.Process.Exe, a.Process.Args)
	}
}

// report writes the table of docs/benchmarks.md.
func report(t *testing.T, results []*result) {
	var out strings.Builder
	out.WriteString("\n| application | learned | entries | least score | gate | switch-on | requests learning | requests protected | broken |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		gate := "passes"
		if r.gate != "" {
			gate = "refuses"
		}
		fmt.Fprintf(&out, "| %s | %.0f s | %s | %s | %s | %.0f ms | %d | %d | %d |\n", r.app.name, r.learned.Seconds(), entries(r.sections), least(r.sections), gate,
			float64(r.switching.Microseconds())/1000, r.learning.requests.Load(), r.protected.requests.Load(), r.protected.broken.Load())
	}
	t.Log(out.String())
}

// short names the sections in the table.
var short = []struct {
	section bulkhead.Section
	name    string
}{
	{bulkhead.SectionExecutables, "exe"},
	{bulkhead.SectionScripts, "scripts"},
	{bulkhead.SectionSyscalls, "calls"},
	{bulkhead.SectionWrites, "writes"},
	{bulkhead.SectionReads, "reads"},
	{bulkhead.SectionCapabilities, "caps"},
	{bulkhead.SectionListens, "ports"},
	{bulkhead.SectionPeers, "peers"},
	{bulkhead.SectionMemory, "jit"},
}

func entries(sections map[bulkhead.Section]bulkhead.Completeness) string {
	var list []string
	for _, s := range short {
		if n := sections[s.section].Items; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, s.name))
		}
	}
	return strings.Join(list, ", ")
}

func least(sections map[bulkhead.Section]bulkhead.Completeness) string {
	if len(sections) == 0 {
		return "-"
	}
	worst := slices.MinFunc(short, func(a, b struct {
		section bulkhead.Section
		name    string
	},
	) int {
		return cmp.Compare(sections[a.section].Score, sections[b.section].Score)
	})
	return fmt.Sprintf("%.3f (%s)", sections[worst.section].Score, worst.name)
}
