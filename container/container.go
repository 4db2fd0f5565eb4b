// Package container knows the containers of this node: from a pid or a cgroup to the container and
// its workload, as Docker, containerd and CRI tell it. Start with [Open] and [Directory.Lookup].
//
// It promises that a lookup never waits for an engine, that a container is known before its first
// process runs where its engine tells in time ([Directory.Changes]), and that an engine that is away, hangs or
// answers nonsense costs a line in [Directory.Engines] and nothing else: time and memory spent on
// one are bounded. A container that two engines know is told once. It is not for starting,
// stopping or looking into containers.
package container

import (
	"context"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// Options says where to look. A list of sockets that is nil means the well-known ones and what
// DOCKER_HOST, CONTAINERD_ADDRESS and CONTAINER_RUNTIME_ENDPOINT name; an empty one means none.
type Options struct {
	Log        *slog.Logger // nil: silent
	Docker     []string
	Containerd []string
	CRI        []string
	CgroupRoot string // mount point of the cgroup v2 hierarchy; empty: found in /proc/self/mountinfo
	Within     string // path below it: only containers in this cgroup are this node's, as where nodes share a kernel; empty: all are
}

// Kind says what happened to a container.
type Kind string

// The kinds of changes, in the order of a container's life.
const (
	Created Kind = "created" // it is known; where its engine tells in time its first process doesn't run yet
	Updated Kind = "updated" // more is known: first of all its cgroup, which exists before its first process runs
	Started Kind = "started" // its first process runs
	Ended   Kind = "ended"   // its first process ended, or its cgroup is gone; it may start again
)

// Change is one step in the life of a container, with all that is known of it by then.
type Change struct {
	Kind      Kind
	Container bulkhead.Container
}

// Engine is a container engine of this node, as a person sees it.
type Engine struct {
	Name    string `json:"name"` // "docker", "containerd", "cri", or "cgroup" when containers cannot be seen in the kernel
	Socket  string `json:"socket"`
	Version string `json:"version"`
	Error   string `json:"error,omitempty"` // empty: it answers
}

// Directory knows the containers of this node. It lives until the context of [Open] ends.
type Directory struct {
	log     *slog.Logger
	within  string // where the containers of this node are
	root    string // of the cgroup v2 hierarchy; empty when there is none
	book    *book
	sources []*source

	mu      sync.Mutex
	problem string        // why cgroups cannot be watched
	asking  chan struct{} // bounds the questions in flight
}

const (
	// openWait is how long Open waits for engines: a healthy one answers in milliseconds.
	openWait = 3 * time.Second
	// askWait bounds one question to one engine; Docker answers about a container that it is
	// starting only after that.
	askWait = 5 * time.Second
	// maxAsking bounds the questions in flight when many containers appear at once.
	maxAsking = 64
	// unknownAfter is how long a cgroup may be without an engine before it counts as one of an unknown engine.
	unknownAfter = 2 * time.Second
)

// Open starts to follow the engines of this node and returns when each has told what it runs, or
// has failed to within three seconds. Engines that come later are found. An error means that nothing at
// all can be known; what is missing otherwise stands in [Directory.Engines].
func Open(ctx context.Context, options Options) (*Directory, error) {
	log := options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &Directory{log: log, asking: make(chan struct{}, maxAsking), within: path.Join("/", options.Within)}
	d.root = d.cgroupRoot(options.CgroupRoot)
	d.book = newBook(d.root)
	d.sources = sourcesOf(options, log, d.dockerKnows)
	if err := d.watchCgroups(ctx); err != nil {
		d.problem = err.Error()
		log.Warn("containers cannot be followed in the kernel", "error", err)
	}
	var ready sync.WaitGroup
	for _, s := range d.sources {
		ready.Add(1)
		go s.follow(ctx, d.book, sync.OnceFunc(ready.Done))
	}
	waitFor(ctx, &ready, openWait)
	go d.keep(ctx)
	return d, ctx.Err()
}

func (d *Directory) cgroupRoot(given string) string {
	if given != "" {
		return given
	}
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		d.problem = err.Error()
		return ""
	}
	defer file.Close()
	root, err := findCgroup2(file)
	if err != nil {
		d.problem = err.Error()
		d.log.Warn("containers cannot be seen in the kernel", "error", err)
	}
	return root
}

// below reports whether a path is another or lies in it.
func below(dir, other string) bool {
	return other == "/" || dir == other || strings.HasPrefix(dir, other+"/")
}

func waitFor(ctx context.Context, group *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(limit):
	}
}

