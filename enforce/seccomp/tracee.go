package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tracee is one seized thread. All its methods belong to the OS thread that seized it.
type tracee struct {
	pid, tid int
	stopped  bool
	group    bool // it was stopped by a job-control signal when we came, and stays so
	gone     bool
	covered  bool
	worker   bool // see worker

	regs      unix.PtraceRegs // as found
	mask      uint64          // signals it blocks, as found
	section   uint64          // the restartable sequence it was in, as found
	sequence  uintptr         // where that is noted
	entry     uintptr
	busy      bool // between begin and end
	swallowed []unix.Signal
}

const (
	requestGetFilter   = 0x420c
	requestSequence    = 0x420f
	requestDispatch    = 0x4211
	requestGetMask     = 0x420a
	requestSetMask     = 0x420b
	requestGetSignal   = 0x4202
	eventStop          = 128
	syscallStop        = unix.SIGTRAP | 0x80
	stopPatience       = 10 * time.Second
	maxFiltersExamined = 64
)

func ptrace(request, tid int, addr uintptr, data unsafe.Pointer) (uintptr, error) {
	r, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return r, errno
	}
	return r, nil
}

func ptraceValue(request, tid int, value uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, value, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (t *tracee) seize() error {
	if err := ptraceValue(unix.PTRACE_SEIZE, t.tid, unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return err
	}
	if err := ptraceValue(unix.PTRACE_INTERRUPT, t.tid, 0); err != nil {
		t.gone = true
	}
	return nil
}

// wait returns the next stop of the thread. Without a deadline it waits as long as it takes:
// a thread in the middle of our calls cannot be given up.
func (t *tracee) wait(deadline time.Time) (unix.WaitStatus, error) {
	options := unix.WALL
	if !deadline.IsZero() {
		options |= unix.WNOHANG
	}
	for spin := 0; ; spin++ {
		var status unix.WaitStatus
		tid, err := unix.Wait4(t.tid, &status, options, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || tid == t.tid && !status.Stopped():
			t.gone = true
			return 0, ErrGone
		case tid == t.tid:
			return status, nil
		case spin%64 == 63 && time.Now().After(deadline) && (t.inKernel() || time.Since(deadline) > stopPatience):
			return 0, ErrBusy
		}
		rest(spin)
	}
}

// inKernel reports whether the thread waits where our stop does not reach it. One that only
// waits for a processor is not left alone: it already knows of the stop, and its call may
// have to be mended.
func (t *tracee) inKernel() bool {
	s, err := readStatus(t.pid, t.tid)
	return err != nil || s.state == 'D'
}

// rest gives way: a stop takes microseconds, and a timer would take fifty.
func rest(spin int) {
	switch {
	case spin < 200:
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	case spin < 2000:
		unix.Nanosleep(&unix.Timespec{Nsec: 20e3}, nil)
	default:
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
}

// awaitStop waits for the stop that we asked for; signals on the way are delivered.
func (t *tracee) awaitStop(deadline time.Time) error {
	for !t.gone {
		status, err := t.wait(deadline)
		if err != nil {
			return err
		}
		if status>>16 == eventStop {
			t.stopped = true
			t.group = status.StopSignal() != unix.SIGTRAP
			return nil
		}
		ptraceValue(unix.PTRACE_CONT, t.tid, uintptr(status.StopSignal()&0x7f))
	}
	return ErrGone
}

// mark looks for a filter of ours on the thread.
func (t *tracee) mark() (uint32, bool) {
	for i := range uintptr(maxFiltersExamined) {
		n, err := ptrace(requestGetFilter, t.tid, i, nil)
		if err != nil {
			return 0, false
		}
		prog := make([]unix.SockFilter, n)
		if _, err := ptrace(requestGetFilter, t.tid, i, unsafe.Pointer(&prog[0])); err != nil {
			return 0, false
		}
		if mark, ok := Marked(prog); ok {
			return mark, true
		}
	}
	return 0, false
}

// fit reports why the thread cannot make our calls. It must have no more filters than most:
// the kernel would give all threads its own ones along with ours.
func (t *tracee) fit(most int) error {
	s, err := readStatus(t.pid, t.tid)
	if err != nil {
		return ErrGone
	}
	if s.seccomp == unix.SECCOMP_MODE_STRICT {
		return ErrStrict
	}
	if s.filters > most {
		return ErrBusy
	}
	var dispatch [4]uint64
	if _, err := ptrace(requestDispatch, t.tid, unsafe.Sizeof(dispatch), unsafe.Pointer(&dispatch)); err == nil && dispatch[0] != 0 {
		return ErrDispatch
	}
	if s.seccomp == unix.SECCOMP_MODE_FILTER && t.suspend(true) != nil {
		return ErrFiltered
	}
	return t.suspend(false)
}

// suspend lets the calls that we make pass the thread's own filters, which might end it. It is
// on only while the thread makes our calls.
func (t *tracee) suspend(on bool) error {
	options := uintptr(unix.PTRACE_O_TRACESYSGOOD)
	if on {
		options |= unix.PTRACE_O_SUSPEND_SECCOMP
	}
	return ptraceValue(unix.PTRACE_SETOPTIONS, t.tid, options)
}

// needsNoNewPrivs reports whether the kernel asks for it before it takes a filter.
func (t *tracee) needsNoNewPrivs() bool {
	s, err := readStatus(t.pid, t.tid)
	return err == nil && !s.noNewPrivs && s.capabilities&(1<<unix.CAP_SYS_ADMIN) == 0
}

// begin saves what our calls would change and finds a place to make them from.
func (t *tracee) begin(entries []uintptr) error {
	if err := getRegs(t.tid, &t.regs); err != nil {
		return t.lost("read registers", err)
	}
	if !native(&t.regs) {
		return ErrForeign
	}
	t.settle()
	t.noteSequence()
	if _, err := ptrace(requestGetMask, t.tid, unsafe.Sizeof(t.mask), unsafe.Pointer(&t.mask)); err != nil {
		return t.lost("read the signal mask", err)
	}
	for _, entry := range entries {
		if t.entry = entry; isEntry(t.tid, entry) {
			return t.take()
		}
	}
	return ErrEntry
}

func (t *tracee) take() error {
	all := ^uint64(0)
	if _, err := ptrace(requestSetMask, t.tid, unsafe.Sizeof(all), unsafe.Pointer(&all)); err != nil {
		return t.lost("block signals", err)
	}
	t.busy = true
	t.suspend(true) // refused by kernels without checkpoint support: fit has seen to it
	return nil
}

// call makes the thread do one system call and returns its value.
func (t *tracee) call(number uint64, args ...uint64) (uint64, error) {
	if t.gone {
		return 0, ErrGone
	}
	regs := t.regs
	prepare(&regs, t.entry, number, args)
	if err := setRegs(t.tid, &regs); err != nil {
		return 0, t.lost("set registers", err)
	}
	for range 2 { // into the kernel, and out of it
		if err := t.step(); err != nil {
			return 0, err
		}
	}
	if err := getRegs(t.tid, &regs); err != nil {
		return 0, t.lost("read registers", err)
	}
	value := result(&regs)
	if value < 0 && value > -4096 {
		return 0, unix.Errno(-value)
	}
	return uint64(value), nil
}

// errFault is a fault in the middle of our calls.
var errFault = errors.New("the process changed its code under the injection")

// step runs the thread to the next edge of a system call.
func (t *tracee) step() error {
	for {
		if err := ptraceValue(unix.PTRACE_SYSCALL, t.tid, 0); err != nil {
			return t.lost("continue", err)
		}
		status, err := t.wait(time.Time{})
		if err != nil {
			return err
		}
		switch {
		case status.StopSignal() == syscallStop:
			return nil
		case status>>16 == eventStop: // a job-control stop around us: it is kept for later by the kernel
		case t.sent():
			t.swallowed = append(t.swallowed, status.StopSignal())
		default:
			return errFault
		}
	}
}

// sent reports whether the signal that the thread stopped with came from somebody, and not
// from what it just executed.
func (t *tracee) sent() bool {
	var info struct {
		signal, errno, code int32
		_                   [116]byte
	}
	_, err := ptrace(requestGetSignal, t.tid, 0, unsafe.Pointer(&info))
	return err == nil && info.code <= 0
}

// end puts everything back. The thread stops once more where the kernel decides about
// restarting the call that we interrupted, so that it does that itself.
func (t *tracee) end() {
	if !t.busy || t.gone {
		return
	}
	t.busy = false
	t.suspend(false)
	setRegs(t.tid, &t.regs)
	ptrace(requestSetMask, t.tid, unsafe.Sizeof(t.mask), unsafe.Pointer(&t.mask))
	t.restoreSequence()
	ptraceValue(unix.PTRACE_INTERRUPT, t.tid, 0)
	ptraceValue(unix.PTRACE_CONT, t.tid, 0)
	t.stopped = false
	t.awaitStop(time.Time{})
}

// settle repairs a call of the program that returned early because of our stop. Most calls
// the kernel repeats itself; some it ends with EINTR, which no program expects without a
// signal. See settleRegs for what each gets instead.
func (t *tracee) settle() {
	if t.busy || t.group || t.gone || t.worker || t.settled() {
		return
	}
	var regs unix.PtraceRegs
	if getRegs(t.tid, &regs) != nil || !native(&regs) {
		return
	}
	if settleRegs(&regs) && !signalWaits(t.pid, t.tid) {
		setRegs(t.tid, &regs)
		t.regs = regs
	}
}

// settled reports whether begin has done it: afterwards the registers are those it saved.
func (t *tracee) settled() bool { return t.entry != 0 }

// noteSequence remembers the restartable sequence the thread is in: the kernel forgets it
// as soon as the thread runs elsewhere, and the program would go on in the middle of it.
func (t *tracee) noteSequence() {
	var config struct {
		address                        uint64
		size, signature, flags, unused uint32
	}
	if _, err := ptrace(requestSequence, t.tid, unsafe.Sizeof(config), unsafe.Pointer(&config)); err != nil || config.address == 0 {
		return
	}
	var value [8]byte
	if readMemory(t.tid, uintptr(config.address)+8, value[:]) == nil {
		t.section, t.sequence = binary.LittleEndian.Uint64(value[:]), uintptr(config.address)+8
	}
}

func (t *tracee) restoreSequence() {
	if t.section != 0 {
		writeMemory(t.tid, t.sequence, binary.LittleEndian.AppendUint64(nil, t.section))
	}
}

func (t *tracee) detach() {
	for _, s := range t.swallowed {
		unix.Tgkill(t.pid, t.tid, s)
	}
	ptraceValue(unix.PTRACE_DETACH, t.tid, 0)
}

func (t *tracee) lost(doing string, err error) error {
	if errors.Is(err, unix.ESRCH) {
		t.gone = true
		return ErrGone
	}
	return fmt.Errorf("%s of thread %d: %w", doing, t.tid, err)
}
