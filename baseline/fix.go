package baseline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"bulkhead/baseline/repair"
)

// Fix says what to fix, and how far to go.
type Fix struct {
	IDs   []string // none: all failed checks that have a fix
	Dir   string   // the root that is changed: "/"
	State string   // where backups are kept
	Dry   bool     // only plan
	Live  bool     // settings of the kernel below Dir are changed too; those of "/" are in any case
	Now   time.Time
	// Probe asks whether the host is still in order after a change, beside the programs' own tests; nil: nothing is asked.
	Probe func(ctx context.Context, changed []string) error
	// Tell is called with each plan before it is carried out.
	Tell func(Fixed)
}

// Outcome is how a fix ended.
type Outcome string

// The outcomes. What was undone is as it was.
const (
	Planned Outcome = "planned"
	Done    Outcome = "fixed"
	Undone  Outcome = "undone"
	Refused Outcome = "refused"
)

// Fixed is what was done about one check.
type Fixed struct {
	ID      string   `json:"id"`
	Title   string   `json:"title"`
	Plan    []string `json:"plan"`
	Outcome Outcome  `json:"outcome"`
	Reason  string   `json:"reason,omitempty"`
}

// Run carries out the fixes of the checks that fail: each is planned, backed up, applied, tested again, and undone where
// it did not help or broke something. The id takes all of it back.
func (f Fix) Run(ctx context.Context, o Options) (id string, done []Fixed, err error) {
	checks, err := f.candidates(ctx, o)
	if err != nil || len(checks) == 0 {
		return "", nil, err
	}
	disk, err := repair.OpenDisk(f.Dir)
	if err != nil {
		return "", nil, fmt.Errorf("open the root %s: %w", f.Dir, err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	r := &fixer{Fix: f, options: o, planner: repair.NewPlanner(disk, f.Live || f.Dir == "/")}
	if !f.Dry {
		if r.journal, err = repair.Open(f.State, disk, f.Now); err != nil {
			return "", nil, err
		}
		defer func() { err = errors.Join(err, r.journal.Close()) }()
		id = r.journal.ID
	}
	for _, c := range checks {
		one, err := r.one(ctx, c)
		done = append(done, one)
		if err != nil {
			return id, done, fmt.Errorf("%w; what was done until here is taken back with --rollback %s", err, id)
		}
	}
	return id, done, nil
}

type fixer struct {
	Fix
	options Options
	planner *repair.Planner
	journal *repair.Journal
}

// candidates are the checks that fail now and have a fix.
func (f Fix) candidates(ctx context.Context, o Options) ([]Check, error) {
	all, err := Load(o.groups()...)
	if err != nil {
		return nil, err
	}
	if err := f.known(all); err != nil {
		return nil, err
	}
	if len(f.IDs) > 0 {
		all = slices.DeleteFunc(all, func(c Check) bool { return !slices.Contains(f.IDs, c.ID) })
	}
	results, err := Decide(ctx, all, Facts(ctx, all, o))
	if err != nil {
		return nil, err
	}
	var chosen []Check
	for i, c := range all {
		if results[i].Status == Fail && len(c.Fix) > 0 {
			chosen = append(chosen, c)
		}
	}
	return chosen, nil
}

// known refuses ids that are no checks, and those without a fix.
func (f Fix) known(all []Check) error {
	for _, id := range f.IDs {
		i := slices.IndexFunc(all, func(c Check) bool { return c.ID == id })
		switch {
		case i < 0:
			return fmt.Errorf("there is no check %s in what is audited; `bulkhead audit --format json` lists them", id)
		case len(all[i].Fix) == 0:
			return fmt.Errorf("%s has no fix: %s", id, all[i].Remediation)
		}
	}
	return nil
}

func (r *fixer) one(ctx context.Context, c Check) (Fixed, error) {
	done := Fixed{ID: c.ID, Title: c.Title, Plan: []string{}, Outcome: Planned}
	steps, err := r.planner.Plan(c.Fix)
	if err != nil {
		r.planner.Forget()
		done.Outcome, done.Reason = Refused, err.Error()
		r.tell(done)
		return done, nil
	}
	for _, s := range steps {
		done.Plan = append(done.Plan, s.Text()...)
	}
	if len(steps) == 0 {
		done.Outcome, done.Reason = Refused, "everything that the fix sets is set already; what else the check looks at is in its evidence"
	}
	r.tell(done)
	if r.Dry || len(steps) == 0 {
		return done, nil
	}
	return r.apply(ctx, c, steps, done)
}

func (r *fixer) tell(f Fixed) {
	if r.Tell != nil {
		r.Tell(f)
	}
}

// apply makes the steps and tests them. An error is one after which nothing more should be tried.
func (r *fixer) apply(ctx context.Context, c Check, steps []repair.Step, done Fixed) (Fixed, error) {
	mark := r.journal.Mark()
	reason := r.attempt(ctx, c, steps)
	if reason == nil {
		done.Outcome = Done
		return done, nil
	}
	done.Outcome, done.Reason = Undone, reason.Error()
	r.planner.Forget()
	if err := r.journal.Undo(mark); err != nil {
		return done, fmt.Errorf("undo the fix of %s: %w", c.ID, err)
	}
	return done, ctx.Err()
}

func (r *fixer) attempt(ctx context.Context, c Check, steps []repair.Step) error {
	var changed []string
	for _, s := range steps {
		if err := r.journal.Apply(c.ID, s); err != nil {
			return err
		}
		changed = append(changed, s.Path)
	}
	if r.Probe != nil {
		if err := r.Probe(ctx, changed); err != nil {
			return fmt.Errorf("it broke something: %w", err)
		}
	}
	results, err := Decide(ctx, []Check{c}, Facts(ctx, []Check{c}, Options{Root: r.options.Root, Layers: []string{c.Layer}, Docker: r.options.Docker, Objects: r.options.Objects}))
	if err != nil {
		return err
	}
	if results[0].Status != Pass {
		return fmt.Errorf("it did not help: %s", results[0].Evidence)
	}
	return nil
}
