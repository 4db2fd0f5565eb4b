// Package demo shows the whole product at work: a deliberately vulnerable web shop in a
// real container is learned, attacked twenty ways in each mode, and protected. Start with
// [Run] and [Report].
//
// It promises that nothing is staged: each attack does the real thing through a hole of the
// shop and is judged by what the attacker holds in his hands afterwards; each attack also
// runs against an unprotected twin, so that "blocked" proves something; customers keep
// shopping meanwhile and every answer they get is checked. What it starts it ends. It is not
// for measuring detection coverage: that is package drill.
package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// Product is what is shown: the control plane, as a client sees it.
type Product interface {
	SetMode(ctx context.Context, workload string, mode bulkhead.Mode) error
	// Completeness says how much of the workload's behaviour is known, and whether that is
	// enough to protect it.
	Completeness(ctx context.Context, workload string) (score float64, ready bool, err error)
	// Alerts returns the alerts since a time, in any order.
	Alerts(ctx context.Context, since time.Time) ([]bulkhead.Alert, error)
	Profile(ctx context.Context, workload string) (bulkhead.Profile, error)
}

// Options says how to run.
type Options struct {
	Product  Product
	Engine   string                    // socket of a Docker engine; empty: the one that runs, else a private one
	OnEngine func(socket string) error // called once the engine answers, before any container starts
	Shop     string                    // the shop's program; empty: see [Shop]
	State    string                    // directory for what the demo needs meanwhile; empty: a temporary one
	LearnFor time.Duration             // how long to learn; empty: 20 s. It goes on, at most that long again, until the profile is complete
	Keep     bool                      // leave the shop running after the report until ctx ends
	Format   string                    // "text" or "json"
	Out, Err io.Writer                 // the report; progress
	Log      *slog.Logger
}

// ErrNotProtected is returned when an attack reached its goal in protect mode or a
// customer got a wrong answer. The report says which.
var ErrNotProtected = errors.New("not every attack was blocked, or a customer was disturbed")

// Run plays the demo and writes the report.
func Run(ctx context.Context, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	s, err := newStage(o)
	if err != nil {
		return err
	}
	report, err := play(ctx, s, o)
	if err == nil {
		err = report.write(o.Out, o.Format)
	}
	if err == nil && o.Keep {
		fmt.Fprintf(o.Err, "the shop keeps running at %s: interrupt to end it\n", report.shop)
		<-ctx.Done()
	}
	if err := errors.Join(err, s.close()); err != nil {
		return err
	}
	if !report.protected() {
		return ErrNotProtected
	}
	return nil
}

