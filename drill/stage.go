package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"bulkhead/demo/engine"
	"bulkhead/demo/userland"
)

// label marks what a drill made in an engine with the name of its run.
const label = "bulkhead.drill"

// stages are what a container is given beyond an image and a program, by the host configuration of the
// engine: the precondition of a step. What is the engine's own protection (its seccomp filter) is off in
// all, as a careless deployment has it, so that it is the product that is measured.
var stages = map[string]map[string]any{
	"plain": {},
	"admin": {
		"CapAdd":        []string{"SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "NET_ADMIN", "DAC_READ_SEARCH", "MKNOD"},
		"MaskedPaths":   []string{},
		"ReadonlyPaths": []string{},
	},
	"hostpid":   {"CapAdd": []string{"SYS_ADMIN", "SYS_PTRACE"}, "PidMode": "host"},
	"hostmount": {"CapAdd": []string{"SYS_CHROOT"}},
	"engine":    {},
}

// stage is everything that stands while a drill runs.
type stage struct {
	Options
	dir     string // everything that this run needs; its name is the run's
	run     string
	canary  string
	image   string
	program []byte // for the containers
	engine  *engine.Engine
	began   time.Time
	lock    *os.File

	mu   sync.Mutex
	undo []func(context.Context) error
}

// longestState leaves room for a private engine's sockets below the 108 bytes of their names.
const longestState = 56

func newStage(o Options) (*stage, error) {
	if err := sweep(o); err != nil {
		return nil, fmt.Errorf("clean up after a drill that was killed: %w", err)
	}
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for the drill: %w", err)
	}
	dir, err := os.MkdirTemp(o.State, runPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a directory for the drill: %w", err)
	}
	s := &stage{Options: o, dir: dir, run: strings.TrimPrefix(filepath.Base(dir), runPrefix), canary: "canary-" + word(), began: time.Now()}
	s.later(func(context.Context) error { return os.RemoveAll(dir) })
	if len(dir) > longestState {
		return nil, errors.Join(fmt.Errorf("the drill's directory %s has too long a name for the sockets in it: choose a shorter one", dir), s.close())
	}
	if s.lock, err = holdRun(dir); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// open brings the engine and the image.
func (s *stage) open(ctx context.Context) error {
	program := s.Target
	var err error
	if program == "" {
		if program, err = userland.Program(s.dir, helper, "drill/target"); err != nil {
			return err
		}
	}
	if s.program, err = os.ReadFile(program); err != nil {
		return fmt.Errorf("read the program for the containers: %w", err)
	}
	if s.engine, err = engine.Find(ctx, s.dir, s.Options.Engine, s.Log); err != nil {
		return err
	}
	s.later(func(context.Context) error { return s.engine.Stop() })
	if err := os.WriteFile(filepath.Join(s.dir, engineNote), []byte(s.engine.Socket), 0o600); err != nil {
		return err
	}
	if s.OnEngine != nil {
		if err := s.OnEngine(s.engine.Socket); err != nil {
			return fmt.Errorf("tell the product about the container engine: %w", err)
		}
	}
	s.image = "bulkhead-drill/target:" + s.run
	read, write := io.Pipe()
	go func() { write.CloseWithError(buildImage(write, s.image, s.program, s.canary)) }()
	defer read.Close()
	if _, err := s.engine.Load(ctx, read, s.image); err != nil {
		return err
	}
	s.later(func(ctx context.Context) error { return s.engine.RemoveImage(ctx, s.image) })
	return nil
}

func (s *stage) later(undo func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undo = append(s.undo, undo)
}

// close takes everything down, the last first, also when ctx of the run is long over.
func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i](ctx))
	}
	s.undo = nil
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *stage) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.Err, "%5.0f s  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// victim is a container with the application that has a hole.
type victim struct {
	name  string
	id    string
	pid   int
	app   string // socket of the application
	world *world
	host  string // the directory that stands for the host's files
	log   *slog.Logger
}

func (v *victim) workload() string { return "docker/" + v.name }

