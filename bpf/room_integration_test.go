//go:build integration

package bpf

import (
	"os"
	"testing"
)

func cgroupRoot(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err == nil {
			return dir
		}
	}
	t.Fatal("no cgroup v2 hierarchy is mounted")
	return ""
}