func (o *Options) complete() error {
	if o.Product == nil {
		return errors.New("demo: no product to show")
	}
	if o.Format == "" {
		o.Format = "text"
	}
	if o.Format != "text" && o.Format != "json" {
		return fmt.Errorf("unknown format %q: text or json", o.Format)
	}
	if o.LearnFor <= 0 {
		o.LearnFor = 20 * time.Second
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Err == nil {
		o.Err = io.Discard
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (o *Options) shop(dir string) (string, error) {
	if o.Shop != "" {
		return o.Shop, nil
	}
	return Shop(dir)
}

// longestState leaves room for a private engine's sockets below the 108 bytes of their names.
const longestState = 64

// newStage makes the directory that everything else lies in.
func newStage(o Options) (*stage, error) {
	dir, err := os.MkdirTemp(o.State, "bulkhead-demo-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the demo: %w", err)
	}
	if len(dir) > longestState {
		return nil, errors.Join(fmt.Errorf("the demo's directory %s has too long a name for the sockets in it: choose a shorter one", dir), os.Remove(dir))
	}
	s := &stage{dir: dir, run: strings.ToLower(rand.Text()[:6]), log: o.Log}
	s.later(func(context.Context) error { return os.RemoveAll(dir) })
	return s, nil
}

// play is the piece in four acts: open, learn, be attacked, be protected.
func play(ctx context.Context, s *stage, o Options) (*Report, error) {
	began := time.Now()
	tell := func(format string, args ...any) {
		fmt.Fprintf(o.Err, "%5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	tell("setting the stage")
	if err := s.open(ctx, o); err != nil {
		return nil, err
	}
	shop, twin, err := openShops(ctx, s)
	if err != nil {
		return nil, err
	}
	p := &piece{Options: o, began: began, shop: shop, tell: tell, report: newReport(s, shop), quiet: map[string]bool{}}
	if err := p.learn(ctx, twin); err != nil {
		return nil, err
	}
	if err := p.defend(ctx); err != nil {
		return nil, err
	}
	p.report.Seconds = time.Since(began).Seconds()
	return p.report, nil
}

// openShops starts the shop and the twin that stays unprotected.
func openShops(ctx context.Context, s *stage) (shop, twin *target, err error) {
	var started sync.WaitGroup
	var twinErr error
	started.Go(func() { twin, twinErr = s.startShop(ctx, "twin") })
	shop, err = s.startShop(ctx, "shop")
	started.Wait()
	if err := errors.Join(err, twinErr); err != nil {
		return nil, nil, err
	}
	return shop, twin, shop.reachSupplier(ctx)
}

// piece is the run of one demo.
type piece struct {
	Options
	began  time.Time
	shop   *target
	tell   func(string, ...any)
	report *Report
	quiet  map[string]bool // what alerts said although nobody attacked
}

// learn lets customers teach the product, while the twin shows that each attack works.
func (p *piece) learn(ctx context.Context, twin *target) error {
	if err := p.Product.SetMode(ctx, p.shop.workload(), bulkhead.Learn); err != nil {
		return fmt.Errorf("learn the shop: %w", err)
	}
	p.tell("customers teach the shop's behaviour; the twin is attacked without protection")
	start := time.Now()
	customers := invite(ctx, p.shop, learningScript(), 3, 20*time.Millisecond)
	defer customers.stop()
	var attacked sync.WaitGroup
	var failed error
	attacked.Go(func() { failed = p.attack(ctx, twin, bulkhead.Learn) })
	defer attacked.Wait()
	if err := p.saturate(ctx, start); err != nil {
		return err
	}
	attacked.Wait()
	customers.stop()
	if failed != nil {
		return failed
	}
	return p.noteLearned(ctx, customers.count, time.Since(start))
}

// saturate waits until the profile is complete, but not for ever.
func (p *piece) saturate(ctx context.Context, start time.Time) error {
	for {
		sleep(ctx, 500*time.Millisecond)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		score, ready, err := p.Product.Completeness(ctx, p.shop.workload())
		if err != nil && time.Since(start) > p.LearnFor {
			return fmt.Errorf("ask how complete the profile is: %w", err)
		}
		p.report.Learned.Completeness, p.report.Learned.Ready = score, ready
		if over := time.Since(start); over >= p.LearnFor && ready || over >= 2*p.LearnFor {
			return nil
		}
	}
}

func (p *piece) noteLearned(ctx context.Context, count *tally, took time.Duration) error {
	profile, err := p.Product.Profile(ctx, p.shop.workload())
	if err != nil {
		return fmt.Errorf("read the learned profile: %w", err)
	}
	p.report.Learned.describe(profile)
	p.report.Learned.Seconds = took.Seconds()
	p.report.Learned.Requests, p.report.Learned.Broken = count.requests.Load(), count.broken.Load()
	p.report.Application.Complaints = append(p.report.Application.Complaints, count.complaints...)
	p.tell("learned %d executables, %d scripts, %d system calls from %d requests", len(profile.Executables), len(profile.Scripts), len(profile.Syscalls), count.requests.Load())
	return nil
}

// defend attacks the shop in monitor and then in protect mode, with customers of another
// script in it all the time.
func (p *piece) defend(ctx context.Context) error {
	for _, mode := range []bulkhead.Mode{bulkhead.Monitor, bulkhead.Protect} {
		if err := p.Product.SetMode(ctx, p.shop.workload(), mode); err != nil {
			return fmt.Errorf("switch the shop to %s: %w", mode, err)
		}
		p.tell("mode %s: twenty attacks, with other customers in the shop", mode)
		customers := invite(ctx, p.shop, verificationScript(), 2, 30*time.Millisecond)
		err := p.watchQuiet(ctx)
		if err == nil {
			err = p.attack(ctx, p.shop, mode)
		}
		customers.stop()
		p.report.Application.add(mode, customers.count)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// watchQuiet notes what alerts say while only customers are there: false alarms.
func (p *piece) watchQuiet(ctx context.Context) error {
	before, err := p.counts(ctx, p.shop)
	if err != nil {
		return err
	}
	began := time.Now()
	sleep(ctx, 1500*time.Millisecond)
	fresh, err := p.fresh(ctx, p.shop, before)
	if err != nil {
		return err
	}
	for _, a := range fresh {
		if a.Time.Before(began) {
			continue // an attack's of before, whose count has grown
		}
		p.quiet[theme(a)] = true
		p.report.Application.alarm(a)
	}
	return nil
}
