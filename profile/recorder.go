// Package profile learns what a workload does and turns it into a policy: learn, merge,
// measure completeness, compare, approve, read and write. Start with [Recorder] and [Match].
//
// It promises that the order in which things are observed changes nothing of what a profile
// allows, that every observed path is one its patterns stand for, and that memory stays
// bounded whatever a workload does. It opens no file and reads no clock but time.Now for
// the two dates of a profile. It is not for deciding in the kernel: [Compile] and [Seccomp]
// only write down what the kernel has to decide.
package profile

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// maxItems bounds the entries a section holds in memory while it learns. Real servers have
// a few hundred after their random names are folded; at 4,096 with long paths a recorder
// stays below a few megabytes, so 50 workloads fit the agent's memory.
const maxItems = 4096

// maxName bounds names from a workload that are not paths (applets): the kernel's NAME_MAX.
const maxName = 255

// Describe tells about an executable or a script of a container. It may be slow; it is called
// once for each of them and without locks held.
type Describe func(containerID, path string) Description

// Description is what is known of a file; empty where it could not be read.
type Description struct {
	Digest    string // "sha256:…" of its content
	Layer     string // of the image, that it is from
	Multicall bool   // it does what argv[0] says
	Foreign   bool   // its bytes are not the image's: written after the start, or from a mount
}

// Recorder learns one workload's profile. It is safe for concurrent use.
type Recorder struct {
	describe Describe

	mu           sync.Mutex
	head         bulkhead.Profile // who and when; no lists
	programs     map[string]*bulkhead.Executable
	multicall    map[string]bool
	sockets      map[string]bool
	executables  section[program]
	scripts      section[script]
	written      map[script]Description // what is known of each script
	syscalls     section[string]
	writes       paths
	reads        paths
	capabilities section[string]
	listens      section[bulkhead.Port]
	peers        section[peer]
	networks     map[peer]int // addresses known of each /24 and /64, by port
	memory       section[string]
}

type program struct{ path, applet string }

type script struct{ path, interpreter string }

// peer is a bulkhead.Peer before its address is generalised.
type peer struct {
	protocol, address, workload string
	port                        int
}

// section holds the entries of one section and when they were seen.
type section[K comparable] struct {
	clock
	items map[K]*sight
}

func newSection[K comparable]() section[K] { return section[K]{items: map[K]*sight{}} }

// see counts an observation and reports whether the entry is new; known may say that a
// generalised entry has it already.
func (s *section[K]) see(key K, times uint64, known func() bool) bool {
	s.seen += times
	at := s.items[key]
	if at != nil {
		at.last, at.lastSec = s.trials(), s.seconds
		return false
	}
	if len(s.items) >= maxItems {
		s.dropped += times
		return false
	}
	at = &sight{first: s.trials(), last: s.trials(), firstSec: s.seconds, lastSec: s.seconds}
	at.known = known != nil && known()
	s.items[key] = at
	if !at.known {
		s.note()
	}
	return !at.known
}

func (s *section[K]) sights(yield func(sight)) {
	for _, at := range s.items {
		yield(*at)
	}
}

// restore takes over entries of an earlier run, and its clock from its curve. Which entry
// came when is no longer known, only how many had come: they are dated by the curve.
func (s *section[K]) restore(keys []K, c bulkhead.Completeness, observed float64) {
	s.seconds, s.dropped = observed, c.Dropped
	s.curve = slices.Clone(c.Curve)
	if n := len(c.Curve); n > 0 {
		last := c.Curve[n-1]
		s.seconds, s.found = last.Seconds, last.Items
		s.seen = last.Events - min(last.Events, uint64(last.Seconds))
	}
	for i, key := range keys {
		at := &sight{}
		for _, p := range c.Curve {
			at.first, at.firstSec = p.Events, p.Seconds
			if p.Items > i {
				break
			}
		}
		at.last, at.lastSec = at.first, at.firstSec
		s.items[key] = at
	}
}

