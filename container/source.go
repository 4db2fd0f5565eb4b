package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// talker speaks one engine's language. Every call ends by itself or with its context, and
// reads a bounded amount.
type talker interface {
	version(ctx context.Context) (string, error)
	list(ctx context.Context) ([]sighting, error)
	inspect(ctx context.Context, id string) (sighting, error)
	// watch tells what happens until it fails or the context ends. It calls ready when nothing
	// that happens from then on is missed.
	watch(ctx context.Context, ready func(), tell func(sighting)) error
	close()
}

const (
	// callWait bounds one call to an engine, listWait the list of all it has.
	callWait = 5 * time.Second
	listWait = 15 * time.Second
	// relist is how often the whole list is compared with what events told; it also finds out
	// that an engine no longer answers.
	relist = 30 * time.Second
	// An engine that is away is tried again after a second, later every fifteen.
	minBackoff = time.Second
	maxBackoff = 15 * time.Second
)

// The limits of what one engine may say of one container.
const (
	maxText   = 4 << 10
	maxLabels = 512
)

// The sockets where engines usually are.
var (
	dockerSockets     = []string{"/run/docker.sock", "/var/run/docker.sock"}
	containerdSockets = []string{"/run/containerd/containerd.sock", "/run/docker/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"}
	criSockets        = []string{"/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock", "/run/cri-dockerd.sock"}
)

var (
	errNotFound = errors.New("the engine doesn't know this container")
	errNoCRI    = errors.New("the engine doesn't serve CRI")
)

// source is one engine that is followed.
type source struct {
	name, socket string
	named        bool // by options or environment: its absence is worth a line
	log          *slog.Logger
	talker

	mu      sync.Mutex
	present bool
	says    string // its version
	problem string
	told    string // the problem last logged
}

func sourcesOf(o Options, log *slog.Logger, dockerKnows func() bool) []*source {
	var all []*source
	add := func(name string, given []string, variable string, known []string, open func(socket string) talker) {
		sockets, named := socketsOf(given, os.Getenv(variable), known)
		for _, socket := range sockets {
			all = append(all, &source{
				name: name, socket: socket, named: named, log: log.With("engine", name, "socket", socket),
				talker: open(socket), problem: unasked,
			})
		}
	}
	add(engineDocker, o.Docker, "DOCKER_HOST", dockerSockets, newDocker)
	add(engineCRI, o.CRI, "CONTAINER_RUNTIME_ENDPOINT", criSockets, newCRI)
	add(engineContainerd, o.Containerd, "CONTAINERD_ADDRESS", containerdSockets, func(socket string) talker { return newContainerd(socket, dockerKnows) })
	return all
}

// socketsOf says which sockets to follow: those given, or the environment's, or the well-known ones.
func socketsOf(given []string, environment string, known []string) (sockets []string, named bool) {
	switch {
	case given != nil:
		sockets, named = given, true
	case environment != "":
		sockets, named = []string{environment}, true
	default:
		sockets = known
	}
	var distinct []string
	for _, socket := range sockets {
		socket = strings.TrimPrefix(socket, "unix://")
		if !slices.ContainsFunc(distinct, func(other string) bool { return realPath(other) == realPath(socket) }) {
			distinct = append(distinct, socket)
		}
	}
	return distinct, named
}

// realPath makes /var/run/docker.sock and /run/docker.sock one, also while there is no socket.
func realPath(socket string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(socket)); err == nil {
		return filepath.Join(dir, filepath.Base(socket))
	}
	if rest, ok := strings.CutPrefix(socket, "/var/run/"); ok {
		return "/run/" + rest
	}
	return socket
}

// unasked is the problem of an engine to which nobody spoke so far.
const unasked = "not asked yet"

func (s *source) unasked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem == unasked
}

func (s *source) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem == ""
}

func (s *source) engine() (e Engine, present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Engine{Name: s.name, Socket: s.socket, Version: s.says, Error: s.problem}, s.present || s.named
}

