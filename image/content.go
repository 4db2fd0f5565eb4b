package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// streamed is the content of a file that streams by: it is taken into memory, or into a temporary file, when the first
// reader asks for it. One is reused for all files of a walk, with its memory.
type streamed struct {
	tar    io.Reader
	memory int64
	temp   string

	path   string
	size   int64
	buffer []byte
	bytes  []byte   // of this file
	spool  *os.File // of this file
	loaded bool
	err    error // of this file
	failed error // of the stream, which then ends
}

func (s *streamed) next(path string, size int64) {
	s.path, s.size, s.loaded, s.err = path, size, false, nil
}

func (s *streamed) reader() (io.Reader, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	if s.spool != nil {
		return io.NewSectionReader(s.spool, 0, s.size), nil
	}
	return bytes.NewReader(s.bytes), nil
}

func (s *streamed) readerAt() (io.ReaderAt, error) {
	if err := s.load(); err != nil {
		return nil, err
	}
	if s.spool != nil {
		return s.spool, nil
	}
	return bytes.NewReader(s.bytes), nil
}

func (s *streamed) load() error {
	if s.loaded {
		return s.err
	}
	s.loaded = true
	take := s.remember
	if s.size > s.memory {
		take = s.keep
	}
	if s.err = take(); s.err != nil {
		s.err = fmt.Errorf("read %s: %w", s.path, s.err)
	}
	return s.err
}

// remember takes the file into memory.
func (s *streamed) remember() error {
	if int64(cap(s.buffer)) < s.size {
		s.buffer = make([]byte, max(s.size, min(2*int64(cap(s.buffer)), s.memory)))
	}
	s.bytes = s.buffer[:s.size]
	if _, err := io.ReadFull(s.tar, s.bytes); err != nil {
		s.failed = broken(unexpected(err))
	}
	return s.failed
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// keep takes the file into a temporary one. Without a place for that the file alone fails; the stream goes on.
func (s *streamed) keep() (err error) {
	if s.spool, err = spoolFile(s.temp); err != nil {
		return fmt.Errorf("it is larger than memory allows: %w", err)
	}
	from := &failing{r: s.tar}
	n, err := io.Copy(s.spool, from)
	switch {
	case from.err != nil:
		s.failed = broken(from.err)
	case err != nil:
		return fmt.Errorf("it is larger than memory allows: %w; is there space for temporary files?", err)
	case n != s.size:
		s.failed = broken(io.ErrUnexpectedEOF)
	}
	return s.failed
}

// failing remembers that reading failed, which io.Copy does not tell from writing.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// release ends the visit of a file, and returns the error that ended the stream.
func (s *streamed) release() error {
	if s.spool != nil {
		s.spool.Close()
		s.spool = nil
	}
	s.bytes = nil
	return s.failed
}

// spoolFile returns a file that has no name any more: it goes when it is closed, or with the process.
func spoolFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "bulkhead-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
