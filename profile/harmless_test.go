package profile_test

import (
	"runtime"
	"slices"
	"testing"

	"bulkhead/profile"
	"bulkhead/profile/syscalls"
)

// TestNeeds: each call is one of this architecture or of another one that we know, stands in one list, and says why.
func TestNeeds(t *testing.T) {
	seen := map[string]bool{}
	for _, need := range profile.Needs() {
		_, amd := syscalls.Number("amd64", need.Name)
		_, arm := syscalls.Number("arm64", need.Name)
		if seen[need.Name] || need.Why == "" || !amd && !arm {
			t.Errorf("%+v on %s: twice, without a reason, or no call", need, runtime.GOARCH)
		}
		seen[need.Name] = true
	}
}

// TestHarmless: what reaches beyond the process that calls is learned, or refused.
func TestHarmless(t *testing.T) {
	for _, name := range []string{
		"ptrace", "mount", "unshare", "setns", "bpf", "keyctl", "perf_event_open", "userfaultfd", "io_uring_setup", "process_vm_writev", "open",
		"unlink", "chmod", "socket", "connect", "bind", "sendto", "dup2", "memfd_create", "shmat", "personality", "pidfd_getfd", "mknod", "chroot",
	} {
		if slices.ContainsFunc(profile.Harmless, func(n profile.Need) bool { return n.Name == name }) {
			t.Errorf("%s is called harmless", name)
		}
	}
}
