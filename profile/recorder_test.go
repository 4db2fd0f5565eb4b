package profile_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/profile"

	"github.com/google/go-cmp/cmp"
)

func exec(path, applet string) *bulkhead.Event {
	return &bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: path, Applet: applet, Origin: bulkhead.OriginImage}}
}

func write(path string) *bulkhead.Event {
	return &bulkhead.Event{Kind: bulkhead.EventFile, File: &bulkhead.File{Path: path, Write: true}}
}

func connect(address string, port int) *bulkhead.Event {
	return &bulkhead.Event{Kind: bulkhead.EventConnect, Network: &bulkhead.Network{Protocol: "tcp", Address: address, Port: port}}
}

func listen(port int) *bulkhead.Event {
	return &bulkhead.Event{Kind: bulkhead.EventListen, Network: &bulkhead.Network{Protocol: "tcp", Port: port}}
}

func describe(_, path string) profile.Description {
	return profile.Description{Digest: "sha256:" + path, Layer: "sha256:layer", Multicall: path == "/bin/multi", Foreign: strings.HasPrefix(path, "/tmp/")}
}

func recorder() *profile.Recorder {
	return profile.NewRecorder(bulkhead.Workload{Name: "docker/shop"}, bulkhead.Image{Reference: "shop:1", Digest: "sha256:1"}, describe)
}

func someEvents() []*bulkhead.Event {
	script := exec("/usr/bin/python3.11", "python3")
	script.Exec.Script = "/app/run.py"
	foreign := exec("/tmp/dropped", "")
	foreign.Exec.Origin = bulkhead.OriginUpper
	blocked := exec("/bin/evil", "")
	blocked.Verdict = bulkhead.Blocked
	read := write("/etc/shadow")
	read.File.Write = false
	toDB := connect("10.0.0.9", 5432)
	toDB.Network.Peer = "docker/db"
	return []*bulkhead.Event{
		exec("/bin/busybox", "sh"), exec("/bin/busybox", "ls"), exec("/bin/multi", "one"), exec("/usr/sbin/nginx", "nginx"),
		script, foreign, blocked, read, toDB,
		write("/var/log/nginx/access.log"), write("/var/log/nginx/error.log"), write("/tmp/phpkQ8rTz"), write("relative"), write("/a/../b"),
		connect("192.0.2.1", 443), connect("127.0.0.1", 6379), connect("127.0.0.2", 6379), connect("::1", 6379), connect("nonsense", 1),
		connect("10.1.2.3", 80), connect("10.1.2.4", 80), connect("10.1.2.5", 80), connect("10.1.2.6", 80), connect("::ffff:10.1.2.7", 80),
		connect("169.254.169.254", 80), connect("169.254.169.253", 80), connect("169.254.169.252", 80), connect("169.254.169.251", 80),
		listen(80), listen(40001), listen(40002), listen(40003), listen(70000),
		{Kind: bulkhead.EventCapability, Capability: "CAP_NET_RAW"},
		{Kind: bulkhead.EventCapability, Capability: "CAP_NONSENSE"},
		{Kind: bulkhead.EventMemory, Memory: &bulkhead.Memory{Call: "mmap"}, Process: bulkhead.Process{Exe: "/usr/bin/node"}},
		{Kind: bulkhead.EventMemory, Memory: &bulkhead.Memory{Call: "mmap", Path: "/lib/x.so"}, Process: bulkhead.Process{Exe: "/usr/bin/node"}},
		{Kind: bulkhead.EventSyscall, Syscall: &bulkhead.Syscall{Name: "ptrace"}},
		{Kind: bulkhead.EventSyscall, Syscall: &bulkhead.Syscall{Name: "nope"}},
		{Kind: bulkhead.EventExec},
		{Kind: "other"},
	}
}

// someProfile is what someEvents teaches, with fixed dates.
func someProfile(events []*bulkhead.Event) bulkhead.Profile {
	r := recorder()
	for _, e := range events {
		r.Observe(e)
	}
	r.ObserveSyscalls([]string{"openat", "read", "socket", "no_such_call"})
	r.ObserveSockets([]string{"inet", "unix", "nonsense"})
	r.Tick(10 * time.Second)
	r.Idle(5 * time.Second)
	p := r.Profile()
	p.Started = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p.Updated = p.Started
	return p
}

