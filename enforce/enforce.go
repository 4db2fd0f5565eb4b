// Package enforce puts policies in force: it takes a profile and a mode and makes the kernel decide by them, for
// containers that run already and for those that start. Start with [New] and [Enforcer.Apply].
//
// It promises that a policy is complete in the kernel before a container is held to it, that widening one takes
// effect without a gap, and that what is in force stays so when this process is gone. It is not for choosing a
// mode or learning a profile: it is told both.
package enforce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/enforce/keeper"
)

// Options for [New].
type Options struct {
	Kernel     *bpf.Kernel
	Keeper     *keeper.Client // nil: system calls are not held to profiles
	CgroupRoot string
	Node       string                             // this node's name, as network policies' hosts have it
	Kill       bool                               // end a process for a system call outside its profile, instead of EPERM
	Addresses  func(workload string) []netip.Addr // where a workload's containers are now
	Cut        func(bulkhead.Container, Cut)      // told of what a new policy ended
	ReadAlong  func(workload string) bool         // whether what its connections are asked is told; nil: of none
	Log        *slog.Logger
}

// Enforcer owns the slots of this node.
type Enforcer struct {
	options Options

	mu       sync.Mutex
	wards    map[uint64]*ward // by cgroup id
	free     []uint32
	profiles uint32
	walls    walls
}

// ward is one container's place in the kernel.
type ward struct {
	changing sync.Mutex // one change of its policy at a time; taken before the enforcer's own

	container bulkhead.Container
	slot      uint32
	state     bpf.Slot
	mode      bulkhead.Mode
	covered   bool // the keeper has it; written with both locks
	peers     []bpf.PeerEntry
	wall      bpf.Wall
}

// New takes over what an earlier process left in the kernel.
func New(o Options) (*Enforcer, error) {
	if o.Addresses == nil {
		o.Addresses = func(string) []netip.Addr { return nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Enforcer{options: o, wards: map[uint64]*ward{}}
	bound, err := o.Kernel.Bound()
	if err != nil {
		return nil, fmt.Errorf("reading what is in force: %w", err)
	}
	used := map[uint32]bool{}
	for cgroup, n := range bound {
		used[n] = true
		s, err := o.Kernel.Slot(n)
		if err != nil {
			return nil, err
		}
		e.profiles = max(e.profiles, s.Profile)
		if s.Cgroup == cgroup {
			w := &ward{slot: n, state: s, mode: modeOf(s.Flags), covered: s.Flags&bpf.Cover != 0}
			if w.wall, err = o.Kernel.Wall(n); err != nil {
				return nil, fmt.Errorf("reading what is in force: %w", err)
			}
			e.wards[cgroup] = w
		}
	}
	for n := uint32(bpf.Slots); n > 0; n-- {
		if !used[n-1] {
			e.free = append(e.free, n-1)
		}
	}
	return e, nil
}

func modeOf(flags uint32) bulkhead.Mode {
	switch {
	case flags&bpf.Enforce != 0:
		return bulkhead.Protect
	case flags&bpf.HoldExec != 0:
		return bulkhead.Monitor
	}
	return bulkhead.Learn
}

// Attach gives a running container its slot, in mode learn unless it had one already. Asking again is free.
func (e *Enforcer) Attach(c bulkhead.Container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.attach(c)
	return err
}

func (e *Enforcer) attach(c bulkhead.Container) (*ward, error) {
	if c.CgroupID == 0 {
		return nil, fmt.Errorf("%s has no cgroup yet", describe(c))
	}
	if w := e.wards[c.CgroupID]; w != nil {
		w.container = c
		return w, errors.Join(e.complete(w, c), e.raise(w), e.readAlong(w))
	}
	if len(e.free) == 0 {
		return nil, fmt.Errorf("%s is not watched: all %d places of this node are taken", describe(c), bpf.Slots)
	}
	n := e.free[len(e.free)-1]
	w := &ward{container: c, slot: n, mode: bulkhead.Learn, state: bpf.Slot{Cgroup: c.CgroupID, Flags: bpf.Learn}}
	surroundings(&w.state, c.PID)
	if err := errors.Join(e.raise(w), e.readAlong(w), e.options.Kernel.ClearSeen(n), e.options.Kernel.SetSlot(n, w.state), e.options.Kernel.Bind(c.CgroupID, n)); err != nil {
		return nil, fmt.Errorf("attaching to %s: %w", describe(c), err)
	}
	e.free = e.free[:len(e.free)-1]
	e.wards[c.CgroupID] = w
	e.bindNested(c.Cgroup, n)
	return w, nil
}

// readAlong also takes back what an earlier container in the same slot had.
func (e *Enforcer) readAlong(w *ward) error {
	on := e.options.ReadAlong != nil && e.options.ReadAlong(w.container.Workload.Name)
	return e.options.Kernel.ReadAlong(w.slot, on)
}

// complete fills in what could not be known before the container's first process was there.
func (e *Enforcer) complete(w *ward, c bulkhead.Container) error {
	if w.state.RootDev != 0 || c.PID == 0 {
		return nil
	}
	surroundings(&w.state, c.PID)
	return e.options.Kernel.SetSlot(w.slot, w.state)
}

// bindNested finds cgroups that were made inside the container before we came.
func (e *Enforcer) bindNested(cgroup string, n uint32) {
	root := filepath.Join(e.options.CgroupRoot, cgroup)
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return nil
		}
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			_ = e.options.Kernel.Bind(st.Ino, n)
		}
		return nil
	})
}

