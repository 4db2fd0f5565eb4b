// Package engine finds a Docker engine, or brings one along: a private pair of containerd and
// dockerd with its own state and sockets. Start with [Find] and [Docker.Run].
//
// It promises that a private engine changes no packet filter and no setting of the host, and that
// nothing of it is left after [Engine.Stop], or after [Sweep] where the program that started it was
// killed. It is for the demo and the drill, and not for asking what runs on a node: that is package
// container.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// defaultSocket is where Docker listens unless told otherwise.
const defaultSocket = "/var/run/docker.sock"

// Engine is a container engine to use, and how to be done with it.
type Engine struct {
	*Docker
	Private bool         // it was started here
	Stop    func() error // ends it if it was started here, and nothing else
}

// Find uses the engine that runs, else starts a private one below dir.
func Find(ctx context.Context, dir, socket string, log *slog.Logger) (*Engine, error) {
	for _, s := range candidates(socket) {
		d := Connect(s)
		if err := d.Ping(ctx); err == nil {
			return &Engine{Docker: d, Stop: func() error { return nil }}, nil
		}
	}
	if socket != "" {
		return nil, fmt.Errorf("no container engine answers at %s: start it, or leave the socket away and one is brought along", socket)
	}
	return startEngine(ctx, dir, log)
}

func candidates(socket string) []string {
	if socket != "" {
		return []string{socket}
	}
	var all []string
	if path, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		all = append(all, path)
	}
	return append(all, defaultSocket)
}

// daemons holds the private pair of containerd and dockerd.
type daemons struct {
	dir     string
	running []*daemon // in the order of their start
	parents []string  // cgroup directories that did not exist before
}

// startEngine starts containerd and dockerd with their own state and sockets. It touches no
// packet filter, no setting of the host and no bridge but those that are asked for later.
func startEngine(ctx context.Context, dir string, log *slog.Logger) (*Engine, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("no container engine answers, and only root can start one: become root, or start Docker")
	}
	if err := haveBinaries("containerd", "dockerd", "runc", "containerd-shim-runc-v2"); err != nil {
		return nil, err
	}
	d := &daemons{dir: dir, parents: absentParents()}
	e, err := d.start(ctx, log)
	if err != nil {
		return nil, errors.Join(err, d.stop())
	}
	return e, nil
}

func haveBinaries(names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("no container engine answers, and %s is not installed to start one: apt-get install docker.io", name)
		}
	}
	return nil
}

func (d *daemons) start(ctx context.Context, log *slog.Logger) (*Engine, error) {
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = %q\n",
		d.path("containerd"), d.path("containerd-run"), d.path("containerd.sock"))
	if err := os.WriteFile(d.path("containerd.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	// An empty configuration of our own, so that the host's is not read.
	if err := os.WriteFile(d.path("docker.json"), []byte("{}"), 0o600); err != nil {
		return nil, err
	}
	if err := d.run("containerd", "--config", d.path("containerd.toml")); err != nil {
		return nil, err
	}
	if err := d.await(ctx, 20*time.Second, func() error {
		_, err := os.Stat(d.path("containerd.sock"))
		return err
	}); err != nil {
		return nil, fmt.Errorf("wait for the private containerd: %w", err)
	}
	err := d.run("dockerd", "--host", "unix://"+d.path("docker.sock"), "--containerd", d.path("containerd.sock"),
		"--data-root", d.path("docker"), "--exec-root", d.path("docker-run"), "--pidfile", d.path("dockerd.pid"), "--config-file", d.path("docker.json"),
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false")
	if err != nil {
		return nil, err
	}
	client := Connect(d.path("docker.sock"))
	if err := d.await(ctx, 30*time.Second, func() error { return client.Ping(ctx) }); err != nil {
		return nil, fmt.Errorf("wait for the private dockerd: %w", err)
	}
	log.Debug("private container engine started", "socket", client.Socket)
	return &Engine{Docker: client, Private: true, Stop: d.stop}, nil
}

func (d *daemons) path(name string) string { return filepath.Join(d.dir, name) }

// daemon is one program that was started here.
type daemon struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

func (d *daemons) run(name string, args ...string) error {
	log, err := os.Create(d.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is ours to handle
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	if err := record(d.path(name+pidSuffix), cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	started := &daemon{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(started.done)
	}()
	d.running = append(d.running, started)
	return nil
}

// await repeats ready until it agrees; a daemon that ended meanwhile is shown with its log.
func (d *daemons) await(ctx context.Context, limit time.Duration, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		last := d.running[len(d.running)-1]
		select {
		case <-last.done:
			return fmt.Errorf("%s ended: %s", last.name, tail(d.path(last.name+".log")))
		case <-ctx.Done():
			return fmt.Errorf("%w: %s: %s", err, last.name, tail(d.path(last.name+".log")))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// tail gives the end of a log for an error message.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 600 {
		_, _ = file.Seek(-600, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(file, 600))
	return strings.TrimSpace(string(data))
}

// stop ends the daemons, the last started first, and takes away what they leave.
func (d *daemons) stop() error {
	var errs []error
	for i := len(d.running) - 1; i >= 0; i-- {
		errs = append(errs, d.running[i].end())
	}
	d.running = nil
	errs = append(errs, unmountBelow(d.dir))
	for _, parent := range d.parents {
		_ = os.Remove(parent) // only if empty: another engine may use it by now
	}
	return errors.Join(errs...)
}

func (d *daemon) end() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
		return nil
	case <-time.After(10 * time.Second):
	}
	_ = d.cmd.Process.Kill()
	<-d.done
	return fmt.Errorf("%s did not end within 10 s and was killed", d.name)
}

// unmountBelow undoes the mounts that a daemon left below its state.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	lines := strings.Split(string(data), "\n")
	for i := len(lines) - 1; i >= 0; i-- { // the innermost was mounted last
		fields := strings.Fields(lines[i])
		if len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			if err := syscall.Unmount(fields[1], syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", fields[1], err)
			}
		}
	}
	return nil
}

// absentParents lists the cgroup directories that an engine makes for its containers and
// that do not exist yet, in each hierarchy.
func absentParents() []string {
	var absent []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/")
	for _, root := range append(roots, "/sys/fs/cgroup/") {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		parent := filepath.Join(root, "docker")
		if _, err := os.Stat(parent); errors.Is(err, os.ErrNotExist) {
			absent = append(absent, parent)
		}
	}
	return absent
}
