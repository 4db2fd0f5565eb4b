package image

import (
	"context"
	"errors"
	"io"
)

// walkPlain walks over a layer that lies uncompressed in a local file, and proves beside it that it is the right one,
// unless that is not wanted. Who changes the file meanwhile can make the two differ; it is the caller's own file.
func (s stored) walkPlain(ctx context.Context, visit func(*File) error) error {
	if s.opt.Unproved || s.digest == "" && s.diffID == "" {
		return s.inPlace(ctx, visit)
	}
	proving, stop := context.WithCancel(ctx)
	defer stop()
	proved := make(chan error, 1)
	go func() { proved <- s.provePlain(proving) }()
	if err := s.inPlace(ctx, visit); err != nil {
		stop()
		<-proved
		return err
	}
	if err := <-proved; err != nil {
		return s.wrap(cause(ctx, err))
	}
	return nil
}

// provePlain reads all of the layer for its digest, which is its DiffID too.
func (s stored) provePlain(ctx context.Context) error {
	sum, buffer := newSum(), make([]byte, chunkSize)
	for offset := int64(0); offset < s.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := s.at.ReadAt(buffer[:min(chunkSize, s.size-offset)], offset)
		if n == 0 {
			return broken(unexpected(err))
		}
		sum.hash.Write(buffer[:n])
		offset += int64(n)
	}
	for what, want := range map[string]string{"digest": s.digest, "DiffID": s.diffID} {
		if got := sum.digest(); want != "" && got != want {
			return &MismatchError{what, want, got}
		}
	}
	return nil
}

// inPlace visits the entries of the layer and reads of it only what is asked for: a package list needs a hundredth of
// an image.
func (s stored) inPlace(ctx context.Context, visit func(*File) error) error {
	w := tarWalk{limits: s.opt.Limits, temp: s.opt.Temp, skip: s.skipped, window: &window{at: s.at, size: s.size}}
	err := w.run(ctx, w.window, visit)
	var own *visitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.error
	}
	return s.wrap(cause(ctx, err))
}

// plain reports whether the layer is an uncompressed tar in a local file.
func (s stored) plain() bool {
	if s.at == nil {
		return false
	}
	var head [262]byte
	if _, err := s.at.ReadAt(head[:], 0); err != nil {
		return false
	}
	return string(head[257:]) == "ustar"
}

// placed is the content of a file that lies in a local file as it is: for whoever reads it, as often as they like, until
// the image is closed.
type placed struct{ section *io.SectionReader }

func (p placed) reader() (io.Reader, error) {
	return io.NewSectionReader(p.section, 0, p.section.Size()), nil
}

func (p placed) readerAt() (io.ReaderAt, error) { return p.section, nil }

// Lasting returns the file for use after the visit, until the image is closed. It is not ok where the content streams
// by.
func (f *File) Lasting() (lasting *File, ok bool) {
	if _, ok := f.content.(placed); !ok {
		return nil, false
	}
	c := *f
	return &c, true
}

// windowSize holds some headers of small files at once, and wastes little where large ones are passed over.
const windowSize = 8 << 10

// window reads a file through a buffer, and can skip: archive/tar seeks over what nobody reads.
type window struct {
	at     io.ReaderAt
	size   int64
	offset int64 // of the next byte
	start  int64 // of the buffer in the file
	length int64 // of what is in it
	buffer [windowSize]byte
}

func (w *window) Read(p []byte) (int, error) {
	if w.offset >= w.size {
		return 0, io.EOF
	}
	if len(p) >= windowSize {
		n, err := w.at.ReadAt(p[:min(int64(len(p)), w.size-w.offset)], w.offset)
		w.offset += int64(n)
		if n > 0 {
			err = nil
		}
		return n, err
	}
	if w.offset < w.start || w.offset >= w.start+w.length {
		n, err := w.at.ReadAt(w.buffer[:min(windowSize, w.size-w.offset)], w.offset)
		if n == 0 {
			return 0, err
		}
		w.start, w.length = w.offset, int64(n)
	}
	n := copy(p, w.buffer[w.offset-w.start:w.length])
	w.offset += int64(n)
	return n, nil
}

// Seek goes anywhere within the layer; where that is past its end, the next Read says so.
func (w *window) Seek(n int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		n += w.offset
	case io.SeekEnd:
		n += w.size
	}
	if n < 0 {
		return w.offset, errors.New("seek before the start")
	}
	w.offset = n
	return n, nil
}