// start starts a victim on a stage, with a world of its own around it.
func (s *stage) start(ctx context.Context, kind, role string) (*victim, error) {
	v := &victim{name: fmt.Sprintf("drill-%s-%s-%s", kind, role, word()[:4]), log: s.Log}
	dir, err := os.MkdirTemp(s.dir, "v")
	if err != nil {
		return nil, err
	}
	v.app, v.host = filepath.Join(dir, "app"), filepath.Join(dir, "host")
	if err := hostFiles(v.host, s.canary); err != nil {
		return nil, fmt.Errorf("make what stands for the host's files: %w", err)
	}
	fake, err := listenEngine(filepath.Join(dir, "engine"), s.canary, s.program)
	if err != nil {
		return nil, err
	}
	s.later(func(context.Context) error { return fake.close() })
	c, err := s.engine.Run(ctx, v.name, s.config(kind, dir))
	if c.ID != "" {
		s.later(func(ctx context.Context) error { return s.engine.Remove(ctx, c.ID) })
	}
	if err != nil {
		return nil, err
	}
	v.id, v.pid = c.ID, c.PID
	if err := v.await(ctx); err != nil {
		return nil, fmt.Errorf("wait for the application of %s: %w: %s", v.name, err, s.engine.Logs(ctx, c.ID))
	}
	v.world = fake
	return v, fake.surround(v.pid)
}

// config is what the engine is asked for.
func (s *stage) config(kind, dir string) map[string]any {
	binds := []string{dir + ":/run/app"}
	switch kind {
	case "hostmount":
		binds = append(binds, filepath.Join(dir, "host")+":/host")
	case "engine":
		binds = append(binds, filepath.Join(dir, "engine")+":/var/run/docker.sock")
	}
	host := map[string]any{
		"NetworkMode": "none", "Binds": binds, "SecurityOpt": []string{"seccomp=unconfined", "apparmor=unconfined"},
		"Memory": 256 << 20, "PidsLimit": 400, // harmless by construction
	}
	for key, value := range stages[kind] {
		host[key] = value
	}
	return map[string]any{
		"Image": s.image, "Labels": map[string]string{label: s.run}, "Env": []string{"SECRET=" + s.canary},
		"Entrypoint": []string{"/usr/bin/attack", "--serve", "/run/app/app"}, "HostConfig": host, "Hostname": "shop",
	}
}

func (v *victim) await(ctx context.Context) error {
	for end := time.Now().Add(20 * time.Second); ; {
		answer, err := v.command(ctx, "true")
		if err == nil && answer.Exit == 0 {
			return nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err(), fmt.Errorf("it answers %+v", answer))
		}
		sleep(ctx, 50*time.Millisecond)
	}
}

// hostFiles makes canaries of the host's files that matter to an attacker.
func hostFiles(dir, canary string) error {
	files := map[string]string{
		"etc/cron.d/.keep": "", "etc/systemd/system/.keep": "", "etc/kubernetes/manifests/.keep": "", "root/.ssh/authorized_keys": "# none\n",
		"etc/kubernetes/azure.json": `{"aadClientSecret":"` + canary + `"}`, "etc/kubernetes/admin.conf": "token: " + canary + "\n",
		"var/log/containers/shop.log": "a line\n", "data/app.log": "a line\n", "usr/sbin/runc": "the runtime\n", "usr/bin/.keep": "", "cgroup/release_agent": "\n",
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

const (
	runPrefix  = "run-"
	engineNote = "engine"
	lockNote   = "lock"
)

// holdRun says that a run's directory is in use, for as long as the file is open.
func holdRun(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockNote), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep cleans up after runs that were killed: what nobody holds.
func sweep(o Options) error {
	dirs, err := filepath.Glob(filepath.Join(o.State, runPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		held, err := holdRun(dir)
		if err != nil {
			continue // it runs
		}
		fmt.Fprintf(o.Err, "cleaning up after a drill that was killed (%s)\n", filepath.Base(dir))
		err = sweepRun(o, dir)
		if err := errors.Join(err, held.Close()); err != nil {
			return err
		}
	}
	return nil
}

func sweepRun(o Options, dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	run := strings.TrimPrefix(filepath.Base(dir), runPrefix)
	var errs []error
	if socket, err := os.ReadFile(filepath.Join(dir, engineNote)); err == nil {
		d := engine.Connect(string(bytes.TrimSpace(socket)))
		if d.Ping(ctx) == nil {
			errs = append(errs, removeLabelled(ctx, d, run))
		}
	}
	if o.OnSweep != nil {
		errs = append(errs, o.OnSweep(dir))
	}
	return errors.Join(append(errs, engine.Sweep(dir))...)
}

// removeLabelled removes the containers and the image of a run.
func removeLabelled(ctx context.Context, d *engine.Docker, run string) error {
	ids, err := d.Labelled(ctx, label+"="+run)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, d.Remove(ctx, id))
	}
	return errors.Join(append(errs, d.RemoveImage(ctx, "bulkhead-drill/target:"+run))...)
}
