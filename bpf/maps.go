package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// Entry is one line of a profile as the kernel has it.
type Entry struct {
	Kind  PolicyKind
	Hash  uint64
	Flags uint32
}

// PeerEntry allows a workload to talk to a range of addresses at a port; port 0 is any.
type PeerEntry struct {
	Protocol uint8
	Port     uint16
	Range    netip.Prefix
}

// SetSlot writes what container n is held to.
func (k *Kernel) SetSlot(n uint32, s Slot) error {
	k.mu.Lock()
	s.Watched = k.watched
	k.mu.Unlock()
	if err := k.coll.Maps["slots"].Put(n, s); err != nil {
		return fmt.Errorf("writing slot %d: %w", n, err)
	}
	return nil
}

// Slot reads what container n is held to.
func (k *Kernel) Slot(n uint32) (Slot, error) {
	var s Slot
	if err := k.coll.Maps["slots"].Lookup(n, &s); err != nil {
		return s, fmt.Errorf("reading slot %d: %w", n, err)
	}
	return s, nil
}

// Seen reads what was collected of container n.
func (k *Kernel) Seen(n uint32) (Seen, error) {
	var s Seen
	if err := k.coll.Maps["seen"].Lookup(n, &s); err != nil {
		return s, fmt.Errorf("reading what was seen of slot %d: %w", n, err)
	}
	return s, nil
}

// ClearSeen forgets what was collected of container n, for its slot to be used again.
func (k *Kernel) ClearSeen(n uint32) error {
	if err := k.coll.Maps["seen"].Put(n, Seen{}); err != nil {
		return fmt.Errorf("clearing slot %d: %w", n, err)
	}
	return nil
}

// Bind makes a cgroup (and those made below it later) belong to container n.
func (k *Kernel) Bind(cgroup uint64, n uint32) error {
	if err := k.coll.Maps["cgroups"].Put(cgroup, n); err != nil {
		return fmt.Errorf("binding cgroup %d: %w (a node holds %d containers)", cgroup, err, Slots)
	}
	_ = k.coll.Maps["newborn"].Delete(cgroup)
	return k.changed()
}

// Unbind forgets a cgroup.
func (k *Kernel) Unbind(cgroup uint64) error {
	if err := k.coll.Maps["cgroups"].Delete(cgroup); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unbinding cgroup %d: %w", cgroup, err)
	}
	return k.changed()
}

// Bound lists the cgroups and their slots: what an earlier process left.
func (k *Kernel) Bound() (map[uint64]uint32, error) {
	bound := map[uint64]uint32{}
	var cgroup uint64
	var n uint32
	it := k.coll.Maps["cgroups"].Iterate()
	for it.Next(&cgroup, &n) {
		bound[cgroup] = n
	}
	return bound, it.Err()
}

// Parent tells that engines make containers below this cgroup.
func (k *Kernel) Parent(cgroup uint64) error {
	return k.coll.Maps["parents"].Put(cgroup, uint32(1))
}

const (
	counterSeq = iota
	counterLost
	counterHoldsLost
	counterBusy
	counterGeneration
	counterCgroupsFull
	counterFlowsFull
	counterHeadsLost
	counterTurnsLost
)

// changed makes every processor forget its last answer of which container runs.
func (k *Kernel) changed() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var n uint64
	m := k.coll.Maps["counters"]
	if err := m.Lookup(uint32(counterGeneration), &n); err != nil {
		return fmt.Errorf("reading the generation: %w", err)
	}
	return m.Put(uint32(counterGeneration), n+1)
}

// Lost says how many events were sent and how many found the ring full, since the programs were loaded.
func (k *Kernel) Lost() (events, lost uint64) {
	m := k.coll.Maps["counters"]
	_ = m.Lookup(uint32(counterSeq), &events)
	_ = m.Lookup(uint32(counterLost), &lost)
	return events, lost
}

// PutPolicy adds entries to a profile's number. A slot that names the number sees each at once.
func (k *Kernel) PutPolicy(profile uint32, entries []Entry) error {
	keys := make([]policyKey, len(entries))
	values := make([]uint32, len(entries))
	for i, e := range entries {
		keys[i] = policyKey{profile, uint32(e.Kind), e.Hash}
		values[i] = e.Flags
	}
	m := k.coll.Maps["policy"]
	for i := range keys {
		if err := m.Put(keys[i], values[i]); err != nil {
			return fmt.Errorf("writing policy entry %d of %d: %w", i+1, len(keys), err)
		}
	}
	return nil
}

