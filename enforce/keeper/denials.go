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

// denialKey is what equal ones have in common.
type denialKey struct {
	cgroup  uint64
	tid     int
	number  uint32
	entry   string
	family  string
	verdict Verdict
}

func (d *Denial) key() denialKey {
	return denialKey{d.CgroupID, d.TID, d.Number, d.Entry, d.Family, d.Verdict}
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
	number := uint32(n.Data.Number)
	one := Denial{
		CgroupID: cgroup, TID: int(n.TID), Number: number, Args: n.Data.Args, Verdict: v, Count: 1,
		Syscall: seccomp.Name("", number), Entry: seccomp.Entry("", n.Data.Arch, number),
	}
	if seccomp.TakesFamily("", number) {
		one.Family = seccomp.FamilyName(uint32(n.Data.Args[0]))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fold(one, pid)
}

// fold counts in what may be there already; pid is asked for what is not.
func (d *denials) fold(one Denial, pid func() int) bool {
	key := one.key()
	if have := d.waiting[key]; have != nil {
		have.Count += one.Count
		return true
	}
	if len(d.waiting) >= maxDenials {
		d.dropped += one.Count
		return false
	}
	if pid != nil {
		one.PID = pid()
	}
	d.waiting[key] = &one
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

// put takes what others counted, as what could not be delivered.
func (d *denials) put(list []Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, one := range list {
		d.dropped += one.Dropped
		one.Dropped = 0
		d.fold(one, nil)
	}
}
