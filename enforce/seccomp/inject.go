package seccomp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The reasons why a process could not be confined. Every error of [Inject] wraps one of them
// or the kernel's own.
var (
	ErrGone     = errors.New("the process ended meanwhile")
	ErrTraced   = errors.New("the process is traced by another program: end the tracer first")
	ErrBusy     = errors.New("no thread of the process can be stopped now (all wait in the kernel): try again")
	ErrForeign  = errors.New("the process runs 32-bit code, of which no profile is learned")
	ErrStrict   = errors.New("the process is in strict seccomp mode, which allows less than any profile")
	ErrListener = errors.New("the process has a seccomp listener of another program already, and the kernel takes one only")
	ErrCovered  = errors.New("the process has a filter of ours already")
	ErrFiltered = errors.New("the process has a filter that may forbid the injection, and this kernel cannot suspend it")
	ErrEntry    = errors.New("no system call instruction found in the process")
	ErrDispatch = errors.New("the process catches its own system calls (syscall user dispatch)")
)

// Injection is what to put into a process.
type Injection struct {
	Program  []unix.SockFilter
	Listener bool // also make a listener; the program should answer with Notify

	// Received gets each listener while the process is still stopped, so that it can be kept
	// safe before the first call waits on it. Optional.
	Received func(listener int)

	// Again injects also where a filter of ours is in place: to narrow what it allows.
	Again bool
}

// Result is what an injection did.
type Result struct {
	Listeners  []int         // one; several when the threads had to be done one by one; the caller closes them
	Stopped    time.Duration // how long the process did not run
	Threads    int           // how many were stopped for it
	NoNewPrivs bool          // had to be set: set-user-id programs of the process gain nothing from now on
	PerThread  bool          // the threads had different filters, so that each got its own copy
	Mark       uint32        // with ErrCovered: the mark of the filter found
}

// Inject puts a filter on every thread of a running process, whatever the threads are doing.
// The caller must not be the process's parent: a parent's own wait would eat the stops.
//
// With a listener all threads stop, else one of them could copy the descriptor in the moment
// before it is closed in the process, and answer for itself. Without, one thread stops.
//
// While a thread makes our calls (about a tenth of the time stopped), its registers are kept
// by this process alone: if that is ended by SIGKILL just then, the kernel lets the thread go
// on with ours, and its program fails.
func Inject(pid int, in Injection) (Result, error) {
	type answer struct {
		result Result
		err    error
	}
	done := make(chan answer)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the kernel then lets go of
		// everything that this thread still traces.
		runtime.LockOSThread()
		unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // on a busy machine the process waits for us
		result, err := inject(pid, in)
		for again := 0; again < maxEnded && errors.Is(err, ErrGone) && !exiting(pid, pid); again++ {
			result, err = inject(pid, in) // the thread that made our calls has ended, not the process
		}
		done <- answer{result, err}
	}()
	a := <-done
	if a.err != nil {
		a.err = fmt.Errorf("inject system call filter into process %d: %w", pid, a.err)
	}
	return a.result, a.err
}

// maxEnded bounds how often another thread is tried when the chosen one ends under our hands.
const maxEnded = 10

func inject(pid int, in Injection) (Result, error) {
	if pid <= 1 || pid == os.Getpid() {
		return Result{}, fmt.Errorf("refused: %w", unix.EINVAL)
	}
	entries, err := entryPoints(pid)
	if err != nil {
		return Result{}, err
	}
	s := &session{pid: pid, in: in, entries: entries, fewest: fewestFilters(pid), tracees: map[int]*tracee{}}
	err = s.run()
	s.result.Threads = len(s.tracees)
	s.release()
	return s.result, err
}

// session is one injection, from the first seized thread to the last released.
type session struct {
	pid      int
	in       Injection
	entries  []uintptr
	fewest   int // filters that the threads have in common, at most
	tracees  map[int]*tracee
	began    time.Time
	memory   uint64
	attempts int
	result   Result
}

func (s *session) run() error {
	if err := s.gather(s.in.Listener); err != nil {
		return err
	}
	if !s.in.Again {
		if err := s.covered(); err != nil {
			return err
		}
	}
	if s.in.Listener { // all stand still: now the count is exact
		s.fewest = math.MaxInt
		for _, t := range s.tracees {
			if t.stopped {
				s.fewest = min(s.fewest, s.filters(t.tid))
			}
		}
	}
	t, err := s.operator()
	if err != nil {
		return err
	}
	if err := t.begin(s.entries); err != nil {
		return err
	}
	defer t.end()
	if s.memory, err = s.place(t); err != nil {
		return err
	}
	defer func() { t.call(unix.SYS_MUNMAP, s.memory, s.size()) }()
	err = s.install(t, true)
	if errors.Is(err, errDiverged) {
		return s.perThread(t)
	}
	return err
}

