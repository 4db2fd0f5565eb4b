package keeper

import (
	"sync"

	"bulkhead/enforce/seccomp"
)

// Denial is a call outside a policy, equal ones folded together.
type Denial struct {
	CgroupID uint64    `json:"cgroupId"`
	PID      int       `json:"pid"` // 0: the process ended before it could be looked up
	TID      int       `json:"tid"`
	Number   uint32    `json:"nr"`
	Syscall  string    `json:"syscall"`
	Family   string    `json:"family,omitempty"` // of socket and socketpair
	Args     [6]uint64 `json:"args"`             // of the first
	Entry    string    `json:"entry,omitempty"`  // "i386" or "x32" when not the machine's own
	Verdict  Verdict   `json:"verdict"`
	Count    uint64    `json:"count"`
	Dropped  uint64    `json:"dropped,omitempty"` // calls before this one that found no room in the queue
}

type denialKey struct {
	cgroup  uint64
	tid     uint32
	number  int32
	arch    uint32
	family  uint64
	verdict Verdict
}

// maxDenials bounds what waits for an agent: about a megabyte.
const maxDenials = 4096

// denials folds equal ones until somebody takes them.
type denials struct {
	mu      sync.Mutex
	waiting map[denialKey]*Denial
	order   []denialKey
	dropped uint64
	wake    chan struct{}
}

func newDenials() *denials {
	return &denials{waiting: map[denialKey]*Denial{}, wake: make(chan struct{}, 1)}
}

// add counts a call. It reports false when there was no room.
func (d *denials) add(cgroup uint64, n *seccomp.Notification, v Verdict, pid func() int) bool {
	key := denialKey{cgroup: cgroup, tid: n.TID, number: n.Data.Number, arch: n.Data.Arch, verdict: v}
	socket := seccomp.TakesFamily("", uint32(n.Data.Number))
	if socket {
		key.family = n.Data.Args[0]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.waiting[key]; have != nil {
		have.Count++
		return true
	}
	if len(d.waiting) >= maxDenials {
		d.dropped++
		return false
	}
	one := &Denial{
		CgroupID: cgroup, PID: pid(), TID: int(n.TID), Number: uint32(n.Data.Number), Args: n.Data.Args, Verdict: v, Count: 1,
		Syscall: seccomp.Name("", uint32(n.Data.Number)), Entry: seccomp.Entry("", n.Data.Arch, uint32(n.Data.Number)),
	}
	if socket {
		one.Family = seccomp.FamilyName(uint32(n.Data.Args[0]))
	}
	d.waiting[key] = one
	d.order = append(d.order, key)
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return true
}

// take removes up to most denials, oldest first.
func (d *denials) take(most int) []Denial {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(most, len(d.order))
	list := make([]Denial, 0, n)
	for _, key := range d.order[:n] {
		list = append(list, *d.waiting[key])
		delete(d.waiting, key)
	}
	d.order = append([]denialKey(nil), d.order[n:]...)
	if n > 0 {
		list[0].Dropped, d.dropped = d.dropped, 0
	}
	return list
}

// putBack returns what could not be delivered.
func (d *denials) putBack(list []Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range list {
		d.dropped += one.Dropped
		one.Dropped = 0
		key := denialKey{one.CgroupID, uint32(one.TID), int32(one.Number), 0, 0, one.Verdict}
		if have := d.waiting[key]; have != nil {
			have.Count += one.Count
		} else if len(d.waiting) < maxDenials {
			d.waiting[key] = &one
			d.order = append(d.order, key)
		} else {
			d.dropped += one.Count
		}
	}
}
