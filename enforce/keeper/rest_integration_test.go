//go:build integration

package keeper

import (
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/enforce/seccomp"
)

// A keeper that ends without an agent beside it lets go what was stopped before and, until the kernel stops nothing
// more, what is stopped then.
func TestLeavesNobodyStopped(t *testing.T) {
	holds := make(chan Hold)
	ctx, end := context.WithCancel(t.Context())
	late, early := stopped(t), stopped(t)
	rest := func() { go func() { holds <- Hold{PID: late} }() }
	done := make(chan error)
	go func() {
		done <- Serve(ctx, Options{Socket: filepath.Join(t.TempDir(), "keeper.sock"), Holds: holds, Rest: rest, Log: slog.New(slog.DiscardHandler)})
	}()
	holds <- Hold{PID: early}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for name, pid := range map[string]int{"early": early, "late": late} {
		if _, is, err := seccomp.Filters(pid); err != nil || is {
			t.Errorf("the %s one is stopped: %v, %v", name, is, err)
		}
	}
}

func stopped(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	pid := cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, is, err := seccomp.Filters(pid); err == nil && is {
			return pid
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not stop")
	return 0
}
