package sensor

import (
	"os"
	"path"
	"strconv"
	"strings"

	"bulkhead/bpf"
	"bulkhead/profile"
)

type processKey struct {
	pid     uint32
	started uint64
}

type known struct {
	exe  string
	args []string
}

// maxProcesses bounds what is remembered: two generations of half of it. A process of a forgotten program is
// looked up in /proc while it lives.
const maxProcesses = 8192

// processes remembers what programs were started with, in two generations: when the young one is full, the old
// one is forgotten.
type processes struct{ young, old map[processKey]known }

func newProcesses() *processes {
	return &processes{young: map[processKey]known{}, old: map[processKey]known{}}
}

func (p *processes) put(key processKey, k known) {
	if len(p.young) >= maxProcesses/2 {
		p.old, p.young = p.young, make(map[processKey]known, maxProcesses/2)
	}
	p.young[key] = k
}

func (p *processes) get(key processKey) (known, bool) {
	if k, ok := p.young[key]; ok {
		return k, true
	}
	k, ok := p.old[key]
	if ok {
		p.put(key, k)
	}
	return k, ok
}

// find also asks /proc, and inherits from the parent: a process that was forked runs its parent's program.
func (p *processes) find(key processKey, raw *bpf.Event) (known, bool) {
	if k, ok := p.get(key); ok {
		return k, true
	}
	k, ok := fromProc(key.pid)
	if !ok && raw.Up[0].PID != 0 && comm(raw.Up[0].Comm) == comm(raw.Comm) {
		k, ok = p.get(processKey{raw.Up[0].PID, raw.Up[0].Started})
	}
	if ok {
		p.put(key, k)
	}
	return k, ok
}

func fromProc(pid uint32) (known, bool) {
	dir := "/proc/" + strconv.Itoa(int(pid))
	exe, err := os.Readlink(dir + "/exe")
	if err != nil {
		return known{}, false
	}
	line, _ := os.ReadFile(dir + "/cmdline")
	if len(line) > 512 {
		line = line[:512]
	}
	return known{strings.TrimSuffix(exe, " (deleted)"), argv(string(line))}, true
}

func scriptInterpreter(exe string) bool {
	return profile.Interpreter(exe) && path.Base(exe) != "apache2"
}
