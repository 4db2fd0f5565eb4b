package profile_test

import (
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/profile"
)

func TestMergeByDigest(t *testing.T) {
	of := func(workload, digest, config string, calls ...string) bulkhead.Profile {
		return bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: workload, Image: bulkhead.Image{Digest: digest, Config: config}, Syscalls: calls}
	}
	one, two := of("docker/shop", "sha256:1", "sha256:c", "read"), of("default/deployment/shop/web", "sha256:1", "", "write")
	got, err := profile.MergeByDigest(one, two)
	if err != nil || got.Workload != "docker/shop" || strings.Join(got.Syscalls, " ") != "read write" {
		t.Errorf("%v %v %v", got.Workload, got.Syscalls, err)
	}
	if _, err := profile.MergeByDigest(one, of("docker/shop", "sha256:2", "")); err == nil {
		t.Error("profiles of two images were merged")
	}
	if _, err := profile.MergeByDigest(of("a", "", ""), of("b", "", "")); err == nil {
		t.Error("profiles of unknown images were merged")
	}
	if _, err := profile.MergeByDigest(one, of("local", "sha256:c", "sha256:c")); err != nil {
		t.Error("the same image by its configuration:", err)
	}
}