// surroundings reads from a process of the container what its root file system is, where its runtime runs and how
// many filters the runtime itself gave it.
func surroundings(s *bpf.Slot, pid int) {
	if pid == 0 {
		return
	}
	var st syscall.Stat_t
	dir := "/proc/" + strconv.Itoa(pid)
	if syscall.Stat(dir+"/root/", &st) == nil {
		s.RootDev = bpf.KernelDev(st.Dev)
	}
	if syscall.Stat("/proc/1/ns/mnt", &st) == nil {
		s.RuntimeMntNS = uint32(st.Ino)
	}
	if parent := statusField(pid, "PPid:"); parent > 1 && syscall.Stat(fmt.Sprintf("/proc/%d/ns/mnt", parent), &st) == nil {
		own := uint32(0)
		var mine syscall.Stat_t
		if syscall.Stat(dir+"/ns/mnt", &mine) == nil {
			own = uint32(mine.Ino)
		}
		if uint32(st.Ino) != own {
			s.RuntimeMntNS = uint32(st.Ino)
		}
	}
	s.Filters = uint32(statusField(pid, "Seccomp_filters:")) + 1
}

func statusField(pid int, name string) int {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(rest))
			return n
		}
	}
	return 0
}

// Detach forgets a container that ended.
func (e *Enforcer) Detach(ctx context.Context, cgroup uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.wards[cgroup]
	if w == nil {
		return nil
	}
	delete(e.wards, cgroup)
	errs := []error{e.options.Kernel.Unbind(cgroup), e.unbindNested(w.slot), e.options.Kernel.SetSlot(w.slot, bpf.Slot{}), e.options.Kernel.SetWall(w.slot, bpf.Wall{}), e.drop(w.state.Profile)}
	if w.covered && e.options.Keeper != nil {
		errs = append(errs, e.options.Keeper.Forget(ctx, cgroup))
	}
	e.free = append(e.free, w.slot)
	return errors.Join(errs...)
}

func (e *Enforcer) unbindNested(slot uint32) error {
	bound, err := e.options.Kernel.Bound()
	errs := []error{err}
	for cgroup, n := range bound {
		if n == slot {
			errs = append(errs, e.options.Kernel.Unbind(cgroup))
		}
	}
	return errors.Join(errs...)
}

func (e *Enforcer) drop(number uint32) error {
	if number == 0 {
		return nil
	}
	return e.options.Kernel.DropPolicy(number)
}