// sights of paths are dated as a reader of the finished profile would: what came in the later half is no news when
// the patterns that the earlier half makes have it already.
func (p *paths) sights(yield func(sight)) {
	half := p.seconds / 2
	var early, late []string
	for key, at := range p.items {
		if at.firstSec > half && !at.known {
			late = append(late, key)
		} else {
			early = append(early, key)
		}
	}
	var set *Set
	if len(late) > 0 {
		set = NewSet(Generalise(early))
	}
	for key, at := range p.items {
		seen := *at
		seen.known = seen.known || set != nil && at.firstSec > half && set.covers(key)
		yield(seen)
	}
}

// paths is a section of paths. Random names are folded as they come, so that a program that
// makes temporary files does not fill it.
type paths struct {
	section[string]
	set    *Set // what the entries were generalised to, not at every one
	setAt  int  // how many entries there were then
	folded bool // entries are patterns that others went into
	stuck  bool // folding does not help any more
}

func newPaths() paths { return paths{section: newSection[string](), set: NewSet(nil)} }

func (p *paths) see(path string, times uint64) bool {
	if p.items[path] != nil { // a name that is not random, seen before: the way of nearly all
		return p.section.see(path, times, nil)
	}
	if !clean(path) {
		return false
	}
	key := shape(Quote(path))
	if p.items[key] == nil {
		p.generalise()
		if p.folded && p.set.Match(path) {
			p.seen += times
			return false
		}
	}
	return p.section.see(key, times, func() bool { return p.set.Match(path) })
}

// generalise renews the set each time the entries have doubled, and folds the entries
// themselves when the section is full.
func (p *paths) generalise() {
	full := len(p.items) >= maxItems && !p.stuck
	if len(p.items) < 2*max(p.setAt, 4) && !full {
		return
	}
	patterns := Generalise(slices.Collect(maps.Keys(p.items)))
	p.set, p.setAt = NewSet(patterns), len(p.items)
	if full {
		p.fold(patterns)
	}
}

// fold replaces the entries by their patterns. A section whose entries have nothing in
// common stays full; it drops what comes then, counts it, and is never ready.
func (p *paths) fold(patterns []string) {
	items := make(map[string]*sight, len(patterns))
	for _, pattern := range patterns {
		items[pattern] = cmp.Or(p.items[pattern], &sight{known: true})
	}
	p.items, p.setAt, p.folded = items, len(items), true
	p.stuck = len(items) > maxItems*3/4
}

// NewRecorder begins to learn a workload. describe may be nil.
func NewRecorder(workload bulkhead.Workload, image bulkhead.Image, describe Describe) *Recorder {
	now := time.Now().UTC()
	return newRecorder(bulkhead.Profile{Workload: workload.Name, Image: image, Started: now, Updated: now}, describe)
}

func newRecorder(head bulkhead.Profile, describe Describe) *Recorder {
	head.Version = bulkhead.ProfileVersion
	return &Recorder{
		describe: describe, head: head,
		programs: map[string]*bulkhead.Executable{}, multicall: map[string]bool{}, written: map[script]Description{}, sockets: map[string]bool{},
		executables: newSection[program](), scripts: newSection[script](), syscalls: newSection[string](),
		writes: newPaths(), reads: newPaths(), capabilities: newSection[string](),
		listens: newSection[bulkhead.Port](), peers: newSection[peer](), networks: map[peer]int{}, memory: newSection[string](),
	}
}

// Resume continues to learn where a profile ends.
func Resume(p bulkhead.Profile, describe Describe) *Recorder {
	head := p
	head.Executables, head.Scripts, head.Syscalls, head.Sockets, head.Writes, head.Reads = nil, nil, nil, nil, nil, nil
	head.Capabilities, head.Listens, head.Peers, head.Anonymous, head.Completeness = nil, nil, nil, nil, nil
	r := newRecorder(head, describe)
	c, t := p.Completeness, p.Observed
	var programs []program
	for _, e := range p.Executables {
		programs = append(programs, r.resume(e)...)
	}
	for _, family := range p.Sockets {
		r.sockets[family] = true
	}
	r.executables.restore(programs, c[bulkhead.SectionExecutables], t)
	r.scripts.restore(convert(p.Scripts, func(s bulkhead.Script) script { return script{s.Path, s.Interpreter} }), c[bulkhead.SectionScripts], t)
	for _, s := range p.Scripts {
		r.write(script{s.Path, s.Interpreter}, Description{Digest: s.Digest, Layer: s.Layer, Foreign: s.Foreign})
	}
	r.syscalls.restore(p.Syscalls, c[bulkhead.SectionSyscalls], t)
	r.writes.resume(p.Writes, c[bulkhead.SectionWrites], t)
	r.reads.resume(p.Reads, c[bulkhead.SectionReads], t)
	r.capabilities.restore(p.Capabilities, c[bulkhead.SectionCapabilities], t)
	r.listens.restore(p.Listens, c[bulkhead.SectionListens], t)
	r.peers.restore(convert(p.Peers, func(q bulkhead.Peer) peer { return peer{q.Protocol, q.CIDR, q.Workload, q.Port} }), c[bulkhead.SectionPeers], t)
	for key := range r.peers.items {
		r.meet(key)
	}
	r.memory.restore(p.Anonymous, c[bulkhead.SectionMemory], t)
	return r
}

