package tree

import (
	"bytes"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Process is a running program, as /proc tells.
type Process struct {
	PID  int
	Name string // the last part of its path, or its comm where the kernel does not tell the path
	Args []string
	UID  int
}

const maxProcesses = 50_000

// Processes lists the running programs with these names. Those in a pid namespace of their own are left out where
// the kernel tells: they belong to a container.
func (t *Tree) Processes(names ...string) ([]Process, error) {
	pids, err := t.List("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, pid := range pids[:min(len(pids), maxProcesses)] {
		n, err := strconv.Atoi(pid)
		if err != nil {
			continue
		}
		if p, ok := t.process(n); ok && slices.Contains(names, p.Name) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found, nil
}

// process reads one; false for threads of the kernel and for what has ended meanwhile.
func (t *Tree) process(pid int) (Process, bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	line, err := t.Read(dir + "/cmdline")
	if err != nil || len(line) == 0 {
		return Process{}, false
	}
	args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	p := Process{PID: pid, Name: path.Base(args[0]), Args: args[1:]}
	p.UID = t.processUser(dir)
	return p, true
}

func (t *Tree) processUser(dir string) int {
	status, err := t.Read(dir + "/status")
	if err != nil {
		return -1
	}
	_, after, _ := bytes.Cut(status, []byte("\nUid:\t"))
	first, _, _ := bytes.Cut(after, []byte("\t"))
	uid, err := strconv.Atoi(string(first))
	if err != nil {
		return -1
	}
	return uid
}

// Contained reports whether a process has a pid namespace other than the host's first process.
func (t *Tree) Contained(p Process) bool {
	host, err := t.Link("/proc/1/ns/pid")
	if err != nil {
		return false
	}
	own, err := t.Link("/proc/" + strconv.Itoa(p.PID) + "/ns/pid")
	return err == nil && own != host
}

// Merge lays one document over another. Lists are replaced.
func Merge(into, over map[string]any) {
	for key, v := range over {
		inner, isMap := v.(map[string]any)
		have, wasMap := into[key].(map[string]any)
		if isMap && wasMap {
			Merge(have, inner)
			continue
		}
		into[key] = v
	}
}

// Flags reads arguments as --name=value, --name value and --name. The last of a name counts, as with Go's own flags;
// lists has all values of it.
func Flags(args []string, switches ...string) (last map[string]any, lists map[string]any) {
	last, lists = map[string]any{}, map[string]any{}
	for i := 0; i < len(args); i++ {
		name, ok := strings.CutPrefix(args[i], "-")
		if !ok || name == "-" || name == "" {
			continue
		}
		name = strings.TrimPrefix(name, "-")
		name, value, given := strings.Cut(name, "=")
		if !given {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") && !slices.Contains(switches, name) {
				i++
				value = args[i]
			}
		}
		last[name] = value
		all, _ := lists[name].([]any)
		lists[name] = append(all, value)
	}
	return last, lists
}
