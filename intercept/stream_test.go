package intercept

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStream: whatever order, repetition and overlap segments come in, the same text is read.
func TestStream(t *testing.T) {
	text := make([]byte, 20_000)
	for i := range text {
		text[i] = byte(i * 7)
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		syn := r.Uint32() // also near where numbers begin again
		s := newStream(syn)
		type cut struct{ from, to int }
		var cuts []cut
		for at := 0; at < len(text); {
			n := 1 + r.IntN(1400)
			cuts = append(cuts, cut{max(0, at-r.IntN(50)), min(len(text), at+n)})
			at += n
		}
		for i := range cuts { // somewhat out of order, some twice
			if j := i + r.IntN(4); j < len(cuts) {
				cuts[i], cuts[j] = cuts[j], cuts[i]
			}
		}
		for _, c := range cuts {
			for range 1 + r.IntN(2) {
				s.put(syn+1+uint32(c.from), text[c.from:c.to], c.to == len(text))
			}
		}
		got, err := io.ReadAll(s)
		if err != nil || !cmp.Equal(got, text) || s.lost() {
			t.Fatalf("seed %d: %d bytes, %v, lost %v", seed, len(got), err, s.lost())
		}
	}
}

func TestStreamBounds(t *testing.T) {
	s := newStream(0)
	for n := range 100 {
		s.put(uint32(10_000+n*1000), make([]byte, 1000), false) // what they follow never comes
	}
	if got, _ := io.ReadAll(s); !s.lost() || len(got) != 0 {
		t.Errorf("lost %v, %d bytes", s.lost(), len(got))
	}
	s = newStream(0)
	for n := range 2000 {
		s.put(uint32(1+n*1000), make([]byte, 1000), false) // nobody reads
	}
	if !s.lost() || len(s.queue) != 0 {
		t.Error("it keeps what nobody reads")
	}
}

// FuzzStream: packets and segments of any kind end in a stream that ends.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0, 'G'}, uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, syn uint32) {
		s := newStream(syn)
		for len(b) > 0 {
			n := min(len(b), 40+int(b[0]))
			if p, ok := parsePacket(b[:n]); ok {
				s.put(p.seq, p.data, p.fin)
			}
			s.put(syn+uint32(b[0])-8, b[:n], b[0] == 255)
			b = b[n:]
		}
		s.end()
		if _, err := io.Copy(io.Discard, s); err != nil {
			t.Fatal(err)
		}
		if s.held > maxAhead || len(s.queue) > maxQueue {
			t.Error("bounds")
		}
	})
}
