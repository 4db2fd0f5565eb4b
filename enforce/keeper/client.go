package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ClientOptions are what an agent needs.
type ClientOptions struct {
	Socket  string
	Start   func(ctx context.Context) error // starts a keeper when none answers; nil: none is started
	Denied  func([]Denial)                  // called in order, not concurrently; nil: not wanted
	Unknown func(cgroupID uint64, pid int)  // a stopped process waits for Protect of its cgroup, or for Release
	Log     *slog.Logger
}

// Client is the agent's side: it holds a copy of every listener, and answers them itself
// while no keeper lives.
type Client struct {
	opts    ClientOptions
	desk    *desk
	denials *denials
	cancel  context.CancelFunc
	ended   chan struct{}

	mu       sync.Mutex
	conn     *conn
	ready    chan struct{} // closed while connected
	wards    map[uint64]Ward
	lineages map[uint32]bool
	page     *page // the keeper's
	next     uint64
	answers  map[uint64]chan message
	took     uint64
	serving  bool // from a keeper's death until the next one has everything
	doubt    int  // a pidfd of the keeper that ended the connection and may still live; -1: none
}

// Dial connects to the keeper, starts one if there is none, and takes over whenever it dies.
// It returns when the connection stands.
func Dial(ctx context.Context, opts ClientOptions) (*Client, error) {
	d := newDenials()
	desk, err := newDesk(opts.Log, d)
	if err != nil {
		return nil, fmt.Errorf("dial the keeper: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Client{
		opts: opts, desk: desk, denials: d, cancel: cancel, ended: make(chan struct{}), ready: make(chan struct{}),
		wards: map[uint64]Ward{}, lineages: map[uint32]bool{}, answers: map[uint64]chan message{}, doubt: -1,
	}
	go c.run(run)
	go c.tell(run)
	if err := c.await(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("dial the keeper at %s: %w", opts.Socket, err)
	}
	return c, nil
}

// Close ends the connection. The keeper goes on.
func (c *Client) Close() error {
	c.cancel()
	c.mu.Lock()
	if c.conn != nil {
		c.conn.close()
	}
	c.mu.Unlock()
	<-c.ended
	if c.doubt >= 0 {
		unix.Close(c.doubt)
	}
	c.desk.close()
	return nil
}

func (c *Client) await(ctx context.Context) error {
	c.mu.Lock()
	ready := c.ready
	c.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// startPatience is how long a keeper gets to open its socket before another is started.
const startPatience = time.Second

// run connects again and again.
func (c *Client) run(ctx context.Context) {
	defer close(c.ended)
	var started time.Time
	for wait := time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 20*time.Millisecond) {
		c.settle()
		k, err := c.connect(ctx)
		if err == nil {
			wait, started = time.Millisecond, time.Time{}
			c.converse(k)
			c.lost(ctx, k)
			continue
		}
		absent := errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
		if c.opts.Start != nil && absent && time.Since(started) > startPatience {
			started = time.Now()
			if err := c.opts.Start(ctx); err != nil {
				c.opts.Log.Error("keeper does not start", "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (c *Client) connect(ctx context.Context) (*conn, error) {
	n, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: c.opts.Socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	k, err := newConn(n)
	if err != nil {
		n.Close()
		return nil, err
	}
	if err := c.handOver(k); err != nil {
		k.close()
		unix.Close(k.peer)
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		k.close()
		unix.Close(k.peer)
		return nil, ctx.Err()
	}
	c.conn = k
	if c.doubt >= 0 { // it lives: this is it
		unix.Close(c.doubt)
		c.doubt = -1
	}
	return k, nil
}

// handOver gives a keeper all that we have, then stops answering, then lets it begin. It has
// everything before we stop: if we die in between, it begins by itself. If it dies in between,
// we go on.
func (c *Client) handOver(k *conn) error {
	took, err := c.offer(k)
	if err != nil {
		return err
	}
	c.desk.halt()
	if err := k.send(message{Kind: kindServe}, -1); err != nil {
		if took {
			c.desk.start()
		}
		return err
	}
	c.mu.Lock()
	c.serving = false
	c.mu.Unlock()
	return nil
}

// offer sends the listeners in any case: a keeper that has them keeps its own. The page and the
// policies go only to one that follows a dead one.
func (c *Client) offer(k *conn) (took bool, err error) {
	c.mu.Lock()
	hello := message{Kind: kindHello, Agent: true}
	for l := range c.lineages {
		hello.Lineages = append(hello.Lineages, l)
	}
	wards := make([]Ward, 0, len(c.wards))
	for _, w := range c.wards {
		wards = append(wards, w)
	}
	took = c.serving
	c.mu.Unlock()
	if took {
		if err := k.send(message{Kind: kindPage}, c.desk.page.fd); err != nil {
			return took, err
		}
		for i := range wards {
			if err := k.send(message{Kind: kindWard, Ward: &wards[i]}, -1); err != nil {
				return took, err
			}
		}
	}
	for _, l := range c.desk.all() {
		if err := k.send(message{Kind: kindListener, Listener: l.id, CgroupID: l.cgroup}, l.fd); err != nil {
			return took, err
		}
	}
	return took, k.send(hello, -1)
}

// converse takes the keeper's packets until the connection ends.
func (c *Client) converse(k *conn) {
	for {
		m, fd, err := k.receive()
		if err != nil {
			return
		}
		c.handle(m, fd)
	}
}

func (c *Client) handle(m message, fd int) {
	switch m.Kind {
	case kindWard:
		c.mu.Lock()
		c.wards[m.Ward.CgroupID] = *m.Ward
		c.mu.Unlock()
		c.desk.set(*m.Ward)
	case kindForget:
		c.mu.Lock()
		delete(c.wards, m.CgroupID)
		c.mu.Unlock()
		c.desk.forget(m.CgroupID)
	case kindListener:
		if fd < 0 {
			c.opts.Log.Error("a listener came without its descriptor", "listener", m.Listener)
			return
		}
		c.desk.add(m.Listener, m.CgroupID, fd)
	case kindDrop:
		c.desk.drop(m.Listener)
	case kindPage:
		c.setPage(fd)
	case kindReady:
		c.mu.Lock()
		for _, l := range m.Lineages {
			c.lineages[l] = true
		}
		close(c.ready)
		c.mu.Unlock()
	case kindAnswer:
		c.mu.Lock()
		if wait := c.answers[m.ID]; wait != nil {
			wait <- m
		}
		c.mu.Unlock()
	case kindDenials:
		c.denials.put(m.Denials) // told by another goroutine: a slow disk there must not keep answers waiting here
	case kindUnknown:
		if c.opts.Unknown != nil {
			go c.opts.Unknown(m.CgroupID, m.PID)
		}
	}
}

func (c *Client) setPage(fd int) {
	p, err := mapPage(fd)
	if err != nil {
		c.opts.Log.Error("the keeper's page cannot be mapped", "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.page.close()
	c.page = p
}

// lost ends what belongs to a connection, and takes over if the keeper died, and only then: two that answer take each
// other's calls.
func (c *Client) lost(ctx context.Context, k *conn) {
	k.close()
	c.mu.Lock()
	c.conn = nil
	select {
	case <-c.ready:
		c.ready = make(chan struct{})
	default:
	}
	for id, wait := range c.answers {
		close(wait)
		delete(c.answers, id)
	}
	c.doubt = k.peer
	c.mu.Unlock()
	for range 10 { // the sockets of a process are closed before it counts as ended
		if ctx.Err() != nil {
			return
		}
		if c.settle(); !c.doubts() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// settle takes over from a keeper as soon as it is known to be dead.
func (c *Client) settle() {
	c.mu.Lock()
	if c.doubt < 0 || !ended(c.doubt) {
		c.mu.Unlock()
		return
	}
	unix.Close(c.doubt)
	c.doubt = -1
	c.took++
	c.serving = true
	page := c.page
	c.mu.Unlock()
	if page != nil {
		c.desk.finish(page)
	}
	c.desk.start()
}

func (c *Client) doubts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubt >= 0
}

// ended reports whether the process of a pidfd has.
func ended(pidfd int) bool {
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return n == 1 && err == nil
}

// tell passes on what the keeper denied, or this side itself.
func (c *Client) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.denials.wake:
		}
		time.Sleep(20 * time.Millisecond)
		for list := c.denials.take(256); len(list) > 0; list = c.denials.take(256) {
			if c.opts.Denied != nil {
				c.opts.Denied(list)
			}
		}
	}
}

// errLostKeeper is what a request ends with when the keeper dies over it.
var errLostKeeper = errors.New("the keeper ended meanwhile; another is started")

// ask sends a request and waits for its answer, over the death of a keeper if need be: all
// requests may be made twice.
func (c *Client) ask(ctx context.Context, m message) (message, error) {
	for {
		answer, err := c.askOnce(ctx, m)
		if !errors.Is(err, errLostKeeper) {
			return answer, err
		}
	}
}

func (c *Client) askOnce(ctx context.Context, m message) (message, error) {
	if err := c.await(ctx); err != nil {
		return message{}, err
	}
	wait := make(chan message, 1)
	c.mu.Lock()
	k := c.conn
	if k == nil {
		c.mu.Unlock()
		return message{}, errLostKeeper
	}
	c.next++
	m.ID = c.next
	c.answers[m.ID] = wait
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.answers, m.ID)
		c.mu.Unlock()
	}()
	if err := k.send(m, -1); err != nil {
		return message{}, errLostKeeper
	}
	select {
	case <-ctx.Done():
		return message{}, ctx.Err()
	case answer, ok := <-wait:
		if !ok {
			return message{}, errLostKeeper
		}
		if answer.Error != "" {
			return answer, errors.New(answer.Error)
		}
		return answer, nil
	}
}

// Protect confines every process of a cgroup and of those in it to a policy, now and when it
// enters. Baseline is how many filters the engine itself puts on its processes. It enforces
// from the beginning; asked again it replaces the policy and what it was widened by.
func (c *Client) Protect(ctx context.Context, cgroupID uint64, cgroupDir string, policy Policy, baseline int) error {
	_, err := c.ask(ctx, message{Kind: kindProtect, Ward: &Ward{CgroupID: cgroupID, CgroupDir: cgroupDir, Policy: policy, Baseline: baseline, Enforcing: true}})
	return err
}

// Widen allows more from the next call on, in all processes at once and without touching one.
// It works also while no keeper lives.
func (c *Client) Widen(ctx context.Context, cgroupID uint64, syscalls, sockets []string) error {
	c.locally(cgroupID, func(w *Ward) {
		w.Syscalls, w.Sockets = union(w.Syscalls, syscalls), union(w.Sockets, sockets)
	})
	_, err := c.ask(ctx, message{Kind: kindWiden, CgroupID: cgroupID, Syscalls: syscalls, Sockets: sockets})
	return err
}

// SetEnforcing switches between denying and only reporting.
func (c *Client) SetEnforcing(ctx context.Context, cgroupID uint64, on bool) error {
	c.locally(cgroupID, func(w *Ward) { w.Enforcing = on })
	_, err := c.ask(ctx, message{Kind: kindEnforce, CgroupID: cgroupID, On: on})
	return err
}

// Forget ends the protection of a cgroup: all calls pass unreported, newcomers get no filter.
func (c *Client) Forget(ctx context.Context, cgroupID uint64) error {
	_, err := c.ask(ctx, message{Kind: kindForget, CgroupID: cgroupID})
	return err
}

// Release lets a process go that waits because its cgroup is unknown.
func (c *Client) Release(ctx context.Context, pid int) error {
	_, err := c.ask(ctx, message{Kind: kindRelease, PID: pid})
	return err
}

// State asks the keeper what it knows.
func (c *Client) State(ctx context.Context) (State, error) {
	m, err := c.ask(ctx, message{Kind: kindState})
	if err != nil || m.State == nil {
		return State{}, err
	}
	return *m.State, nil
}

// Takeovers returns how often this side had to answer because a keeper died.
func (c *Client) Takeovers() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took
}

func (c *Client) locally(cgroup uint64, how func(*Ward)) {
	c.mu.Lock()
	w, ok := c.wards[cgroup]
	if ok {
		how(&w)
		c.wards[cgroup] = w
	}
	c.mu.Unlock()
	if ok {
		c.desk.set(w)
	}
}