// gather stops one thread, or all of them, also those that are started meanwhile.
func (s *session) gather(all bool) error {
	for {
		fresh, err := s.seize(all)
		if err != nil {
			return err
		}
		if fresh == 0 {
			return nil
		}
		s.await(all)
		if !all && s.stopped() > 0 {
			return nil
		}
	}
}

// seize starts to stop threads that are not seized yet.
func (s *session) seize(all bool) (fresh int, err error) {
	tids, err := threads(s.pid)
	if err != nil {
		return 0, ErrGone
	}
	if s.began.IsZero() {
		s.began = time.Now()
	}
	for _, tid := range tids {
		if s.tracees[tid] != nil || !all && s.filters(tid) > s.fewest {
			continue
		}
		t := &tracee{pid: s.pid, tid: tid, worker: worker(s.pid, tid)}
		if t.worker && !all {
			continue
		}
		switch err := t.seize(); {
		case errors.Is(err, unix.EPERM) && tracer(s.pid, tid) != 0:
			return 0, fmt.Errorf("%w (process %d)", ErrTraced, tracer(s.pid, tid))
		case errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EPERM) && exiting(s.pid, tid):
			continue
		case err != nil:
			return 0, fmt.Errorf("seize thread %d: %w", tid, err)
		}
		s.tracees[tid] = t
		fresh++
		if !all && s.awaitOne(t) {
			return fresh, nil
		}
	}
	if len(s.tracees) > 0 {
		return fresh, nil
	}
	// A thread that is about to end has given up its filters already, and made the least
	// number look less than any living thread has.
	if s.attempts++; s.attempts > 50 {
		return 0, ErrGone
	}
	s.fewest = fewestFilters(s.pid)
	return s.seize(all)
}

func (s *session) filters(tid int) int {
	status, err := readStatus(s.pid, tid)
	if err != nil {
		return 0
	}
	return status.filters
}

// patience is how long a thread gets to come out of the kernel. One that does not cannot run
// code of the program either: the stop catches it on its way out.
const patience = 20 * time.Millisecond

func (s *session) await(all bool) {
	deadline := time.Now().Add(patience)
	for _, t := range s.tracees {
		if !t.stopped && all {
			t.awaitStop(deadline)
		}
		if t.gone {
			delete(s.tracees, t.tid)
		}
	}
}

func (s *session) awaitOne(t *tracee) bool {
	return t.awaitStop(time.Now().Add(patience/4)) == nil
}

func (s *session) stopped() (n int) {
	for _, t := range s.tracees {
		if t.stopped {
			n++
		}
	}
	return n
}

// covered looks for a filter of ours. Where all threads are stopped, all must have it.
func (s *session) covered() error {
	var mark uint32
	for _, t := range s.tracees {
		if !t.stopped || t.worker {
			continue
		}
		if mark, t.covered = t.mark(); t.covered {
			s.result.Mark = mark
		}
	}
	for _, t := range s.tracees {
		if t.stopped && !t.covered && !t.worker {
			return nil
		}
	}
	if s.stopped() > 0 {
		return ErrCovered
	}
	return nil
}

// operator chooses the thread that makes the calls.
func (s *session) operator() (*tracee, error) {
	err := error(ErrGone)
	if len(s.tracees) > 0 {
		err = ErrBusy
	}
	for _, t := range s.tracees {
		if !t.stopped || t.covered || t.worker {
			continue
		}
		if err = t.fit(s.fewest); err == nil {
			return t, nil
		}
	}
	return nil, err
}

// errDiverged is the kernel's refusal to give all threads one filter.
var errDiverged = errors.New("the threads have different filters")

