// Package keeper holds the seccomp listeners of all protected containers in a process of its
// own, so that the agent may end, be killed or be replaced without any effect on what is
// enforced. Start with [Serve] and [Dial]: that process, and how the agent talks to it.
//
// A listener that nobody holds any more makes every call that asks it fail with ENOSYS. So
// keeper and agent both hold all of them. The keeper answers; when it dies, the agent answers
// from the next moment on, starts another keeper and hands everything over. It promises that
// the application sees EPERM and nothing else as long as one of the two lives, also for the
// call that was in the dead one's hand. Killing both at the same moment breaks that promise:
// the denied calls (never the allowed ones) of the processes confined until then fail with
// ENOSYS until these are restarted.
//
// It is not the place to decide what a policy is, nor to find out which cgroup is whose.
package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Hold is a process that was stopped (SIGSTOP) when it executed a program inside a protected
// cgroup without our filter.
type Hold struct {
	PID      int
	CgroupID uint64
}

// Options are what a keeper needs.
type Options struct {
	Socket string      // where agents connect; its directory belongs to root
	Holds  <-chan Hold // optional
	Rest   func()      // optional: has the kernel stop nothing more; called by a keeper that ends and leaves nobody
	Log    *slog.Logger
}

// State is what the keeper knows.
type State struct {
	Wards   []WardState `json:"wards"`
	Dropped uint64      `json:"dropped"` // denied calls that found no room in the queue
	Held    uint64      `json:"held"`    // processes that were held and let go
	Late    uint64      `json:"late"`    // of them: let go without a filter
}

// WardState is how far one container is protected.
type WardState struct {
	Ward
	Covered   int       `json:"covered"`   // processes that were injected or found covered
	Listeners int       `json:"listeners"` // alive: heirs share their ancestor's
	Failures  []Failure `json:"failures"`  // at most 32
}

// Failure is a process that is not covered, or not wholly.
type Failure struct {
	PID    int    `json:"pid"`
	Reason string `json:"reason"`
}

const maxFailures = 32

// keeper is the process.
type keeper struct {
	opts    Options
	log     *slog.Logger
	denials *denials
	desk    *desk
	holding sync.WaitGroup // processes that are being let go

	mu       sync.Mutex
	wards    map[uint64]*ward
	conns    []*conn
	lineage  uint32
	lineages map[uint32]bool // whose listeners are alive
	waiting  map[int]chan struct{}
	heir     *page // of an agent that answers until it says serve
	settled  bool  // either an agent has handed over or none has come
	held     uint64
	late     uint64
}

type ward struct {
	Ward
	busy     sync.Mutex // one coverage at a time
	covered  map[int]uint64
	failures map[int]string
}

// memoryLimit is what the garbage collector aims at. What it counts is more than the heap: below some 20 MB a program
// of this size collects without end, for 5 % of a core.
const memoryLimit = 32 << 20

// Name is what the process is called, so that ending the agent by its name does not hit it.
const Name = "bulkhead-keeper"

