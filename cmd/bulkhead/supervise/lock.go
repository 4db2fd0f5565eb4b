package supervise

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrRunning says that another supervisor holds the lock.
var ErrRunning = errors.New("it runs already")

// Lock makes the caller the only supervisor of the run directory until the file is closed. The kernel gives
// the lock back when the process dies, however it dies, so that nothing stale is ever left.
func Lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(ErrRunning, file.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), file.Close())
	}
	return file, nil
}
