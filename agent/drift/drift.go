// Package drift audits the node that an agent runs on, at its start and once a day, and again as soon as something changes
// that the audit looked at. Start with [Run] and [Options].
//
// It promises that nothing is polled but some sixty settings of the kernel, that an audit runs in a process of its own at the
// lowest priority, and that a change is told of within a minute, with the process that made it where that was seen: a
// process that ended before anybody could look at it is told of as not seen. It is not for judging (baseline does) nor
// for containers' own files (sensor and enforce are).
package drift

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/baseline"
)

// Options for [Run].
type Options struct {
	Root    string        // the host's files; empty: as this agent's first process sees them
	State   string        // directory of what is kept
	Program string        // of the child, which is started with the word audit and calls [Audit]
	Docker  func() string // socket of Docker; empty: it is not asked
	Version string
	Tell    func(Result)             // takes what an audit found; it has to keep it
	Problem func(about, text string) // an empty text takes it back
	Every   time.Duration            // at least so often; 0: a day
	Soonest time.Duration            // between two audits that changes asked for; 0: 8 s
	Log     *slog.Logger
}

// Result is what one audit found.
type Result struct {
	Time   time.Time
	Cause  string // "start", "change", "time"
	Score  float64
	Layers map[string]float64
	Counts baseline.Counts
	Report []byte // JSON, gzip: {"version","report"}
	Drift  []Drift
}

// Drift is one answer that changed, with what is known of the change.
type Drift struct {
	baseline.Change
	At   time.Time
	By   Process
	Seen bool   // who did it was seen
	User string // its name on this host
}

const (
	settle  = 3 * time.Second  // changes come in groups
	slowest = 30 * time.Second // between two audits that changes asked for: the promise is a minute
	share   = 100              // an audit that took a second of the processor is not followed by another for so many of them

	sysctlsEvery = 20 * time.Second // settings are read again: another mount of /proc has other inodes
	maxChanged   = 2048             // paths between two audits; of more, only that there were more is known
	maxPrints    = 8192
)

// Root is where the host's files are, as this process sees them: its own, unless its first process has others.
func Root() string {
	own, err := os.Readlink("/proc/self/ns/mnt")
	first, bad := os.Readlink("/proc/1/ns/mnt")
	if err == nil && bad == nil && own != first {
		return "/proc/1/root"
	}
	return "/"
}

// Run audits and watches until the context ends.
func Run(ctx context.Context, o Options) error {
	o.Root = cmp.Or(o.Root, Root())
	o.Every = cmp.Or(o.Every, 24*time.Hour)
	o.Soonest = cmp.Or(o.Soonest, 8*time.Second)
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		return fmt.Errorf("making the directory of audits: %w", err)
	}
	a := &auditor{o: o, overflow: make(chan struct{}, 1), changed: map[string]Touch{}, prints: map[string]print{}, settings: map[string]string{}}
	w, err := newWatch(strings.TrimSuffix(o.Root, "/"), a.lost)
	if err != nil {
		o.Problem("drift", "changes of audited settings are noticed once a day only: "+err.Error())
		a.touches = make(chan Touch)
		return a.run(ctx)
	}
	a.watch, a.touches = w, w.touches
	go w.run()
	defer w.close()
	return a.run(ctx)
}

// auditor is one node's: when to audit, and what changed since the last time.
type auditor struct {
	o        Options
	watch    *watch // nil: this kernel has none
	touches  <-chan Touch
	overflow chan struct{}

	changed  map[string]Touch // since the last audit
	more     bool             // than fit in
	prints   map[string]print
	settings map[string]string // below /proc/sys
	paths    []string
	cost     time.Duration // of the last audit, of a processor
}

func (a *auditor) lost() {
	select {
	case a.overflow <- struct{}{}:
	default:
	}
}

func (a *auditor) path(name string) string { return filepath.Join(a.o.State, name) }

func (a *auditor) run(ctx context.Context) error {
	a.recall()
	again := time.NewTimer(2 * time.Second) // the node's containers first
	cause := "start"
	sysctls := time.NewTicker(sysctlsEvery)
	defer sysctls.Stop()
	var next time.Time // when an audit may be asked for by a change
	due := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
			if err := a.audit(ctx, cause); err != nil && ctx.Err() == nil {
				a.o.Problem("audit", err.Error())
			} else {
				a.o.Problem("audit", "")
			}
			next = time.Now().Add(max(min(share*a.cost, slowest), a.o.Soonest))
			again.Reset(a.o.Every)
			cause, due = "time", false
		case t, ok := <-a.touches:
			if !ok {
				a.touches = nil
				continue
			}
			due = a.touch(t) || due
		case <-a.overflow:
			a.more, due = true, true
		case <-sysctls.C:
			due = a.readSettings() || due
		}
		if due && cause != "start" && cause != "change" {
			cause = "change"
			again.Reset(max(time.Until(next), min(settle, a.o.Soonest)))
		}
	}
}

// recall watches what the last audit looked at, and notes what changed since: the agent was away.
func (a *auditor) recall() {
	b, err := os.ReadFile(a.path("watched.json"))
	if err != nil || json.Unmarshal(b, &a.paths) != nil {
		return
	}
	a.watchPaths()
	info, err := os.Stat(a.path("last.json.gz"))
	if err != nil {
		return
	}
	a.changedSince(info.ModTime(), a.paths)
}

