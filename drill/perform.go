package drill

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"bulkhead"
)

// perform does the steps group by group.
func (s *stage) perform(ctx context.Context, steps []Step) (*Report, error) {
	report := newReport(s.began)
	groups, order := map[string][]Step{}, []string{}
	for _, step := range steps {
		g := step.group()
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], step)
	}
	if len(groups) > 1 || groups[""] == nil {
		s.tell("opening: an engine, an image, networks that end here")
		if err := s.open(ctx); err != nil {
			return nil, err
		}
	}
	results, err := s.performAll(ctx, groups, order)
	if err != nil {
		return nil, err
	}
	for _, step := range steps { // in the order of the files
		report.Steps = append(report.Steps, *results[step.ID])
	}
	report.conclude()
	return report, nil
}

func (s *stage) performAll(ctx context.Context, groups map[string][]Step, order []string) (map[string]*StepResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	results := map[string]*StepResult{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	room := make(chan struct{}, s.Abreast)
	for _, g := range order {
		wait.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			did, err := s.performGroup(ctx, g, groups[g])
			if err != nil {
				cancel(fmt.Errorf("%s: %w", g, err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, r := range did {
				results[r.ID] = r
			}
			s.tell("%d of %d groups: %s, %d steps", len(results), count(groups), g, len(did))
		})
	}
	wait.Wait()
	return results, context.Cause(ctx)
}

func count(groups map[string][]Step) (n int) {
	for _, g := range groups {
		n += len(g)
	}
	return n
}

func (s *stage) performGroup(ctx context.Context, name string, steps []Step) ([]*StepResult, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if name == "" {
		return s.judgeAll(ctx, steps)
	}
	g := &group{stage: s, steps: steps}
	for _, step := range steps {
		g.results = append(g.results, newStepResult(step))
	}
	return g.results, g.perform(ctx)
}

// group is the steps that share two containers: one that nobody protects, and one that is protected
// once the near-twins taught what is ordinary in it.
type group struct {
	*stage
	steps   []Step
	results []*StepResult
}

// Teaching: often enough for a learner that asks the kernel every second.
const (
	lessons     = 2
	lessonPause = 2500 * time.Millisecond
)

func (g *group) perform(ctx context.Context) error {
	kind := g.steps[0].Stage
	open, err := g.start(ctx, kind, "open")
	if err != nil {
		return err
	}
	guarded, err := g.start(ctx, kind, "guarded")
	if err != nil {
		return err
	}
	if err := g.Product.SetMode(ctx, guarded.workload(), bulkhead.Learn); err != nil {
		return fmt.Errorf("learn the application: %w", err)
	}
	for range lessons {
		for i, step := range g.steps {
			if said, err := g.do(ctx, guarded, step.Enter, newWords(g.canary).in(step.Twin)); err != nil || said.Exit != 0 {
				g.results[i].Twin.note("it does not even work where nobody protects: %s", describe(said, err))
			}
		}
	}
	sleep(ctx, lessonPause)
	if err := g.twins(ctx, open, "rules"); err != nil {
		return err
	}
	if err := g.attack(ctx, open, func(r *StepResult) *Trial { return &r.Open }, briefly); err != nil {
		return err
	}
	if err := g.Product.SetMode(ctx, guarded.workload(), bulkhead.Protect); err != nil {
		return fmt.Errorf("protect the application: %w", err)
	}
	if err := g.twins(ctx, guarded, "protection"); err != nil {
		return err
	}
	return g.attack(ctx, guarded, func(r *StepResult) *Trial { return &r.Guarded }, long)
}

func describe(a answer, err error) string {
	if err != nil {
		return shorten(err.Error(), 160)
	}
	return shorten(fmt.Sprintf("exit %d %s: %s", a.Exit, a.Error, a.Output), 160)
}

// twins does the ordinary things. What alarms or breaks then is a fault of the product.
func (g *group) twins(ctx context.Context, v *victim, against string) error {
	for i, step := range g.steps {
		before, err := g.counts(ctx, v)
		if err != nil {
			return err
		}
		said, err := g.do(ctx, v, step.Enter, newWords(g.canary).in(step.Twin))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		twin := &g.results[i].Twin
		if err != nil || said.Exit != 0 {
			twin.Broken = append(twin.Broken, against+": "+describe(said, err))
		}
		fresh, err := g.fresh(ctx, v, before)
		if err != nil {
			return err
		}
		twin.alarm(against, fresh)
	}
	return g.lateAlarms(ctx, v, against)
}

// lateAlarms waits for what the last twins may have set off, and gives it to the last one.
func (g *group) lateAlarms(ctx context.Context, v *victim, against string) error {
	last := &g.results[len(g.results)-1].Twin
	before := map[string]int{}
	for _, r := range g.results {
		for _, id := range r.Twin.ids {
			before[id] = 1 << 30
		}
	}
	sleep(ctx, 1200*time.Millisecond)
	fresh, err := g.fresh(ctx, v, before)
	for _, a := range fresh {
		if a.Time.After(g.began) {
			last.alarm(against+", one of this group", []bulkhead.Alert{a})
		}
	}
	return err
}

// patience is how long alerts may travel: a moment for the first; for what is folded into an older
// one of the same kind, as long as the agent takes to tell that its count grew.
type patience struct{ first, grown time.Duration }

var (
	briefly = patience{first: 700 * time.Millisecond, grown: 700 * time.Millisecond}
	long    = patience{first: 1500 * time.Millisecond, grown: 7 * time.Second}
)

// attack does the steps for real.
func (g *group) attack(ctx context.Context, v *victim, of func(*StepResult) *Trial, p patience) error {
	for i, step := range g.steps {
		r := g.results[i]
		if v.isGuarded(r, of) && !r.Open.Reached {
			continue // it does not work here at all
		}
		before, err := g.counts(ctx, v)
		if err != nil {
			return err
		}
		trial, began, err := g.try(ctx, v, step)
		if err != nil {
			return err
		}
		alerts, err := g.await(ctx, v, before, p)
		if err != nil {
			return err
		}
		trial.explain(step, alerts, began)
		*of(r) = trial
	}
	return nil
}

func (v *victim) isGuarded(r *StepResult, of func(*StepResult) *Trial) bool {
	return of(r) == &r.Guarded
}

// counts says how often each alert about a victim was raised so far. Alerts are folded: a known one
// that is raised again only counts up.
func (g *group) counts(ctx context.Context, v *victim) (map[string]int, error) {
	alerts, err := g.Product.Alerts(ctx, v.workload(), g.began)
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	counts := map[string]int{}
	for _, a := range alerts {
		counts[a.ID] = max(a.Count, 1)
	}
	return counts, nil
}

// fresh returns the alerts about a victim that were raised since before was taken.
func (g *group) fresh(ctx context.Context, v *victim, before map[string]int) ([]bulkhead.Alert, error) {
	alerts, err := g.Product.Alerts(ctx, v.workload(), g.began)
	if err != nil {
		return nil, fmt.Errorf("read the alerts: %w", err)
	}
	return slices.DeleteFunc(alerts, func(a bulkhead.Alert) bool { return max(a.Count, 1) <= before[a.ID] }), nil
}

// await gives alerts the time to travel.
func (g *group) await(ctx context.Context, v *victim, before map[string]int, p patience) ([]bulkhead.Alert, error) {
	began := time.Now()
	for {
		alerts, err := g.fresh(ctx, v, before)
		if err != nil || ctx.Err() != nil {
			return alerts, err
		}
		if len(alerts) > 0 {
			sleep(ctx, 250*time.Millisecond) // for more of the same step
			return g.fresh(ctx, v, before)
		}
		if over := time.Since(began); over > p.grown {
			return nil, nil
		}
		sleep(ctx, 60*time.Millisecond)
	}
}

// judgeAll does the steps that need no container: what is asked of a cluster, and what is brought.
func (s *stage) judgeAll(ctx context.Context, steps []Step) ([]*StepResult, error) {
	var results []*StepResult
	for _, step := range steps {
		r := newStepResult(step)
		against, err := s.judge(ctx, step, step.Manifest, step.Image)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", step.ID, err)
		}
		manifest, image := step.Twin, ""
		if step.Image != "" {
			manifest, image = "", step.Twin
		}
		twin, err := s.judge(ctx, step, manifest, image)
		if err != nil {
			return nil, fmt.Errorf("twin of step %s: %w", step.ID, err)
		}
		for _, reason := range twin {
			r.Twin.Alarms = append(r.Twin.Alarms, reason)
		}
		r.Open.Reached = true
		r.Guarded = Trial{Reached: len(against) == 0, Blocked: len(against) > 0, Alerts: against}
		if len(against) > 0 {
			r.Guarded.Best, r.Guarded.Decision = shorten(against[0], 200), "refused before it ran"
		}
		results = append(results, r)
	}
	return results, nil
}

func (s *stage) judge(ctx context.Context, step Step, manifest, image string) ([]string, error) {
	if image == "" {
		return s.Product.Admit(ctx, manifest)
	}
	file := filepath.Join(s.dir, step.ID+"-"+image+".tar")
	out, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer os.Remove(file)
	if err := buildNamed(out, image); err != nil {
		return nil, err
	}
	if err := out.Close(); err != nil {
		return nil, err
	}
	return s.Product.Scan(ctx, file)
}
