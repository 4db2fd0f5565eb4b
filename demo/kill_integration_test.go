//go:build integration

package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Protection may kill the worker that serves an attack. Whoever else shops must not notice.
func TestKilledWorkerDisturbsNobody(t *testing.T) {
	shop, err := openStage(t).startShop(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	customers := invite(t.Context(), shop, learningScript(), 2, 10*time.Millisecond)
	for range 12 {
		killServingWorker(t, shop)
	}
	time.Sleep(time.Second)
	customers.stop()
	requests, broken := customers.count.requests.Load(), customers.count.broken.Load()
	if broken > 0 || requests < 100 {
		t.Errorf("%d requests, %d broken: %v", requests, broken, customers.count.complaints)
	}
}

// killServingWorker makes a worker wait for a sleep and kills the worker meanwhile.
func killServingWorker(t *testing.T, shop *target) {
	t.Helper()
	r, err := newRaid(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answered := make(chan error, 1)
	go func() {
		_, err := r.inject(ctx, "sleep 4")
		answered <- err
	}()
	for ctx.Err() == nil {
		worker, sleeper := servingWorker(shop.pid, "sleep")
		if worker == 0 {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for _, pid := range []int{worker, sleeper} { // the sleeper, so that the next round does not find it
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-answered; !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the worker was killed, yet the answer is %v", err)
		}
		return
	}
	t.Fatal("the shop never slept")
}

// servingWorker finds the worker, a child of master, below which a program called name runs.
func servingWorker(master int, name string) (worker, pid int) {
	type process struct {
		name   string
		parent int
	}
	running := map[int]process{}
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		from, to := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
		var state string
		p := process{name: string(data[from+1 : to])}
		if _, err := fmt.Sscan(string(data[to+1:]), &state, &p.parent); err == nil {
			running[pid] = p
		}
	}
	for pid, p := range running {
		if p.name != name {
			continue
		}
		for up := p.parent; up > 1; up = running[up].parent {
			if running[up].name == "shop" && running[up].parent == master {
				return up, pid
			}
		}
	}
	return 0, 0
}
