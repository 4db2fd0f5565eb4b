//go:build kernels

package baseline

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/baseline/repair"
	"bulkhead/baseline/tree"
)

// oneWay are settings that the kernel does not take back: a rollback says so, and takes back all else.
var oneWay = map[string]bool{"kernel.kexec_load_disabled": true}

// TestKernelSettings tries the fixes of settings that are the whole machine's, on a real kernel that has nothing else to
// do: it fails, is fixed and passes, is taken back, and the kernel and the files are as they were.
func TestKernelSettings(t *testing.T) {
	checks, err := Load("host")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/etc", "/var/lib"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	all := pairs(t, "host")
	for _, c := range checks {
		for _, a := range c.Fix {
			for name := range a.Sysctl {
				if wholeMachine(name) {
					t.Run(c.ID+" "+name, func(t *testing.T) { trySetting(t, c, name, all[c.ID].Fail.Sysctl[name]) })
				}
			}
		}
	}
}

func trySetting(t *testing.T, c Check, name, bad string) {
	file := repair.SysctlPath(name)
	before, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("this kernel has no %s", name)
	}
	if err := os.WriteFile(file, []byte(bad), 0o644); err != nil && strings.TrimSpace(string(before)) != bad {
		t.Skipf("this kernel does not take %s for %s: %v", bad, name, err)
	}
	defer func() { _ = os.WriteFile(file, before, 0o644) }()
	state := t.TempDir()
	o := Options{Root: tree.Open("/"), Layers: []string{Host}}
	id, done, err := Fix{IDs: []string{c.ID}, Dir: "/", State: state, Now: time.Now()}.Run(t.Context(), o)
	if err != nil || len(done) != 1 || done[0].Outcome != Done {
		t.Fatalf("fixed: %+v, %v", done, err)
	}
	disk, err := repair.OpenDisk("/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	_, err = repair.Rollback(state, id, disk, false)
	after, _ := os.ReadFile(file)
	back := strings.TrimSpace(string(after)) == bad
	switch {
	case oneWay[name] && (!errors.Is(err, repair.ErrKept) || back):
		t.Errorf("it is %q, and of what the kernel keeps is told: %v", after, err)
	case !oneWay[name] && (err != nil || !back):
		t.Errorf("it is %q and not %q again: %v", after, bad, err)
	}
	if left, _ := filepath.Glob("/etc/sysctl.d/*bulkhead*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
