package drill

import (
	"cmp"
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
			s.tell("%d of %d steps are done, the last %d: %s", len(results), count(groups), len(did), cmp.Or(g, "what is judged before it runs"))
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
	lessons     = 4
	lessonPause = 2500 * time.Millisecond
)

func (g *group) perform(ctx context.Context) error {
	open, guarded, err := g.pair(ctx)
	if err != nil && ctx.Err() == nil {
		for _, r := range g.results {
			r.Reason = "no container for it starts here: " + shorten(err.Error(), 200)
		}
		return nil
	}
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
	if err := g.attackOpen(ctx, open); err != nil {
		return err
	}
	if err := g.Product.SetMode(ctx, guarded.workload(), bulkhead.Protect); err != nil {
		return fmt.Errorf("protect the application: %w", err)
	}
	if err := g.twins(ctx, guarded, "protection"); err != nil {
		return err
	}
	return g.attackGuarded(ctx, guarded)
}

// pair starts the two containers.
func (g *group) pair(ctx context.Context) (open, guarded *victim, err error) {
	kind := g.steps[0].Stage
	if open, err = g.start(ctx, kind, "open"); err != nil {
		return nil, nil, err
	}
	guarded, err = g.start(ctx, kind, "guarded")
	return open, guarded, err
}

func describe(a answer, err error) string {
	if err != nil {
		return shorten(err.Error(), 160)
	}
	return shorten(fmt.Sprintf("exit %d %s: %s", a.Exit, a.Error, a.Output), 160)
}

// twins does the ordinary things. What alarms or breaks then is a fault of the product.
func (g *group) twins(ctx context.Context, v *victim, against string) error {
	before, err := g.counts(ctx, v)
	if err != nil {
		return err
	}
	began := make([]time.Time, len(g.steps))
	for i, step := range g.steps {
		began[i] = time.Now()
		said, err := g.do(ctx, v, step.Enter, newWords(g.canary).in(step.Twin))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || said.Exit != 0 {
			g.results[i].Twin.note("%s: %s", against, describe(said, err))
		}
	}
	sleep(ctx, travel)
	alerts, err := g.since(ctx, v, before, began[0])
	for _, a := range alerts {
		g.results[owner(began, a.Time)].Twin.alarm(against, a)
	}
	return err
}

// owner is the one of things done after each other in whose time something happened.
func owner(began []time.Time, at time.Time) int {
	for i := len(began) - 1; i > 0; i-- {
		if !began[i].Add(-clockError / 2).After(at) {
			return i
		}
	}
	return 0
}

// How long alerts may travel. Equal ones are folded: of those that follow the first the agent only tells that their
// count grew, every few seconds. So a step of which nothing new is heard is done once more when all counts have
// settled: what grows then is its own.
const (
	briefly = 700 * time.Millisecond
	travel  = 1500 * time.Millisecond
	settle  = 6 * time.Second
)

// attackOpen shows which steps work, and what rules alone say of them.
func (g *group) attackOpen(ctx context.Context, v *victim) error {
	for i, step := range g.steps {
		trial, _, err := g.once(ctx, v, step, briefly)
		if err != nil {
			return err
		}
		g.results[i].Open = trial
	}
	return nil
}

// attackGuarded does what worked once more where the application is protected.
func (g *group) attackGuarded(ctx context.Context, v *victim) error {
	for i, step := range g.steps {
		r := g.results[i]
		if !r.Open.Reached {
			continue // it does not work here at all
		}
		trial, _, err := g.once(ctx, v, step, travel)
		if err == nil && (len(trial.Alerts) == 0 || !trial.Reached && !trial.Blocked) {
			trial, err = g.again(ctx, v, step, trial)
		}
		if err != nil {
			return err
		}
		r.Guarded = trial
	}
	return nil
}

// once does a step and takes what is new for its own.
func (g *group) once(ctx context.Context, v *victim, step Step, limit time.Duration) (Trial, time.Time, error) {
	before, err := g.counts(ctx, v)
	if err != nil {
		return Trial{}, time.Time{}, err
	}
	trial, began, err := g.try(ctx, v, step)
	if err != nil {
		return Trial{}, began, err
	}
	look := func() ([]bulkhead.Alert, error) { return g.since(ctx, v, before, began) }
	alerts, err := g.await(ctx, limit, look, func([]bulkhead.Alert) bool { return true })
	trial.explain(step, alerts, began)
	return trial, began, err
}

// again does a step once more of which one does not hear what stopped it, and takes what grew for its own too.
func (g *group) again(ctx context.Context, v *victim, step Step, first Trial) (Trial, error) {
	sleep(ctx, settle)
	before, err := g.counts(ctx, v)
	if err != nil {
		return first, err
	}
	second, began, err := g.try(ctx, v, step)
	if err != nil {
		return first, err
	}
	alerts, err := g.await(ctx, settle+travel, func() ([]bulkhead.Alert, error) { return g.fresh(ctx, v, before) }, saysBlocked)
	first.explain(step, alerts, began)
	first.Reached = first.Reached || second.Reached
	return first, err
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

// since returns the alerts about a victim that are new and about something since a time.
func (g *group) since(ctx context.Context, v *victim, before map[string]int, began time.Time) ([]bulkhead.Alert, error) {
	alerts, err := g.fresh(ctx, v, before)
	return slices.DeleteFunc(alerts, func(a bulkhead.Alert) bool { return before[a.ID] > 0 || a.Time.Before(began.Add(-clockError)) }), err
}

// clockError is how far the kernel's time of an event may be from the system's.
const clockError = 20 * time.Millisecond

func saysBlocked(alerts []bulkhead.Alert) bool {
	return slices.ContainsFunc(alerts, func(a bulkhead.Alert) bool { return a.Action == bulkhead.ActionBlocked })
}

// await gives alerts the time to travel: limit for those that are enough, a moment for more.
func (g *group) await(ctx context.Context, limit time.Duration, look func() ([]bulkhead.Alert, error), enough func([]bulkhead.Alert) bool) ([]bulkhead.Alert, error) {
	for began := time.Now(); ; {
		alerts, err := look()
		switch {
		case err != nil || ctx.Err() != nil:
			return alerts, err
		case len(alerts) > 0 && enough(alerts):
			sleep(ctx, 250*time.Millisecond)
			return look()
		case time.Since(began) > limit:
			return alerts, nil
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
		for _, o := range twin {
			r.Twin.Alarms = append(r.Twin.Alarms, o.String())
		}
		r.Open.Reached = true
		r.Guarded.object(step, against)
		results = append(results, r)
	}
	return results, nil
}

func (s *stage) judge(ctx context.Context, step Step, manifest, image string) ([]Objection, error) {
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
