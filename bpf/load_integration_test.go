//go:build integration

package bpf

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// tooOld: on the oldest kernel of the virtual machines there is one thing to test, that Load says so.
func tooOld() bool { return strings.HasPrefix(release(), "5.10.") }

// TestLoad: every program that this kernel can have is taken and attached; 5.10 says in one line that it cannot.
func TestLoad(t *testing.T) {
	k, err := Load(Options{CgroupRoot: cgroupRoot(t)})
	if tooOld() {
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "5.17") {
			t.Fatalf("on Linux %s: %v", release(), err)
		}
		t.Log(err)
		return
	}
	check(t, err)
	defer k.Close()
	check(t, k.Need(true, true))
	features := k.Features()
	t.Logf("Linux %s, BPF-LSM %v", features.Release, features.LSM)
	if os.Getenv("BULKHEAD_KERNEL") != "" && !features.LSM {
		t.Error("nothing is denied before it happens")
	}
	for name, why := range features.Refused {
		if slices.Contains(capables, name) {
			continue // there are others for the same
		}
		if (slices.Contains(lsm, name) || slices.Contains(modify, name)) && os.Getenv("BULKHEAD_KERNEL") == "" {
			continue // a kernel may be locked down against all that could change an answer
		}
		t.Errorf("%s was refused: %s", name, why)
	}
}
