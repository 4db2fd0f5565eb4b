// Package respond does what a rule says is to be done beside telling: end a process, hold a container still, take a
// workload off the network, keep what can be seen of a container. Start with [New] and [Responder.Do].
//
// It promises that each action has a limit and a way back: a process is ended only if it still is the one that did
// it, is in its container and is not the container's first; a container is held, and a workload cut off, for a limited
// time and let go by [Resume], by the end of that time, and when the agent starts again; snapshots are few, bounded and
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
	CgroupRoot string                               // of the v2 hierarchy
	Dir        string                               // for snapshots and for what is held
	HoldFor    time.Duration                        // how long a container is held or a workload cut off; 0: ten minutes
	Cut        func(workload string, on bool) error // takes a workload's containers on this node off the network, and lets them on again
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
	cut  map[string]time.Time   // until when, by workload
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
	r := &Responder{Options: o, snapshots: make(chan job, 8), done: map[string][]time.Time{}, held: map[string]time.Time{}, cut: map[string]time.Time{}}
	for _, kind := range []string{heldNotes, cutNotes} {
		if err := os.MkdirAll(filepath.Join(o.Dir, kind), 0o700); err != nil {
			return nil, fmt.Errorf("making a directory for responses: %w", err)
		}
	}
	return r, Resume(o.CgroupRoot, o.Dir)
}

// Do does an action and says what was done, or why not. It is quick: what takes time is done by [Responder.Run].
func (r *Responder) Do(action string, c bulkhead.Container, p bulkhead.Process, a bulkhead.Alert) string {
	var err error
	switch action {
	case "kill":
		err = r.kill(c, p)
	case "pause":
		err = r.hold(c)
	case "quarantine":
		err = r.quarantine(c)
	case "snapshot":
		err = r.ask(c, a)
	default:
		return ""
	}
	if err != nil {
		return action + " was not done: " + err.Error()
	}
	return map[string]string{"kill": "the process was ended", "pause": "the container is held", "quarantine": "its workload is cut off the network", "snapshot": "a snapshot is being made"}[action]
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
	if r.holds(r.held, heldNotes, c.Cgroup) {
		return nil
	}
	if err := r.allow("pause", c.ID, mostHolds, holdWindow); err != nil {
		return err
	}
	if err := os.WriteFile(r.note(heldNotes, c.Cgroup), []byte(c.Cgroup), 0o600); err != nil { // first: who dies now leaves a note
		return err
	}
	if err := freeze(r.CgroupRoot, c.Cgroup, "1"); err != nil {
		return errors.Join(err, os.Remove(r.note(heldNotes, c.Cgroup)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[c.Cgroup] = time.Now().Add(r.HoldFor)
	return nil
}

// quarantine takes a container's workload off the network for a while.
func (r *Responder) quarantine(c bulkhead.Container) error {
	name := c.Workload.Name
	switch {
	case r.Cut == nil:
		return errors.New("this node cannot cut a workload off")
	case name == "":
		return errors.New("its workload is not known")
	}
	if r.holds(r.cut, cutNotes, name) {
		return nil
	}
	if err := r.allow("quarantine", name, mostHolds, holdWindow); err != nil {
		return err
	}
	if err := os.WriteFile(r.note(cutNotes, name), []byte(name), 0o600); err != nil {
		return err
	}
	if err := r.Cut(name, true); err != nil {
		return errors.Join(err, r.Cut(name, false), os.Remove(r.note(cutNotes, name)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut[name] = time.Now().Add(r.HoldFor)
	return nil
}

// Notes are files that say what is held: whoever removes one, as [Resume] does, has it let go.
const (
	heldNotes = "held"
	cutNotes  = "cut"
)

// holds says whether something is held already.
func (r *Responder) holds(list map[string]time.Time, kind, name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, have := list[name]
	_, err := os.Stat(r.note(kind, name))
	return have && err == nil
}

func (r *Responder) note(kind, name string) string {
	return filepath.Join(r.Dir, kind, strings.ReplaceAll(strings.Trim(name, "/"), "/", "_"))
}

func freeze(root, cgroup, value string) error {
	return os.WriteFile(filepath.Join(root, cgroup, "cgroup.freeze"), []byte(value), 0o600)
}

// Resume lets go of everything that is held, whoever holds it: containers at once, workloads that are cut off within a
// second by the agent that did it, or with its end.
func Resume(cgroupRoot, dir string) error {
	held, err := filepath.Glob(filepath.Join(dir, heldNotes, "*"))
	if err != nil {
		return err
	}
	cut, err := filepath.Glob(filepath.Join(dir, cutNotes, "*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, note := range held {
		errs = append(errs, thaw(cgroupRoot, note))
	}
	for _, note := range cut {
		errs = append(errs, os.Remove(note))
	}
	return errors.Join(errs...)
}

// thaw lets a held container go on.
func thaw(cgroupRoot, note string) error {
	cgroup, err := os.ReadFile(note)
	if err != nil {
		return err
	}
	if err := freeze(cgroupRoot, string(cgroup), "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(note)
}

// Run makes snapshots and lets go of what was held long enough; at its end of everything.
func (r *Responder) Run(ctx context.Context) error {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return errors.Join(Resume(r.CgroupRoot, r.Dir), r.letGo(time.Time{}))
		case j := <-r.snapshots:
			if err := r.snapshot(ctx, j); err != nil {
				r.Log.Error("snapshot failed", "container", j.c.Name, "error", err)
			}
		case now := <-clock.C:
			if err := r.letGo(now); err != nil {
				r.Log.Error("something stays held", "error", err)
			}
		}
	}
}

// letGo ends what is due, and what somebody took the note of; at no time everything.
func (r *Responder) letGo(now time.Time) error {
	due := func(list map[string]time.Time, kind string) (names []string) {
		for name, until := range list {
			if _, err := os.Stat(r.note(kind, name)); now.IsZero() || now.After(until) || errors.Is(err, os.ErrNotExist) {
				names = append(names, name)
			}
		}
		return names
	}
	r.mu.Lock()
	held, cut := due(r.held, heldNotes), due(r.cut, cutNotes)
	r.mu.Unlock()
	var errs []error
	for _, cgroup := range held {
		errs = append(errs, r.end(r.held, cgroup, heldNotes, thaw(r.CgroupRoot, r.note(heldNotes, cgroup))))
	}
	for _, name := range cut {
		errs = append(errs, r.end(r.cut, name, cutNotes, r.Cut(name, false)))
	}
	return errors.Join(errs...)
}

// end forgets what was let go; what was not is tried again.
func (r *Responder) end(list map[string]time.Time, name, kind string, err error) error {
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("letting %s go: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(list, name)
	if err := os.Remove(r.note(kind, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
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
