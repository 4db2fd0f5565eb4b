package keeper

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLeave(t *testing.T) {
	for name, files := range map[string][]string{
		"one hierarchy":       {"cgroup.procs", "docker/cgroup.procs"},
		"several hierarchies": {"cpu/cgroup.procs", "unified/cgroup.procs", "cpu/docker/cgroup.procs"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := leave(dir, 42); err != nil {
				t.Fatal(err)
			}
			for i, f := range files {
				text, _ := os.ReadFile(filepath.Join(dir, f))
				want := "42"
				if i == len(files)-1 {
					want = "" // a container's
				}
				if string(text) != want {
					t.Errorf("%s has %q, want %q", f, text, want)
				}
			}
		})
	}
	if err := leave(t.TempDir(), 42); err == nil {
		t.Error("no cgroups, and no error")
	}
}
