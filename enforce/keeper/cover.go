package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

// protect sets a container's policy and confines every process in it. Asked again it changes
// what is decided; a narrower policy than the first binds processes that come later, while a
// running one keeps what its own filter already allows.
func (k *keeper) protect(w Ward) error {
	w.Syscalls, w.Sockets = nil, nil
	if _, err := k.program(w, seccomp.Notify); err != nil {
		return fmt.Errorf("protect cgroup %d: %w", w.CgroupID, err)
	}
	if _, err := os.Stat(w.CgroupDir); err != nil {
		return fmt.Errorf("protect cgroup %d: %w", w.CgroupID, err)
	}
	have := k.put(w)
	k.retry(have)
	k.save()
	k.serve()
	k.cover(have)
	return nil
}

// retry forgets failures, so that these processes are looked at again.
func (k *keeper) retry(w *ward) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for pid := range w.failures {
		delete(w.covered, pid)
	}
}

func (k *keeper) policyOf(w *ward) Ward {
	k.mu.Lock()
	defer k.mu.Unlock()
	return w.Ward
}

func (k *keeper) program(w Ward, on seccomp.OnDeny) ([]unix.SockFilter, error) {
	return seccomp.Compile(seccomp.Policy{
		Syscalls: union(w.Policy.Syscalls, w.Syscalls), Sockets: union(w.Policy.Sockets, w.Sockets),
		OnDeny: on, Mark: k.lineage,
	})
}

// coverPatience bounds the race with a container that forks all the time: from the first pass
// on, the children of what was covered are covered by birth, so it ends early.
const coverPatience = 10 * time.Second

// cover confines all processes of a container, until a pass finds none that is new.
func (k *keeper) cover(w *ward) {
	w.busy.Lock()
	defer w.busy.Unlock()
	policy := k.policyOf(w)
	for deadline := time.Now().Add(coverPatience); time.Now().Before(deadline); {
		fresh := 0
		alive := map[int]uint64{}
		for _, pid := range processes(policy.CgroupDir) {
			began := started(pid)
			alive[pid] = began
			if k.knows(w, pid, began) || entering(pid) {
				continue
			}
			fresh++
			k.coverOne(w, pid, began)
		}
		k.prune(w, alive)
		if fresh == 0 {
			return
		}
	}
	k.log.Warn("a container makes processes faster than they are looked at", "cgroup", policy.CgroupID)
}

// entering reports whether a process is the container runtime's, on its way in: it needs calls that the workload
// does not, runs a program that is not in the container, and is stopped for its filter when it starts the workload's.
// It goes by several names: what it was started as, and what it calls itself later. Before it has joined the
// container's mounts its program and its root are both the host's.
func entering(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	if !runtimeName(dir) {
		return false
	}
	var exe, root, ns, own unix.Stat_t
	if unix.Stat(dir+"/ns/mnt", &ns) == nil && unix.Stat("/proc/self/ns/mnt", &own) == nil && ns.Ino == own.Ino {
		return true
	}
	return unix.Stat(dir+"/exe", &exe) == nil && unix.Stat(dir+"/root/", &root) == nil && exe.Dev != root.Dev
}

func runtimeName(dir string) bool {
	comm, _ := os.ReadFile(dir + "/comm")
	line, _ := os.ReadFile(dir + "/cmdline")
	started, _, _ := strings.Cut(string(line), "\x00")
	for _, name := range []string{string(comm), filepath.Base(started)} {
		if strings.HasPrefix(name, "runc") || strings.HasPrefix(name, "crun") {
			return true
		}
	}
	return false
}

func (k *keeper) knows(w *ward, pid int, began uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	have, ok := w.covered[pid]
	return ok && have == began
}

func (k *keeper) prune(w *ward, alive map[int]uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for pid := range w.covered {
		if _, ok := alive[pid]; !ok {
			delete(w.covered, pid)
		}
	}
	for pid := range w.failures {
		if _, ok := alive[pid]; !ok {
			delete(w.failures, pid)
		}
	}
}

// tries is how often a process is looked at that cannot be stopped just now.
const tries = 5

