package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"bulkhead"
	"bulkhead/profile"
)

// workload is what the node knows of one workload. Its fields are guarded by Agent.mu.
type workload struct {
	bulkhead.Workload
	Image   bulkhead.Image
	Mode    bulkhead.Mode
	Profile bulkhead.Profile // in force, when the mode is not learn
	// Decided says that a person chose the mode, and Attested names the signed profile that was taken.
	Decided  bool
	Attested string

	recorder   *profile.Recorder
	containers map[uint64]bulkhead.Container
	usage      map[uint64]uint64 // processor time by container when it was last looked at
	interprets map[string]bool
	seen       time.Time
	sent       string // hash of the profile that was reported last
	saved      string
}

// kept is a workload on disk.
type kept struct {
	Workload bulkhead.Workload `json:"workload"`
	Image    bulkhead.Image    `json:"image"`
	Mode     bulkhead.Mode     `json:"mode"`
	Profile  json.RawMessage   `json:"profile"`
	Decided  bool              `json:"decided,omitempty"`
	Attested string            `json:"attested,omitempty"`
}

func (a *Agent) file(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(a.options.State, "workloads", hex.EncodeToString(sum[:8])+".json")
}

// loadWorkloads reads what was decided and learned before. A file that cannot be read is put aside and said, and
// the last good one taken in its place. Without one the workload is learned again, and what the kernel holds its
// running containers to stays in force.
func (a *Agent) loadWorkloads() error {
	files, err := filepath.Glob(filepath.Join(a.options.State, "workloads", "*.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		err := a.loadWorkload(f)
		if err == nil {
			continue
		}
		then := "its last good copy is in force"
		_ = os.Rename(f, f+".bad")
		if a.loadWorkload(f+".last") != nil {
			then = "its workload is learned again; what its running containers are held to stays in force"
		}
		a.problem(f, fmt.Sprintf("%v; the file is kept as %s.bad, and %s", err, filepath.Base(f), then))
	}
	return nil
}

func (a *Agent) loadWorkload(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return badJSON(file, b, err)
	}
	p, err := profile.Read(bytes.NewReader(k.Profile), file)
	if err != nil {
		return inDocument(b, k.Profile, err)
	}
	if !k.Mode.Valid() {
		line, column := place(b, int64(max(0, bytes.Index(b, []byte(`"mode"`)))))
		return fmt.Errorf("%s:%d:%d: there is no mode %q: learn, monitor and protect are", file, line, column, k.Mode)
	}
	w := a.newWorkload(k.Workload, k.Image)
	w.Mode, w.Profile, w.Decided, w.Attested = k.Mode, p, k.Decided, k.Attested
	w.recorder = profile.Resume(p, a.images.describe)
	a.workloads[k.Workload.Name] = w
	return nil
}

// badJSON names the place of what is no JSON, or not ours.
func badJSON(file string, b []byte, err error) error {
	offset := int64(len(b))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = max(0, syntax.Offset-1) // it counts the bytes that were read
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	line, column := place(b, offset)
	return fmt.Errorf("%s:%d:%d: %w", file, line, column, err)
}

// inDocument moves a place in the profile to the place in the file that the profile is a part of.
func inDocument(b, part []byte, err error) error {
	var at *profile.Error
	start := bytes.Index(b, part)
	if !errors.As(err, &at) || start < 0 {
		return err
	}
	line, column := place(b, int64(start))
	if at.Line == 1 {
		at.Column += column - 1
	}
	at.Line += line - 1
	return err
}

