package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bulkhead"
	"bulkhead/agent/gate"
	"bulkhead/container"
	"bulkhead/profile"
)

func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup v2 hierarchy: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}

// engines are the well-known sockets and those named in engines.d.
func (a *Agent) engines(root string) container.Options {
	o := container.Options{Log: a.log, CgroupRoot: root, Within: a.options.Cgroup}
	for kind, sockets := range a.engineNotes() {
		switch kind {
		case "docker":
			o.Docker = append(wellKnown("/var/run/docker.sock", "/run/docker.sock"), sockets...)
		case "containerd":
			o.Containerd = append(wellKnown("/run/containerd/containerd.sock"), sockets...)
		case "cri":
			o.CRI = append(wellKnown("/run/crio/crio.sock", "/run/containerd/containerd.sock"), sockets...)
		}
	}
	return o
}

func wellKnown(paths ...string) []string {
	var list []string
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func (a *Agent) engineNotes() map[string][]string {
	notes := map[string][]string{}
	files, _ := filepath.Glob(filepath.Join(a.options.Run, "engines.d", "*"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for line := range strings.Lines(string(b)) {
			if kind, socket, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
				notes[kind] = append(notes[kind], strings.TrimPrefix(socket, "unix://"))
			}
		}
	}
	return notes
}

// followEngines restarts the agent's view of containers when an engine is named.
func (a *Agent) followEngines(ctx context.Context) error {
	last := fmt.Sprint(a.engineNotes())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		if now := fmt.Sprint(a.engineNotes()); now != last {
			return errEngines
		}
	}
}

// errEngines ends the agent so that it starts again with other engines; nothing in force changes by that.
var errEngines = errors.New("the list of container engines changed")

// EnginesChanged reports whether [Run] ended to be called again.
func EnginesChanged(err error) bool { return errors.Is(err, errEngines) }

// followContainers gives every container its slot as it comes, and forgets it as it goes.
func (a *Agent) followContainers(ctx context.Context) error {
	a.forgetGone(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case c, ok := <-a.containers.Changes():
			if !ok {
				return nil
			}
			a.change(ctx, c)
		}
	}
}

// forgetGone frees the slots of containers that ended while no agent ran.
func (a *Agent) forgetGone(ctx context.Context) {
	alive := map[uint64]bool{}
	root, _ := cgroupRoot()
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil && d.IsDir() && syscall.Stat(path, &st) == nil {
			alive[st.Ino] = true
		}
		return nil
	})
	for cgroup := range a.enforcer.Attached() {
		if !alive[cgroup] {
			if err := a.enforcer.Detach(ctx, cgroup); err != nil {
				a.log.Warn("a container that ended is not forgotten", "cgroup", cgroup, "err", err)
			}
		}
	}
}

func (a *Agent) change(ctx context.Context, c container.Change) {
	switch {
	case c.Kind == container.Ended:
		a.end(ctx, c.Container)
	case c.Container.CgroupID == 0 || c.Container.PID == 0:
	case c.Kind == container.Started, c.Kind == container.Updated && a.renamed(c.Container):
		go a.adoptEntered(ctx, c.Container)
	}
}

// renamed reports whether a container is held under another name: of two engines that know it, the one with the
// better name may answer later.
func (a *Agent) renamed(c bulkhead.Container) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, w := range a.workloads {
		if _, held := w.containers[c.CgroupID]; held {
			return name != c.Workload.Name
		}
	}
	return false
}

