package seccomp

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// threads lists the threads of a process, the first one first.
func threads(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	tids := make([]int, 0, len(entries))
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

// status is what /proc says of a thread.
type status struct {
	state        byte
	tracer       int
	seccomp      int
	filters      int
	noNewPrivs   bool
	capabilities uint64 // effective
	pending      uint64 // signals that wait and are not blocked
}

func readStatus(pid, tid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		return status{}, err
	}
	var s status
	var waits, blocked uint64
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			s.state = (value + "?")[0]
		case "TracerPid":
			s.tracer, _ = strconv.Atoi(value)
		case "Seccomp":
			s.seccomp, _ = strconv.Atoi(value)
			s.filters = s.seccomp / unix.SECCOMP_MODE_FILTER
		case "Seccomp_filters": // since 5.10
			s.filters, _ = strconv.Atoi(value)
		case "NoNewPrivs":
			s.noNewPrivs = value == "1"
		case "CapEff":
			s.capabilities = hex(value)
		case "SigPnd", "ShdPnd":
			waits |= hex(value)
		case "SigBlk":
			blocked = hex(value)
		}
	}
	s.pending = waits &^ blocked
	return s, nil
}

// worker reports whether the kernel runs the thread in the process's name, as io_uring's: it can be stopped, but never
// comes out of the kernel, so it makes no system call.
func worker(pid, tid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid))
	if err != nil {
		return false
	}
	const (
		flags      = 6      // behind the name, as proc_pid_stat(5) counts from 1 and before it
		ioWorker   = 0x10   // PF_IO_WORKER, since 5.12
		userWorker = 0x4000 // PF_USER_WORKER, since 6.4
	)
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= flags {
		return false
	}
	n, _ := strconv.ParseUint(fields[flags], 10, 64)
	return n&(ioWorker|userWorker) != 0
}

func hex(text string) uint64 {
	n, _ := strconv.ParseUint(text, 16, 64)
	return n
}

func tracer(pid, tid int) int {
	s, _ := readStatus(pid, tid)
	return s.tracer
}

// exiting reports whether the thread has ended and only waits to be forgotten.
func exiting(pid, tid int) bool {
	s, err := readStatus(pid, tid)
	return err != nil || s.state == 'Z' || s.state == 'X'
}

// fewestFilters returns the least number of filters that a thread of the process has.
func fewestFilters(pid int) int {
	tids, _ := threads(pid)
	least := math.MaxInt
	for _, tid := range tids {
		if s, err := readStatus(pid, tid); err == nil && s.state != 'Z' && s.seccomp != unix.SECCOMP_MODE_STRICT {
			least = min(least, s.filters)
		}
	}
	return least
}

func signalWaits(pid, tid int) bool {
	s, err := readStatus(pid, tid)
	return err == nil && s.pending != 0
}

// maxScan bounds what is searched of one mapping.
const maxScan = 4 << 20

// entryPoints finds system call instructions in the process, best in the kernel's own page:
// no program changes that.
func entryPoints(pid int) ([]uintptr, error) {
	tids, err := threads(pid)
	if err != nil {
		return nil, ErrGone
	}
	for _, tid := range tids {
		if !exiting(pid, tid) { // a first thread that has ended has no memory any more
			return entriesOf(pid, tid)
		}
	}
	return nil, ErrGone
}

func entriesOf(pid, tid int) ([]uintptr, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/maps", pid, tid))
	if err != nil {
		return nil, ErrGone
	}
	defer f.Close()
	var found []uintptr
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if !strings.Contains(line, " r-xp ") || strings.HasSuffix(line, "[vsyscall]") {
			continue
		}
		vdso := strings.HasSuffix(line, "[vdso]")
		if len(found) > 0 && !vdso {
			continue // one of the program's own is enough to fall back on
		}
		if entry, ok := scanEntry(tid, line); ok && vdso {
			return append([]uintptr{entry}, found...), nil
		} else if ok {
			found = append(found, entry)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if exiting(pid, tid) {
		return nil, ErrGone
	}
	return nil, ErrEntry
}

func scanEntry(tid int, line string) (uintptr, bool) {
	var low, high uintptr
	if _, err := fmt.Sscanf(line, "%x-%x", &low, &high); err != nil || high <= low {
		return 0, false
	}
	code := make([]byte, min(high-low, maxScan))
	if readMemory(tid, low, code) != nil {
		return 0, false
	}
	for i := 0; i+len(entryCode) <= len(code); i += entryStep {
		if bytes.Equal(code[i:i+len(entryCode)], entryCode) {
			return low + uintptr(i), true
		}
	}
	return 0, false
}

func isEntry(pid int, address uintptr) bool {
	code := make([]byte, len(entryCode))
	return readMemory(pid, address, code) == nil && bytes.Equal(code, entryCode)
}

func readMemory(pid int, address uintptr, b []byte) error {
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMReadv(pid, local, []unix.RemoteIovec{{Base: address, Len: len(b)}}, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	return err
}

func writeMemory(pid int, address uintptr, b []byte) error {
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	n, err := unix.ProcessVMWritev(pid, local, []unix.RemoteIovec{{Base: address, Len: len(b)}}, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	return err
}

// getfd copies a descriptor out of a process, also of one whose first thread has ended.
func getfd(pid, tid, remote int) (int, error) {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(handle)
	local, err := unix.PidfdGetfd(handle, remote, 0)
	if err == nil || pid == tid {
		return local, err
	}
	const thread = unix.O_EXCL // PIDFD_THREAD, since 6.9
	other, openErr := unix.PidfdOpen(tid, thread)
	if openErr != nil {
		return -1, err
	}
	defer unix.Close(other)
	return unix.PidfdGetfd(other, remote, 0)
}
