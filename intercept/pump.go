package intercept

import (
	"io"
	"time"
)

// pump reads a body in the background, some pieces ahead, so that waiting for it can end.
type pump struct {
	pieces chan piece
	stop   chan struct{}
	left   []byte
	err    error
}

type piece struct {
	b   []byte
	err error
}

// newPump reads at most four pieces ahead. It ends with the body, which the connection closes.
func newPump(body io.Reader) *pump {
	p := &pump{pieces: make(chan piece, 4), stop: make(chan struct{})}
	go func() {
		defer close(p.pieces)
		for {
			b := make([]byte, 16<<10)
			n, err := body.Read(b)
			select {
			case p.pieces <- piece{b[:n], err}:
			case <-p.stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// hold collects up to limit bytes, but for no longer than wait.
func (p *pump) hold(limit int, wait time.Duration) (window []byte, whole bool, rest io.Reader) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for len(window) < limit {
		select {
		case <-over.C:
			return window, false, p
		case got := <-p.pieces:
			window = append(window, got.b...)
			if got.err == io.EOF {
				return window, true, nil
			}
			if got.err != nil {
				return window, false, broken{got.err}
			}
		}
	}
	return window, false, p
}

func (p *pump) Read(to []byte) (int, error) {
	for len(p.left) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		got, open := <-p.pieces
		if !open {
			return 0, io.EOF
		}
		p.left, p.err = got.b, got.err
	}
	n := copy(to, p.left)
	p.left = p.left[n:]
	return n, nil
}