// follow keeps up with the engine until the context ends. It calls ready after the first list or failure.
func (s *source) follow(ctx context.Context, b *book, ready func()) {
	defer s.close()
	wait := minBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := s.session(ctx, b, ready)
		ready()
		if ctx.Err() != nil {
			return
		}
		s.fail(err)
		if time.Since(began) > time.Minute {
			wait = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, maxBackoff)
	}
}

// session is one connection: subscribe, list, then follow what happens.
func (s *source) session(ctx context.Context, b *book, ready func()) error {
	if err := s.find(); err != nil {
		return err
	}
	version, err := s.ask(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	seen, failed := s.subscribe(ctx)
	if err := s.compare(ctx, b); err != nil {
		return err
	}
	s.succeed(version)
	ready()
	tick := time.NewTicker(relist)
	defer tick.Stop()
	for {
		select {
		case one := <-seen:
			b.learn(s, one)
		case err := <-failed:
			return err
		case <-tick.C:
			if err := s.compare(ctx, b); err != nil {
				return err
			}
		}
	}
}

// find looks for the socket before anything is dialled, which costs less and says more.
func (s *source) find() error {
	info, err := os.Stat(s.socket)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.present = err == nil
	switch {
	case strings.Contains(s.socket, "://"):
		return fmt.Errorf("only unix sockets are spoken to, not %s: give a path", s.socket)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no socket %s: start %s, or name its socket", s.socket, s.name)
	case err != nil:
		return fmt.Errorf("look for the engine's socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is not a socket", s.socket)
	}
	return nil
}

func (s *source) ask(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	version, err := s.version(ctx)
	if errors.Is(err, errNoCRI) && !s.named {
		s.mu.Lock()
		s.present = false
		s.mu.Unlock()
	}
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", s.name, err)
	}
	return clip(version), nil
}

// subscribe starts to collect what happens, and returns once nothing is missed.
func (s *source) subscribe(ctx context.Context) (<-chan sighting, <-chan error) {
	seen := make(chan sighting, 256)
	failed := make(chan error, 1)
	opened := make(chan struct{})
	open := sync.OnceFunc(func() { close(opened) })
	go func() {
		err := s.watch(ctx, open, func(one sighting) {
			select {
			case seen <- one:
			case <-ctx.Done():
			}
		})
		if err == nil {
			err = errors.New("the engine closed the connection")
		}
		failed <- fmt.Errorf("follow the events of %s: %w", s.name, err)
	}()
	select {
	case <-opened:
	case err := <-failed:
		failed <- err
	case <-time.After(callWait):
		failed <- fmt.Errorf("follow the events of %s: no answer for %s", s.name, callWait)
	case <-ctx.Done():
	}
	return seen, failed
}

// compare writes down the engine's whole list, and ends what it no longer has.
func (s *source) compare(ctx context.Context, b *book) error {
	ctx, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	asked := time.Now()
	all, err := s.list(ctx)
	if err != nil {
		return fmt.Errorf("list the containers of %s: %w", s.name, err)
	}
	listed := make(map[string]bool, len(all))
	for _, one := range all {
		listed[one.key] = true
		b.learn(s, one)
	}
	b.absent(s, listed, asked)
	return nil
}

func (s *source) succeed(version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.says, s.problem, s.told = version, "", ""
	s.log.Info("container engine answers", "version", version)
}

// fail keeps the problem for people, and logs a new one once.
func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problem = err.Error()
	if s.problem != s.told && (s.present || s.named) {
		s.log.Warn("container engine doesn't answer", "error", err)
		s.told = s.problem
	}
}

// clip bounds a text of an engine, and labels the number of them too.
func clip(text string) string { return strings.Clone(text[:min(len(text), maxText)]) }

// clipped copies labels within the limits. Of too many the first by name stay, so that the choice is always the same.
func clipped(labels map[string]string) map[string]string {
	names := make([]string, 0, len(labels))
	for name := range labels {
		names = append(names, name)
	}
	if len(names) > maxLabels {
		slices.Sort(names)
		names = names[:maxLabels]
	}
	out := make(map[string]string, len(names))
	for _, name := range names {
		out[clip(name)] = clip(labels[name])
	}
	return out
}
