//go:build integration

package bpf

import (
	"testing"
)

func TestLoad(t *testing.T) {
	k, err := Load(Options{CgroupRoot: cgroupRoot(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	t.Logf("%+v", k.Features())
	if err := k.Need(true, true); err != nil {
		t.Error(err)
	}
	for name, why := range k.Features().Refused {
		t.Errorf("%s: %s", name, why)
	}
}
