package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

// desk answers for the listeners it is given. The keeper has one; so has each agent, which
// answers only while no keeper lives.
//
// The call in hand lies in a page that both map: the kernel writes it there as part of
// handing it out. When the one that took it is killed before it answered, the other finds it
// there and answers. Without that its caller would wait for ever: the kernel hands it out once.
type desk struct {
	log     *slog.Logger
	denials *denials
	page    *page
	epoll   int
	wake    int // an eventfd: look at stop
	done    chan struct{}
	dropped func(id uint64) // optional: a listener has no process any more

	mu        sync.Mutex
	listeners map[uint64]*listener
	byFD      map[int]*listener
	wards     map[uint64]*rules
	stop      bool
}

type listener struct {
	id, cgroup uint64
	fd         int
	spent      int       // denials in this period
	until      time.Time // not asked before
}

// A process that does nothing but denied calls would buy a processor's time of ours with its
// own. Beyond budget calls in a period its further calls wait for the next period.
const (
	period = 10 * time.Millisecond
	budget = 400 // a period and listener: 40,000 a second
)

// urgency is the priority of the answering thread: on a busy machine an application waits for
// it, and the budget bounds what it takes.
const urgency = -15

func newDesk(log *slog.Logger, d *denials) (*desk, error) {
	p, err := newPage()
	if err != nil {
		return nil, err
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll set: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}); err != nil {
		return nil, fmt.Errorf("watch an eventfd: %w", err)
	}
	return &desk{log: log, denials: d, page: p, epoll: epoll, wake: wake, listeners: map[uint64]*listener{}, byFD: map[int]*listener{}, wards: map[uint64]*rules{}}, nil
}

// set changes the rules of a ward, for all its listeners and from the next call on.
func (d *desk) set(w Ward) {
	r := newRules(w)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wards[w.CgroupID] = r
}

// forget lets every call of a ward run from now on.
func (d *desk) forget(cgroup uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.wards, cgroup)
}

// add takes a listener over; the descriptor is the desk's from now on.
func (d *desk) add(id, cgroup uint64, fd int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listeners[id] != nil {
		unix.Close(fd)
		return
	}
	seccomp.Listener(fd).Handoff() // an older kernel cannot, which costs only time
	l := &listener{id: id, cgroup: cgroup, fd: fd}
	d.listeners[id], d.byFD[fd] = l, l
	unix.EpollCtl(d.epoll, unix.EPOLL_CTL_ADD, fd, event(fd, id, unix.EPOLLIN))
}

// event carries the descriptor and the listener's number.
func event(fd int, id uint64, what uint32) *unix.EpollEvent {
	return &unix.EpollEvent{Events: what, Fd: int32(fd), Pad: int32(uint32(id))}
}

func (d *desk) drop(id uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.listeners[id]; l != nil {
		unix.EpollCtl(d.epoll, unix.EPOLL_CTL_DEL, l.fd, nil)
		delete(d.byFD, l.fd)
		unix.Close(l.fd)
		delete(d.listeners, id)
	}
}

// start answers until halt. Both may be called again and again.
func (d *desk) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done != nil {
		return
	}
	d.stop, d.done = false, make(chan struct{})
	go d.serve(d.done)
}

// all lists the listeners; the descriptors stay the desk's.
func (d *desk) all() []listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]listener, 0, len(d.listeners))
	for _, l := range d.listeners {
		list = append(list, *l)
	}
	return list
}

// halt returns when no call is in hand any more.
func (d *desk) halt() {
	d.mu.Lock()
	done := d.done
	d.stop, d.done = true, nil
	d.mu.Unlock()
	if done != nil {
		unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-done
	}
}

func (d *desk) close() {
	d.halt()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.listeners {
		unix.Close(l.fd)
	}
	d.listeners, d.byFD = map[uint64]*listener{}, map[int]*listener{}
	unix.Close(d.epoll)
	unix.Close(d.wake)
	d.page.close()
}

// serve answers one call of each listener that has any, then looks again: one that calls all
// the time delays another by one answer.
func (d *desk) serve(done chan struct{}) {
	defer close(done)
	runtime.LockOSThread() // never unlocked: the thread ends with its priority
	unix.Setpriority(unix.PRIO_PROCESS, 0, urgency)
	events := make([]unix.EpollEvent, 64)
	var parked []*listener
	for {
		wait := -1
		if len(parked) > 0 {
			wait = int(period/time.Millisecond) / 2
		}
		n, err := unix.EpollWait(d.epoll, events, wait)
		if err != nil && err != unix.EINTR {
			d.log.Error("seccomp listeners cannot be watched", "error", err)
			return
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == d.wake {
				var b [8]byte
				unix.Read(d.wake, b[:])
				continue
			}
			if l := d.turn(e); l != nil {
				parked = append(parked, l)
			}
		}
		parked = d.unpark(parked)
		d.mu.Lock()
		stop := d.stop
		d.mu.Unlock()
		if stop {
			d.unpark(append(parked, nil))
			return
		}
	}
}

