package container

import (
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// The engines, as [bulkhead.Container.Engine] names them. Where two know a container, the later
// in ranks wins.
const (
	engineUnknown    = "unknown"
	engineContainerd = "containerd"
	engineCRI        = "cri"
	engineDocker     = "docker"
)

var ranks = []string{engineUnknown, engineContainerd, engineCRI, engineDocker}

// phase is where a container is in its life.
type phase int

const (
	phaseUnchanged phase = iota // the engine said nothing about it
	phaseCreated
	phaseRunning
	phaseEnded
	phaseRemoved // ended, and the engine forgot it
)

// sighting is what an engine says about one container.
type sighting struct {
	key       string // the id; for containerd's names NAMESPACE/NAME
	container bulkhead.Container
	phase     phase
	cgroup    string // where the engine will put it, if it says so
}

const (
	// remember is how long a container that ended is still found by its cgroup: what the kernel
	// recorded of it may be read late.
	remember = time.Minute
	// maxContainers bounds the memory that engines can make us spend; a node runs a few hundred.
	maxContainers = 20000
	// maxEnded bounds how many ended ones are remembered: ten a second for three minutes.
	maxEnded = 2048
	// maxNested bounds the cgroups below one container that are remembered.
	maxNested = 256
	// maxChanges bounds the changes that wait for their reader, about 1 KiB each.
	maxChanges = 4096
)

// entry is one container in the book.
type entry struct {
	key       string
	c         bulkhead.Container
	phase     phase
	announced bool   // it was told as a change; a cgroup without an engine waits a while for one
	expected  string // the cgroup that the engine announced
	source    *source
	seen      time.Time // when an engine last spoke of it
	nested    []uint64  // cgroups below it
	kept      bool      // the engine still knows it
}

// past is a cgroup of a container that ended.
type past struct {
	id    uint64
	entry *entry
	at    time.Time
}

// book is what is known, under one lock. Nothing waits while holding it.
type book struct {
	root    string
	changes chan Change

	mu       sync.Mutex
	byKey    map[string]*entry
	byPath   map[string]*entry
	byCgroup map[uint64]*entry
	expected map[string]*entry
	past     []past
	lost     uint64
}

func newBook(root string) *book {
	return &book{
		root: root, changes: make(chan Change, maxChanges),
		byKey: map[string]*entry{}, byPath: map[string]*entry{}, byCgroup: map[uint64]*entry{}, expected: map[string]*entry{},
	}
}

func (b *book) lookup(cgroupID uint64) (bulkhead.Container, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byCgroup[cgroupID]
	if e == nil || !e.announced {
		return bulkhead.Container{}, false
	}
	return e.c, true
}

// find looks a path up, and remembers the id of a cgroup below a container.
func (b *book) find(cgroup string, id uint64) (bulkhead.Container, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.owner(cgroup)
	if e == nil || !e.announced {
		return bulkhead.Container{}, false
	}
	if id != 0 && id != e.c.CgroupID && len(e.nested) < maxNested && b.byCgroup[id] == nil {
		e.nested = append(e.nested, id)
		b.byCgroup[id] = e
	}
	return e.c, true
}

// owner is the entry whose cgroup is the path or above it.
func (b *book) owner(cgroup string) *entry {
	if len(cgroup) > maxPath || !strings.HasPrefix(cgroup, "/") {
		return nil
	}
	for p := path.Clean(cgroup); p != "/"; p = path.Dir(p) {
		if e := b.byPath[p]; e != nil {
			return e
		}
		if e := b.expected[p]; e != nil {
			return e
		}
	}
	if ref, ok := ParseCgroup(cgroup); ok && ref.Sure {
		return b.byKey[ref.ID]
	}
	return nil
}

func (b *book) list() []bulkhead.Container {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []bulkhead.Container{}
	for _, e := range b.byKey {
		if e.announced && (e.phase == phaseCreated || e.phase == phaseRunning) {
			all = append(all, e.c)
		}
	}
	slices.SortFunc(all, func(x, y bulkhead.Container) int { return strings.Compare(x.ID, y.ID) })
	return all
}

func (b *book) lostChanges() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// settled reports whether nothing is left to ask about a container that runs or ran.
func (b *book) settled(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byKey[id]
	if e == nil || e.phase == phaseEnded {
		return true
	}
	inPod := e.c.Engine == engineContainerd && e.c.Pod != nil // CRI may know more
	return e.c.Engine != engineUnknown && !inPod && (e.phase == phaseRunning || e.c.Engine != engineCRI)
}

// learn writes down what an engine says. What a higher engine said before stays.
func (b *book) learn(from *source, seen sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byKey[seen.key]
	if e == nil {
		if seen.container.Engine == "" || seen.phase == phaseRemoved || len(b.byKey) >= maxContainers {
			return
		}
		e = &entry{key: seen.key, phase: phaseEnded}
		b.byKey[seen.key] = e
	}
	before := *e
	if e.source == from || rank(seen.container.Engine) > rank(e.c.Engine) {
		e.source, e.kept, e.seen = from, seen.phase != phaseRemoved, time.Now()
		e.know(seen.container)
	}
	b.expect(e, seen.cgroup)
	e.advance(seen)
	b.locate(e)
	if before.phase == phaseEnded && before.c.CgroupID != 0 && e.c.CgroupID == before.c.CgroupID {
		e.phase = phaseEnded // the engine's word is late: its cgroup is gone already, and no new one came
	}
	b.settle(e, before)
}

// know takes over an engine's description; what it leaves open stays as it was.
func (e *entry) know(c bulkhead.Container) {
	if c.Engine == "" {
		return
	}
	c.PID, c.CgroupID, c.Cgroup = e.c.PID, e.c.CgroupID, e.c.Cgroup
	if c.Started.IsZero() {
		c.Started = e.c.Started
	}
	if c.Pod != nil && c.Pod.Labels == nil && e.c.Pod != nil {
		c.Pod.Labels = e.c.Pod.Labels
	}
	if c.Image.Digest == "" && e.c.Image.Reference == c.Image.Reference {
		c.Image = e.c.Image
	}
	c.Workload = WorkloadOf(c.Engine, c.Name, c.Image, c.Labels, c.Pod)
	e.c = c
	e.announced = true
}

// advance moves the entry on in its life. "created" never takes a running one back, and the end of
// another process than its first is not its end.
func (e *entry) advance(seen sighting) {
	pid := seen.container.PID
	switch seen.phase {
	case phaseRunning:
		e.phase = phaseRunning
		if pid != 0 {
			e.c.PID = pid
		}
	case phaseCreated:
		if e.phase != phaseRunning {
			e.phase = phaseCreated
		}
		if pid != 0 {
			e.c.PID = pid
		}
	case phaseEnded, phaseRemoved:
		if pid == 0 || pid == e.c.PID || e.c.PID == 0 {
			e.phase = phaseEnded
		}
	}
}

// expect remembers where an engine will put the container, unless the path says so by itself.
func (b *book) expect(e *entry, cgroup string) {
	if cgroup == "" || e.expected == cgroup {
		return
	}
	delete(b.expected, e.expected)
	e.expected = cgroup
	b.expected[cgroup] = e
}

// locate finds the cgroup of a container that has none yet, and its first process where the
// engine didn't tell.
func (b *book) locate(e *entry) {
	if e.phase == phaseEnded {
		return
	}
	if e.c.CgroupID == 0 || b.byPath[e.c.Cgroup] != e {
		b.search(e)
	}
	if e.phase == phaseRunning && e.c.PID == 0 && e.c.CgroupID != 0 {
		e.c.PID = firstProcess(b.root, e.c.Cgroup)
	}
}

func (b *book) search(e *entry) {
	cgroup := e.expected
	if ofPID, v2 := cgroupOfPID(e.c.PID); e.c.PID != 0 && v2 {
		if ref, ok := ParseCgroup(ofPID); ok {
			cgroup = ref.Dir
		}
	}
	if id := cgroupID(b.root, cgroup); id != 0 && cgroup != "/" {
		b.place(e, cgroup, id)
	}
}

func (b *book) place(e *entry, cgroup string, id uint64) {
	if e.c.CgroupID != 0 && e.c.CgroupID != id {
		b.retire(e)
	}
	e.c.Cgroup, e.c.CgroupID = cgroup, id
	b.byPath[cgroup], b.byCgroup[id] = e, e
}

// appeared writes down a new cgroup. It reports whether the engines should be asked about it.
func (b *book) appeared(ref Ref, id uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.expected[ref.Dir]
	if e == nil && ref.Sure {
		e = b.byKey[ref.ID]
	}
	if e == nil {
		return ref.Sure && b.unclaimed(ref, id)
	}
	before := *e
	if e.phase == phaseEnded {
		e.phase, e.c.PID = phaseCreated, 0 // it starts again
	}
	b.place(e, ref.Dir, id)
	b.settle(e, before)
	return e.c.Engine == engineUnknown || e.c.Engine == engineCRI || e.c.Pod != nil
}

// unclaimed makes an entry for a container that no engine has spoken of yet.
func (b *book) unclaimed(ref Ref, id uint64) bool {
	if len(b.byKey) >= maxContainers {
		return false
	}
	e := &entry{key: ref.ID, phase: phaseCreated, seen: time.Now(), c: bulkhead.Container{
		ID: ref.ID, Name: first12(ref.ID), Engine: engineUnknown, Labels: map[string]string{},
	}}
	e.c.Workload = WorkloadOf(engineUnknown, ref.ID, bulkhead.Image{}, nil, nil)
	b.byKey[ref.ID] = e
	b.place(e, ref.Dir, id)
	return true
}

// announceUnknown shows a container that no engine claims.
func (b *book) announceUnknown(ref Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byKey[ref.ID] == nil {
		b.unclaimed(ref, cgroupID(b.root, ref.Dir))
	}
	if e := b.byKey[ref.ID]; e != nil && !e.announced {
		b.announce(e)
	}
}

func (b *book) announce(e *entry) {
	before := *e
	e.announced, e.phase = true, phaseRunning
	e.c.PID = firstProcess(b.root, e.c.Cgroup)
	b.settle(e, before)
}

// vanished writes down that a cgroup was removed: whatever engines say, the container is over.
func (b *book) vanished(cgroup string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.byPath[cgroup]
	if e == nil {
		return
	}
	before := *e
	e.phase = phaseEnded
	b.settle(e, before)
}

// settle tells the difference between an entry before and now.
func (b *book) settle(e *entry, before entry) {
	if e.phase == phaseEnded {
		b.end(e, before)
		return
	}
	if !e.announced {
		return
	}
	fresh := !before.announced || before.phase == phaseEnded
	started := e.phase == phaseRunning && (fresh || before.phase != phaseRunning)
	switch {
	case fresh:
		b.tell(Created, e)
	case !same(before.c, e.c) && !started:
		b.tell(Updated, e)
	}
	if started {
		if e.c.Started.IsZero() || before.phase == phaseEnded && before.announced {
			e.c.Started = time.Now()
		}
		b.tell(Started, e)
	}
}

func same(x, y bulkhead.Container) bool {
	return x.Name == y.Name && x.Engine == y.Engine && x.Image == y.Image && x.Workload == y.Workload && x.PID == y.PID &&
		x.CgroupID == y.CgroupID && maps.Equal(x.Labels, y.Labels) && (x.Pod == nil) == (y.Pod == nil) &&
		(x.Pod == nil || maps.Equal(x.Pod.Labels, y.Pod.Labels))
}

func (b *book) end(e *entry, before entry) {
	if before.phase != phaseEnded {
		if before.announced {
			b.tell(Ended, e)
		}
		b.retire(e)
	}
	if !e.kept && e.c.CgroupID == 0 {
		b.forget(e)
	}
}

// retire keeps the cgroup of an ended container findable for a while.
func (b *book) retire(e *entry) {
	delete(b.byPath, e.c.Cgroup)
	for _, id := range append(e.nested, e.c.CgroupID) {
		if id != 0 {
			b.past = append(b.past, past{id, e, time.Now()})
		}
	}
	e.nested = nil
	if len(b.past) > maxEnded {
		b.drop(len(b.past) - maxEnded)
	}
}

// drop forgets the oldest n cgroups of ended containers.
func (b *book) drop(n int) {
	for _, p := range b.past[:n] {
		// A cgroup that is in use again is its container's, not the past's.
		if b.byCgroup[p.id] == p.entry && (p.entry.phase == phaseEnded || p.entry.c.CgroupID != p.id) {
			delete(b.byCgroup, p.id)
		}
		if p.entry.phase == phaseEnded && p.entry.c.CgroupID == p.id {
			p.entry.c.CgroupID, p.entry.c.Cgroup = 0, ""
		}
		if p.entry.phase == phaseEnded && !p.entry.kept {
			b.forget(p.entry)
		}
	}
	b.past = slices.Delete(b.past, 0, n)
}

func (b *book) forget(e *entry) {
	if b.byKey[e.key] == e {
		delete(b.byKey, e.key)
	}
	if b.expected[e.expected] == e {
		delete(b.expected, e.expected)
	}
}

// sweep forgets what is over, and shows the containers that no engine claims.
func (b *book) sweep(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for n < len(b.past) && now.Sub(b.past[n].at) > remember {
		n++
	}
	b.drop(n)
	for _, e := range b.byKey {
		if !e.announced && e.phase != phaseEnded && now.Sub(e.seen) > unknownAfter {
			b.announce(e)
		}
	}
}

// absent ends what an engine no longer lists, unless it was spoken of since the list was asked for.
func (b *book) absent(from *source, listed map[string]bool, asked time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range b.byKey {
		if e.source != from || listed[key] || e.seen.After(asked) {
			continue
		}
		before := *e
		e.kept = false
		// A cgroup that is still there is a container that still runs, whoever lost it.
		if e.c.CgroupID == 0 || cgroupID(b.root, e.c.Cgroup) != e.c.CgroupID {
			e.phase = phaseEnded
		}
		b.settle(e, before)
	}
}

// tell queues a change; when nobody reads, the oldest go.
func (b *book) tell(kind Kind, e *entry) {
	for {
		select {
		case b.changes <- Change{kind, e.c}:
			return
		default:
		}
		select {
		case <-b.changes:
			b.lost++
		default:
		}
	}
}

func rank(engine string) int { return slices.Index(ranks, engine) }

// check ends the containers whose cgroup is gone, after notices of the kernel were lost.
func (b *book) check() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.byKey {
		if e.phase == phaseEnded || e.c.CgroupID == 0 || cgroupID(b.root, e.c.Cgroup) == e.c.CgroupID {
			continue
		}
		before := *e
		e.phase = phaseEnded
		b.settle(e, before)
	}
}
