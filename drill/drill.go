// Package drill attacks the product for real and fills the coverage matrix from what happened.
// Start with [Run], [Steps] and [Report].
//
// It promises that a step counts only if it works: each is first done in a container that nobody
// protects, and "blocked" is said where it did not work a second time, under protection, and the
// product says that it stopped it. Each has an ordinary near-twin that must neither alarm nor break.
// Everything is harmless by construction: containers of its own with no network but one that ends in
// this program, canaries for secrets, a time limit on everything; and it is cleaned up after, also by
// the next run if this one is killed. It is not a rule's test (package rule has those), and no rule is
// made for a step.
package drill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"bulkhead"
)

// Product is what is attacked, as a client of it sees it.
type Product interface {
	SetMode(ctx context.Context, workload string, mode bulkhead.Mode) error
	// Alerts returns a workload's alerts since a time, in any order.
	Alerts(ctx context.Context, workload string, since time.Time) ([]bulkhead.Alert, error)
	// Admit answers for a manifest as the cluster's admission does.
	Admit(ctx context.Context, manifest string) ([]Objection, error)
	// Scan answers for an image (a docker-archive) as the gate of a pipeline does.
	Scan(ctx context.Context, archive string) ([]Objection, error)
}

// Objection is what the product has against something before it runs.
type Objection struct {
	Refuses   bool   // or only warns
	Rule      string // "admission/privileged"
	Technique string // that the rule is about, where it says so
	Message   string
}

func (o Objection) String() string {
	verb := "warned"
	if o.Refuses {
		verb = "refused"
	}
	return verb + " " + o.Rule + " " + o.Message
}

// Options says how to run.
type Options struct {
	Product  Product
	Engine   string                    // socket of a Docker engine; empty: the one that runs, else a private one
	OnEngine func(socket string) error // called once the engine answers, before any container starts
	State    string                    // directory for what a drill needs meanwhile, and to find what a killed one left
	OnSweep  func(dir string) error    // called for what a killed drill left, before the drill cleans up there
	Target   string                    // the program for the containers; empty: see [userland.Program]
	Only     []string                  // ids of steps, or techniques; empty: all
	Limit    time.Duration             // of the whole; empty: half an hour
	Abreast  int                       // how many groups of steps run at the same time; empty: 3
	Err      io.Writer                 // progress
	Log      *slog.Logger
}

// Run does all steps and returns what came of them.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	steps, err := chosen(o.Only)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("the drill took longer than %s: --limit gives it more", o.Limit))
	defer cancel()
	s, err := newStage(o)
	if err != nil {
		return nil, err
	}
	report, err := s.perform(ctx, steps)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return report, errors.Join(err, s.close())
}

func (o *Options) complete() error {
	if o.Product == nil {
		return errors.New("drill: no product to attack")
	}
	if o.State == "" {
		o.State = os.TempDir()
	}
	if o.Limit <= 0 {
		o.Limit = 30 * time.Minute
	}
	if o.Abreast <= 0 {
		o.Abreast = 3
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// chosen are the steps with one of these ids or techniques.
func chosen(only []string) ([]Step, error) {
	all, err := Steps()
	if err != nil || len(only) == 0 {
		return all, err
	}
	var some []Step
	for _, s := range all {
		if slices.ContainsFunc(only, s.is) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("no step has the id or the technique %s: `bulkhead drill --list` shows them", strings.Join(only, ", "))
	}
	return some, nil
}

// word is a few letters that nobody else has.
func word() string { return strings.ToLower(rand.Text()[:10]) }