// turn answers one call. It returns the listener if that has used up its share.
func (d *desk) turn(e unix.EpollEvent) *listener {
	d.mu.Lock()
	l := d.find(e)
	if l == nil {
		d.mu.Unlock()
		return nil
	}
	r := d.wards[l.cgroup]
	d.mu.Unlock()
	switch {
	case e.Events&unix.EPOLLIN != 0:
		if d.one(l, r) != WouldDeny {
			return d.charge(l)
		}
	case e.Events&unix.EPOLLHUP != 0: // its last process ended
		d.drop(l.id)
		if d.dropped != nil {
			d.dropped(l.id)
		}
	}
	// EPOLLERR alone says that a signal came while the kernel waited for the lock to look: nothing about the listener,
	// and giving that up would be ENOSYS for its processes. It is looked at again.
	return nil
}

func (d *desk) find(e unix.EpollEvent) *listener {
	if l := d.byFD[int(e.Fd)]; l != nil && int32(uint32(l.id)) == e.Pad {
		return l
	}
	return nil
}

func (d *desk) one(l *listener, r *rules) Verdict {
	slot := d.page.slot
	slot.notification.ID = 0
	slot.listener = l.id
	if err := seccomp.Listener(l.fd).Receive(&slot.notification); err != nil {
		return ""
	}
	n := slot.notification
	v := d.answer(l, r, &n)
	slot.notification.ID = 0
	return v
}

// answer decides, answers, and then tells: the caller does not wait for the telling, but for
// the first time it does something, while we look up who it is.
func (d *desk) answer(l *listener, r *rules, n *seccomp.Notification) Verdict {
	if r == nil { // a listener without a ward: left over from a policy that was taken away
		seccomp.Listener(l.fd).Continue(n.ID)
		return ""
	}
	run, v := r.decide(n.Data)
	if v != "" {
		d.denials.add(l.cgroup, n, v, func() int { return processOf(int(n.TID)) })
	}
	if run {
		seccomp.Listener(l.fd).Continue(n.ID)
		return v
	}
	if v == Killed && seccomp.Listener(l.fd).Waiting(n.ID) { // it waits, so the number is still its own
		unix.Kill(int(n.TID), unix.SIGKILL)
	}
	seccomp.Listener(l.fd).Deny(n.ID)
	return v
}

func (d *desk) charge(l *listener) *listener {
	now := time.Now()
	if now.After(l.until) {
		l.spent, l.until = 0, now.Add(period)
	}
	if l.spent++; l.spent < budget {
		return nil
	}
	unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, l.fd, event(l.fd, l.id, 0))
	return l
}

// unpark asks listeners again whose period is over; a nil at the end means all.
func (d *desk) unpark(parked []*listener) []*listener {
	all := len(parked) > 0 && parked[len(parked)-1] == nil
	kept := parked[:0]
	for _, l := range parked {
		if l == nil {
			continue
		}
		if !all && time.Now().Before(l.until) {
			kept = append(kept, l)
			continue
		}
		l.spent = 0
		unix.EpollCtl(d.epoll, unix.EPOLL_CTL_MOD, l.fd, event(l.fd, l.id, unix.EPOLLIN))
	}
	return kept
}

// finish answers the call that another had in hand when it died. Answering twice is harmless:
// the kernel knows the call by its number and says ENOENT.
func (d *desk) finish(p *page) {
	s := *p.slot
	if s.notification.ID == 0 {
		return
	}
	d.mu.Lock()
	l := d.listeners[s.listener]
	var r *rules
	if l != nil {
		r = d.wards[l.cgroup]
	}
	d.mu.Unlock()
	if l != nil {
		d.answer(l, r, &s.notification)
	}
}

// slot is the call in hand.
type slot struct {
	listener     uint64
	notification seccomp.Notification
}

// page is memory that survives the death of whoever writes it.
type page struct {
	fd     int
	memory []byte
	slot   *slot
}

func newPage() (*page, error) {
	fd, err := unix.MemfdCreate("bulkhead-hand", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make shared memory: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(os.Getpagesize())); err != nil {
		return nil, fmt.Errorf("size shared memory: %w", err)
	}
	return mapPage(fd)
}

func mapPage(fd int) (*page, error) {
	memory, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map shared memory: %w", err)
	}
	return &page{fd: fd, memory: memory, slot: (*slot)(unsafe.Pointer(&memory[0]))}, nil
}

func (p *page) close() {
	if p != nil {
		unix.Munmap(p.memory)
		unix.Close(p.fd)
	}
}

// processOf returns the process of a thread, 0 when it is gone.
func processOf(tid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nTgid:")
	var pid int
	fmt.Sscan(rest, &pid)
	return pid
}