func place(b []byte, offset int64) (line, column int) {
	before := b[:min(offset, int64(len(b)))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}

func (a *Agent) newWorkload(w bulkhead.Workload, image bulkhead.Image) *workload {
	return &workload{
		Workload: w, Image: image, Mode: bulkhead.Learn, recorder: profile.NewRecorder(w, image, a.images.describe),
		containers: map[uint64]bulkhead.Container{}, usage: map[uint64]uint64{}, interprets: map[string]bool{},
	}
}

// save writes a workload in one step, when it changed. To be called with the lock held.
func (a *Agent) save(w *workload) error {
	p := w.current()
	var doc bytes.Buffer
	if err := profile.Write(&doc, p); err != nil {
		return err
	}
	b, err := json.MarshalIndent(kept{w.Workload, w.Image, w.Mode, doc.Bytes(), w.Decided, w.Attested}, "", " ")
	if err != nil {
		return err
	}
	if string(b) == w.saved {
		return nil
	}
	if err := renameio.WriteFile(a.file(w.Name), b, 0o600); err != nil {
		return fmt.Errorf("saving workload %s: %w", w.Name, err)
	}
	w.saved = string(b)
	if w.Mode == bulkhead.Learn {
		return nil
	}
	if err := renameio.WriteFile(a.file(w.Name)+".last", b, 0o600); err != nil {
		return fmt.Errorf("saving a second copy of workload %s: %w", w.Name, err)
	}
	return nil
}

func (a *Agent) saveAll() {
	a.mu.Lock()
	var errs []error
	for _, w := range a.workloads {
		errs = append(errs, a.save(w))
	}
	a.mu.Unlock()
	text := ""
	if err := errors.Join(errs...); err != nil {
		text = fmt.Sprintf("%v; free room in %s", err, a.options.State)
	}
	a.problem("state", text)
}

// current is the profile that a person sees: what is in force, or what was learned so far.
func (w *workload) current() bulkhead.Profile {
	if w.Mode != bulkhead.Learn {
		return w.Profile
	}
	return completeProfile(w.recorder.Profile(), w.interprets)
}

// completeProfile marks the interpreters.
func completeProfile(p bulkhead.Profile, interprets map[string]bool) bulkhead.Profile {
	for i, x := range p.Executables {
		p.Executables[i].Interpreter = x.Interpreter || interprets[x.Path] || profile.Interpreter(x.Path)
	}
	return p
}

// turns gives each name's turn to one after the other: a workload whose processes take long to cover keeps no other
// waiting.
type turns struct {
	mu    sync.Mutex
	taken map[string]*turn
}

type turn struct {
	sync.Mutex
	wanted int
}

// take waits for a name's turn; what it returns ends that.
func (t *turns) take(name string) (end func()) {
	t.mu.Lock()
	if t.taken == nil {
		t.taken = map[string]*turn{}
	}
	own := t.taken[name]
	if own == nil {
		own = &turn{}
		t.taken[name] = own
	}
	own.wanted++
	t.mu.Unlock()
	own.Lock()
	return func() {
		own.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.wanted--; own.wanted == 0 {
			delete(t.taken, name)
		}
	}
}

// setMode puts a mode in force on every container of a workload here.
func (a *Agent) setMode(ctx context.Context, name string, mode bulkhead.Mode, anyway bool) error {
	defer a.adopting.take(name)() // a container that comes now gets the old mode or the new one, and is in the list either way
	a.mu.Lock()
	w := a.workloads[name]
	if w == nil {
		a.mu.Unlock()
		return fmt.Errorf("workload %q has never run on this node: `bulkhead workloads` lists those that have", name)
	}
	before, old := w.Mode, w.Profile
	next := w.current()
	containers := w.list()
	a.mu.Unlock()
	if mode == bulkhead.Protect && !anyway {
		if err := profile.Gate(next); err != nil {
			return err
		}
	}
	if mode == bulkhead.Learn && before != bulkhead.Learn {
		a.mu.Lock()
		w.recorder = profile.Resume(old, a.images.describe)
		a.mu.Unlock()
	}
	done, err := a.need(mode)
	if err != nil {
		done()
		return err
	}
	var errs []error
	for _, c := range containers {
		errs = append(errs, a.enforcer.Apply(ctx, c, a.modeFor(w, c, mode), next))
	}
	a.mu.Lock()
	w.Mode, w.Profile, w.Decided = mode, next, true
	errs = append(errs, a.save(w))
	a.mu.Unlock()
	a.poke()
	done()
	return errors.Join(append(errs, a.attachNeeded())...)
}

// modeFor never blocks a container of another image than the profile was learned on: it is only told of.
func (a *Agent) modeFor(w *workload, c bulkhead.Container, mode bulkhead.Mode) bulkhead.Mode {
	a.mu.Lock()
	learned := w.Image.Digest
	a.mu.Unlock()
	if mode == bulkhead.Protect && learned != "" && c.Image.Digest != "" && c.Image.Digest != learned {
		a.problem("image "+w.Name, fmt.Sprintf("%s runs image %.19s, its profile was learned on %.19s: its container is monitored, not protected; learn the new image, then protect again", w.Name, c.Image.Digest, learned))
		return bulkhead.Monitor
	}
	return mode
}

// needs are the modes that are about to be put in force, of how many workloads and containers.
type needs struct {
	mu     sync.Mutex
	coming map[bulkhead.Mode]int
}

// need attaches the programs that a mode calls for which is about to be put in force; done is for when it is.
func (a *Agent) need(mode bulkhead.Mode) (done func(), err error) {
	n := &a.needs
	count := func(more int) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.coming == nil {
			n.coming = map[bulkhead.Mode]int{}
		}
		n.coming[mode] += more
	}
	count(1)
	return func() { count(-1) }, a.attachNeeded()
}

// attachNeeded attaches what the modes in force call for and those that come, and lets go of what none does.
func (a *Agent) attachNeeded() error {
	n := &a.needs
	n.mu.Lock()
	defer n.mu.Unlock()
	learning, holding := n.coming[bulkhead.Learn] > 0, n.coming[bulkhead.Monitor]+n.coming[bulkhead.Protect] > 0
	for _, m := range a.enforcer.Attached() {
		learning = learning || m != bulkhead.Protect
		holding = holding || m != bulkhead.Learn
	}
	return a.kernel.Need(learning, holding)
}

func (w *workload) list() []bulkhead.Container {
	var list []bulkhead.Container
	for _, c := range w.containers {
		list = append(list, c)
	}
	slices.SortFunc(list, func(x, y bulkhead.Container) int { return x.Started.Compare(y.Started) })
	return list
}

// approve widens a workload's profile by one entry, in the running containers first.
func (a *Agent) approve(ctx context.Context, ap bulkhead.Approval) error {
	defer a.adopting.take(ap.Workload)()
	a.mu.Lock()
	w := a.workloads[ap.Workload]
	if w == nil {
		a.mu.Unlock()
		return fmt.Errorf("workload %q has never run on this node", ap.Workload)
	}
	next, err := profile.Apply(w.current(), ap)
	containers, learning := w.list(), w.Mode == bulkhead.Learn
	a.mu.Unlock()
	if err != nil {
		return err
	}
	var errs []error
	if !learning {
		for _, c := range containers {
			errs = append(errs, a.enforcer.Widen(ctx, c, ap, next))
		}
	}
	a.mu.Lock()
	w.Profile = next
	if learning {
		w.recorder = profile.Resume(next, a.images.describe)
	}
	errs = append(errs, a.save(w))
	a.mu.Unlock()
	a.poke()
	return errors.Join(errs...)
}
