package sensor

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/bpf"
	"bulkhead/profile/syscalls"
)

var shop = bulkhead.Container{ID: "c", Name: "shop", CgroupID: 7, Workload: bulkhead.Workload{Name: "docker/shop"}}

func newTestSensor(t *testing.T) *Sensor {
	t.Helper()
	s, err := New(Options{Node: "n1", Log: slog.New(slog.DiscardHandler), Lookup: func(cgroup uint64) (bulkhead.Container, bool) {
		return shop, cgroup == shop.CgroupID
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.boot, s.started = "boot", time.Unix(1700000000, 0)
	return s
}

// noProcess has a number that no process of this machine has.
const noProcess = 1 << 30

func record(kind bpf.Kind, path, text string) *bpf.Event {
	raw := &bpf.Event{Kind: kind, Cgroup: 7, Seq: 9, Time: uint64(2 * time.Second), PID: noProcess, Started: 11, UID: 33}
	copy(raw.Comm[:], "app")
	raw.Describe(path, text)
	return raw
}

func number(t *testing.T, name string) uint32 {
	t.Helper()
	nr, ok := syscalls.Number(runtime.GOARCH, name)
	if !ok {
		t.Fatalf("no system call %s", name)
	}
	return uint32(nr)
}

func TestEvents(t *testing.T) {
	network := func(kind bpf.Kind, protocol uint8, address string, port uint16) *bpf.Event {
		raw := record(kind, "", "")
		raw.Protocol, raw.Port, raw.Addr = protocol, port, netip.MustParseAddr(address).As16()
		return raw
	}
	for _, test := range []struct {
		name string
		raw  *bpf.Event
		set  func(*bpf.Event)
		want bulkhead.Event
	}{
		{
			"exec", record(bpf.KindExec, "/usr/bin/busybox", "/bin/sh\x00-c\x00id\x00"), func(r *bpf.Event) { r.Flags = bpf.FlagStdinSocket | bpf.FlagEntered },
			bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: "/usr/bin/busybox", Applet: "sh", Origin: bulkhead.OriginImage, StdinSocket: true, Entered: true}},
		},
		{
			"login shell", record(bpf.KindExec, "/bin/bash", "-bash\x00"), nil,
			bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: "/bin/bash", Applet: "bash", Origin: bulkhead.OriginImage}},
		},
		{
			"script", record(bpf.KindExec, "/usr/bin/python3.11", "python3\x00/srv/app.py\x00"), nil,
			bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: "/usr/bin/python3.11", Applet: "python3", Script: "/srv/app.py", Origin: bulkhead.OriginImage}},
		},
		{"foreign exec", record(bpf.KindExec, "/tmp/x", ""), func(r *bpf.Event) {
			r.Origin, r.Verdict, r.Reason, r.Backend, r.Repeats = bpf.FromTmpfs, bpf.Blocked, bpf.ForeignFile, bpf.LSM, 4
		}, bulkhead.Event{
			Kind: bulkhead.EventExec, Verdict: bulkhead.Blocked, Reason: bulkhead.ReasonForeignFile, Backend: "lsm", Repeats: 4,
			Exec: &bulkhead.Exec{Path: "/tmp/x", Origin: bulkhead.OriginTmpfs},
		}},
		{
			"host namespaces", record(bpf.KindExec, "/bin/sh", "sh"), func(r *bpf.Event) { r.Flags = bpf.FlagHostNamespace },
			bulkhead.Event{Kind: bulkhead.EventExec, Reason: bulkhead.ReasonHostNamespace, Exec: &bulkhead.Exec{Path: "/bin/sh", Applet: "sh", Origin: bulkhead.OriginImage}},
		},
		{
			"file", record(bpf.KindFile, "/etc/passwd", ""), func(r *bpf.Event) { r.Flags, r.Origin = bpf.FlagWrite|bpf.FlagCreated, bpf.FromUpper },
			bulkhead.Event{Kind: bulkhead.EventFile, File: &bulkhead.File{Path: "/etc/passwd", Write: true, Created: true, Origin: bulkhead.OriginUpper}},
		},
		{
			"connect", network(bpf.KindConnect, 6, "::ffff:10.0.0.1", 443), func(r *bpf.Event) { r.Backend = bpf.Cgroup },
			bulkhead.Event{Kind: bulkhead.EventConnect, Backend: "cgroup", Network: &bulkhead.Network{Protocol: "tcp", Address: "10.0.0.1", Port: 443}},
		},
		{
			"connect v6", network(bpf.KindConnect, 17, "2001:db8::1", 53), nil,
			bulkhead.Event{Kind: bulkhead.EventConnect, Network: &bulkhead.Network{Protocol: "udp", Address: "2001:db8::1", Port: 53}},
		},
		{
			"listen", network(bpf.KindListen, 6, "::", 80), nil,
			bulkhead.Event{Kind: bulkhead.EventListen, Network: &bulkhead.Network{Protocol: "tcp", Address: "::", Port: 80}},
		},
		{
			"raw socket", network(bpf.KindSocket, 1, "::", 3), nil,
			bulkhead.Event{Kind: bulkhead.EventListen, Network: &bulkhead.Network{Protocol: "raw", Port: 1}},
		},
		{
			"odd protocol", network(bpf.KindConnect, 250, "::1", 0), nil,
			bulkhead.Event{Kind: bulkhead.EventConnect, Network: &bulkhead.Network{Protocol: "ip/250", Address: "::1"}},
		},
		{
			"call", record(bpf.KindSyscall, "/proc", "/mnt"), func(r *bpf.Event) { r.Nr, r.Args = number(t, "mount"), [6]uint64{1, 2} },
			bulkhead.Event{Kind: bulkhead.EventSyscall, Syscall: &bulkhead.Syscall{Name: "mount", Args: [6]uint64{1, 2}, Path: "/proc", Path2: "/mnt"}},
		},
		{
			"32-bit call", record(bpf.KindSyscall, "", ""), func(r *bpf.Event) { r.Nr, r.Flags = 11, bpf.FlagCompat },
			bulkhead.Event{Kind: bulkhead.EventSyscall, Syscall: &bulkhead.Syscall{Name: "i386/11", ABI: "i386"}},
		},
		{
			"x32 call", record(bpf.KindSyscall, "", ""), func(r *bpf.Event) { r.Nr, r.Flags = 0x40000000|59, bpf.FlagCompat },
			bulkhead.Event{Kind: bulkhead.EventSyscall, Syscall: &bulkhead.Syscall{Name: "x32/59", ABI: "x32"}},
		},
		{
			"memory", record(bpf.KindMemory, "", ""), func(r *bpf.Event) { r.Nr, r.Origin = number(t, "mprotect"), bpf.FromNowhere },
			bulkhead.Event{Kind: bulkhead.EventMemory, Memory: &bulkhead.Memory{Origin: "anonymous", Call: "mprotect"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.set != nil {
				test.set(test.raw)
			}
			got := newTestSensor(t).event(test.raw)
			want := test.want
			want.Boot, want.Seq, want.Time, want.Node, want.Container = "boot", 9, time.Unix(1700000002, 0), "n1", shop
			if want.Verdict == "" {
				want.Verdict = bulkhead.Allowed
			}
			if want.Backend == "" {
				want.Backend = "tracepoint"
			}
			want.Process = bulkhead.Process{PID: noProcess, UID: 33, Comm: "app", Started: 11, Args: []string{}, Ancestry: []bulkhead.Ancestor{}}
			if want.Exec != nil {
				want.Process.Exe = want.Exec.Path
				want.Process.Args = append([]string{}, argv(test.raw.Text())...)
			}
			if d := cmp.Diff(&want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestLost counts holes in the numbers, and not what came before us.
func TestLost(t *testing.T) {
	s := newTestSensor(t)
	for _, seq := range []uint64{1000, 1001, 1002, 1005, 1004, 1006, 1007, 2007} {
		raw := record(bpf.KindFile, "/x", "")
		raw.Seq = seq
		s.event(raw)
	}
	// Two processors hand in 1005 and 1004 in this order: only 1003 is missing, and 999 of the last step.
	if events, lost, unknown := s.Stats(); events != 8 || lost != 1+999 || unknown != 0 {
		t.Errorf("%d events, %d lost, %d unknown", events, lost, unknown)
	}
}

func TestUnknownContainer(t *testing.T) {
	s := newTestSensor(t)
	raw := record(bpf.KindFile, "/x", "")
	raw.Cgroup = 8
	if e := s.event(raw); e != nil {
		t.Error(e)
	}
	if _, _, unknown := s.Stats(); unknown != 1 {
		t.Errorf("%d unknown", unknown)
	}
}

// TestProcessMemory: a fork bomb leaves a bounded number of programs in memory, and what is asked for stays known.
func TestProcessMemory(t *testing.T) {
	s := newTestSensor(t)
	kept := record(bpf.KindExec, "/usr/bin/server", "server\x00")
	kept.Started = 1
	s.event(kept)
	for i := range 20 * maxProcesses {
		raw := record(bpf.KindExec, fmt.Sprintf("/usr/bin/p%d", i), "p")
		raw.Started = uint64(1000 + i)
		s.event(raw)
		if n := len(s.processes.young) + len(s.processes.old); n > maxProcesses {
			t.Fatalf("%d programs are remembered, the bound is %d", n, maxProcesses)
		}
		if i%1000 == 0 {
			raw := record(bpf.KindFile, "/x", "")
			raw.Started = 1
			if e := s.event(raw); e.Process.Exe != "/usr/bin/server" {
				t.Fatalf("after %d programs the server is %q", i, e.Process.Exe)
			}
		}
	}
}

// TestBlockedProgramIsNotTheProcess: a program that was not let in is not what the process runs afterwards.
func TestBlockedProgramIsNotTheProcess(t *testing.T) {
	s := newTestSensor(t)
	s.event(record(bpf.KindExec, "/usr/bin/server", "server\x00-d\x00"))
	blocked := record(bpf.KindExec, "/tmp/x", "x")
	blocked.Verdict, blocked.Reason = bpf.Blocked, bpf.ForeignFile
	s.event(blocked)
	e := s.event(record(bpf.KindFile, "/x", ""))
	if e.Process.Exe != "/usr/bin/server" || len(e.Process.Args) != 2 {
		t.Errorf("%+v", e.Process)
	}
}

func TestAncestry(t *testing.T) {
	s := newTestSensor(t)
	parent := record(bpf.KindExec, "/usr/sbin/nginx", "nginx")
	parent.PID, parent.Started = noProcess+1, 5
	s.event(parent)
	raw := record(bpf.KindFile, "/x", "")
	raw.Up[0] = bpf.Ancestor{PID: noProcess + 1, Started: 5}
	copy(raw.Up[0].Comm[:], "app") // as a fork has the name of its parent
	raw.Up[1] = bpf.Ancestor{PID: noProcess + 2, Started: 4}
	copy(raw.Up[1].Comm[:], strings.Repeat("n", 16)) // without a zero byte
	got := s.event(raw).Process
	want := []bulkhead.Ancestor{{PID: noProcess + 1, Comm: "app", Exe: "/usr/sbin/nginx"}, {PID: noProcess + 2, Comm: strings.Repeat("n", 16)}}
	if d := cmp.Diff(want, got.Ancestry); d != "" || got.Exe != "/usr/sbin/nginx" {
		t.Errorf("%s, exe %s", d, got.Exe)
	}
}

func TestHostileNames(t *testing.T) {
	s := newTestSensor(t)
	raw := record(bpf.KindExec, "/tmp/\x1b[31m\xff\n", "\x00\x00\xff\x00\x1b]0;x\x07")
	copy(raw.Comm[:], "\xff\xfe\x1b[2J\nabcdefgh")
	e := s.event(raw)
	if e.Exec.Path != "/tmp/\x1b[31m\xff\n" || len(e.Process.Args) != 4 || e.Exec.Applet != "" {
		t.Errorf("%+v %+v", e.Exec, e.Process)
	}
	long := record(bpf.KindExec, strings.Repeat("/a", 5000), strings.Repeat("b", 5000))
	if e := s.event(long); len(e.Exec.Path) > 1024 || len(e.Process.Args[0]) > 1024 {
		t.Errorf("%d, %d bytes", len(e.Exec.Path), len(e.Process.Args[0]))
	}
}

// FuzzEvent: whatever bytes are in a record, it becomes an event and nothing breaks.
func FuzzEvent(f *testing.F) {
	f.Add(make([]byte, unsafe.Sizeof(bpf.Event{})))
	exec := record(bpf.KindExec, "/usr/bin/python3", "python3\x00/x.py")
	f.Add(unsafe.Slice((*byte)(unsafe.Pointer(exec)), unsafe.Sizeof(*exec)))
	s, err := New(Options{Lookup: func(uint64) (bulkhead.Container, bool) { return shop, true }})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var raw bpf.Event
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), b)
		e := s.event(&raw)
		if e == nil || e.Process.Args == nil || e.Process.Ancestry == nil || e.Verdict == "" || !utf8.ValidString(string(e.Reason)) {
			t.Errorf("%+v", e)
		}
	})
}
