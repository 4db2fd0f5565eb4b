//go:build integration

package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// A product that only raises alerts: the whole piece is played, the modes follow each
// other, and the verdict is not a compliment.
func TestRunIsHonest(t *testing.T) {
	product := new(alarmed)
	var out bytes.Buffer
	err := Run(t.Context(), Options{Product: product, Format: "json", Out: &out, Err: t.Output(), LearnFor: 2 * time.Second})
	if !errors.Is(err, ErrNotProtected) {
		t.Fatalf("Run says %v", err)
	}
	var report Report
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	for _, a := range report.Attacks {
		if a.Result != Detected || !a.Learn.Reached || a.Monitor.Result != Detected {
			t.Errorf("%s: %+v", a.Name, a)
		}
	}
	if report.Application.Broken+report.Learned.Broken > 0 || report.Application.Requests == 0 {
		t.Errorf("customers: %v, %v", report.Learned.Broken, report.Application.Complaints)
	}
	want := []bulkhead.Mode{bulkhead.Learn, bulkhead.Monitor, bulkhead.Protect}
	if diff := cmp.Diff(want, product.modes); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
	t.Logf("%.0f s, %d requests", report.Seconds, report.Application.Requests)
}

// An engine that runs is used and left as it was; the private one leaves nothing at all.
func TestLeavesNothing(t *testing.T) {
	o := Options{Log: slog.New(slog.DiscardHandler)}
	private, err := newStage(o)
	if err != nil {
		t.Fatal(err)
	}
	defer private.close()
	if err := private.open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Engine = private.engine.Socket
	guest, err := newStage(o)
	if err != nil {
		t.Fatal(err)
	}
	defer guest.close()
	if err := guest.open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := guest.startShop(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if err := guest.close(); err != nil {
		t.Fatal(err)
	}
	var containers []struct{ Names []string }
	if err := private.engine.Call(t.Context(), "GET", "/containers/json?all=1", nil, &containers); err != nil {
		t.Fatal(err)
	}
	if len(containers) != 1 {
		t.Errorf("the host's engine has containers %v, and should have its own neighbour alone", containers)
	}
	if err := private.close(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*stage{private, guest} {
		if _, err := net.InterfaceByName("bhdemo-" + s.run); err == nil {
			t.Errorf("bridge bhdemo-%s is still there", s.run)
		}
		if _, err := os.Stat(s.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", s.dir)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(private.dir)) {
		t.Error("mounts of the private engine are still there")
	}
}