// coverOne confines one process and remembers how that went; the error says why it is not confined.
func (k *keeper) coverOne(w *ward, pid int, began uint64) error {
	var err error
	for try := range tries {
		if try > 0 {
			time.Sleep(time.Duration(try) * 10 * time.Millisecond)
		}
		if err = k.inject(w, pid); !passing(err) {
			break
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(w.failures, pid)
	if errors.Is(err, seccomp.ErrGone) {
		return nil
	}
	w.covered[pid] = began // looked at: a failure stays one until the next Protect
	if err != nil && len(w.failures) < maxFailures {
		w.failures[pid] = err.Error()
	}
	if errors.Is(err, errFixed) {
		return nil
	}
	return err
}

// passing: traced, most likely by ourselves, for a request that came at the same moment; or in the middle of an exec,
// without the new program's code yet.
func passing(err error) bool {
	return errors.Is(err, seccomp.ErrBusy) || errors.Is(err, seccomp.ErrTraced) || errors.Is(err, seccomp.ErrEntry)
}

// errFixed is not a failure to confine: the process is confined, but for good.
var errFixed = errors.New("confined without a listener, because the process has one of another program: what is blocked can only be allowed by restarting it")

var errLost = errors.New("its listener was lost when keeper and agent were ended together: calls outside its profile fail with ENOSYS until it is restarted")

func (k *keeper) inject(w *ward, pid int) error {
	policy := k.policyOf(w)
	if n, _, err := seccomp.Filters(pid); err == nil && n > policy.Baseline {
		if mark, err := seccomp.Examine(pid); err == nil {
			return k.inherited(mark)
		}
	}
	prog, err := k.program(policy, seccomp.Notify)
	if err != nil {
		return err
	}
	result, err := seccomp.Inject(pid, seccomp.Injection{Program: prog, Listener: true, Received: func(fd int) { k.received(policy.CgroupID, fd) }})
	switch {
	case errors.Is(err, seccomp.ErrCovered):
		return k.inherited(result.Mark)
	case errors.Is(err, seccomp.ErrListener):
		return k.fix(policy, pid)
	}
	return err
}

func (k *keeper) inherited(mark uint32) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lineages[mark] {
		return nil
	}
	return errLost
}

// received keeps a listener while the process still stands: with the agent first, so that it
// outlives us from the beginning.
func (k *keeper) received(cgroup uint64, fd int) {
	id := rand.Uint64()
	k.broadcast(message{Kind: kindListener, Listener: id, CgroupID: cgroup}, fd)
	k.desk.add(id, cgroup, fd)
}

// fix confines for good, with what is allowed now.
func (k *keeper) fix(w Ward, pid int) error {
	if !w.Enforcing {
		return seccomp.ErrListener
	}
	on := seccomp.Errno
	if w.Policy.Kill {
		on = seccomp.Kill
	}
	prog, err := k.program(w, on)
	if err != nil {
		return err
	}
	if _, err := seccomp.Inject(pid, seccomp.Injection{Program: prog}); err != nil {
		return err
	}
	return errFixed
}

// look waits for an agent that may bring the listeners of the keeper before, and then covers
// what the saved policies name; then it looks from time to time for processes that came in
// unseen.
func (k *keeper) look(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(3 * time.Second):
		}
		k.mu.Lock()
		wards := make([]*ward, 0, len(k.wards))
		for _, w := range k.wards {
			wards = append(wards, w)
		}
		k.mu.Unlock()
		for _, w := range wards {
			if policy := k.policyOf(w); gone(policy.CgroupDir) {
				k.forget(policy.CgroupID)
			} else if i == 0 {
				k.serve()
				k.resume(w)
				k.cover(w)
			} else {
				k.strays(w)
			}
		}
	}
}

func gone(dir string) bool {
	_, err := os.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// strays covers processes that clearly have no filter of ours. It stops nobody else.
func (k *keeper) strays(w *ward) {
	policy := k.policyOf(w)
	for _, pid := range processes(policy.CgroupDir) {
		if n, _, err := seccomp.Filters(pid); err != nil || n > policy.Baseline || k.knows(w, pid, started(pid)) || entering(pid) {
			continue
		}
		w.busy.Lock()
		k.coverOne(w, pid, started(pid))
		w.busy.Unlock()
	}
}

// processes lists those of a cgroup and of the cgroups in it.
func processes(dir string) (pids []int) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // it went away meanwhile
		}
		text, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// started tells a process from a later one with its number.
func started(pid int) uint64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[19], 10, 64)
	return n
}
