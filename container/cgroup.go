package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Ref is what the path of a cgroup says about the container it belongs to.
type Ref struct {
	ID     string // the engine's id of the container, or its name where engines use names
	Dir    string // the container's own directory; the path itself may be below it
	PodUID string // of the Kubernetes pod, where the path names one
	Sure   bool   // false: it looks like ctr's NAMESPACE/NAME, which only an engine can confirm
}

// The prefixes that engines put before an id: "docker-ID.scope", "cri-containerd-ID.scope".
var scopePrefixes = []string{"docker-", "cri-containerd-", "crio-", "libpod-payload-", "libpod-", "nerdctl-", "containerd-", "podman-", "buildkit-"}

// maxPath is the kernel's own limit of a path.
const maxPath = 4096

// ParseCgroup finds the container in a cgroup path as /proc/PID/cgroup gives it. Of nested
// containers it names the outermost: the one that this node's engines know.
func ParseCgroup(cgroup string) (Ref, bool) {
	if len(cgroup) > maxPath || !strings.HasPrefix(cgroup, "/") || strings.ContainsRune(cgroup, 0) {
		return Ref{}, false
	}
	cgroup = path.Clean(cgroup)
	parts := strings.Split(cgroup[1:], "/")
	pod := ""
	for i, part := range parts {
		id := componentID(part)
		if id == "" && i > 0 && podUID(parts[i-1]) != "" && validID(part) && !strings.Contains(part, "conmon") {
			id = part
		}
		if id != "" {
			return Ref{ID: id, Dir: "/" + path.Join(parts[:i+1]...), PodUID: pod, Sure: true}, true
		}
		if uid := podUID(part); uid != "" {
			pod = uid
		}
	}
	return namedRef(parts)
}

// componentID finds the id in one component: ID, PREFIX-ID.scope, PREFIX-ID, SLICE:PREFIX:ID.
func componentID(part string) string {
	part = strings.TrimSuffix(part, ".scope")
	if i := strings.LastIndexByte(part, ':'); i >= 0 {
		part = part[i+1:]
	}
	if isHexID(part) {
		return part
	}
	for _, prefix := range scopePrefixes {
		if id, ok := strings.CutPrefix(part, prefix); ok && isHexID(id) {
			return id
		}
	}
	return ""
}

// podUID finds the pod's UID in "pod<uid>" and "kubepods-burstable-pod<uid with _>.slice".
func podUID(part string) string {
	part, slice := strings.CutSuffix(part, ".slice")
	if slice {
		i := strings.LastIndex(part, "-pod")
		if !strings.HasPrefix(part, "kubepods") || i < 0 {
			return ""
		}
		part = strings.ReplaceAll(part[i+1:], "_", "-")
	}
	uid, ok := strings.CutPrefix(part, "pod")
	if !ok || len(uid) < 32 || len(uid) > 36 || strings.Trim(uid, "0123456789abcdef-") != "" {
		return ""
	}
	return uid
}

// namedRef is for ctr, which puts a container at NAMESPACE/NAME.
func namedRef(parts []string) (Ref, bool) {
	if len(parts) < 2 || !validID(parts[0]) || !validID(parts[1]) {
		return Ref{}, false
	}
	for _, part := range parts[:2] {
		if unit(part) {
			return Ref{}, false
		}
	}
	return Ref{ID: parts[1], Dir: "/" + parts[0] + "/" + parts[1]}, true
}

// unit reports whether a component is systemd's, or a directory of pods.
func unit(part string) bool {
	switch path.Ext(part) {
	case ".slice", ".scope", ".service", ".mount", ".socket", ".swap":
		return true
	}
	return part == "kubepods" || part == "burstable" || part == "besteffort" || podUID(part) != ""
}

// validID is what containerd allows as a container's name; Docker and CRI use less.
func validID(s string) bool {
	if s == "" || len(s) > 128 || strings.ContainsRune("-_.", rune(s[0])) {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r) {
			return false
		}
	}
	return true
}

// findCgroup2 reads where the version 2 hierarchy is mounted. A mount of the whole hierarchy is
// preferred to one of a part of it.
func findCgroup2(mountinfo io.Reader) (string, error) {
	part := ""
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if fields[3] == "/" {
			return unescape(fields[4]), nil
		}
		part = unescape(fields[4])
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read the list of mounts: %w", err)
	}
	if part == "" {
		return "", errors.New("no cgroup v2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`")
	}
	return part, nil
}

// unescape undoes the kernel's octal escapes (\040 for a space) in mountinfo.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// cgroupOf finds the cgroup v2 path in the text of /proc/PID/cgroup. Where a runtime joined the
// container to the version 1 hierarchies only, that path is given, and v2 is false.
func cgroupOf(r io.Reader) (cgroup string, v2 bool) {
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if _, ok := ParseCgroup(fields[2]); fields[0] == "0" && (ok || cgroup == "") {
			return fields[2], true
		}
		if ref, ok := ParseCgroup(fields[2]); ok && ref.Sure {
			cgroup = fields[2]
		}
	}
	return cgroup, false
}

// cgroupOfPID is the cgroup v2 path of a running process.
func cgroupOfPID(pid int) (string, bool) {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", false
	}
	defer file.Close()
	return cgroupOf(file)
}

// cgroupID is the number that bpf_get_current_cgroup_id() returns for processes in a directory.
func cgroupID(root, cgroup string) uint64 {
	var stat syscall.Stat_t
	if root == "" || cgroup == "" || syscall.Lstat(filepath.Join(root, cgroup), &stat) != nil {
		return 0
	}
	return stat.Ino
}

// firstProcess is the process of a container's cgroup that counts as 1 inside, or else the first.
func firstProcess(root, cgroup string) int {
	file, err := os.Open(filepath.Join(root, cgroup, "cgroup.procs"))
	if err != nil {
		return 0
	}
	defer file.Close()
	first := 0
	lines := bufio.NewScanner(io.LimitReader(file, 4<<10)) // the first process is among the first few hundred
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			break
		}
		if first == 0 {
			first = pid
		}
		if isInit(pid) {
			return pid
		}
	}
	return first
}

func isInit(pid int) bool {
	file, err := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, 8<<10))
	for lines.Scan() {
		if ids, ok := strings.CutPrefix(lines.Text(), "NSpid:"); ok {
			fields := strings.Fields(ids)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}
