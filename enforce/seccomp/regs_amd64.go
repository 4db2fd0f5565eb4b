package seccomp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

var entryCode = []byte{0x0f, 0x05} // syscall

const entryStep = 1 // what instructions are aligned to

func getRegs(tid int, r *unix.PtraceRegs) error {
	_, err := ptrace(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(r))
	return err
}

func setRegs(tid int, r *unix.PtraceRegs) error {
	_, err := ptrace(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(r))
	return err
}

// native reports whether the thread runs 64-bit code.
func native(r *unix.PtraceRegs) bool { return r.Cs == 0x33 }

// prepare makes the registers those of a program about to make a call. Orig_rax says that it
// does not come from a call: the kernel shall not restart the interrupted one yet.
func prepare(r *unix.PtraceRegs, entry uintptr, number uint64, args []uint64) {
	r.Rip, r.Rax, r.Orig_rax = uint64(entry), number, ^uint64(0)
	for i, register := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9} {
		*register = 0
		if i < len(args) {
			*register = args[i]
		}
	}
}

func result(r *unix.PtraceRegs) int64 { return int64(r.Rax) }

// settleRegs mends a call that the kernel ended with EINTR because of our stop, and reports
// whether there was something to mend. A wait without end is made again. A wait with an end
// is over: it says so, as if the time were up, because made again it would start to count
// anew, and a program's timers would be late. Events that came are not lost: they are there
// at the next wait.
func settleRegs(r *unix.PtraceRegs) bool {
	if int64(r.Orig_rax) < 0 || int64(r.Rax) != -int64(unix.EINTR) {
		return false
	}
	switch r.Orig_rax {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT:
		return again(r, int32(r.R10) < 0, 0)
	case unix.SYS_EPOLL_PWAIT2:
		return again(r, r.R10 == 0, 0)
	case unix.SYS_IO_GETEVENTS, unix.SYS_IO_PGETEVENTS:
		return again(r, r.R8 == 0, 0)
	case unix.SYS_RT_SIGTIMEDWAIT:
		return again(r, r.Rdx == 0, -int64(unix.EAGAIN))
	case unix.SYS_SEMTIMEDOP:
		return again(r, r.R10 == 0, -int64(unix.EAGAIN))
	case unix.SYS_SEMOP, unix.SYS_IO_URING_ENTER, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_READV, unix.SYS_WRITEV,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
		unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG:
		return again(r, true, 0) // sockets with a time limit of their own
	}
	return false
}

func again(r *unix.PtraceRegs, repeat bool, otherwise int64) bool {
	if repeat {
		r.Rip -= uint64(len(entryCode))
		r.Rax = r.Orig_rax
	} else {
		r.Rax = uint64(otherwise)
	}
	r.Orig_rax = ^uint64(0)
	return true
}
