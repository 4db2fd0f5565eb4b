// Package respond does what a rule says is to be done beside telling: end a process, hold a container still, keep
// what can be seen of it. Start with [New] and [Responder.Do].
//
// It promises that each action has a limit and a way back: a process is ended only if it still is the one that did
// it, is in its container and is not the container's first; a container is held for a limited time and let go by
// [Responder.Resume], by the end of that time, and when the agent starts again; snapshots are few, bounded and
// complete or not there. It is not for blocking: that the kernel does, before.
package respond

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead"
)

// Options say where to work and how much is allowed.
type Options struct {
	CgroupRoot string        // of the v2 hierarchy
	Dir        string        // for snapshots and for what is held
	HoldFor    time.Duration // how long a container is held; 0: ten minutes
	Log        *slog.Logger
}

// The limits, for each container. An application that is ended again and again is broken by us.
const (
	mostKills     = 30
	killWindow    = time.Minute
	mostHolds     = 3
	holdWindow    = time.Hour
	mostSnapshots = 1
	snapWindow    = 10 * time.Minute
)

// Responder does what rules ask for.
type Responder struct {
	Options
	snapshots chan job

	mu   sync.Mutex
	done map[string][]time.Time // by action and container
	held map[string]time.Time   // until when, by cgroup
}

type job struct {
	c bulkhead.Container
	a bulkhead.Alert
}

// New lets go of what an agent before this one held.
func New(o Options) (*Responder, error) {
	if o.HoldFor <= 0 {
		o.HoldFor = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &Responder{Options: o, snapshots: make(chan job, 8), done: map[string][]time.Time{}, held: map[string]time.Time{}}
	if err := os.MkdirAll(filepath.Join(o.Dir, "held"), 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for responses: %w", err)
	}
	return r, r.releaseAll()
}

// Do does an action and says what was done, or why not. It is quick: what takes time is done by [Responder.Run].
func (r *Responder) Do(action string, c bulkhead.Container, p bulkhead.Process, a bulkhead.Alert) string {
	var err error
	switch action {
	case "kill":
		err = r.kill(c, p)
	case "pause":
		err = r.hold(c)
	case "snapshot":
		err = r.ask(c, a)
	default:
		return ""
	}
	if err != nil {
		return action + " was not done: " + err.Error()
	}
	return map[string]string{"kill": "the process was ended", "pause": "the container is held", "snapshot": "a snapshot is being made"}[action]
}

// allow counts an action and says whether it is within its limit.
func (r *Responder) allow(action, container string, most int, window time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, now := action+"\x00"+container, time.Now()
	recent := r.done[key][:0]
	for _, t := range r.done[key] {
		if now.Sub(t) < window {
			recent = append(recent, t)
		}
	}
	if len(recent) >= most {
		r.done[key] = recent
		return fmt.Errorf("it was done %d times within %s, which is the limit", most, window)
	}
	r.done[key] = append(recent, now)
	return nil
}

var errGone = errors.New("the process has ended already")

// kill ends the process that did something, if it is still that one.
func (r *Responder) kill(c bulkhead.Container, p bulkhead.Process) error {
	if p.PID <= 1 || p.PID == c.PID {
		return errors.New("the container's first process is not ended: that would end the container")
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return errGone
	}
	defer unix.Close(fd)
	if !inCgroup(p.PID, c.Cgroup) { // asked after the descriptor was opened: the number cannot become somebody else's between
		return errGone
	}
	if p.Started != 0 && !startedAt(p.PID, p.Started) {
		return errGone
	}
	if err := r.allow("kill", c.ID, mostKills, killWindow); err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// inCgroup reports whether a process is in a cgroup or below it, in any hierarchy.
func inCgroup(pid int, cgroup string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || cgroup == "" || cgroup == "/" {
		return false
	}
	for line := range strings.Lines(string(text)) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), ":")
		_, path, _ = strings.Cut(path, ":")
		if path == cgroup || strings.HasPrefix(path, cgroup+"/") {
			return true
		}
	}
	return false
}

// tick is the unit of /proc/PID/stat; a start told in nanoseconds may be one off.
const tick = 10 * time.Millisecond

func startedAt(pid int, nanoseconds uint64) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return false
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return false
	}
	return time.Duration(nanoseconds-ticks*uint64(tick)).Abs() <= 2*tick
}

// hold freezes a container for a while.
func (r *Responder) hold(c bulkhead.Container) error {
	if c.Cgroup == "" || c.Cgroup == "/" {
		return errors.New("its cgroup is not known")
	}
	r.mu.Lock()
	_, already := r.held[c.Cgroup]
	r.mu.Unlock()
	if already {
		return nil
	}
	if err := r.allow("pause", c.ID, mostHolds, holdWindow); err != nil {
		return err
	}
	if err := os.WriteFile(r.note(c.Cgroup), []byte(c.Cgroup), 0o600); err != nil { // first: who dies now leaves a note
		return err
	}
	if err := r.freeze(c.Cgroup, "1"); err != nil {
		return errors.Join(err, os.Remove(r.note(c.Cgroup)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[c.Cgroup] = time.Now().Add(r.HoldFor)
	return nil
}

func (r *Responder) note(cgroup string) string {
	return filepath.Join(r.Dir, "held", strings.ReplaceAll(strings.Trim(cgroup, "/"), "/", "_"))
}

func (r *Responder) freeze(cgroup, value string) error {
	return os.WriteFile(filepath.Join(r.CgroupRoot, cgroup, "cgroup.freeze"), []byte(value), 0o600)
}

// Resume lets a held container go on.
func (r *Responder) Resume(cgroup string) error {
	err := r.freeze(cgroup, "0")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.held, cgroup)
	if err := os.Remove(r.note(cgroup)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// releaseAll lets go of everything that has a note.
func (r *Responder) releaseAll() error {
	notes, err := filepath.Glob(filepath.Join(r.Dir, "held", "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range notes {
		cgroup, err := os.ReadFile(n)
		if err == nil {
			err = r.Resume(string(cgroup))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Run makes snapshots and lets go of what was held long enough; at its end of everything.
func (r *Responder) Run(ctx context.Context) error {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return r.releaseAll()
		case j := <-r.snapshots:
			if err := r.snapshot(ctx, j); err != nil {
				r.Log.Error("snapshot failed", "container", j.c.Name, "error", err)
			}
		case <-clock.C:
			r.resumeDue()
		}
	}
}

func (r *Responder) resumeDue() {
	r.mu.Lock()
	var due []string
	for cgroup, until := range r.held {
		if time.Now().After(until) {
			due = append(due, cgroup)
		}
	}
	r.mu.Unlock()
	for _, cgroup := range due {
		if err := r.Resume(cgroup); err != nil {
			r.Log.Error("container stays held", "cgroup", cgroup, "error", err)
		}
	}
}

// ask has a snapshot made.
func (r *Responder) ask(c bulkhead.Container, a bulkhead.Alert) error {
	if err := r.allow("snapshot", c.ID, mostSnapshots, snapWindow); err != nil {
		return err
	}
	select {
	case r.snapshots <- job{c, a}:
		return nil
	default:
		return errors.New("too many are being made")
	}
}
