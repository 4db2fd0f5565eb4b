package distro

import (
	"errors"
	"fmt"
	"io"
)

// pages reads pieces of a database file, and no more of them together than an honest database has: every page of one
// is reached once. So a file whose pages point to one another in circles ends soon.
type pages struct {
	r    io.ReaderAt
	size int64
	left int64 // bytes that may still be read
}

// errCircle says that pages were read again and again.
var errCircle = errors.New("pages are used more than once: the database is damaged")

func newPages(r io.ReaderAt, size int64) *pages {
	// Headers and roots are read twice.
	return &pages{r: r, size: size, left: size + 256<<10}
}

// read fills b from the offset.
func (p *pages) read(b []byte, offset int64) error {
	if offset < 0 || offset > p.size-int64(len(b)) {
		return fmt.Errorf("%d bytes at %d are outside of the file, which has %d", len(b), offset, p.size)
	}
	if p.left -= int64(len(b)); p.left < 0 {
		return errCircle
	}
	if _, err := p.r.ReadAt(b, offset); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes at %d: %w", len(b), offset, err)
	}
	return nil
}

// resize returns a slice of n bytes, of b where that is large enough. A larger one grows by doubling: what a damaged
// page says about its length costs nothing before the bytes are there.
func resize(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	return make([]byte, n, max(n, 2*cap(b)))
}
