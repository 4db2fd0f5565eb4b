//go:build integration

package bpf

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLoad: every program that this kernel can have is taken and attached; 5.10 says in one line that it cannot.
func TestLoad(t *testing.T) {
	k, err := Load(Options{CgroupRoot: cgroupRoot(t)})
	if strings.HasPrefix(release(), "5.10.") {
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
	if want := lsmListed() && os.Getenv("BULKHEAD_KERNEL") != ""; features.LSM != want && want {
		t.Errorf("BPF-LSM is not used")
	}
	refusedCapables := 0
	for name, why := range features.Refused {
		if slices.Contains(capables, name) {
			refusedCapables++
			continue
		}
		if slices.Contains(lsm, name) && !lsmListed() {
			continue
		}
		t.Errorf("%s was refused: %s", name, why)
	}
	if refusedCapables == len(capables) {
		t.Error("capabilities are not learned")
	}
}
