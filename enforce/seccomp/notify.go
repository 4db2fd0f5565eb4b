package seccomp

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Data is what a filter sees of a call, as the kernel lays it out.
type Data struct {
	Number int32
	Arch   uint32
	IP     uint64
	Args   [6]uint64
}

// Notification is a call that waits for an answer, as the kernel lays it out. TID is the
// thread's, as the reader counts.
type Notification struct {
	ID    uint64
	TID   uint32
	Flags uint32
	Data  Data
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// Listener is the descriptor through which one filter asks.
type Listener int

const (
	ioctlValid = 0x40082102
	ioctlFlags = 0x40082104
)

// Handoff asks the kernel to run the asking and the answering thread after each other on one
// processor, which halves the time of an answer. Kernels before 6.6 refuse; that costs time only.
func (l Listener) Handoff() error {
	if errno := ioctlValue(int(l), ioctlFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); errno != 0 {
		return fmt.Errorf("set hand-off on seccomp listener: %w", errno)
	}
	return nil
}

// Receive takes the next waiting call into n, which may lie in shared memory: the kernel
// writes it there itself, so whoever maps the same page knows of it even when the receiver
// dies on the next instruction. It blocks when nothing waits: poll for POLLIN first. ENOENT:
// the asking thread went away meanwhile.
func (l Listener) Receive(n *Notification) error {
	*n = Notification{} // the kernel refuses a dirty one
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// Continue lets a call run. ENOENT: nobody waits for the answer any more.
func (l Listener) Continue(id uint64) error {
	return l.send(response{id: id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE})
}

// Deny makes a call fail with EPERM. ENOENT: nobody waits for the answer any more.
func (l Listener) Deny(id uint64) error {
	return l.send(response{id: id, errno: -int32(unix.EPERM)})
}

// Waiting reports whether the call still waits for its answer.
func (l Listener) Waiting(id uint64) bool {
	return ioctl(int(l), ioctlValid, unsafe.Pointer(&id)) == 0
}

func (l Listener) send(r response) error {
	if errno := ioctl(int(l), unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)); errno != 0 {
		return errno
	}
	return nil
}

// ioctl does not tell the scheduler of the Go runtime: what it is used for does not block.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) unix.Errno {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno != unix.EINTR {
			return errno
		}
	}
}

func ioctlValue(fd int, request, value uintptr) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), request, value)
	return errno
}
