package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

const (
	holders      = 16               // processes that are dealt with at a time
	holdPatience = 10 * time.Second // how long a stopped process waits for the agent to name its policy
)

// takeHolds covers processes that were stopped when they entered, and lets them go.
func (k *keeper) takeHolds(ctx context.Context) {
	room := make(chan struct{}, holders)
	for {
		select {
		case <-ctx.Done():
			return
		case h, ok := <-k.opts.Holds:
			if !ok {
				return
			}
			room <- struct{}{}
			k.holding.Go(func() {
				k.hold(ctx, h)
				<-room
			})
		}
	}
}

// quiet is how long a keeper that ends waits for a process that the kernel stopped just before.
const quiet = 200 * time.Millisecond

// leaveNobody lets go what is stopped when this keeper ends. An agent that lives starts another keeper, which finds in the
// ring what this one did not take: those must not run without a filter.
func (k *keeper) leaveNobody() {
	defer k.holding.Wait()
	k.mu.Lock()
	agent := slices.ContainsFunc(k.conns, func(c *conn) bool { return c.agent })
	k.mu.Unlock()
	if agent {
		return
	}
	if k.opts.Rest != nil {
		k.opts.Rest()
	}
	for {
		select {
		case h, ok := <-k.opts.Holds:
			if !ok {
				return
			}
			k.holding.Go(func() { letRun(h.PID) })
		case <-time.After(quiet):
			return
		}
	}
}

var errUnknown = errors.New("no policy of its container is known")

// hold covers one process. Whatever happens, it goes on.
func (k *keeper) hold(ctx context.Context, h Hold) {
	defer letRun(h.PID)
	w := k.wardOf(h)
	if w == nil {
		w = k.askFor(ctx, h)
	}
	err := errUnknown
	if w != nil {
		err = k.coverOne(w, h.PID, started(h.PID))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held++; err != nil {
		k.late++
		k.log.Warn("a process entered without a system call filter", "pid", h.PID, "cgroup", h.CgroupID, "why", err)
	}
}

// wardOf finds the ward of a cgroup, or of one above it.
func (k *keeper) wardOf(h Hold) *ward {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.wards[h.CgroupID]; w != nil {
		return w
	}
	path := cgroupOf(h.PID)
	for _, w := range k.wards {
		for p := path; len(p) > 1; p = p[:strings.LastIndexByte(p, '/')] {
			if strings.HasSuffix(w.CgroupDir, p) {
				return w
			}
		}
	}
	return nil
}

func cgroupOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// askFor asks the agent for a policy, and waits until there is one, the agent lets the process
// go, or patience ends.
func (k *keeper) askFor(ctx context.Context, h Hold) *ward {
	wait := make(chan struct{})
	k.mu.Lock()
	k.waiting[h.PID] = wait
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.waiting, h.PID)
		k.mu.Unlock()
	}()
	k.broadcast(message{Kind: kindUnknown, CgroupID: h.CgroupID, PID: h.PID}, -1)
	deadline := time.After(holdPatience)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-deadline:
			return nil
		case <-wait:
			return nil
		case <-time.After(2 * time.Millisecond):
			if w := k.wardOf(h); w != nil {
				return w
			}
		}
	}
}

// letGo ends the wait for a process that needs no filter.
func (k *keeper) letGo(pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if wait := k.waiting[pid]; wait != nil {
		delete(k.waiting, pid)
		close(wait)
	}
}

// letRun continues a stopped process. The stop may still be on its way: it is sent from
// within the kernel just before we are told.
func letRun(pid int) {
	unix.Kill(pid, unix.SIGCONT)
	for _, d := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 50 * time.Millisecond} {
		time.Sleep(d)
		if _, stopped, err := seccomp.Filters(pid); err != nil || !stopped {
			continue
		}
		unix.Kill(pid, unix.SIGCONT)
	}
}

// resume continues processes that were stopped for a keeper that died before it came to them.
// They are known by being stopped and having no filter beyond the engine's: every other
// process of a protected container has one. In containers without a saved policy nobody can
// tell them from those that somebody stopped on purpose; there the agent has to.
func (k *keeper) resume(w *ward) {
	policy := k.policyOf(w)
	for _, pid := range processes(policy.CgroupDir) {
		if n, stopped, err := seccomp.Filters(pid); err == nil && stopped && n <= policy.Baseline {
			k.coverOne(w, pid, started(pid))
			letRun(pid)
		}
	}
}
