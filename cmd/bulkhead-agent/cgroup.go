package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// joined tells the program that was started again from the one that starts it.
const joined = "BULKHEAD_HOST_CGROUPS"

// joinHostCgroups starts this program again in the host's cgroup namespace, where an engine gave the agent's container
// one of its own: there the cgroups of other containers have paths that mean nothing. The host's is that of the kernel's
// threads. Without the host's processes in sight there is nothing to join.
func joinHostCgroups() error {
	own, err := os.Readlink("/proc/self/ns/cgroup")
	host, bad := os.Readlink("/proc/2/ns/cgroup")
	if err != nil || bad != nil || own == host || os.Getenv(joined) != "" {
		return nil
	}
	ns, err := os.Open("/proc/2/ns/cgroup")
	if err != nil {
		return nil
	}
	runtime.LockOSThread() // the namespace is this thread's, and with it the new program's
	defer runtime.UnlockOSThread()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("joining the host's cgroup namespace: %w; run the agent in a privileged container", err)
	}
	return unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), joined+"=1"))
}
