package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sleeper is a program that says its name and lives until it is stopped.
func sleeper(name string) Program {
	return Program{Name: name, Path: "/bin/sh", Args: []string{"sh", "-c", "echo " + name + " runs; exec sleep 600"}}
}

func start(t *testing.T, o Options, programs ...Program) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o, programs...) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return stop
}

func options(t *testing.T) Options {
	return Options{Run: t.TempDir(), Logs: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// eventually waits until the pid file names a living process that is not the old one.
func eventually(t *testing.T, path string, old Identity) Identity {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if id, err := ReadIdentity(path); err == nil && id != old && id.Alive() {
			return id
		}
	}
	t.Fatalf("no new process in %s", path)
	return Identity{}
}

func TestRunRestartsWhatDies(t *testing.T) {
	o := options(t)
	stop := start(t, o, sleeper("server"), sleeper("agent"))
	for _, name := range []string{"server", "agent"} {
		path := PIDFile(o.Run, name)
		old := eventually(t, path, Identity{})
		killed := time.Now()
		if err := old.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, path, old)
		if took := time.Since(killed); took > 300*time.Millisecond {
			t.Errorf("%s was back after %s, want 300ms", name, took)
		}
	}
	server := eventually(t, PIDFile(o.Run, "server"), Identity{})
	stop()
	if server.Alive() {
		t.Error("the server outlives its supervisor's orderly end")
	}
	if _, err := os.Stat(PIDFile(o.Run, "server")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pid file left: %v", err)
	}
	output, err := os.ReadFile(LogFile(o.Logs, "server"))
	if err != nil || !strings.Contains(string(output), "server runs") {
		t.Errorf("log %q, %v", output, err)
	}
}

func TestRunStopsLeftOvers(t *testing.T) {
	o := options(t)
	orphan := exec.Command("sleep", "600")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = orphan.Wait() }()
	if err := writeIdentity(PIDFile(o.Run, "server"), orphan.Process.Pid); err != nil {
		t.Fatal(err)
	}
	old := eventually(t, PIDFile(o.Run, "server"), Identity{})
	start(t, o, sleeper("server"))
	eventually(t, PIDFile(o.Run, "server"), old)
	if old.Alive() {
		t.Error("the left-over server still runs")
	}
}

func TestAnotherProcessIsNotStopped(t *testing.T) {
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	id, err := Identify(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stale := id
	stale.Started-- // the same pid, given to an earlier process
	if err := stale.Stop(time.Second); err != nil {
		t.Errorf("Stop of a process that is gone: %v", err)
	}
	if !id.Alive() {
		t.Error("a process that only has the same pid was stopped")
	}
}

func TestStopForces(t *testing.T) {
	stubborn := exec.Command("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	output, err := stubborn.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stubborn.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = output.Read(make([]byte, 1))
	go func() { _ = stubborn.Wait() }()
	id, err := Identify(stubborn.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Stop(200 * time.Millisecond); err != nil || id.Alive() {
		t.Errorf("Stop: %v, alive %t", err, id.Alive())
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrRunning) {
		t.Errorf("second lock: %v, want %v", err, ErrRunning)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(path)
	if err != nil {
		t.Fatalf("lock after it was given back: %v", err)
	}
	_ = again.Close()
}

func TestNextWait(t *testing.T) {
	for _, c := range []struct{ last, ran, want time.Duration }{
		{firstWait, goodRun, firstWait},
		{longWait, time.Hour, firstWait},
		{firstWait, 0, 2 * firstWait},
		{longWait, 0, longWait},
	} {
		if got := nextWait(c.last, c.ran); got != c.want {
			t.Errorf("nextWait(%s, %s) = %s, want %s", c.last, c.ran, got, c.want)
		}
	}
}

func TestLogsStayBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.log")
	log, err := openRotated(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	log.most = 1000
	for i := range 1000 {
		if _, err := fmt.Fprintf(log.file, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
		if err := log.bound(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 1+logOlder {
		t.Errorf("files %v, %v", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() > 1010 {
			t.Errorf("%s: %v %v", file, info.Size(), err)
		}
	}
	newest, err := os.ReadFile(path + ".1")
	if err != nil || !strings.HasPrefix(string(newest), "line ") {
		t.Errorf("rotated file begins %.20q, %v", newest, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (a b) c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 42 1 1"))
	f.Add([]byte(")"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if state, _, err := parseStat(stat); err == nil && state == "" {
			t.Errorf("no state from %q", stat)
		}
	})
}