// install makes one thread load the program, for all threads if sync is set.
func (s *session) install(t *tracee, sync bool) error {
	if t.needsNoNewPrivs() {
		if _, err := t.call(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
		s.result.NoNewPrivs = true
	}
	value, err := t.call(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags(s.in.Listener, sync), s.memory)
	switch {
	case errors.Is(err, unix.EBUSY):
		return ErrListener
	case errors.Is(err, unix.ESRCH) && sync, err == nil && value > 0 && !s.in.Listener:
		return errDiverged
	case err != nil:
		return fmt.Errorf("load the filter: %w", err)
	case !s.in.Listener:
		return nil
	}
	return s.fetch(t, int(value))
}

// fetch copies the listener out of the process and closes it there.
func (s *session) fetch(t *tracee, remote int) error {
	local, err := getfd(t.pid, t.tid, remote)
	if err != nil {
		return fmt.Errorf("take the listener: %w: its calls now wait for nobody: end the process", err)
	}
	s.result.Listeners = append(s.result.Listeners, local)
	if s.in.Received != nil {
		s.in.Received(local)
	}
	if _, err := t.call(unix.SYS_CLOSE, uint64(remote)); err != nil {
		return fmt.Errorf("close the listener in the process: %w", err)
	}
	return nil
}

// perThread gives every thread its own copy. New threads get that of their maker.
func (s *session) perThread(first *tracee) error {
	s.result.PerThread = true
	if err := s.gather(true); err != nil {
		return err
	}
	if err := s.covered(); err != nil && !s.in.Again {
		return err
	}
	if err := s.install(first, false); err != nil {
		return err
	}
	for _, t := range s.tracees {
		if t == first || t.covered || t.worker {
			continue
		}
		if !t.stopped {
			return fmt.Errorf("thread %d: %w", t.tid, ErrBusy)
		}
		if err := s.installOn(t); err != nil {
			return fmt.Errorf("thread %d: %w", t.tid, err)
		}
	}
	return nil
}

func (s *session) installOn(t *tracee) error {
	if err := t.fit(math.MaxInt); errors.Is(err, ErrStrict) {
		return nil
	} else if err != nil {
		return err
	}
	if err := t.begin(s.entries); err != nil {
		return err
	}
	defer t.end()
	return s.install(t, false)
}

// flags are those of seccomp(2) that this kernel knows.
func flags(listener, sync bool) uint64 {
	var f uint64
	if sync {
		f |= unix.SECCOMP_FILTER_FLAG_TSYNC
	}
	if !listener {
		return f
	}
	f |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	if sync {
		f |= unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH
	}
	// Once we have taken a call, only SIGKILL ends the wait: a signal handler of the program
	// does not make it fail with EINTR. The kernel has it since 5.19; with a null program it
	// says EFAULT to flags that it knows.
	const killable = unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|killable, 0)
	if errno == unix.EFAULT {
		f |= killable
	}
	return f
}

// header is the size of struct sock_fprog with its padding.
const header = 16

func (s *session) size() uint64 {
	page := uint64(os.Getpagesize())
	return (uint64(header+len(s.in.Program)*8) + page - 1) / page * page
}

// place writes the program into fresh memory of the process: nothing of its own is touched.
func (s *session) place(t *tracee) (uint64, error) {
	address, err := t.call(unix.SYS_MMAP, 0, s.size(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return 0, fmt.Errorf("map memory in the process: %w", err)
	}
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint64(len(s.in.Program)))
	binary.Write(&b, binary.LittleEndian, address+header)
	b.Write(unsafe.Slice((*byte)(unsafe.Pointer(&s.in.Program[0])), len(s.in.Program)*8))
	if err := writeMemory(t.tid, uintptr(address), b.Bytes()); err != nil {
		t.call(unix.SYS_MUNMAP, address, s.size())
		return 0, fmt.Errorf("write the filter into the process: %w", err)
	}
	return address, nil
}

// release lets every thread go on. Those that never stopped are let go by the kernel when
// this thread ends.
func (s *session) release() {
	for _, t := range s.tracees {
		if !t.stopped { // its call has been interrupted, and may have to be mended
			t.awaitStop(time.Now().Add(patience))
		}
		if t.stopped {
			t.settle()
			t.detach()
		}
	}
	if !s.began.IsZero() {
		s.result.Stopped = time.Since(s.began)
	}
}

// Examine looks whether a process has a filter of ours, and returns its mark. It stops one
// thread for as long as that takes.
func Examine(pid int) (mark uint32, err error) {
	type answer struct {
		mark uint32
		err  error
	}
	done := make(chan answer)
	go func() {
		runtime.LockOSThread() // as in Inject
		s := &session{pid: pid, fewest: math.MaxInt, tracees: map[int]*tracee{}}
		err := s.gather(false)
		if err == nil {
			err = s.covered()
		}
		s.release()
		if errors.Is(err, ErrCovered) {
			done <- answer{s.result.Mark, nil}
		} else {
			done <- answer{0, errors.Join(err, ErrUncovered)}
		}
	}()
	a := <-done
	return a.mark, a.err
}

// ErrUncovered is the answer of [Examine] for a process without a filter of ours.
var ErrUncovered = errors.New("the process has no filter of ours")

// Filters returns how many filters the first thread of a process has, and whether the process
// is stopped by a signal.
func Filters(pid int) (n int, stopped bool, err error) {
	s, err := readStatus(pid, pid)
	return s.filters, s.state == 'T', err
}
