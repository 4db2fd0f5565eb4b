// Package sensor turns the kernel's records into events with a container and a workload on them. Start with
// [New] and [Sensor.Run].
//
// It promises that every record becomes one event or is counted as unknown, that a hole in the kernel's numbers
// is counted as lost, and that its memory is bounded however many processes start. It is not for deciding
// anything: what was decided is in the event.
package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/profile/syscalls"
)

// Options for [New].
type Options struct {
	Kernel *bpf.Kernel
	Lookup func(cgroup uint64) (bulkhead.Container, bool)
	Node   string
	Log    *slog.Logger
}

// Sensor reads the ring. One goroutine runs it.
type Sensor struct {
	options   Options
	boot      string
	started   time.Time // when the kernel's clock was zero
	processes *processes
	next      uint64

	events, lost, unknown atomic.Uint64
}

// New prepares a sensor.
func New(o Options) (*Sensor, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("reading this boot's id: %w", err)
	}
	return &Sensor{options: o, boot: strings.TrimSpace(string(boot)), started: bpf.BootTime(), processes: newProcesses()}, nil
}

// Stats counts events, those that found the ring full, and those of cgroups nobody knows.
func (s *Sensor) Stats() (events, lost, unknown uint64) {
	return s.events.Load(), s.lost.Load(), s.unknown.Load()
}

// Run hands every event to handle, in the kernel's order, until the context ends.
func (s *Sensor) Run(ctx context.Context, handle func(*bulkhead.Event)) error {
	ring, err := s.options.Kernel.Events()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { ring.Close() })
	defer stop()
	defer ring.Close()
	var rec bpf.Record
	for {
		raw, err := ring.Read(&rec)
		if errors.Is(err, os.ErrClosed) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("reading the event ring: %w", err)
		}
		if e := s.event(raw); e != nil {
			handle(e)
		}
	}
}

func (s *Sensor) event(raw *bpf.Event) *bulkhead.Event {
	s.count(raw.Seq)
	c, ok := s.options.Lookup(raw.Cgroup)
	if !ok {
		s.unknown.Add(1)
		return nil
	}
	e := &bulkhead.Event{
		Boot: s.boot, Seq: raw.Seq, Time: s.started.Add(time.Duration(raw.Time)), Node: s.options.Node,
		Container: c, Repeats: int(raw.Repeats), Backend: backends[min(int(raw.Backend), len(backends)-1)],
		Verdict: verdicts[min(int(raw.Verdict), len(verdicts)-1)], Reason: reasons[min(int(raw.Reason), len(reasons)-1)],
	}
	s.fill(e, raw)
	e.Process = s.process(raw, e)
	return e
}

func (s *Sensor) count(seq uint64) {
	s.events.Add(1)
	switch {
	case s.next != 0 && seq > s.next:
		s.lost.Add(seq - s.next)
	case seq < s.next && s.lost.Load() > 0: // late, behind one of another processor: it was counted
		s.lost.Add(^uint64(0))
	}
	s.next = max(s.next, seq+1)
}

var (
	backends = []string{"tracepoint", "lsm", "cgroup"}
	verdicts = []bulkhead.Verdict{bulkhead.Allowed, bulkhead.WouldBlock, bulkhead.Blocked}
	reasons  = []bulkhead.Reason{
		"", bulkhead.ReasonForeignFile, bulkhead.ReasonNotInProfile, bulkhead.ReasonForeignScript, bulkhead.ReasonAnonymousCode,
		bulkhead.ReasonProcessMemory, bulkhead.ReasonSyscall, bulkhead.ReasonForeignABI, bulkhead.ReasonFileWrite, bulkhead.ReasonFileRead,
		bulkhead.ReasonConnect, bulkhead.ReasonListen, bulkhead.ReasonSocket, bulkhead.ReasonHostNamespace,
	}
	origins = []bulkhead.Origin{
		bulkhead.OriginImage, bulkhead.OriginUpper, bulkhead.OriginTmpfs, bulkhead.OriginMemory,
		bulkhead.OriginMount, bulkhead.OriginHost, "anonymous", "kernel",
	}
)

func origin(o bpf.Origin) bulkhead.Origin { return origins[min(int(o), len(origins)-1)] }

