package seccomp

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// On arm64 the kernel rewinds an interrupted call before the stop, and the first argument of
// one that it ended with EINTR is lost. So waits that it would continue with restart_syscall
// begin anew here, and of the calls of settleRegs only those with a time limit are mended.

var entryCode = []byte{0x01, 0x00, 0x00, 0xd4} // svc #0

const entryStep = 4 // what instructions are aligned to

func getRegs(tid int, r *unix.PtraceRegs) error {
	v := unix.Iovec{Base: (*byte)(unsafe.Pointer(r))}
	v.SetLen(int(unsafe.Sizeof(*r)))
	_, err := ptrace(unix.PTRACE_GETREGSET, tid, 1, unsafe.Pointer(&v))
	return err
}

func setRegs(tid int, r *unix.PtraceRegs) error {
	v := unix.Iovec{Base: (*byte)(unsafe.Pointer(r))}
	v.SetLen(int(unsafe.Sizeof(*r)))
	_, err := ptrace(unix.PTRACE_SETREGSET, tid, 1, unsafe.Pointer(&v))
	return err
}

// native reports whether the thread runs 64-bit code: the mode bit of the state is clear.
func native(r *unix.PtraceRegs) bool { return r.Pstate&0x10 == 0 }

func prepare(r *unix.PtraceRegs, entry uintptr, number uint64, args []uint64) {
	r.Pc, r.Regs[8] = uint64(entry), number
	for i := range 6 {
		r.Regs[i] = 0
		if i < len(args) {
			r.Regs[i] = args[i]
		}
	}
}

func result(r *unix.PtraceRegs) int64 { return int64(r.Regs[0]) }

func settleRegs(r *unix.PtraceRegs) bool {
	if int64(r.Regs[0]) != -int64(unix.EINTR) {
		return false
	}
	switch {
	case r.Regs[8] == unix.SYS_EPOLL_PWAIT && int32(r.Regs[3]) >= 0, r.Regs[8] == unix.SYS_EPOLL_PWAIT2 && r.Regs[3] != 0:
		r.Regs[0] = 0
	case r.Regs[8] == unix.SYS_RT_SIGTIMEDWAIT && r.Regs[2] != 0, r.Regs[8] == unix.SYS_SEMTIMEDOP && r.Regs[3] != 0:
		r.Regs[0] = ^uint64(unix.EAGAIN - 1)
	default:
		return false
	}
	return true
}