// Apply holds a container to a profile. The new policy is written whole under a number of its own before the
// container's slot names it; the old one is dropped after that. While one container's processes are covered, which
// may take long, others can be changed.
func (e *Enforcer) Apply(ctx context.Context, c bulkhead.Container, mode bulkhead.Mode, p bulkhead.Profile) error {
	w, err := e.wardFor(c)
	if err != nil {
		return err
	}
	w.changing.Lock()
	defer w.changing.Unlock()
	k := compile(e.options.Kernel.Hasher(), p, e.options.Addresses)
	number, err := e.write(c, k)
	if err != nil {
		return err
	}
	flags := flagsOf(mode, k)
	if mode == bulkhead.Learn {
		err = e.release(ctx, w, c)
	} else {
		var calls uint32
		calls, err = e.cover(ctx, w, c, mode, keeper.Policy{Syscalls: k.filter, Sockets: p.Sockets, Kill: e.options.Kill})
		flags |= calls
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wards[c.CgroupID] != w { // it ended meanwhile
		if w.covered {
			err = errors.Join(err, e.options.Keeper.Forget(ctx, c.CgroupID))
		}
		return errors.Join(err, e.drop(number))
	}
	old := w.state.Profile
	w.state.Profile, w.state.Flags, w.state.Allowed = number, flags, k.allowed
	w.mode, w.peers = mode, k.peers
	if serr := e.options.Kernel.SetSlot(w.slot, w.state); serr != nil {
		return errors.Join(err, serr)
	}
	err = errors.Join(err, e.drop(old), e.readdress(w, p))
	if mode == bulkhead.Protect {
		err = errors.Join(err, e.cut(w, k))
	}
	return err
}

func (e *Enforcer) wardFor(c bulkhead.Container) (*ward, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.attach(c)
}

// write puts a policy into the kernel under a number of its own.
func (e *Enforcer) write(c bulkhead.Container, k compiled) (number uint32, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.profiles++
	number = e.profiles
	if err := errors.Join(e.options.Kernel.PutPolicy(number, k.entries), e.options.Kernel.PutPeers(number, k.peers)); err != nil {
		return 0, errors.Join(fmt.Errorf("writing the policy of %s: %w; the last one stays in force", describe(c), err), e.drop(number))
	}
	return number, nil
}

func flagsOf(mode bulkhead.Mode, k compiled) uint32 {
	flags := uint32(0)
	if k.anonymous {
		flags |= bpf.Anonymous
	}
	switch mode {
	case bulkhead.Monitor:
		flags |= bpf.HoldExec | bpf.HoldFiles | bpf.HoldNet
	case bulkhead.Protect:
		flags |= bpf.HoldExec | bpf.HoldFiles | bpf.HoldNet | bpf.Enforce
	default:
		flags |= bpf.Learn
	}
	return flags
}

// cover gives every process of the container the filter of its profile, and says how calls are held then. Newcomers are
// stopped for their filter, so the slot has to say so before the first is looked for.
func (e *Enforcer) cover(ctx context.Context, w *ward, c bulkhead.Container, mode bulkhead.Mode, policy keeper.Policy) (flags uint32, err error) {
	if e.options.Keeper == nil || (mode == bulkhead.Monitor && !w.covered) {
		return bpf.HoldCalls, nil // told by the tracepoint
	}
	filters, err := e.stopNewcomers(w)
	if err != nil {
		return bpf.Cover, err
	}
	dir := filepath.Join(e.options.CgroupRoot, c.Cgroup)
	if err := e.options.Keeper.Protect(ctx, c.CgroupID, dir, policy, int(filters)-1); err != nil {
		return bpf.Cover, fmt.Errorf("covering %s with its system call filter: %w", describe(c), err)
	}
	e.mu.Lock()
	w.covered = true
	e.mu.Unlock()
	if err := e.options.Keeper.SetEnforcing(ctx, c.CgroupID, mode == bulkhead.Protect); err != nil {
		return bpf.Cover, fmt.Errorf("switching the filter of %s: %w", describe(c), err)
	}
	if mode == bulkhead.Protect {
		return bpf.Cover | bpf.HoldCalls, nil
	}
	return bpf.Cover, nil
}

// stopNewcomers has the kernel stop what starts in a container, and says how many filters its runtime gave it.
func (e *Enforcer) stopNewcomers(w *ward) (filters uint32, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wards[w.container.CgroupID] != w {
		return w.state.Filters, nil // it has ended
	}
	w.state.Flags |= bpf.Cover
	return w.state.Filters, e.options.Kernel.SetSlot(w.slot, w.state)
}

func (e *Enforcer) release(ctx context.Context, w *ward, c bulkhead.Container) error {
	if !w.covered || e.options.Keeper == nil {
		return nil
	}
	return e.options.Keeper.SetEnforcing(ctx, c.CgroupID, false)
}

// Widen adds one approved entry to what a running container is held to.
func (e *Enforcer) Widen(ctx context.Context, c bulkhead.Container, a bulkhead.Approval, p bulkhead.Profile) error {
	if a.Section == bulkhead.SectionSyscalls && e.options.Keeper != nil {
		calls, sockets := []string{a.Value}, []string(nil)
		if family, ok := strings.CutPrefix(a.Value, "socket:"); ok {
			calls, sockets = []string{"socket", "socketpair"}, []string{family}
		}
		if err := e.options.Keeper.Widen(ctx, c.CgroupID, calls, sockets); err != nil {
			return fmt.Errorf("widening the filter of %s: %w", describe(c), err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.wards[c.CgroupID]
	if w == nil {
		return fmt.Errorf("%s is not running here", describe(c))
	}
	k := compile(e.options.Kernel.Hasher(), p, e.options.Addresses)
	if err := errors.Join(e.options.Kernel.PutPolicy(w.state.Profile, k.entries), e.options.Kernel.PutPeers(w.state.Profile, k.peers)); err != nil {
		return fmt.Errorf("widening the policy of %s: %w", describe(c), err)
	}
	w.state.Allowed, w.peers = k.allowed, k.peers
	if k.anonymous {
		w.state.Flags |= bpf.Anonymous
	}
	return e.options.Kernel.SetSlot(w.slot, w.state)
}

// Readdress lets a container reach its peers where they are now, and no longer where they were.
func (e *Enforcer) Readdress(c bulkhead.Container, p bulkhead.Profile) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.wards[c.CgroupID]
	if w == nil || w.state.Profile == 0 {
		return nil
	}
	if err := e.readdress(w, p); err != nil {
		return fmt.Errorf("telling %s where its peers are: %w", describe(c), err)
	}
	return nil
}

func (e *Enforcer) readdress(w *ward, p bulkhead.Profile) error {
	now := compile(e.options.Kernel.Hasher(), p, e.options.Addresses).peers
	gone := slices.DeleteFunc(slices.Clone(w.peers), func(p bpf.PeerEntry) bool { return slices.Contains(now, p) })
	w.peers = now
	return errors.Join(e.options.Kernel.PutPeers(w.state.Profile, now), e.options.Kernel.DropPeers(w.state.Profile, gone))
}

// LearnInterpreters tells the kernel of a learning container's interpreters, so that it reports what they read.
func (e *Enforcer) LearnInterpreters(c bulkhead.Container, paths []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.wards[c.CgroupID]
	if w == nil || w.mode != bulkhead.Learn {
		return nil
	}
	if w.state.Profile == 0 {
		e.profiles++
		w.state.Profile = e.profiles
		if err := e.options.Kernel.SetSlot(w.slot, w.state); err != nil {
			return err
		}
	}
	h := e.options.Kernel.Hasher()
	var entries []bpf.Entry
	for _, path := range paths {
		entries = append(entries, bpf.Entry{Kind: bpf.PolicyExec, Hash: h.Path(path), Flags: bpf.EntryInterpreter})
	}
	return e.options.Kernel.PutPolicy(w.state.Profile, entries)
}

// Seen is what the kernel collected of a container.
type Seen struct {
	Syscalls, Capabilities, Sockets []string
	Lost, Folded, Blocked, Events   uint64
}

// Seen reads what was collected of a container.
func (e *Enforcer) Seen(cgroup uint64) (Seen, error) {
	e.mu.Lock()
	w := e.wards[cgroup]
	e.mu.Unlock()
	if w == nil {
		return Seen{}, nil
	}
	s, err := e.options.Kernel.Seen(w.slot)
	return Seen{
		Syscalls: syscallNames(s.Syscalls), Capabilities: capabilities(s.Caps), Sockets: families(s.Sockets),
		Lost: s.Lost, Folded: s.Folded, Blocked: s.Blocked, Events: s.Events,
	}, err
}

// Folded counts, over the running containers, the events that were equal to a recent one or over a container's
// budget, and were not told one by one.
func (e *Enforcer) Folded() (n uint64) {
	for cgroup := range e.Attached() {
		if s, err := e.Seen(cgroup); err == nil {
			n += s.Folded
		}
	}
	return n
}

// Container is what was known of a container when it was attached.
func (e *Enforcer) Container(cgroup uint64) (bulkhead.Container, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.wards[cgroup]; w != nil && w.container.ID != "" {
		return w.container, true
	}
	return bulkhead.Container{}, false
}

// Attached lists the cgroups that have a slot, with their mode.
func (e *Enforcer) Attached() map[uint64]bulkhead.Mode {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := map[uint64]bulkhead.Mode{}
	for cgroup, w := range e.wards {
		list[cgroup] = w.mode
	}
	return list
}