// TestRecorderTellsWhoseBytesAScriptHad: the file itself says so, or an interpreter that was seen to read other bytes.
func TestRecorderTellsWhoseBytesAScriptHad(t *testing.T) {
	r := recorder()
	run := func(script string, origin bulkhead.Origin) {
		r.Observe(&bulkhead.Event{Kind: bulkhead.EventExec, Exec: &bulkhead.Exec{Path: "/bin/sh", Script: script, ScriptOrigin: origin, Origin: bulkhead.OriginImage}})
	}
	run("/app/own.sh", "")
	run("/tmp/made.sh", "")
	run("/app/changed.sh", "")
	run("/app/changed.sh", bulkhead.OriginUpper)
	run("/app/changed.sh", "")
	learned := r.Profile()
	resumed := profile.Resume(learned, nil).Profile()
	merged, err := profile.Merge(learned, resumed)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]bulkhead.Profile{"learned": learned, "resumed": resumed, "merged": merged} {
		got := map[string]bool{}
		for _, s := range p.Scripts {
			got[s.Path] = s.Foreign
		}
		if d := cmp.Diff(map[string]bool{"/app/own.sh": false, "/tmp/made.sh": true, "/app/changed.sh": true}, got); d != "" {
			t.Errorf("%s: foreign (-want +got):\n%s", name, d)
		}
	}
}

func TestRecorderLearns(t *testing.T) {
	p := someProfile(someEvents())
	image := func(path string, more ...string) bulkhead.Executable {
		return bulkhead.Executable{Path: path, Digest: "sha256:" + path, Layer: "sha256:layer", Applets: more}
	}
	python, dropped := image("/usr/bin/python3.11"), image("/tmp/dropped")
	python.Interpreter, dropped.Foreign = true, true
	want := bulkhead.Profile{
		Version: bulkhead.ProfileVersion, Workload: "docker/shop", Image: p.Image, Started: p.Started, Updated: p.Updated, Observed: 15, Events: p.Events,
		Executables: []bulkhead.Executable{image("/bin/busybox", "ls", "sh"), image("/bin/multi", "one"), dropped, python, image("/usr/sbin/nginx")},
		Scripts:     []bulkhead.Script{{Path: "/app/run.py", Interpreter: "/usr/bin/python3.11", Digest: "sha256:/app/run.py", Layer: "sha256:layer"}},
		Syscalls:    []string{"openat", "ptrace", "read", "socket"}, Sockets: []string{"inet", "unix"},
		Writes: []string{"/tmp/php*", "/var/log/nginx/*.log"}, Reads: []string{"/etc/shadow"}, Capabilities: []string{"CAP_NET_RAW"},
		Listens: []bulkhead.Port{{Protocol: "tcp", Port: 0}, {Protocol: "tcp", Port: 80}},
		Peers: []bulkhead.Peer{
			{Protocol: "tcp", CIDR: "10.1.2.0/24", Port: 80},
			{Protocol: "tcp", CIDR: "127.0.0.0/8", Port: 6379},
			{Protocol: "tcp", CIDR: "169.254.169.251/32", Port: 80},
			{Protocol: "tcp", CIDR: "169.254.169.252/32", Port: 80},
			{Protocol: "tcp", CIDR: "169.254.169.253/32", Port: 80},
			{Protocol: "tcp", CIDR: "169.254.169.254/32", Port: 80},
			{Protocol: "tcp", CIDR: "192.0.2.1/32", Port: 443},
			{Protocol: "tcp", CIDR: "::1/128", Port: 6379},
			{Protocol: "tcp", Workload: "docker/db", Port: 5432},
		},
		Anonymous: []string{"/usr/bin/node"}, Completeness: p.Completeness,
	}
	if d := cmp.Diff(want, p); d != "" {
		t.Error(d)
	}
}

func TestRecorderOrder(t *testing.T) {
	events := someEvents()
	want := someProfile(events)
	for range 20 {
		rand.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		if d := profile.Diff(want, someProfile(events)); len(d) > 0 {
			t.Fatal(d)
		}
	}
}