// Lookup finds a container by its cgroup, or by one below it that was resolved before. A container that
// ended is found for another minute. It is cheap: nothing is asked.
func (d *Directory) Lookup(cgroupID uint64) (bulkhead.Container, bool) {
	return d.book.lookup(cgroupID)
}

// Resolve finds the container that a cgroup belongs to. What is not in memory is asked from the
// engines that answer; if none knows it, the path alone tells, with the engine "unknown". The path is
// below the mount of the hierarchy, as in /proc/PID/cgroup; without one only memory is searched.
func (d *Directory) Resolve(ctx context.Context, cgroupID uint64, cgroupPath string) (bulkhead.Container, bool) {
	if c, ok := d.book.lookup(cgroupID); ok {
		return c, true
	}
	if c, ok := d.book.find(cgroupPath, cgroupID); ok {
		return c, true
	}
	ref, ok := ParseCgroup(cgroupPath)
	if !ok || !below(ref.Dir, d.within) {
		return bulkhead.Container{}, false
	}
	d.ask(ctx, ref.ID)
	if c, ok := d.book.find(cgroupPath, cgroupID); ok {
		return c, true
	}
	if !ref.Sure {
		return bulkhead.Container{}, false
	}
	d.book.announceUnknown(ref)
	return d.book.find(cgroupPath, cgroupID)
}

// ByPID finds the container that a process of this node runs in.
func (d *Directory) ByPID(pid int) (bulkhead.Container, bool) {
	cgroup, ok := cgroupOfPID(pid)
	if !ok {
		return bulkhead.Container{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), askWait)
	defer cancel()
	return d.Resolve(ctx, cgroupID(d.root, cgroup), cgroup)
}

// List tells the containers that run or are about to, by id.
func (d *Directory) List() []bulkhead.Container { return d.book.list() }

// Changes tells what happens to containers; those that were there at Open come first. There is
// one channel: one reader. A reader that stays away for thousands of changes loses the oldest (see
// [Directory.Lost]); List then tells what is.
func (d *Directory) Changes() <-chan Change { return d.book.changes }

// Lost counts the changes that were dropped because nobody read them.
func (d *Directory) Lost() uint64 { return d.book.lostChanges() }

// Engines tells the engines that were named or found, and what is wrong with them.
func (d *Directory) Engines() []Engine {
	all := make([]Engine, 0, len(d.sources)+1)
	d.mu.Lock()
	if d.problem != "" {
		all = append(all, Engine{Name: "cgroup", Socket: d.root, Error: d.problem})
	}
	d.mu.Unlock()
	for _, s := range d.sources {
		if engine, present := s.engine(); present {
			all = append(all, engine)
		}
	}
	if len(all) == 0 {
		for _, s := range d.sources {
			engine, _ := s.engine()
			all = append(all, engine)
		}
	}
	return all
}

// dockerKnows reports whether a Docker engine answers, so that containerd need not tell of its containers. One that has not
// been asked yet may: a container that containerd names first is another workload until Docker names it, and what
// is decided about the workload does not hold for it.
func (d *Directory) dockerKnows() bool {
	return slices.ContainsFunc(d.sources, func(s *source) bool { return s.name == engineDocker && (s.up() || s.unasked()) })
}

// ask asks all engines that answer about one container, at once, and writes down what they say.
func (d *Directory) ask(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	var asked sync.WaitGroup
	known := make(chan struct{}, len(d.sources))
	for _, s := range d.sources {
		if !s.up() {
			continue
		}
		asked.Go(func() {
			seen, err := s.inspect(ctx, id)
			if err != nil {
				return
			}
			d.book.learn(s, seen)
			known <- struct{}{}
		})
	}
	all := make(chan struct{})
	go func() { asked.Wait(); close(all) }()
	select {
	case <-all:
	case <-known: // the others write down what they know when they are ready
		select {
		case <-all:
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// askLater asks about a container whose cgroup appeared, more than once: the engine may still be
// writing it down.
func (d *Directory) askLater(ctx context.Context, ref Ref) {
	for _, wait := range []time.Duration{0, 200 * time.Millisecond, time.Second, 5 * time.Second} {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		if d.book.settled(ref.ID) {
			return
		}
		select {
		case d.asking <- struct{}{}:
		case <-ctx.Done():
			return
		}
		// Not cancelled with the first answer: a slower engine may know more.
		d.ask(ctx, ref.ID)
		<-d.asking
	}
}

// keep forgets what has been over for a minute and shows what no engine claimed.
func (d *Directory) keep(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.book.sweep(now)
		}
	}
}
