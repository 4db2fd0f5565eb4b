package respond

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// open gives a responder with a cgroup tree of plain files.
func open(t *testing.T) (*Responder, bulkhead.Container) {
	t.Helper()
	root, dir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "docker/1"), 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := New(Options{CgroupRoot: root, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return r, bulkhead.Container{ID: "1", Name: "shop", Cgroup: "/docker/1", PID: 1}
}

func frozen(t *testing.T, r *Responder) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.CgroupRoot, "docker/1/cgroup.freeze"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKillKnowsItsOwn(t *testing.T) {
	r, c := open(t)
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	for name, p := range map[string]bulkhead.Process{
		"the first process":     {PID: c.PID},
		"another's":             {PID: sleeper.Process.Pid}, // in no container
		"nobody":                {PID: 1 << 30},
		"another of its number": {PID: sleeper.Process.Pid, Started: 5},
	} {
		if said := r.Do("kill", c, p, bulkhead.Alert{}); !strings.Contains(said, "not done") {
			t.Errorf("%s: %s", name, said)
		}
	}
	if sleeper.ProcessState != nil {
		t.Error("a process that is none of the container's was ended")
	}
}

func TestHoldHasAnEnd(t *testing.T) {
	r, c := open(t)
	r.HoldFor = time.Nanosecond
	if said := r.Do("pause", c, bulkhead.Process{}, bulkhead.Alert{}); said != "the container is held" || frozen(t, r) != "1" {
		t.Errorf("%s; %s", said, frozen(t, r))
	}
	time.Sleep(time.Millisecond)
	if err := r.letGo(time.Now()); err != nil || frozen(t, r) != "0" {
		t.Errorf("it is held for longer than its time: %v", err)
	}
}

func TestQuarantine(t *testing.T) {
	r, c := open(t)
	if said := r.Do("quarantine", c, bulkhead.Process{}, bulkhead.Alert{}); !strings.Contains(said, "not done") {
		t.Errorf("where it is not possible: %s", said)
	}
	cut := map[string]bool{}
	r.Cut = func(workload string, on bool) error { cut[workload] = on; return nil }
	if said := r.Do("quarantine", c, bulkhead.Process{}, bulkhead.Alert{}); !strings.Contains(said, "not known") {
		t.Errorf("of a container without a workload: %s", said)
	}
	c.Workload.Name = "shop/deployment/api/main"
	for range 2 { // the second time it is there already
		if said := r.Do("quarantine", c, bulkhead.Process{}, bulkhead.Alert{}); said != "its workload is cut off the network" || !cut[c.Workload.Name] {
			t.Errorf("%s; %v", said, cut)
		}
	}
	if err := r.letGo(time.Now()); err != nil || !cut[c.Workload.Name] {
		t.Errorf("it was let go before its time: %v", err)
	}
	if err := Resume(r.CgroupRoot, r.Dir); err != nil { // by another process
		t.Fatal(err)
	}
	if err := r.letGo(time.Now()); err != nil || cut[c.Workload.Name] {
		t.Errorf("it stays cut off: %v", err)
	}
	r.Do("quarantine", c, bulkhead.Process{}, bulkhead.Alert{})
	if err := r.letGo(time.Now().Add(r.HoldFor + time.Second)); err != nil || cut[c.Workload.Name] {
		t.Errorf("it is cut off for longer than its time: %v", err)
	}
}

// An agent that was killed leaves a note, and the next one lets the container go.
func TestHoldIsForgottenByTheNext(t *testing.T) {
	r, c := open(t)
	r.Do("pause", c, bulkhead.Process{}, bulkhead.Alert{})
	if _, err := New(Options{CgroupRoot: r.CgroupRoot, Dir: r.Dir}); err != nil || frozen(t, r) != "0" {
		t.Errorf("%v; %s", err, frozen(t, r))
	}
}

func TestLimits(t *testing.T) {
	r, c := open(t)
	for i := range mostHolds + 1 {
		said := r.Do("pause", c, bulkhead.Process{}, bulkhead.Alert{})
		if within := i < mostHolds; within == strings.Contains(said, "limit") {
			t.Errorf("time %d: %s", i+1, said)
		}
		if err := Resume(r.CgroupRoot, r.Dir); err != nil {
			t.Fatal(err)
		}
	}
	for i := range mostSnapshots + 1 {
		said := r.Do("snapshot", c, bulkhead.Process{}, bulkhead.Alert{})
		if within := i < mostSnapshots; within == strings.Contains(said, "limit") {
			t.Errorf("time %d: %s", i+1, said)
		}
	}
}

func TestSnapshot(t *testing.T) {
	r, c := open(t)
	if err := os.WriteFile(filepath.Join(r.CgroupRoot, "docker/1/cgroup.procs"), []byte("not a number\n-1\n"+strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.snapshot(context.Background(), job{c, bulkhead.Alert{ID: "a-1"}}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(r.Dir, "snapshots/*.tar.gz"))
	if len(files) != 1 {
		t.Fatalf("snapshots: %v", files)
	}
	have := contents(t, files[0])
	for _, want := range []string{"alert.json", "container.json", "processes.json", "maps/" + strconv.Itoa(os.Getpid()), "connections/tcp", "mountinfo", "changed.txt"} {
		if _, ok := have[want]; !ok {
			t.Errorf("%s is not in it", want)
		}
	}
	if !strings.Contains(have["processes.json"], filepath.Base(os.Args[0])) {
		t.Errorf("processes: %s", have["processes.json"])
	}
	if _, err := os.Stat(files[0] + ".sha256"); err != nil {
		t.Error(err)
	}
}

func contents(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return have
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		have[h.Name] = string(text)
	}
}

func TestUpper(t *testing.T) {
	text := "30 1 0:29 / /proc rw - proc proc rw\n31 1 0:30 / / rw,relatime - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/var/lib/docker/a\\040b/diff,workdir=/w\n"
	if got := upper(text); got != "/var/lib/docker/a b/diff" {
		t.Errorf("upper is %q", got)
	}
	if got := upper("nonsense"); got != "" {
		t.Errorf("upper of nonsense is %q", got)
	}
}

func TestChangedStaysInside(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("x"), 0o600), os.Symlink(secret, filepath.Join(dir, "link")), os.WriteFile(filepath.Join(dir, "new\nfile"), []byte("y"), 0o600)); err != nil {
		t.Fatal(err)
	}
	got := string(changed(t.Context(), dir))
	if strings.Count(got, "\n") != 2 || !strings.Contains(got, `"new\nfile"`) || strings.Contains(got, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881") {
		t.Errorf("changed:\n%s", got)
	}
}

func FuzzUpper(f *testing.F) {
	f.Add("31 1 0:30 / / rw - overlay overlay rw,upperdir=/x")
	f.Fuzz(func(_ *testing.T, text string) { upper(text) })
}