// fill sets the detail of the event's kind.
func (s *Sensor) fill(e *bulkhead.Event, raw *bpf.Event) {
	switch raw.Kind {
	case bpf.KindExec:
		e.Kind, e.Exec = bulkhead.EventExec, execOf(raw)
		if int(raw.PID) == e.Container.PID {
			e.Exec.Entered = false // its parent is the runtime too, but it is what the container was started for
		}
		if raw.Flags&bpf.FlagHostNamespace != 0 && e.Reason == "" {
			e.Reason = bulkhead.ReasonHostNamespace
		}
	case bpf.KindFile:
		e.Kind = bulkhead.EventFile
		e.File = &bulkhead.File{Path: raw.Path(), Write: raw.Flags&bpf.FlagWrite != 0, Created: raw.Flags&bpf.FlagCreated != 0, Origin: origin(raw.Origin)}
	case bpf.KindConnect, bpf.KindListen, bpf.KindSocket:
		e.Kind, e.Network = networkOf(raw)
	case bpf.KindSyscall:
		e.Kind, e.Syscall = bulkhead.EventSyscall, callOf(raw)
	case bpf.KindMemory:
		e.Kind = bulkhead.EventMemory
		e.Memory = &bulkhead.Memory{Path: raw.Path(), Origin: origin(raw.Origin), Call: syscalls.Name(runtime.GOARCH, int(raw.Nr))}
	}
}

func execOf(raw *bpf.Event) *bulkhead.Exec {
	x := &bulkhead.Exec{
		Path: raw.Path(), Origin: origin(raw.Origin),
		StdinSocket: raw.Flags&bpf.FlagStdinSocket != 0, StdinFile: raw.Flags&bpf.FlagStdinFile != 0,
		Entered: raw.Flags&bpf.FlagEntered != 0,
	}
	if args := argv(raw.Text()); len(args) > 0 {
		x.Applet = strings.TrimPrefix(args[0][strings.LastIndexByte(args[0], '/')+1:], "-")
		if len(args) > 1 && strings.HasPrefix(args[1], "/") && scriptInterpreter(x.Path) {
			x.Script = args[1]
		}
	}
	return x
}

func argv(text string) []string {
	text = strings.TrimSuffix(text, "\x00")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\x00")
}

func callOf(raw *bpf.Event) *bulkhead.Syscall {
	call := &bulkhead.Syscall{Name: syscalls.Name(runtime.GOARCH, int(raw.Nr)), Args: raw.Args, Path: raw.Path(), Path2: raw.Text()}
	if raw.Flags&bpf.FlagCompat != 0 {
		call.ABI = "i386"
		if raw.Nr&0x40000000 != 0 {
			call.ABI = "x32"
		}
		call.Name = fmt.Sprintf("%s/%d", call.ABI, raw.Nr&^0x40000000)
	}
	return call
}

// process says who it was. What a program was called with is known from its start; a process that has started
// none since the agent came is described by what the kernel gives with every record.
func (s *Sensor) process(raw *bpf.Event, e *bulkhead.Event) bulkhead.Process {
	p := bulkhead.Process{PID: int(raw.PID), TID: int(raw.TID), UID: int(raw.UID), Comm: comm(raw.Comm), Started: raw.Started}
	key := processKey{raw.PID, raw.Started}
	if e.Exec != nil {
		p.Exe, p.Args = e.Exec.Path, argv(raw.Text())
		if e.Verdict != bulkhead.Blocked {
			s.processes.put(key, known{p.Exe, p.Args})
		}
	} else if k, ok := s.processes.find(key, raw); ok {
		p.Exe, p.Args = k.exe, k.args
	}
	if p.Args == nil {
		p.Args = []string{}
	}
	p.Ancestry = s.ancestry(raw)
	return p
}

func (s *Sensor) ancestry(raw *bpf.Event) []bulkhead.Ancestor {
	list := make([]bulkhead.Ancestor, 0, len(raw.Up))
	for _, up := range raw.Up {
		if up.PID == 0 {
			break
		}
		a := bulkhead.Ancestor{PID: int(up.PID), Comm: comm(up.Comm)}
		if k, ok := s.processes.get(processKey{up.PID, up.Started}); ok {
			a.Exe = k.exe
		}
		list = append(list, a)
	}
	return list
}

func comm(b [16]byte) string {
	text, _, _ := strings.Cut(string(b[:]), "\x00")
	return text
}
