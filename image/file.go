package image

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
)

// File is one entry of a layer, valid while it is visited. Its Path is hostile no more: relative, clean,
// slash-separated, never above the root ("usr/bin/nginx").
type File struct {
	Path string
	Kind Kind
	Mode fs.FileMode // permission bits with setuid, setgid and sticky
	UID  int
	GID  int
	Size int64  // of a regular file
	Link string // target of a symbolic link as it is written, or Path of a hard link's first name

	content content
}

// Kind is what an entry is.
type Kind uint8

// The kinds of entries.
const (
	Regular Kind = iota
	Directory
	Symlink
	HardLink
	Other    // device, pipe, socket
	Whiteout // Path and what is below it in lower layers is deleted
	Opaque   // what is below Path in lower layers is deleted; Path itself is not
)

// content is where the bytes of a regular file come from.
type content interface {
	// reader returns the bytes from the start. It may be called again.
	reader() (io.Reader, error)
	// readerAt returns the bytes for random access, in memory or spooled into a file that goes with the visit.
	readerAt() (io.ReaderAt, error)
}

// Reader returns the content from the start.
func (f *File) Reader() (io.Reader, error) {
	if f.content == nil {
		return nil, f.noContent()
	}
	return f.content.reader()
}

// ReaderAt returns the content for random access; f.Size is its length.
func (f *File) ReaderAt() (io.ReaderAt, error) {
	if f.content == nil {
		return nil, f.noContent()
	}
	return f.content.readerAt()
}

func (f *File) noContent() error { return fmt.Errorf("read %s: it is not a regular file", f.Path) }

// Bytes returns the content. A file of more than limit bytes is a [TooLargeError] and nothing is read of it. Others may
// look at the same bytes: they must not be changed, nor kept after the visit.
func (f *File) Bytes(limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, &TooLargeError{Path: f.Path, Size: f.Size, Limit: limit}
	}
	if b, err := f.held(); b != nil || err != nil {
		return b, err
	}
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	b := make([]byte, f.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Path, unexpected(err))
	}
	return b, nil
}

// held returns the content where it is in memory, nil where it is not.
func (f *File) held() ([]byte, error) {
	switch c := f.content.(type) {
	case memory:
		return c, nil
	case *streamed:
		err := c.load()
		return c.bytes, err
	}
	return nil, nil
}

// Held reports whether the content is in memory, so that [File.Bytes] takes no more of it.
func (f *File) Held() bool {
	b, err := f.held()
	return b != nil && err == nil
}

// Memory returns a file with this content and no layer: for tests, and for entries inside archives.
func Memory(path string, mode fs.FileMode, b []byte) *File {
	return &File{Path: path, Mode: mode, Size: int64(len(b)), content: memory(b)}
}

type memory []byte

func (m memory) reader() (io.Reader, error)     { return bytes.NewReader(m), nil }
func (m memory) readerAt() (io.ReaderAt, error) { return bytes.NewReader(m), nil }

// TooLargeError says that a file is larger than what its reader takes into memory.
type TooLargeError struct {
	Path        string
	Size, Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s has %d bytes, more than the %d that are read of such a file", e.Path, e.Size, e.Limit)
}
