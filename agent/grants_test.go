package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestLayers: the image has what any of its layers has, and a directory of nothing but directories is as good as empty.
func TestLayers(t *testing.T) {
	top, base := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(top, "run/lock"), filepath.Join(base, "var/www")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "var/www/index.html"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(base, "out")); err != nil {
		t.Fatal(err)
	}
	l := layers{top, base}
	for _, c := range []struct {
		dir         string
		has, filled bool
	}{{"/", true, true}, {"/run", true, false}, {"/run/lock", true, false}, {"/var", true, true}, {"/var/www", true, true}, {"/var/www/index.html", false, true}, {"/data", false, false}, {"/out/ssl", false, false}} {
		if has, filled := l.Has(c.dir), l.Filled(c.dir); has != c.has || filled != c.filled {
			t.Errorf("%s: has %v, filled %v", c.dir, has, filled)
		}
	}
}

func TestHeldDevices(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if slices.Contains(heldDevices(t.Context(), []int{os.Getpid()}), "/dev/null") {
		t.Error("every container has /dev/null")
	}
	if _, _, ok := layersOf(t.Context(), 0); ok {
		t.Error("no process has layers")
	}
}