// Serve is the keeper's main. It returns when the context ends, which gives up all listeners
// unless an agent lives; or when another keeper has the socket.
func Serve(ctx context.Context, opts Options) error {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(50)
	os.WriteFile("/proc/self/comm", []byte(Name), 0) // a nicety where Start has not seen to it
	lock, err := lockSocket(opts.Socket)
	if err != nil {
		return err
	}
	defer lock.Close()
	k, err := newKeeper(opts)
	if err != nil {
		return err
	}
	defer k.desk.close()
	os.Remove(opts.Socket)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: opts.Socket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("listen for agents: %w", err)
	}
	if err := os.Chmod(opts.Socket, 0o600); err != nil {
		return fmt.Errorf("close the socket to others: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	taken := make(chan struct{})
	go func() { k.takeHolds(ctx); close(taken) }()
	go k.tell(ctx)
	go k.look(ctx)
	err = k.accept(ctx, l)
	if ctx.Err() != nil {
		<-taken
		k.leaveNobody()
	}
	return err
}

func lockSocket(socket string) (*os.File, error) {
	f, err := os.OpenFile(socket+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the keeper's socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the keeper's socket %s: another keeper has it: %w", socket, err)
	}
	return f, nil
}

func newKeeper(opts Options) (*keeper, error) {
	d := newDenials()
	desk, err := newDesk(opts.Log, d)
	if err != nil {
		return nil, err
	}
	k := &keeper{
		opts: opts, log: opts.Log, denials: d, desk: desk, wards: map[uint64]*ward{}, lineage: rand.Uint32(),
		lineages: map[uint32]bool{}, waiting: map[int]chan struct{}{},
	}
	k.lineages[k.lineage] = true
	desk.dropped = func(id uint64) { k.broadcast(message{Kind: kindDrop, Listener: id}, -1) }
	if err := k.load(); err != nil { // what agents say counts more than what is on disk
		k.log.Warn("saved policies cannot be read; the agent will send them again", "error", err)
	}
	return k, nil
}

func (k *keeper) stateFile() string { return k.opts.Socket + ".wards" }

// load reads the policies of the keeper before. Its listeners are not there: those come from
// the agent, or are lost.
func (k *keeper) load() error {
	text, err := os.ReadFile(k.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []Ward
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("%s: %w", k.stateFile(), err)
	}
	for _, w := range list {
		if _, err := os.Stat(w.CgroupDir); err == nil {
			k.put(w)
		}
	}
	return nil
}

// save keeps the policies for the next keeper. A full disk costs only that.
func (k *keeper) save() {
	k.mu.Lock()
	list := make([]Ward, 0, len(k.wards))
	for _, w := range k.wards {
		list = append(list, w.Ward)
	}
	k.mu.Unlock()
	text, err := json.Marshal(list)
	if err == nil {
		err = os.WriteFile(k.stateFile()+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(k.stateFile()+".new", k.stateFile())
	}
	if err != nil {
		k.log.Warn("policies cannot be saved; they stay in force", "error", err)
	}
}

// put sets a ward's policy here and with all agents.
func (k *keeper) put(w Ward) *ward {
	k.mu.Lock()
	have := k.wards[w.CgroupID]
	if have == nil {
		have = &ward{covered: map[int]uint64{}, failures: map[int]string{}}
		k.wards[w.CgroupID] = have
	}
	have.Ward = w
	k.mu.Unlock()
	k.desk.set(w)
	k.broadcast(message{Kind: kindWard, Ward: &w}, -1)
	return have
}

func (k *keeper) broadcast(m message, fd int) {
	k.mu.Lock()
	conns := slices.DeleteFunc(slices.Clone(k.conns), func(c *conn) bool { return !c.agent })
	k.mu.Unlock()
	for _, c := range conns {
		if err := c.send(m, fd); err != nil {
			k.log.Warn("agent does not listen", "error", err)
		}
	}
}

func (k *keeper) accept(ctx context.Context, l *net.UnixListener) error {
	for {
		n, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept an agent: %w", err)
		}
		c, err := newConn(n)
		if err != nil {
			k.log.Warn("connection refused", "error", err)
			n.Close()
			continue
		}
		go k.attend(c)
	}
}

// attend serves one connection to its end.
func (k *keeper) attend(c *conn) {
	defer k.leave(c)
	for {
		m, fd, err := c.receive()
		if err != nil {
			return
		}
		k.handle(c, m, fd)
	}
}

func (k *keeper) leave(c *conn) {
	c.close()
	unix.Close(c.peer)
	k.mu.Lock()
	k.conns = slices.DeleteFunc(k.conns, func(o *conn) bool { return o == c })
	k.mu.Unlock()
	k.mu.Lock()
	agent := c.agent
	k.mu.Unlock()
	if agent {
		k.serve() // one that was about to hand over will not do so any more
	}
}

func (k *keeper) handle(c *conn, m message, fd int) {
	switch m.Kind {
	case kindHello:
		k.hello(c, m)
	case kindWard:
		if m.Ward != nil {
			k.put(*m.Ward)
		}
	case kindListener:
		if fd >= 0 {
			k.desk.add(m.Listener, m.CgroupID, fd)
		}
	case kindPage: // the first of a hand-over: until its end the agent answers
		k.desk.halt()
		k.mu.Lock()
		c.agent = true
		k.mu.Unlock()
		k.inherit(fd)
	case kindServe:
		k.serve()
	default:
		go k.request(c, m) // coverage takes its time; the next request does not wait for it
	}
}

// hello tells an agent everything. It is told of changes from before the first message on, so
// that nothing falls between.
func (k *keeper) hello(c *conn, m message) {
	k.mu.Lock()
	c.agent = m.Agent
	for _, l := range m.Lineages {
		k.lineages[l] = true
	}
	k.conns = append(k.conns, c)
	wards := make([]Ward, 0, len(k.wards))
	for _, w := range k.wards {
		wards = append(wards, w.Ward)
	}
	lineages := make([]uint32, 0, len(k.lineages))
	for l := range k.lineages {
		lineages = append(lineages, l)
	}
	k.mu.Unlock()
	if !m.Agent {
		c.send(message{Kind: kindReady}, -1)
		return
	}
	c.send(message{Kind: kindPage}, k.desk.page.fd)
	for i := range wards {
		c.send(message{Kind: kindWard, Ward: &wards[i]}, -1)
	}
	for _, l := range k.desk.all() {
		c.send(message{Kind: kindListener, Listener: l.id, CgroupID: l.cgroup}, l.fd)
	}
	c.send(message{Kind: kindReady, Lineages: lineages}, -1)
}

func (k *keeper) inherit(fd int) {
	p, err := mapPage(fd)
	if err != nil {
		k.log.Error("the agent's page cannot be mapped", "error", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heir.close()
	k.heir = p
}

// serve begins to answer, first the call that the agent may have had in hand when it died.
func (k *keeper) serve() {
	k.mu.Lock()
	p := k.heir
	k.heir, k.settled = nil, true
	k.mu.Unlock()
	if p != nil {
		k.desk.finish(p)
		p.close()
	}
	k.desk.start()
}

func (k *keeper) request(c *conn, m message) {
	answer := message{Kind: kindAnswer, ID: m.ID}
	var err error
	switch m.Kind {
	case kindProtect:
		if m.Ward == nil {
			err = errors.New("protect: no ward given")
			break
		}
		err = k.protect(*m.Ward)
	case kindWiden:
		err = k.change(m.CgroupID, func(w *Ward) {
			w.Syscalls, w.Sockets = union(w.Syscalls, m.Syscalls), union(w.Sockets, m.Sockets)
		})
	case kindEnforce:
		err = k.change(m.CgroupID, func(w *Ward) { w.Enforcing = m.On })
	case kindForget:
		err = k.forget(m.CgroupID)
	case kindRelease:
		k.letGo(m.PID)
	case kindState:
		answer.State = k.state()
	default:
		err = fmt.Errorf("unknown request %q", m.Kind)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	c.send(answer, -1)
}

func union(a, b []string) []string {
	list := append(slices.Clone(a), b...)
	slices.Sort(list)
	return slices.Compact(list)
}

// change alters what is decided from now on. No process is touched.
func (k *keeper) change(cgroup uint64, how func(*Ward)) error {
	k.mu.Lock()
	have := k.wards[cgroup]
	if have == nil {
		k.mu.Unlock()
		return fmt.Errorf("change the policy of cgroup %d: it is not protected", cgroup)
	}
	w := have.Ward
	k.mu.Unlock()
	how(&w)
	k.put(w)
	k.save()
	return nil
}

// forget lets every call of a container through, without a report, and takes no newcomers.
// What its filters ask for until its processes end costs time, not permission.
func (k *keeper) forget(cgroup uint64) error {
	err := k.change(cgroup, func(w *Ward) { w.Enforcing = false })
	k.mu.Lock()
	delete(k.wards, cgroup)
	k.mu.Unlock()
	k.desk.forget(cgroup)
	k.broadcast(message{Kind: kindForget, CgroupID: cgroup}, -1)
	k.save()
	return err
}

func (k *keeper) state() *State {
	perWard := map[uint64]int{}
	for _, l := range k.desk.all() {
		perWard[l.cgroup]++
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &State{Wards: []WardState{}, Held: k.held, Late: k.late}
	k.denials.mu.Lock()
	s.Dropped = k.denials.dropped
	k.denials.mu.Unlock()
	for _, w := range k.wards {
		ws := WardState{Ward: w.Ward, Covered: len(w.covered), Listeners: perWard[w.CgroupID], Failures: []Failure{}}
		for pid, reason := range w.failures {
			ws.Failures = append(ws.Failures, Failure{pid, reason})
		}
		slices.SortFunc(ws.Failures, func(a, b Failure) int { return a.PID - b.PID })
		s.Wards = append(s.Wards, ws)
	}
	slices.SortFunc(s.Wards, func(a, b WardState) int { return int(int64(a.CgroupID) - int64(b.CgroupID)) })
	return s
}

// tell sends denials to the agent that came last. Without one they wait, and fold.
func (k *keeper) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.denials.wake:
		case <-time.After(time.Second):
		}
		time.Sleep(20 * time.Millisecond) // equal ones fold meanwhile
		for k.tellSome() {
		}
	}
}

func (k *keeper) tellSome() bool {
	k.mu.Lock()
	var to *conn
	for _, c := range k.conns {
		if c.agent {
			to = c
		}
	}
	k.mu.Unlock()
	if to == nil {
		return false
	}
	list := k.denials.take(256)
	if len(list) == 0 {
		return false
	}
	if err := to.send(message{Kind: kindDenials, Denials: list}, -1); err != nil {
		k.denials.put(list)
		return false
	}
	return true
}