func TestRecorderIsBounded(t *testing.T) {
	r := recorder()
	for i := range 20_000 {
		r.Observe(write(fmt.Sprintf("/usr/bin/%x/tool", i))) // nothing to fold: system directory
		r.Observe(write(fmt.Sprintf("/data/spool/%c%c%c/q%c.dat", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26, 'a'+i%7)))
		r.Observe(exec(fmt.Sprintf("/opt/%d", i), ""))
		r.Observe(connect(fmt.Sprintf("10.%d.%d.1", i>>8, i&255), 80))
	}
	r.Tick(time.Hour)
	p := r.Profile()
	for name, n := range map[string]int{"writes": len(p.Writes), "executables": len(p.Executables), "peers": len(p.Peers)} {
		if n > 4096 {
			t.Errorf("%d %s", n, name)
		}
	}
	if c := p.Completeness[bulkhead.SectionWrites]; c.Dropped == 0 || c.Ready || len(c.Curve) > 64 {
		t.Errorf("a full section: %+v", c)
	}
	if err := profile.Gate(p); err == nil || !strings.Contains(err.Error(), "did not fit") {
		t.Error(err)
	}
}

func TestRecorderFoldsWhenFull(t *testing.T) {
	r := recorder()
	for i := range 20_000 {
		r.Observe(write(fmt.Sprintf("/data/spool/%c%c%c/file.dat", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26)))
	}
	r.Tick(time.Hour)
	p := r.Profile()
	if d := cmp.Diff([]string{"/data/spool/*/file.dat"}, p.Writes); d != "" {
		t.Error(d)
	}
	if c := p.Completeness[bulkhead.SectionWrites]; c.Dropped != 0 || !c.Ready {
		t.Errorf("%+v", c)
	}
}

func TestRecorderConcurrently(t *testing.T) {
	r := recorder()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, e := range someEvents() {
				r.Observe(e)
				r.Tick(time.Millisecond)
			}
			r.Profile()
		})
	}
	wg.Wait()
}

func TestResume(t *testing.T) {
	first := someProfile(someEvents())
	r := profile.Resume(first, describe)
	if again := r.Profile(); len(profile.Diff(first, again)) > 0 {
		t.Error(profile.Diff(first, again))
	}
	for _, e := range someEvents() {
		r.Observe(e)
	}
	if d := profile.Diff(first, r.Profile()); len(d) > 0 {
		t.Errorf("the same events again: %v", d)
	}
	for range 120 {
		r.Tick(time.Second)
	}
	if err := profile.Gate(r.Profile()); err != nil {
		t.Errorf("two minutes more without news: %v", err)
	}
}

// run plays seconds of a workload and returns its profile.
func run(seconds int, second func(r *profile.Recorder, s int)) bulkhead.Profile {
	r := recorder()
	for s := range seconds {
		second(r, s)
		r.Tick(time.Second)
	}
	return r.Profile()
}

// start is a container's first second: a burst of things done once.
func start(r *profile.Recorder) {
	for i := range 20 {
		r.Observe(exec(fmt.Sprintf("/usr/bin/setup%c", 'a'+i), ""))
		r.Observe(write(fmt.Sprintf("/etc/app/%c.conf", 'a'+i)))
	}
	r.Observe(listen(80))
}