// changedSince notes what was changed while nobody watched.
func (a *auditor) changedSince(then time.Time, paths []string) {
	for _, p := range paths {
		if strings.HasPrefix(p, "/proc/") {
			continue
		}
		var st unix.Stat_t
		err := unix.Lstat(a.o.Root+p, &st)
		if err == unix.ENOENT { // it may have been there: that it went shows in its directory
			err = unix.Lstat(a.o.Root+filepath.Dir(p), &st)
		}
		if err == nil && time.Unix(st.Ctim.Unix()).After(then) && len(a.changed) < maxChanged {
			p = strings.TrimSuffix(p, "/")
			if _, known := a.changed[p]; !known {
				a.changed[p] = Touch{Path: p, At: time.Unix(st.Ctim.Unix())}
			}
		}
	}
}

func (a *auditor) watchPaths() (fresh []string) {
	if a.watch == nil {
		return nil
	}
	fresh = a.watch.follow(a.paths)
	a.o.Problem("drift", a.watch.problem())
	a.readSettings()
	return fresh
}

// touch notes a change, and reports whether it is one: a file that was written anew with the same in it is none.
func (a *auditor) touch(t Touch) bool {
	if !strings.HasPrefix(t.Path, "/proc/") {
		now, before := a.print(t.Path), a.prints[t.Path]
		if before == now {
			return false
		}
		if len(a.prints) >= maxPrints {
			clear(a.prints)
		}
		a.prints[t.Path] = now
	} else if value := a.setting(t.Path); value == a.settings[t.Path] {
		return false
	} else {
		a.settings[t.Path] = value
	}
	return a.note(t)
}

// note keeps the last change of a path; one whose author was seen counts more than one whose was not.
func (a *auditor) note(t Touch) bool {
	if before, known := a.changed[t.Path]; known && before.Seen && !t.Seen {
		return true
	}
	if len(a.changed) >= maxChanged {
		a.more = true
		return true
	}
	a.changed[t.Path] = t
	return true
}

// print is what is in a file, and whose it is.
type print struct {
	mode, uid, gid uint32
	size           int64
	sum            [sha256.Size]byte
}

const maxPrinted = 1 << 20 // bytes of a file

func (a *auditor) print(p string) (found print) {
	var st unix.Stat_t
	name := a.o.Root + p
	if unix.Lstat(name, &st) != nil {
		return print{size: -1}
	}
	found = print{mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		to, _ := os.Readlink(name)
		found.sum = sha256.Sum256([]byte(to))
	case unix.S_IFREG:
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return found
		}
		defer f.Close()
		h := sha256.New()
		_, _ = io.Copy(h, io.LimitReader(f, maxPrinted))
		h.Sum(found.sum[:0])
	}
	return found
}

func (a *auditor) setting(p string) string {
	b := head(strings.TrimSuffix(a.o.Root, "/") + p)
	return string(bytes.TrimSpace(b))
}

// readSettings reads the watched settings again, and reports whether one changed that no event told of.
func (a *auditor) readSettings() (changed bool) {
	for _, p := range a.paths {
		if !strings.HasPrefix(p, "/proc/sys/") {
			continue
		}
		value := a.setting(p)
		before, known := a.settings[p]
		a.settings[p] = value
		if known && before != value {
			changed = a.note(Touch{Path: p, At: time.Now()})
		}
	}
	return changed
}

func (a *auditor) audit(ctx context.Context, cause string) error {
	touched := a.changed
	a.changed, a.more = map[string]Touch{}, false
	began := time.Now()
	t := task{
		Root: a.o.Root, Docker: a.o.Docker(), Last: a.path("last.json.gz"), Into: a.path("next.json.gz"), Version: a.o.Version,
		Changed: slices.Sorted(maps.Keys(touched)),
	}
	found, cost, err := child(ctx, a.o.Program, t)
	a.cost = cost
	if err != nil {
		for p, touch := range touched { // the next audit tells of them
			if _, again := a.changed[p]; !again {
				a.changed[p] = touch
			}
		}
		return err
	}
	result := Result{Time: began, Cause: cause, Score: found.Score, Layers: found.Layers, Counts: found.Counts}
	if result.Report, err = os.ReadFile(t.Into); err != nil {
		return fmt.Errorf("reading the audit: %w", err)
	}
	for _, c := range found.Changes {
		result.Drift = append(result.Drift, a.drift(c, touched, began))
	}
	a.paths = found.Paths
	fresh := a.watchPaths() // what is told of is watched from then on
	a.o.Tell(result)
	b, err := json.Marshal(a.paths)
	if err == nil {
		err = os.WriteFile(a.path("watched.json"), b, 0o600)
	}
	if err = errors.Join(err, os.Rename(t.Into, t.Last)); err != nil {
		return fmt.Errorf("keeping the audit: %w", err)
	}
	a.changedSince(began, fresh)
	if len(a.changed) > 0 {
		a.lost() // once more, after a while
	}
	a.o.Log.Debug("audited", "cause", cause, "score", result.Score, "drift", len(result.Drift), "took", time.Since(began))
	return nil
}

// drift finds who made a change: of the paths that the check depends on, the last that somebody was seen at.
func (a *auditor) drift(c baseline.Change, touched map[string]Touch, now time.Time) Drift {
	d := Drift{Change: c, At: now}
	for _, p := range c.Paths {
		t := touched[p]
		if d.At == now && !d.Seen || t.Seen && (!d.Seen || t.At.After(d.At)) {
			d.At, d.By, d.Seen = t.At, t.By, t.Seen
		}
	}
	if d.Seen {
		d.User = a.userName(d.By.UID)
		if login := d.By.Login; login >= 0 && login != d.By.UID {
			d.User += ", signed in as " + a.userName(login)
		}
	}
	return d
}

// userName is what this host calls a user.
func (a *auditor) userName(uid int) string {
	id := fmt.Sprint(uid)
	b, _ := os.ReadFile(a.o.Root + "/etc/passwd")
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(line, ":", 4); len(f) > 3 && f[2] == id {
			return f[0]
		}
	}
	return id
}
