package inflate

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func pack(t testing.TB, level int, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// samples are bytes of all sorts: nothing, noise, runs, periods, text, and what is longer than the buffers.
func samples() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for n := range noise {
		noise[n] = byte(r.Uint32())
	}
	var text, periods bytes.Buffer
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then some more words of English")
	for text.Len() < 2<<20 {
		text.WriteString(words[r.IntN(len(words))])
		text.WriteByte(" \n"[r.IntN(2)])
	}
	for n := range 2000 {
		periods.Write(bytes.Repeat(noise[n:n+n%40+1], 1+r.IntN(50)))
	}
	skewed := make([]byte, 1<<20) // so skewed that codes get long
	for n := range skewed {
		skewed[n] = byte(r.ExpFloat64() * 8)
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "noise": noise, "zeros": make([]byte, 3<<20), "text": text.Bytes(), "periods": periods.Bytes(), "skewed": skewed,
		"far": append(append(bytes.Clone(noise[:32<<10]), noise[:32<<10]...), noise[:100<<10]...),
	}
}

func TestReader(t *testing.T) {
	for name, want := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, 0, 1, 6, 9} {
			packed := pack(t, level, want)
			for how, r := range map[string]io.Reader{
				"whole": bytes.NewReader(packed), "halves": iotest.HalfReader(bytes.NewReader(packed)), "with the end": iotest.DataErrReader(bytes.NewReader(packed)),
			} {
				got, err := io.ReadAll(NewReader(r))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, level %d, %s: %d bytes, %v, want %d", name, level, how, len(got), err, len(want))
				}
			}
		}
	}
}

// TestBytewise reads small bits of input and gives small bits of output.
func TestBytewise(t *testing.T) {
	want := samples()["text"][:100_000]
	got, err := io.ReadAll(iotest.OneByteReader(NewReader(iotest.OneByteReader(bytes.NewReader(pack(t, 6, want))))))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestMembers(t *testing.T) {
	one, two := samples()["text"], samples()["periods"]
	packed := append(append(pack(t, 6, one), pack(t, 1, nil)...), pack(t, 9, two)...)
	got, err := io.ReadAll(NewReader(bytes.NewReader(packed)))
	if err != nil || !bytes.Equal(got, append(bytes.Clone(one), two...)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestHeader passes over all that a header may have.
func TestHeader(t *testing.T) {
	packed := pack(t, 6, []byte("hello"))
	long := append([]byte{0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3, 4, 0, 'e', 'x', 't', 'r'}, "name\x00comment\x00hc"...)
	got, err := io.ReadAll(NewReader(bytes.NewReader(append(long, packed[10:]...))))
	if err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestCut ends every input early: the bytes before are given, and the error says that it ends.
func TestCut(t *testing.T) {
	want := samples()["text"][:5000]
	for _, level := range []int{0, 1, 6} {
		packed := pack(t, level, want)
		for n := range packed {
			got, err := io.ReadAll(NewReader(bytes.NewReader(packed[:n])))
			if n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(want, got) {
				t.Fatalf("level %d, %d of %d bytes: %d bytes, %v", level, n, len(packed), len(got), err)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	want := samples()["text"][:5000]
	packed := pack(t, 6, want)
	for n := range packed {
		bad := bytes.Clone(packed)
		bad[n] ^= 0x10
		got, err := io.ReadAll(NewReader(bytes.NewReader(bad)))
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("byte %d: damage is not told", n)
		}
	}
	for name, b := range map[string][]byte{"garbage behind": append(bytes.Clone(packed), "garbage behind it"...), "another format": []byte("PK\x03\x04 and more")} {
		if _, err := io.ReadAll(NewReader(bytes.NewReader(b))); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSource passes on what the source says, and does not wait for one that says nothing.
func TestSource(t *testing.T) {
	own := errors.New("own")
	packed := pack(t, 6, samples()["text"])
	_, err := io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(own))))
	if !errors.Is(err, own) {
		t.Errorf("%v, want the source's own error", err)
	}
	_, err = io.ReadAll(NewReader(silent{}))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v, want that there is no progress", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// FuzzReader holds the reader to compress/gzip: the same bytes, and an error where that has one. Of headers it does
// not compare the checksum, and takes longer names.
func FuzzReader(f *testing.F) {
	for _, b := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, 0, 1, 9} {
			f.Add(pack(f, level, b[:min(len(b), 3000)]))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 4 << 20
		got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(b)), limit))
		z, wrong := gzip.NewReader(bytes.NewReader(b))
		var want []byte
		if wrong == nil {
			want, wrong = io.ReadAll(io.LimitReader(z, limit))
		}
		options := len(b) > 3 && b[3] != 0
		if wrong == nil && (err != nil || !bytes.Equal(got, want)) {
			t.Errorf("%d bytes, %v, want %d", len(got), err, len(want))
		}
		if wrong != nil && err == nil && !options && len(b) > 0 {
			t.Errorf("%d bytes and no error, want %v", len(got), wrong)
		}
	})
}

// BenchmarkReader unpacks what compresses differently; times-gzip is how many times faster that is than compress/gzip.
func BenchmarkReader(b *testing.B) {
	for name, plain := range samples() {
		if len(plain) < 1<<18 {
			continue
		}
		packed := pack(b, 6, plain)
		b.Run(name, func(b *testing.B) {
			began := time.Now()
			for range 5 {
				z, err := gzip.NewReader(bytes.NewReader(packed))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, z); err != nil {
					b.Fatal(err)
				}
			}
			base := time.Since(began).Seconds() / 5
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if _, err := io.Copy(io.Discard, NewReader(bytes.NewReader(packed))); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(base/(b.Elapsed().Seconds()/float64(b.N)), "times-gzip")
		})
	}
}