func TestCompleteness(t *testing.T) {
	zipf := func(s uint64) func() uint64 {
		return rand.NewZipf(rand.New(rand.NewPCG(1, s)), 1.1, 1, 5000).Uint64
	}
	for _, c := range []struct {
		name    string
		seconds int
		second  func() func(r *profile.Recorder, s int)
		ready   bool
	}{
		{"a minute of a repetitive script", 60, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				if s == 0 {
					start(r)
				}
				for i := range 5 {
					r.Observe(exec("/usr/bin/php", ""))
					r.Observe(write(fmt.Sprintf("/tmp/phpkQ8rT%d", i)))
				}
			}
		}, true},
		{"a new name of a known kind, late", 60, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				if s == 0 {
					start(r)
					for _, name := range []string{"a", "b", "c", "d.db", "e.db", "f.db", "g.db", "h.db", "i.db", "j.db", "k.db"} {
						r.Observe(write("/srv/app/" + name))
					}
				}
				if s == 40 {
					r.Observe(write("/srv/app/l.db"))
				}
			}
		}, true},
		{"a quiet server", 120, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				if s == 0 {
					start(r)
				}
			}
		}, true},
		{"ten seconds", 10, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) { r.Observe(exec("/usr/bin/php", "")) }
		}, false},
		{"a new program every five seconds", 120, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				r.Observe(exec("/usr/bin/php", ""))
				r.Observe(exec(fmt.Sprintf("/usr/bin/tool%c", 'a'+s/5), ""))
			}
		}, false},
		{"long tail, two minutes", 120, func() func(*profile.Recorder, int) {
			draw := zipf(2)
			return func(r *profile.Recorder, s int) {
				for range 10 {
					r.Observe(exec(fmt.Sprintf("/usr/bin/t%c%c", 'a'+draw()%26, 'a'+draw()/26%26), ""))
				}
			}
		}, false},
		{"a cron job in the last minute", 600, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				r.Observe(exec("/usr/bin/php", ""))
				if s == 570 {
					r.Observe(exec("/usr/sbin/logrotate", ""))
				}
			}
		}, false},
		{"a cron job seen five times", 1600, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				r.Observe(exec("/usr/bin/php", ""))
				if s%300 == 299 {
					r.Observe(exec("/usr/sbin/logrotate", ""))
				}
			}
		}, true},
		{"nothing but random names", 120, func() func(*profile.Recorder, int) {
			rnd := rand.New(rand.NewPCG(1, 2))
			return func(r *profile.Recorder, s int) {
				r.Observe(write(fmt.Sprintf("/var/lib/app/%016x.dat", rnd.Uint64())))
			}
		}, true},
		{"a directory that fills", 120, func() func(*profile.Recorder, int) {
			return func(r *profile.Recorder, s int) {
				r.Observe(write(fmt.Sprintf("/var/lib/app/name%c%c.dat", 'a'+s/26, 'a'+s%26)))
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := run(c.seconds, c.second())
			err := profile.Gate(p)
			if (err == nil) != c.ready {
				t.Errorf("ready %v; %v", !c.ready, err)
			}
			for section, m := range p.Completeness {
				if c.seconds <= 10 && m.Score >= 0.9 {
					t.Errorf("%s scores %v after %d s", section, m.Score, c.seconds)
				}
				if n := len(m.Curve); n == 0 || n > 64 || !slices.IsSortedFunc(m.Curve, func(a, b bulkhead.Point) int { return a.Items - b.Items }) {
					t.Errorf("%s: curve %v", section, m.Curve)
				}
			}
		})
	}
}

func TestGateSaysWhy(t *testing.T) {
	err := profile.Gate(run(10, func(r *profile.Recorder, _ int) { r.Observe(exec("/usr/bin/php", "")) }))
	for _, want := range []string{"docker/shop", "executables: score 0.", "1 entries", "at least 46 s", "--anyway"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if profile.Gate(bulkhead.Profile{}) == nil {
		t.Error("an empty profile may protect")
	}
}

func BenchmarkObserveKnown(b *testing.B) {
	for name, e := range map[string]*bulkhead.Event{
		"exec": exec("/bin/busybox", "sh"), "write": write("/var/lib/postgresql/data/postmaster.pid"), "random": write("/var/lib/php/sessions/sess_4vd3kq0fj1rcd5g3s7nq2m8p1a"),
		"connect": connect("10.0.0.7", 443), "loopback": connect("127.0.0.1", 6379),
	} {
		b.Run(name, func(b *testing.B) {
			r := recorder()
			r.Observe(e)
			b.ReportAllocs()
			for b.Loop() {
				r.Observe(e)
			}
		})
	}
}

func BenchmarkProfile5000(b *testing.B) {
	for name, format := range map[string]string{"foldable": "/var/lib/app/%[2]c%[3]c/n%[2]c%[4]c%[5]c.dat", "not": "/usr/lib/%[2]c%[3]c/n%[2]c%[4]c%[5]c.dat"} {
		b.Run(name, func(b *testing.B) {
			r := recorder()
			for i := range 5000 {
				r.Observe(write(fmt.Sprintf(format, i, 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26, 'a'+i%23)))
			}
			for b.Loop() {
				r.Profile()
			}
		})
	}
}
