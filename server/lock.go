package server

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock keeps two control planes from using one folder: the second would corrupt the bus's streams.
// The kernel lets go of it when the process ends, however it ends.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another control plane uses %s: stop it, or name another folder (%w)", dir, err)
	}
	return func() { f.Close() }, nil
}
