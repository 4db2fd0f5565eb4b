package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"sync"
)

// A layer's bytes pass through a chain of stages, each in a goroutine of its own, in chunks:
//
//	store → read and digest → decompress → DiffID → tar → visit
//
// Reading, decompressing and hashing so overlap with looking at files, and the memory of one walk is these chunks.
const (
	chunkSize = 256 << 10
	chunks    = 4 // on the way between two stages
)

// stage reads ahead from a reader, in a goroutine of its own. It is an io.Reader of what was read, and can skip.
type stage struct {
	full   chan chunk
	free   chan []byte
	now    chunk
	read   int // of now
	total  int64
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// chunk is some bytes and the error that came after them.
type chunk struct {
	bytes []byte
	err   error
}

// ahead starts a stage. A sum runs in a second goroutine.
func ahead(ctx context.Context, r io.Reader, sum *sum) *stage {
	ctx, cancel := context.WithCancel(ctx)
	s := &stage{full: make(chan chunk, chunks), free: make(chan []byte, 2*chunks+2), ctx: ctx, cancel: cancel}
	out := s.full
	if sum != nil {
		out = make(chan chunk, chunks)
		s.done.Go(func() { sum.pass(ctx, out, s.full) })
	}
	s.done.Go(func() { s.fill(ctx, r, out) })
	return s
}

// fill reads until an error, which io.EOF is too.
func (s *stage) fill(ctx context.Context, r io.Reader, out chan<- chunk) {
	for {
		n, err := 0, error(nil)
		buffer := s.buffer()
		for n < len(buffer) && err == nil {
			var more int
			more, err = r.Read(buffer[n:])
			n += more
			if err == nil && ctx.Err() != nil {
				err = ctx.Err()
			}
		}
		select {
		case out <- chunk{buffer[:n], err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *stage) buffer() []byte {
	select {
	case b := <-s.free:
		return b[:chunkSize]
	default:
		return make([]byte, chunkSize)
	}
}

// next makes the current chunk one that has bytes, or returns the error at the end.
func (s *stage) next() error {
	for s.read == len(s.now.bytes) {
		if s.now.err != nil {
			return s.now.err
		}
		if s.now.bytes != nil {
			select {
			case s.free <- s.now.bytes:
			default:
			}
		}
		s.read = 0
		select {
		case s.now = <-s.full:
		case <-s.ctx.Done():
			s.now = chunk{err: s.ctx.Err()}
		}
	}
	return nil
}

// peek returns the next n bytes, fewer at the end.
func (s *stage) peek(n int) ([]byte, error) {
	if err := s.next(); err != nil && err != io.EOF {
		return nil, err
	}
	rest := s.now.bytes[s.read:] // a whole chunk, unless the end is in it
	return rest[:min(n, len(rest))], nil
}

func (s *stage) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.next(); err != nil {
		return 0, err
	}
	n := copy(p, s.now.bytes[s.read:])
	s.advance(n)
	return n, nil
}

// WriteTo gives whole chunks away, without a copy.
func (s *stage) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if err := s.next(); err != nil {
			if err == io.EOF {
				err = nil
			}
			return written, err
		}
		n, err := w.Write(s.now.bytes[s.read:])
		written += int64(n)
		s.advance(n)
		if err != nil {
			return written, err
		}
	}
}

func (s *stage) advance(n int) {
	s.read += n
	s.total += int64(n)
}

// Seek only goes forward from where it is: archive/tar passes so over what nobody reads, without a copy. At the end it
// stops, and the next Read says so.
func (s *stage) Seek(n int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || n < 0 {
		return 0, errors.ErrUnsupported
	}
	for n > 0 {
		if err := s.next(); err != nil {
			break
		}
		step := int(min(n, int64(len(s.now.bytes)-s.read)))
		s.advance(step)
		n -= int64(step)
	}
	return s.total, nil
}

// stop ends the goroutines. What they read from must have been told to end, or end by itself.
func (s *stage) stop() {
	s.cancel()
	s.done.Wait()
}

// sum is the digest and the number of the bytes that passed.
type sum struct {
	hash hash.Hash
	size int64
}

func newSum() *sum { return &sum{hash: sha256.New()} }

func (s *sum) pass(ctx context.Context, in <-chan chunk, out chan<- chunk) {
	for {
		var c chunk
		select {
		case c = <-in:
		case <-ctx.Done():
			return
		}
		s.hash.Write(c.bytes)
		s.size += int64(len(c.bytes))
		select {
		case out <- c:
		case <-ctx.Done():
			return
		}
		if c.err != nil {
			return
		}
	}
}

// digest is valid after the stage returned its last error.
func (s *sum) digest() string { return "sha256:" + hex.EncodeToString(s.hash.Sum(nil)) }
