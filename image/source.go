package image

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settled is how long a file must have been left alone before its times are believed: a second change within one tick
// of the file system's clock leaves them as they are. The coarsest clocks tick once in two seconds.
const settled = 3 * time.Second

// sourceOf is the Source of a [Layer] at a place in a file. Nobody but root can give a file an earlier time of its last change
// (ctime), and not even root keeps it while writing.
func sourceOf(f *os.File, offset, size int64) string {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return ""
	}
	changed := max(s.Mtim.Nano(), s.Ctim.Nano())
	if age := time.Since(time.Unix(0, changed)); age < settled {
		return "" // or from the future, by another machine's clock
	}
	return fmt.Sprint("file ", s.Dev, s.Ino, s.Size, s.Mtim.Nano(), s.Ctim.Nano(), offset, size)
}
