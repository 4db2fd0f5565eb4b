//go:build integration

package demo

import (
	"log/slog"
	"testing"
	"time"

	"bulkhead"
)

// openStage gives a test a stage with its own container engine state, closed at the end.
func openStage(t *testing.T) *stage {
	t.Helper()
	o := Options{Log: slog.New(slog.DiscardHandler)} // a test's own directory has too long a name for sockets
	s, err := newStage(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return s
}

// Without protection every attack must reach its goal: otherwise "blocked" proves nothing.
// And none may disturb a customer: otherwise "broken" would count the attack's own damage.
func TestAttacksWorkUnprotected(t *testing.T) {
	shop, err := openStage(t).startShop(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	customers := invite(t.Context(), shop, verificationScript(), 2, 20*time.Millisecond)
	for _, a := range attacks() {
		trial, start, err := try(t.Context(), shop, a)
		if err != nil {
			t.Fatalf("%s: %v", a.Name, err)
		}
		if trial.judge(bulkhead.Learn); !trial.Reached {
			t.Errorf("%s did not reach its goal: %s", a.Name, trial.Saw)
		}
		t.Logf("%-24s %4d ms  %s", a.Name, time.Since(start).Milliseconds(), trial.Proof)
	}
	customers.stop()
	if n := customers.count.broken.Load(); n > 0 {
		t.Errorf("%d of %d requests broken: %v", n, customers.count.requests.Load(), customers.count.complaints)
	}
	t.Logf("%d requests", customers.count.requests.Load())
}
