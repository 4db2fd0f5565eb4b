package gate

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/container"
	"bulkhead/image"
)

// Named are the names under which an engine that keeps one digest for each reference has an image.
func Named(i bulkhead.Image) []string {
	n, err := image.ParseName(i.Reference)
	if err != nil || i.Digest == "" || strings.HasPrefix(i.Reference, "sha256:") {
		return nil
	}
	return []string{n.Repository + "@" + i.Digest}
}

// AskDocker completes a question by what Docker has of the image.
func AskDocker(a Ask, i container.DockerImage) Ask {
	with := askOf(a.Container, a.Reference, i, a.Powers)
	a.Reference, a.Names, a.Config = with.Reference, with.Names, i.ID
	return a
}

// capabilities by their numbers, as far as an engine gives them by itself: the others are extraordinary.
var ordinaryBits = []int{0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}

const allBits = 1<<41 - 1 // those of Linux 5.9 and later

// PowersOf reads from the kernel what the first process of a container has, whatever its engine says. What cannot be
// told apart there (directories and devices of the host) is not among it.
func PowersOf(pid int) (all []string) {
	if pid <= 0 {
		return nil
	}
	add := func(name string, has bool) {
		if has {
			all = append(all, name)
		}
	}
	bounding, seccomp := statusOf(pid)
	add("privileged", bounding&allBits == allBits && !seccomp)
	add("host-network", sharesHost(pid, "net"))
	add("host-pid", sharesHost(pid, "pid"))
	add("host-ipc", sharesHost(pid, "ipc"))
	add("engine-socket", seesEngine(pid))
	add("capabilities", bounding&^ordinaryMask() != 0)
	add("unconfined", !seccomp)
	return all
}

func ordinaryMask() (mask uint64) {
	for _, bit := range ordinaryBits {
		mask |= 1 << bit
	}
	return mask
}

// statusOf reads the capabilities that a process can ever have, and whether a seccomp filter is on it.
func statusOf(pid int) (bounding uint64, seccomp bool) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); name {
		case "CapBnd":
			bounding, _ = strconv.ParseUint(value, 16, 64)
		case "Seccomp":
			seccomp = value != "0"
		}
	}
	return bounding, seccomp
}

// sharesHost compares with a thread of the kernel: the host's first process may hide its namespaces, even from root.
func sharesHost(pid int, kind string) bool {
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	host, bad := os.Readlink("/proc/2/ns/" + kind)
	return err == nil && bad == nil && own == host
}

// seesEngine reports whether the socket of a container engine, or a directory of them, is mounted into a container.
func seesEngine(pid int) bool {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 4 && slices.Contains([]string{"docker.sock", "containerd.sock", "crio.sock", "podman.sock"}, path.Base(fields[3])) {
			return true
		}
	}
	return false
}