// DropPolicy removes all entries and peers of a profile's number.
func (k *Kernel) DropPolicy(profile uint32) error {
	return errors.Join(
		dropKeys(k.coll.Maps["policy"], func(key policyKey) bool { return key.Profile == profile }),
		dropKeys(k.coll.Maps["peers"], func(key peerKey) bool { return key.Profile == profile }),
	)
}

func dropKeys[K any](m *ebpf.Map, drop func(K) bool) error {
	var key K
	var value uint32
	var keys []K
	it := m.Iterate()
	for it.Next(&key, &value) {
		if drop(key) {
			keys = append(keys, key)
		}
	}
	errs := []error{it.Err()}
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// PutPeers lets a profile's number talk to these.
func (k *Kernel) PutPeers(profile uint32, peers []PeerEntry) error {
	for _, p := range peers {
		if err := k.coll.Maps["peers"].Put(keyOf(profile, p), uint32(1)); err != nil {
			return fmt.Errorf("allowing peer %v: %w", p.Range, err)
		}
	}
	return nil
}

// DropPeers takes peers out of a profile; one that it does not have is none to take.
func (k *Kernel) DropPeers(profile uint32, peers []PeerEntry) error {
	for _, p := range peers {
		if err := k.coll.Maps["peers"].Delete(keyOf(profile, p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("taking peer %v back: %w", p.Range, err)
		}
	}
	return nil
}

func keyOf(profile uint32, p PeerEntry) peerKey {
	addr, bits := p.Range.Addr(), p.Range.Bits()
	if addr.Is4() {
		bits += 96
	}
	return peerKey{Prefix: uint32(64 + bits), Profile: profile, Port: p.Port, Protocol: p.Protocol, Addr: addr.As16()}
}

// Watch says what to do at one system call (native number).
func (k *Kernel) Watch(nr uint32, flags uint32) error {
	if err := k.coll.Maps["watched"].Put(nr, flags); err != nil {
		return fmt.Errorf("watching system call %d: %w", nr, err)
	}
	k.mu.Lock()
	if word, bit := &k.watched[nr>>6&7], uint64(1)<<(nr&63); flags != 0 {
		*word |= bit
	} else {
		*word &^= bit
	}
	k.mu.Unlock()
	return k.refreshSlots()
}

// readWatched takes over which calls an earlier process watched.
func (k *Kernel) readWatched() error {
	var nr, flags uint32
	it := k.coll.Maps["watched"].Iterate()
	for it.Next(&nr, &flags) {
		if flags != 0 {
			k.watched[nr>>6&7] |= 1 << (nr & 63)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("reading which system calls are watched: %w", err)
	}
	return nil
}

// refreshSlots tells the containers that are held already which calls are watched now.
func (k *Kernel) refreshSlots() error {
	bound, err := k.Bound()
	errs := []error{err}
	for _, n := range bound {
		s, err := k.Slot(n)
		if err == nil {
			err = k.SetSlot(n, s)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// HoldNew turns the stopping of new containers' first process on or off.
func (k *Kernel) HoldNew(on bool) error {
	return k.changeSettings(func(s *settings) {
		s.HoldNew = 0
		if on {
			s.HoldNew = 1
		}
	})
}

// Events reads the ring of events.
type Events struct{ r *ringbuf.Reader }

// Events opens the ring; one reader at a time.
func (k *Kernel) Events() (*Events, error) {
	r, err := ringbuf.NewReader(k.coll.Maps["events"])
	if err != nil {
		return nil, fmt.Errorf("opening the event ring: %w", err)
	}
	return &Events{r}, nil
}

// Read waits for the next event. The record's buffer is used again.
func (e *Events) Read(rec *ringbuf.Record) (*Event, error) {
	for {
		if err := e.r.ReadInto(rec); err != nil {
			return nil, err
		}
		if len(rec.RawSample) >= eventSize {
			return (*Event)(unsafe.Pointer(&rec.RawSample[0])), nil
		}
	}
}

// Record is the buffer that [Events.Read] fills.
type Record = ringbuf.Record

// Close ends a waiting Read with os.ErrClosed.
func (e *Events) Close() error { return e.r.Close() }

// KernelDev turns a device number as stat gives it into the kernel's own.
func KernelDev(dev uint64) uint32 {
	return unix.Major(dev)<<20 | unix.Minor(dev)
}

// BootTime is when the kernel's event clock was zero.
func BootTime() time.Time { return time.Now().Add(-bootNow()) }