func (p *paths) resume(patterns []string, c bulkhead.Completeness, observed float64) {
	p.restore(patterns, c, observed)
	p.set, p.setAt, p.folded = NewSet(patterns), len(patterns), true
}

func (r *Recorder) resume(e bulkhead.Executable) []program {
	e.Applets = slices.Clone(e.Applets)
	if known := r.programs[e.Path]; known == nil || known.Digest == "" {
		r.programs[e.Path] = &e
	}
	r.multicall[e.Path] = len(e.Applets) > 0
	if len(e.Applets) == 0 {
		return []program{{path: e.Path}}
	}
	return convert(e.Applets, func(applet string) program { return program{e.Path, applet} })
}

func convert[A, B any](in []A, f func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, f(a))
	}
	return out
}

// Observe learns from one event and reports whether it taught anything. What was blocked
// did not happen and teaches nothing.
func (r *Recorder) Observe(e *bulkhead.Event) bool {
	if e.Verdict == bulkhead.Blocked {
		return false
	}
	if e.Kind == bulkhead.EventExec && e.Exec != nil {
		r.introduce(e)
		r.introduceScript(e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	times := uint64(max(1, e.Repeats))
	r.head.Events += times
	if e.Time.After(r.head.Updated) {
		r.head.Updated = e.Time.UTC()
	}
	return r.observe(e, times)
}

func (r *Recorder) observe(e *bulkhead.Event, times uint64) bool {
	switch {
	case e.Kind == bulkhead.EventExec && e.Exec != nil:
		return r.exec(e.Exec, times)
	case e.Kind == bulkhead.EventFile && e.File != nil && e.File.Write:
		return r.writes.see(e.File.Path, times)
	case e.Kind == bulkhead.EventFile && e.File != nil:
		return r.reads.see(e.File.Path, times)
	case e.Kind == bulkhead.EventConnect && e.Network != nil:
		return r.connect(e.Network, times)
	case e.Kind == bulkhead.EventListen && e.Network != nil:
		return r.listen(e.Network, times)
	case e.Kind == bulkhead.EventSyscall && e.Syscall != nil && e.Syscall.ABI == "":
		return r.syscall(e.Syscall.Name, times)
	case e.Kind == bulkhead.EventMemory && e.Memory != nil && e.Memory.Path == "" && e.Process.Exe != "":
		return r.memory.see(text(e.Process.Exe), times, nil)
	case e.Kind == bulkhead.EventCapability && checkCapability(e.Capability) == nil:
		return r.capabilities.see(e.Capability, times, nil)
	}
	return false
}

// introduce asks about an executable that is seen for the first time.
func (r *Recorder) introduce(e *bulkhead.Event) {
	path := e.Exec.Path
	r.mu.Lock()
	known := r.programs[path]
	ask := known == nil && clean(path) && len(r.programs) < maxItems
	r.mu.Unlock()
	if !ask {
		return
	}
	found := bulkhead.Executable{Path: text(path), Foreign: foreign(e.Exec.Origin)}
	multicall := multicallName(path)
	if r.describe != nil {
		d := r.describe(e.Container.ID, path)
		found.Digest, found.Layer, multicall = d.Digest, d.Layer, multicall || d.Multicall
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.programs[path] == nil {
		r.programs[path], r.multicall[path] = &found, multicall
	}
}

// introduceScript asks about a script that is seen for the first time.
func (r *Recorder) introduceScript(e *bulkhead.Event) {
	if !clean(e.Exec.Script) {
		return
	}
	key := scriptOf(e.Exec)
	r.mu.Lock()
	_, known := r.written[key]
	ask := !known && len(r.written) < maxItems
	r.mu.Unlock()
	if !ask {
		return
	}
	d := Description{}
	if r.describe != nil {
		d = r.describe(e.Container.ID, e.Exec.Script)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(key, d)
}

// write keeps what is known of a script. Once its bytes were not the image's, it stays so.
func (r *Recorder) write(key script, d Description) {
	d.Foreign = d.Foreign || r.written[key].Foreign
	r.written[key] = d
}

func scriptOf(x *bulkhead.Exec) script { return script{Quote(x.Script), x.Path} }

func foreign(o bulkhead.Origin) bool { return o != "" && o != bulkhead.OriginImage }

// multicallName knows the programs that are many in one without being told.
func multicallName(path string) bool {
	switch path[strings.LastIndexByte(path, '/')+1:] {
	case "busybox", "toybox", "coreutils":
		return true
	}
	return false
}

// text makes a path from a workload fit for a document.
func text(path string) string {
	if printable(path) {
		return path
	}
	return strings.Map(func(c rune) rune {
		if badRune(c, 3) {
			return '\uFFFD'
		}
		return c
	}, strings.ToValidUTF8(path, "\uFFFD"))
}

func (r *Recorder) exec(x *bulkhead.Exec, times uint64) bool {
	entry := r.programs[x.Path]
	if entry == nil {
		if clean(x.Path) {
			r.executables.dropped += times
		}
		return false
	}
	if foreign(x.Origin) {
		entry.Foreign = true
	}
	key := program{path: x.Path}
	if r.multicall[x.Path] && len(x.Applet) <= maxName && !strings.ContainsAny(x.Applet, "/#") && printable(x.Applet) {
		key.applet = x.Applet
	}
	isNew := r.executables.see(key, times, nil)
	if x.Script == "" || !clean(x.Script) {
		return isNew
	}
	entry.Interpreter = true
	return r.script(x, times) || isNew
}

func (r *Recorder) script(x *bulkhead.Exec, times uint64) bool {
	key := scriptOf(x)
	if foreign(x.ScriptOrigin) && !r.written[key].Foreign && len(r.written) < maxItems {
		r.write(key, Description{Foreign: true})
	}
	return r.scripts.see(key, times, nil)
}

// ObserveSyscalls learns the set of system calls that a container has used; names that are
// not known are left out. One call is one observation of each.
func (r *Recorder) ObserveSyscalls(names []string) (isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head.Events++
	for _, name := range names {
		isNew = r.syscall(name, 1) || isNew
	}
	return isNew
}

func (r *Recorder) syscall(name string, times uint64) bool {
	return (r.syscalls.items[name] != nil || known(name)) && r.syscalls.see(name, times, nil)
}

// ObserveSockets learns the address families that sockets were asked for ("inet").
func (r *Recorder) ObserveSockets(families []string) (isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, family := range families {
		if _, ok := familyNumber(family); ok && !r.sockets[family] {
			r.sockets[family], isNew = true, true
			r.syscalls.note()
		}
	}
	return isNew
}

// Tick adds time for which the workload was watched while it worked.
func (r *Recorder) Tick(d time.Duration) { r.watch(d, true) }

// Idle adds time for which it was watched but did nothing (its containers used no
// processor): it counts as observed and says nothing about completeness.
func (r *Recorder) Idle(d time.Duration) { r.watch(d, false) }

func (r *Recorder) watch(d time.Duration, atWork bool) {
	if d <= 0 {
		return // a clock that jumped
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head.Observed += d.Seconds()
	if !atWork {
		return
	}
	for _, c := range r.clocks() {
		c.seconds += d.Seconds()
	}
}

func (r *Recorder) clocks() []*clock {
	return []*clock{
		&r.executables.clock, &r.scripts.clock, &r.syscalls.clock, &r.writes.clock, &r.reads.clock,
		&r.capabilities.clock, &r.listens.clock, &r.peers.clock, &r.memory.clock,
	}
}

// Profile returns what has been learned so far.
func (r *Recorder) Profile() bulkhead.Profile {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.head
	p.Executables = r.executableList()
	p.Scripts = r.scriptList()
	p.Syscalls = sorted(slices.Collect(maps.Keys(r.syscalls.items)))
	p.Sockets = sorted(slices.Collect(maps.Keys(r.sockets)))
	p.Writes = Generalise(slices.Collect(maps.Keys(r.writes.items)))
	p.Reads = Generalise(slices.Collect(maps.Keys(r.reads.items)))
	p.Capabilities = sorted(slices.Collect(maps.Keys(r.capabilities.items)))
	p.Listens = foldListens(slices.Collect(maps.Keys(r.listens.items)))
	p.Peers = foldPeers(slices.Collect(maps.Keys(r.peers.items)))
	p.Anonymous = sorted(slices.Collect(maps.Keys(r.memory.items)))
	p.Completeness = r.completeness()
	for name, n := range sizes(p) {
		c := p.Completeness[name]
		c.Items, c.Ready = n, ready(c, p.Observed)
		p.Completeness[name] = c
	}
	return p
}

func (r *Recorder) completeness() map[bulkhead.Section]bulkhead.Completeness {
	return map[bulkhead.Section]bulkhead.Completeness{
		bulkhead.SectionExecutables:  r.executables.measure(r.executables.sights),
		bulkhead.SectionScripts:      r.scripts.measure(r.scripts.sights),
		bulkhead.SectionSyscalls:     r.syscalls.measure(r.syscalls.sights),
		bulkhead.SectionWrites:       r.writes.measure(r.writes.sights),
		bulkhead.SectionReads:        r.reads.measure(r.reads.sights),
		bulkhead.SectionCapabilities: r.capabilities.measure(r.capabilities.sights),
		bulkhead.SectionListens:      r.listens.measure(r.listens.sights),
		bulkhead.SectionPeers:        r.peers.measure(r.peers.sights),
		bulkhead.SectionMemory:       r.memory.measure(r.memory.sights),
	}
}

// sizes counts the entries of each section.
func sizes(p bulkhead.Profile) map[bulkhead.Section]int {
	return map[bulkhead.Section]int{
		bulkhead.SectionExecutables: len(p.Executables), bulkhead.SectionScripts: len(p.Scripts),
		bulkhead.SectionSyscalls: len(p.Syscalls), bulkhead.SectionWrites: len(p.Writes), bulkhead.SectionReads: len(p.Reads),
		bulkhead.SectionCapabilities: len(p.Capabilities), bulkhead.SectionListens: len(p.Listens),
		bulkhead.SectionPeers: len(p.Peers), bulkhead.SectionMemory: len(p.Anonymous),
	}
}

func (r *Recorder) executableList() []bulkhead.Executable {
	byPath := map[string]bulkhead.Executable{}
	for key := range r.executables.items {
		e, ok := byPath[key.path]
		if !ok {
			e = *r.programs[key.path]
			e.Applets = nil
		}
		if key.applet != "" {
			e.Applets = append(e.Applets, key.applet)
		}
		byPath[key.path] = e
	}
	out := make([]bulkhead.Executable, 0, len(byPath))
	for _, e := range byPath {
		slices.Sort(e.Applets)
		out = append(out, e)
	}
	slices.SortFunc(out, compareExecutables)
	return out
}

// scriptList lists the scripts. They stay exact: they are code.
func (r *Recorder) scriptList() []bulkhead.Script {
	out := make([]bulkhead.Script, 0, len(r.scripts.items))
	for key := range r.scripts.items {
		d := r.written[key]
		out = append(out, bulkhead.Script{Path: key.path, Interpreter: text(key.interpreter), Digest: d.Digest, Layer: d.Layer, Foreign: d.Foreign})
	}
	slices.SortFunc(out, compareScripts)
	return out
}

func compareExecutables(a, b bulkhead.Executable) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Digest, b.Digest))
}

func compareScripts(a, b bulkhead.Script) int {
	return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Interpreter, b.Interpreter), strings.Compare(a.Digest, b.Digest))
}
