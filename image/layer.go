package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"bulkhead/image/inflate"
)

// stored is a layer as a registry, an archive or a content store keeps it: a tar, mostly compressed.
type stored struct {
	diffID string // "" when nobody says
	digest string // of the stored bytes; "" when nobody says
	size   int64  // of the stored bytes; 0 when nobody says
	open   func(context.Context) (io.ReadCloser, error)
	at     io.ReaderAt   // the stored bytes, where they are in a local file
	source func() string // Source of [Layer]
	opt    Options
	skip   func(Skip)
}

// walk visits the entries while the layer streams by, and proves at its end that it was the right one.
func (s stored) walk(ctx context.Context, visit func(*File) error) error {
	if s.plain() {
		return s.walkPlain(ctx, visit)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := s.start(ctx)
	if err != nil {
		return s.wrap(err)
	}
	defer p.stop()
	w := tarWalk{limits: s.opt.Limits, temp: s.opt.Temp, skip: s.skipped}
	if err := w.run(ctx, p.files, visit); err != nil {
		var own *visitError
		if errors.As(err, &own) {
			return own.error
		}
		return s.wrap(cause(ctx, p.blame(s, err)))
	}
	if err := p.prove(s); err != nil {
		return s.wrap(cause(ctx, err))
	}
	return nil
}

// cause prefers the caller's own end of patience to what it led to.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s stored) wrap(err error) error {
	return &LayerError{DiffID: s.diffID, Digest: s.digest, Err: err}
}

func (s stored) skipped(path, why string) {
	s.skip(Skip{Path: path, Layer: s.diffID, Message: why})
}

// pipe is the chain of stages for one walk.
type pipe struct {
	raw    io.Closer
	packed *stage // the stored bytes
	digest *sum   // of them
	unpack io.Closer
	files  *stage // the tar
	diffID *sum   // of it; digest when the layer is stored as it is
	cancel context.CancelFunc
}

func (s stored) start(ctx context.Context) (*pipe, error) {
	ctx, cancel := context.WithCancel(ctx)
	raw, err := s.open(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	p := &pipe{raw: raw, digest: newSum(), cancel: cancel}
	p.packed = ahead(ctx, &exact{r: raw, size: s.size, limit: s.opt.Limits.LayerBytes}, p.digest)
	if err := p.decompress(ctx, s.opt.Limits); err != nil {
		err = cause(ctx, err)
		p.stop() // which ends the context
		return nil, err
	}
	return p, nil
}

var (
	magicGzip  = []byte{0x1f, 0x8b}
	magicZstd  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicXZ    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	magicBzip2 = []byte("BZh")
)

// maxWindow is how far back a zstd layer may refer: what its decoder keeps in memory. Compressors use 8 MiB, with
// their longest setting 128.
const maxWindow = 128 << 20

// decompress looks at how the layer is stored: media types are often wrong, the first bytes are not.
func (p *pipe) decompress(ctx context.Context, limits Limits) error {
	magic, err := p.packed.peek(len(magicXZ))
	if err != nil {
		return err
	}
	var r io.Reader
	switch {
	case bytes.HasPrefix(magic, magicGzip):
		r = inflate.NewReader(p.packed)
	case bytes.HasPrefix(magic, magicZstd):
		z, err := zstd.NewReader(p.packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		r, p.unpack = z, closer(z.Close)
	case bytes.HasPrefix(magic, magicXZ):
		return errors.New("the layer is compressed with xz, which images are not: pack it with gzip or zstd")
	case bytes.HasPrefix(magic, magicBzip2):
		return errors.New("the layer is compressed with bzip2, which images are not: pack it with gzip or zstd")
	default:
		p.files, p.diffID = p.packed, p.digest
		return nil
	}
	p.diffID = newSum()
	p.files = ahead(ctx, &bounded{r: r, limits: limits, packed: &p.packed.total}, p.diffID)
	return nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

// blame finds out whether what could not be read was something else than was promised: that then is the error.
func (p *pipe) blame(s stored, err error) error {
	var limit *LimitError
	if s.digest == "" || errors.As(err, &limit) {
		return err
	}
	io.Copy(io.Discard, p.files) // lets the stage between end
	if _, failed := io.Copy(io.Discard, p.packed); failed != nil || p.digest.digest() == s.digest {
		return err
	}
	return &MismatchError{"digest", s.digest, p.digest.digest()}
}

// prove reads what follows the tar's end, and compares digests and sizes.
func (p *pipe) prove(s stored) error {
	if _, err := io.Copy(io.Discard, p.files); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, p.packed); err != nil {
		return err
	}
	if s.digest != "" && p.digest.digest() != s.digest {
		return &MismatchError{"digest", s.digest, p.digest.digest()}
	}
	if s.diffID != "" && p.diffID.digest() != s.diffID {
		return &MismatchError{"DiffID", s.diffID, p.diffID.digest()}
	}
	return nil
}

func (p *pipe) stop() {
	p.cancel() // ends a read that waits
	if p.files != nil {
		p.files.stop()
	}
	p.packed.stop()
	p.raw.Close()
	if p.unpack != nil {
		p.unpack.Close()
	}
}

// exact reads as many bytes as were promised: more or fewer are an error. 0 is no promise.
type exact struct {
	r           io.Reader
	size, limit int64
	read        int64
}

func (e *exact) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.read += int64(n)
	switch {
	case e.read > e.limit:
		return 0, &LimitError{"bytes", e.limit}
	case e.size == 0:
	case e.read > e.size:
		return 0, &MismatchError{"size", fmt.Sprintf("%d bytes", e.size), "larger"}
	case err == io.EOF && e.read < e.size:
		return n, &MismatchError{"size", fmt.Sprintf("%d bytes", e.size), fmt.Sprintf("%d", e.read)}
	}
	return n, err
}

// bounded keeps what is decompressed within the limits. It reads in the goroutine that also moves packed.
type bounded struct {
	r      io.Reader
	limits Limits
	packed *int64
	total  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.total += int64(n)
	switch {
	case b.total > b.limits.LayerBytes:
		return 0, &LimitError{"uncompressed bytes", b.limits.LayerBytes}
	case b.total > ratioFrom && b.total/b.limits.Ratio > *b.packed:
		return 0, &LimitError{"times its stored size", b.limits.Ratio}
	}
	return n, err
}
