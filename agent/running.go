package agent

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/profile/syscalls"
)

// running tells what a container that was there before us does: the programs that run, the files they have open
// for writing and the ports they listen on, as the events that we missed; and the system calls that its threads
// wait in, which none of them may enter again for a long time.
func running(c bulkhead.Container) (list []*bulkhead.Event, calls []string) {
	root, err := cgroupRoot()
	if err != nil || c.Cgroup == "" {
		return nil, nil
	}
	add := func(e bulkhead.Event) {
		e.Time, e.Container, e.Verdict = time.Now(), c, bulkhead.Allowed
		list = append(list, &e)
	}
	pids := pidsBelow(filepath.Join(root, c.Cgroup))
	for _, pid := range pids {
		calls = append(calls, waitingIn(pid)...)
		p := processNow(pid)
		if p.Exe == "" {
			continue
		}
		x := &bulkhead.Exec{Path: p.Exe, Origin: bulkhead.OriginImage}
		if len(p.Args) > 0 {
			x.Applet = strings.TrimPrefix(filepath.Base(p.Args[0]), "-")
		}
		add(bulkhead.Event{Kind: bulkhead.EventExec, Process: p, Exec: x})
		for _, path := range openForWriting(pid) {
			add(bulkhead.Event{Kind: bulkhead.EventFile, Process: p, File: &bulkhead.File{Path: path, Write: true}})
		}
	}
	if len(pids) > 0 {
		for _, n := range listening(pids[0]) {
			add(bulkhead.Event{Kind: bulkhead.EventListen, Network: &n})
		}
	}
	return list, calls
}

// waitingIn reads the calls that a process's threads are blocked in.
func waitingIn(pid int) []string {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	var names []string
	for _, t := range threads {
		b, _ := os.ReadFile(t)
		number, _, _ := strings.Cut(string(b), " ")
		if nr, err := strconv.Atoi(strings.TrimSpace(number)); err == nil {
			if name := syscalls.Name(runtime.GOARCH, nr); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

func pidsBelow(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		b, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for line := range strings.Lines(string(b)) {
			if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

func openForWriting(pid int) []string {
	dir := fmt.Sprintf("/proc/%d", pid)
	fds, _ := os.ReadDir(dir + "/fd")
	var paths []string
	for _, fd := range fds {
		target, err := os.Readlink(dir + "/fd/" + fd.Name())
		if err != nil || !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "/dev/") || strings.HasSuffix(target, " (deleted)") {
			continue
		}
		info, _ := os.ReadFile(dir + "/fdinfo/" + fd.Name())
		if writable(string(info)) {
			paths = append(paths, target)
		}
	}
	return paths
}

func writable(info string) bool {
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(rest), 8, 64)
			return err == nil && flags&3 != 0
		}
	}
	return false
}

// dockerResolver is where Docker itself listens inside the network namespaces of its user networks.
var dockerResolver = netip.AddrFrom4([4]byte{127, 0, 0, 11})

// listening reads the ports of the process's network namespace.
func listening(pid int) []bulkhead.Network {
	var list []bulkhead.Network
	for _, t := range []struct{ file, protocol, state string }{{"tcp", "tcp", "0A"}, {"tcp6", "tcp", "0A"}, {"udp", "udp", "07"}, {"udp6", "udp", "07"}} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, t.file))
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 4 || fields[3] != t.state {
				continue
			}
			if address, port, ok := procAddress(fields[1]); ok && address != dockerResolver {
				list = append(list, bulkhead.Network{Protocol: t.protocol, Address: address.String(), Port: port})
			}
		}
		f.Close()
	}
	return list
}

// procAddress reads "0100007F:1F90": words in the machine's byte order, both our processors' being little-endian.
func procAddress(text string) (netip.Addr, int, bool) {
	host, port, ok := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil {
		return netip.Addr{}, 0, false
	}
	for i := 0; i+3 < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), int(n), ok
}
