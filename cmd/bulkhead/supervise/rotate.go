package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	logBound = 8 << 20 // bytes of one log file: weeks of normal running, minutes to read
	logOlder = 3       // rotated files kept beside it
)

// rotated is a log file that a program writes itself, so that it goes on writing when its supervisor
// is killed. It is bounded from outside: the content is copied away and the file cut to nothing,
// which the program, appending, does not notice. A line written between the two steps may be lost.
type rotated struct {
	path string
	file *os.File
	most int64
}

func openRotated(path string) (*rotated, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	r := &rotated{path: path, file: file, most: logBound}
	return r, r.bound()
}

// bound rotates the file when it is over its bound.
func (r *rotated) bound() error {
	info, err := r.file.Stat()
	if err != nil || info.Size() < r.most {
		return err
	}
	for i := logOlder - 1; i > 0; i-- {
		if err := os.Rename(r.older(i), r.older(i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := r.copyTail(info.Size()); err != nil {
		// A full disk must not stop the cutting: the newest lines are worth less than the space.
		return errors.Join(err, r.file.Truncate(0))
	}
	return r.file.Truncate(0)
}

// copyTail copies the file to the first older one; of a flood between two looks, the newest twice the bound.
func (r *rotated) copyTail(size int64) error {
	older, err := os.OpenFile(r.older(1), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(older, io.NewSectionReader(r.file, max(0, size-2*r.most), 3*r.most))
	return errors.Join(err, older.Close())
}

func (r *rotated) older(i int) string { return fmt.Sprintf("%s.%d", r.path, i) }

// Close closes the supervisor's end.
func (r *rotated) Close() error { return r.file.Close() }