// adoptEntered waits until the container's first process is the workload's: what the runtime does before that is
// not the workload's behaviour, and must not be held to its profile. Where the kernel stops first processes for
// us, the container is adopted by then.
func (a *Agent) adoptEntered(ctx context.Context, c bulkhead.Container) {
	for range 250 {
		if !entering(c.PID) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	now, ok := a.containers.Lookup(c.CgroupID)
	if !ok || now.PID != c.PID {
		return
	}
	c = now
	a.locate(ctx, c)
	go a.watchUntilEnd(ctx, c)
	a.holdBeside(c)
	v := a.judge(ctx, c)
	if !v.Allowed && a.slipped(c) {
		return
	}
	if _, err := a.adopt(ctx, c, v); err != nil {
		a.problem("container "+c.ID, err.Error())
	}
	if len(v.Reasons) > 0 {
		a.tellRefusal(c, v, bulkhead.ActionDetected)
	}
}

// entering reports whether a process is the container runtime's, on its way into the container.
func entering(pid int) bool {
	name := commOf(pid)
	if !strings.HasPrefix(name, "runc") && !strings.HasPrefix(name, "crun") && !strings.HasPrefix(name, "conmon") {
		return false
	}
	var exe, root, own, above syscall.Stat_t
	dir := fmt.Sprintf("/proc/%d", pid)
	if syscall.Stat(dir+"/ns/mnt", &own) == nil && syscall.Stat(fmt.Sprintf("/proc/%d/ns/mnt", parentOf(pid)), &above) == nil && own.Ino == above.Ino {
		return true
	}
	return syscall.Stat(dir+"/exe", &exe) == nil && syscall.Stat(dir+"/root/", &root) == nil && (exe.Dev != root.Dev || exe.Nlink == 0)
}

func (a *Agent) end(ctx context.Context, c bulkhead.Container) {
	a.mu.Lock()
	w := a.workloads[c.Workload.Name]
	for cgroup, known := range a.containersOf(w) {
		if known.ID == c.ID {
			c.CgroupID = cgroup
			delete(w.containers, cgroup)
			delete(w.usage, cgroup)
		}
	}
	delete(a.problems, "container "+c.ID)
	delete(a.problems, "peers "+c.ID)
	a.mu.Unlock()
	if a.addresses.forget(c.ID) {
		a.moved()
	}
	a.web.Ended(c.ID)
	if c.CgroupID == 0 {
		return
	}
	if err := a.enforcer.Detach(ctx, c.CgroupID); err != nil {
		a.log.Warn("a container that ended is not forgotten", "container", c.ID, "err", err)
	}
	a.poke()
}

func (a *Agent) containersOf(w *workload) map[uint64]bulkhead.Container {
	if w == nil {
		return nil
	}
	return w.containers
}

// adopt puts a running container under its workload's mode, and again where it got a better name meanwhile: it returns
// the container under the name that it is held by.
func (a *Agent) adopt(ctx context.Context, c bulkhead.Container, v gate.Verdict) (bulkhead.Container, error) {
	for {
		if err := a.adoptAs(ctx, c, v); err != nil {
			return c, err
		}
		now, ok := a.containers.Lookup(c.CgroupID)
		if !ok || now.ID != c.ID || now.Workload == c.Workload {
			return c, nil
		}
		c.Name, c.Engine, c.Labels, c.Pod, c.Image, c.Workload = now.Name, now.Engine, now.Labels, now.Pod, now.Image, now.Workload
	}
}

func (a *Agent) adoptAs(ctx context.Context, c bulkhead.Container, v gate.Verdict) error {
	defer a.adopting.take(c.Workload.Name)()
	a.mu.Lock()
	w := a.workloads[c.Workload.Name]
	if w == nil {
		w = a.newWorkload(c.Workload, c.Image)
		a.workloads[c.Workload.Name] = w
	}
	a.takeProfile(w, c, v)
	if w.Mode == bulkhead.Learn && w.Image.Digest != c.Image.Digest {
		w.Image = c.Image
	}
	a.takeFromOthers(w, c.CgroupID)
	_, known := w.containers[c.CgroupID]
	w.containers[c.CgroupID] = c
	w.seen = time.Now()
	mode, p := w.Mode, w.Profile
	a.mu.Unlock()
	go a.web.Started(c)
	if known && mode == bulkhead.Learn {
		return a.enforcer.Attach(c)
	}
	a.images.know(c)
	done, err := a.need(mode)
	defer done()
	if err != nil {
		return err
	}
	defer a.poke()
	if mode != bulkhead.Learn {
		if a.enforcer.Attached()[c.CgroupID] == mode && known {
			return nil
		}
		return a.enforcer.Apply(ctx, c, a.modeFor(w, c, mode), p)
	}
	if err := a.enforcer.Attach(c); err != nil {
		return err
	}
	events, calls := running(c)
	for _, e := range events {
		a.recorder(w).Observe(e)
	}
	a.recorder(w).ObserveSyscalls(calls)
	return a.enforcer.LearnInterpreters(c, interpretersIn(c))
}

// takeFromOthers makes a container belong to one workload: an engine that is found later may know it by a better
// name than the one it was learned under. To be called with the lock held.
func (a *Agent) takeFromOthers(w *workload, cgroup uint64) {
	for _, other := range a.workloads {
		if other != w {
			delete(other.containers, cgroup)
			delete(other.usage, cgroup)
		}
	}
}

// interpretersIn finds the image's interpreters where they usually are.
func interpretersIn(c bulkhead.Container) []string {
	var list []string
	root := fmt.Sprintf("/proc/%d/root", c.PID)
	for _, dir := range []string{"/bin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"} {
		if info, err := os.Lstat(root + dir); err != nil || !info.IsDir() {
			continue // a link to another of them
		}
		entries, _ := os.ReadDir(root + dir)
		for _, e := range entries {
			if e.Type().IsRegular() && profile.Interpreter(e.Name()) {
				list = append(list, dir+"/"+e.Name())
			}
		}
	}
	return list
}

// arrived is asked about a process that was stopped as the first of a container that nobody has named: its
// container is put under its mode before it goes on.
func (a *Agent) arrived(ctx context.Context, cgroup uint64, pid int) {
	defer a.letGo(context.WithoutCancel(ctx), pid)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, ok := a.containers.Resolve(ctx, cgroup, cgroupPath(pid))
	if !ok {
		return
	}
	c.PID, c.CgroupID = pid, cgroup
	a.locate(ctx, c)
	go a.watchUntilEnd(context.WithoutCancel(ctx), c)
	if c.Cgroup == "" {
		c.Cgroup = cgroupPath(pid)
	}
	fresh := !a.runsHere(cgroup)
	if fresh && a.refuse(ctx, c, pid) {
		return
	}
	held, err := a.adopt(ctx, c, a.judge(ctx, c))
	if err != nil {
		a.problem("container "+c.ID, err.Error())
		return
	}
	a.firstProgram(held)
}

// letGo lets a process that was stopped as the first of its container go on. Whoever asked may be over by now: without
// this the process waits for the keeper's patience to end.
func (a *Agent) letGo(ctx context.Context, pid int) {
	if a.keeper == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = a.keeper.Release(ctx, pid)
}

// firstProgram holds the program that a container starts with against the profile: it was loaded before the
// container had a name, and has not run yet.
func (a *Agent) firstProgram(c bulkhead.Container) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.PID))
	if err != nil {
		return
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID))
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	e := &bulkhead.Event{
		Boot: "arrived", Seq: uint64(time.Now().UnixNano()), Time: time.Now(), Node: a.options.Node, Kind: bulkhead.EventExec, Container: c, Verdict: bulkhead.Allowed,
		Process: bulkhead.Process{PID: c.PID, Exe: exe, Args: args, Comm: filepath.Base(exe), Ancestry: []bulkhead.Ancestor{}},
		Exec:    &bulkhead.Exec{Path: exe, Applet: filepath.Base(args[0]), Origin: bulkhead.OriginImage},
	}
	if len(args) > 1 && filepath.IsAbs(args[1]) && profile.Interpreter(exe) {
		e.Exec.Script = args[1]
	}
	a.mu.Lock()
	w := a.workloads[c.Workload.Name]
	mode, p := w.Mode, w.Profile
	a.mu.Unlock()
	if mode = a.modeFor(w, c, mode); mode != bulkhead.Learn && !runs(p, exe) {
		e.Verdict, e.Reason = bulkhead.WouldBlock, bulkhead.ReasonNotInProfile
		if mode == bulkhead.Protect {
			e.Verdict = bulkhead.Blocked
			_ = syscall.Kill(c.PID, syscall.SIGKILL)
		}
	}
	a.handle(e)
}

func runs(p bulkhead.Profile, exe string) bool {
	for _, x := range p.Executables {
		if x.Path == exe && (!x.Foreign || x.Approved) {
			return true
		}
	}
	return false
}

func cgroupPath(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}
