// Package lab gives tests real container engines and real images: a private containerd,
// dockerd and registry, and images built from Debian packages. Start with [Open] and
// [Lab.Up]; a test calls [Start].
//
// It promises to install what is missing, to leave the machine's own engines alone, to be
// quick when everything is there already, and that [Lab.Down] ends exactly what [Lab.Up]
// started. It needs root. It is not for production: its registry asks nobody's name.
package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// DefaultDir is where the lab keeps its state, unless BULKHEAD_LAB names another folder.
const DefaultDir = "/var/tmp/bulkhead-lab"

// Lab is one set of engines with their state in one folder.
type Lab struct {
	dir string
	say func(format string, args ...any)
}

// Open names the lab in dir ("" for BULKHEAD_LAB or [DefaultDir]); say is told about the
// steps that take time. Nothing is started.
func Open(dir string, say func(format string, args ...any)) *Lab {
	return &Lab{dir: cmp.Or(dir, os.Getenv("BULKHEAD_LAB"), DefaultDir), say: say}
}

// Start brings the lab up for a test and points the engines' own clients at it. The lab
// stays up afterwards, for the next test.
func Start(t testing.TB) *Lab {
	t.Helper()
	l := Open("", t.Logf)
	if err := l.Up(t.Context()); err != nil {
		t.Fatalf("starting the lab: %v", err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+l.Docker())
	t.Setenv("CONTAINERD_ADDRESS", l.Containerd())
	return l
}

// Dir is the folder of the lab's state.
func (l *Lab) Dir() string { return l.dir }

// Docker is the path of dockerd's socket.
func (l *Lab) Docker() string { return l.path("docker.sock") }

// Containerd is the path of containerd's socket, which also serves the CRI.
func (l *Lab) Containerd() string { return l.path("containerd.sock") }

// Environment is what a shell needs to use the lab.
func (l *Lab) Environment() []string {
	return []string{
		"BULKHEAD_LAB=" + l.dir,
		"DOCKER_HOST=unix://" + l.Docker(),
		"CONTAINERD_ADDRESS=" + l.Containerd(),
		"BULKHEAD_REGISTRY=" + l.Registry(),
	}
}

// Up installs what is missing and starts what does not run.
func (l *Lab) Up(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab starts container engines and needs root: run it with sudo")
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if l.running() {
		return nil
	}
	if err := Install(ctx, l.say, enginePackages...); err != nil {
		return err
	}
	return l.startEngines(ctx)
}

// Down ends every container and daemon of the lab. Images stay in its folder.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return l.stopEngines(ctx)
}

func (l *Lab) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

// lock keeps two processes from starting, stopping or building at the same time.
func (l *Lab) lock() (unlock func(), err error) {
	if err := os.MkdirAll(l.path("log"), 0o755); err != nil {
		return nil, fmt.Errorf("making the lab's folder: %w", err)
	}
	f, err := os.OpenFile(l.path("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lab's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the lab: %w", err)
	}
	return func() { f.Close() }, nil
}
