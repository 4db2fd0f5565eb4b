//go:build integration

package bpf

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestPins: what is pinned decides while nobody holds the programs, and the next to load them finds all as it was.
func TestPins(t *testing.T) {
	if tooOld() {
		return // TestLoad has it
	}
	im := newImage(t)
	pin := pinFolder(t)
	options := Options{CgroupRoot: cgroupRoot(t), Pin: pin}
	k, err := Load(options)
	check(t, err)
	h := &hall{kernel: k, image: im, lsm: k.Features().LSM, profile: 1}
	check(t, k.Need(false, true))
	h.watch(t)
	check(t, k.PutPolicy(1, profileEntries(k.Hasher())))
	if k.Features().Adopted {
		t.Error("the first load found something")
	}
	attack := newRoom(t, im, "", "/bin/attack", "exec_dropped", "4", "2")
	h.enter(t, attack, HoldExec|Enforce)
	slot, hasher := attack.slot, k.Hasher()
	k.Close()

	if said := attack.run(); attack.marks() != 0 {
		t.Errorf("with nobody there foreign code ran %d times: %s", attack.marks(), said)
	}

	k, err = Load(options)
	check(t, err)
	if !k.Features().Adopted || k.Hasher() != hasher {
		t.Errorf("adopted %v, seed kept %v", k.Features().Adopted, k.Hasher() == hasher)
	}
	kept, err := k.Slot(7)
	check(t, err)
	kept.Watched = slot.Watched // filled in when it was written
	if diff := cmp.Diff(slot, kept); diff != "" {
		t.Errorf("the slot changed: %s", diff)
	}
	bound, err := k.Bound()
	check(t, err)
	if bound[slot.Cgroup] != 7 {
		t.Errorf("bound: %v", bound)
	}
	h.kernel = k
	for way, want := range map[string]int{"map_dropped": 0, "own_program": 2} {
		if ran, said := h.try(t, "/bin/attack", way, 2, HoldExec|Enforce); ran != want {
			t.Errorf("%s after the second load: ran %d times, want %d: %s", way, ran, want, said)
		}
	}
	check(t, k.Release())
	if _, err := os.Stat(pin); !os.IsNotExist(err) {
		t.Errorf("after Release there is still %s (%v)", pin, err)
	}
	if ran, said := h.tryReleased(t); ran != 2 {
		t.Errorf("after Release something still decides: ran %d times of 2: %s", ran, said)
	}
}

// tryReleased runs an attack that nothing holds any more.
func (h *hall) tryReleased(t *testing.T) (int, string) {
	r := newRoom(t, h.image, "", "/bin/attack", "exec_dropped", "2", "2")
	said := r.run()
	return r.marks(), said
}

func pinFolder(t *testing.T) string {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/bpf", &fs); err != nil || fs.Type != unix.BPF_FS_MAGIC {
		check(t, unix.Mount("bpf", "/sys/fs/bpf", "bpf", 0, ""))
	}
	dir, err := os.MkdirTemp("/sys/fs/bpf", "bulkhead-test-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "pin")
}
