package scan

import (
	"math/bits"
	"sync"
)

// buffers lends memory for contents of files, which is cleared and handed over by the system once and not for each
// file. Those of one size and the next are twice as large; small ones are not worth the trouble.
type buffers struct{ free [bits.UintSize]sync.Pool }

const smallBuffer = 8 << 10

// sizeOf is what n bytes take.
func sizeOf(n int64) int64 {
	if n < smallBuffer {
		return n
	}
	return 1 << bits.Len64(uint64(n-1))
}

// lend returns n bytes, whatever is in them.
func (b *buffers) lend(n int64) []byte {
	if n < smallBuffer {
		return make([]byte, n)
	}
	if kept, ok := b.free[bits.Len64(uint64(n-1))].Get().(*[]byte); ok {
		return (*kept)[:n]
	}
	return make([]byte, n, sizeOf(n))
}

// giveBack takes what was lent: nobody may use it any more.
func (b *buffers) giveBack(p []byte) {
	if cap(p) < smallBuffer {
		return
	}
	b.free[bits.Len64(uint64(cap(p)-1))].Put(&p)
}
