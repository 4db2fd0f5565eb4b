package lab

import (
	"os"
	"strings"
	"testing"
)

func TestStartTime(t *testing.T) {
	if startTime(os.Getpid()) == "" {
		t.Error("no start time of this process")
	}
	if got := startTime(1 << 30); got != "" {
		t.Errorf("a process that cannot be has start time %q", got)
	}
}

func TestAlive(t *testing.T) {
	l := Open(t.TempDir(), t.Logf)
	if _, ok := l.alive("daemon"); ok {
		t.Error("alive without a pid file")
	}
	if err := l.writePID("daemon", os.Getpid()); err != nil {
		t.Fatal(err)
	}
	if pid, ok := l.alive("daemon"); !ok || pid != os.Getpid() {
		t.Errorf("alive = %d, %t", pid, ok)
	}
	for _, text := range []string{"", "1", "x y", "1 0", "-1 "} {
		if err := os.WriteFile(l.pidFile("daemon"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if pid, ok := l.alive("daemon"); ok {
			t.Errorf("pid file %q: alive with pid %d", text, pid)
		}
	}
}

func TestRecipesDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, name := range append(Names(), "debian") {
		if other := seen[recipe(name)]; other != "" {
			t.Errorf("%s and %s have the same recipe", name, other)
		}
		seen[recipe(name)] = name
	}
}

func TestLabsDoNotMeet(t *testing.T) {
	one, two := Open(DefaultDir, t.Logf), Open("/tmp/other", t.Logf)
	if one.bridge() == two.bridge() || one.Registry() == two.Registry() || one.cgroupName() == two.cgroupName() {
		t.Error("two labs share a name")
	}
	if !one.ours("-A FORWARD -i "+one.bridge()+" -j ACCEPT") || one.ours("-A FORWARD -i "+one.bridge()+"1 -j ACCEPT") {
		t.Error("rules are told apart by whole words")
	}
	for _, name := range []string{two.bridge(), two.podBridge()} {
		if len(name) > 15 {
			t.Errorf("%s is too long for the kernel", name)
		}
	}
}

func TestUnknownImage(t *testing.T) {
	err := Open(t.TempDir(), t.Logf).Images(t.Context(), "no-such")
	if err == nil || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("the error should list the images: %v", err)
	}
}
