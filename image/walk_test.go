package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
)

// TestWalk reads what archives say, the hostile included, in all ways in which a layer is stored.
func TestWalk(t *testing.T) {
	for _, test := range []struct {
		name    string
		entries []entry
		want    []string
	}{
		{"kinds", []entry{
			{name: "./", kind: tar.TypeDir},
			{name: "./usr/bin/", kind: tar.TypeDir},
			{name: "usr/bin/a", body: "one"},
			{name: "usr/bin/b", kind: tar.TypeLink, link: "./usr/bin/a"},
			{name: "usr/bin/c", kind: tar.TypeSymlink, link: "../../etc/x"},
			{name: "dev/null", kind: tar.TypeChar},
			{name: "run/pipe", kind: tar.TypeFifo},
			{name: "empty"},
		}, []string{`dir usr/bin`, `file usr/bin/a "one"`, `link usr/bin/b -> usr/bin/a`, `symlink usr/bin/c -> ../../etc/x`, `other dev/null`, `other run/pipe`, `file empty ""`}},
		{"whiteouts", []entry{
			{name: "a/.wh.gone"}, {name: ".wh.top"}, {name: "b/.wh..wh..opq"}, {name: ".wh..wh..opq"}, {name: ".wh..wh.plnk/x"}, {name: ".wh..wh.aufs"}, {name: "c/.wh."}, {name: "c/.wh..."},
		}, []string{"whiteout a/gone", "whiteout top", "opaque b", "opaque .", `file .wh..wh.plnk/x ""`}},
		{"outside", []entry{
			{name: "../../etc/passwd", body: "x"},
			{name: "/abs", body: "y"},
			{name: "a/../../b", body: "z"},
			{name: "..", body: "w"},
			{name: "a//b/./c", body: "v"},
			{name: "l", kind: tar.TypeLink, link: "../../etc/shadow"},
			{name: "../../.wh.q"},
		}, []string{`file etc/passwd "x"`, `file abs "y"`, `file b "z"`, `file a/b/c "v"`, "link l -> etc/shadow", "whiteout q"}},
		{"too long", []entry{{name: strings.Repeat("d/", 2500) + "f", body: "x"}, {name: "ok"}}, []string{`file ok ""`}},
		{"not UTF-8", []entry{{name: "a\xff\xfe", body: "x"}}, []string{"file a\xff\xfe \"x\""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			plain := tarOf(t, test.entries...)
			for _, packed := range [][]byte{plain, zipped(t, plain), zstandard(t, plain)} {
				got, err := seen(t, layerOf(plain, packed).walk)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("entries (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestWalkModes keeps the bits that matter to whoever looks for privileges.
func TestWalkModes(t *testing.T) {
	plain := tarOf(t, entry{name: "su", mode: 0o4755}, entry{name: "wall", mode: 0o2755}, entry{name: "tmp", kind: tar.TypeDir, mode: 0o1777})
	got := map[string]os.FileMode{}
	err := layerOf(plain, plain).walk(t.Context(), func(f *File) error { got[f.Path] = f.Mode; return nil })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{"su": 0o755 | os.ModeSetuid, "wall": 0o755 | os.ModeSetgid, "tmp": 0o777 | os.ModeSticky}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modes (-want +got):\n%s", diff)
	}
}

// TestWalkLies gives what could be visited, and the error that names the layer.
func TestWalkLies(t *testing.T) {
	plain := tarOf(t, entry{name: "a", body: "first"}, entry{name: "b", body: strings.Repeat("second", 100_000)})
	good := zipped(t, plain)
	bomb := tarOf(t, entry{name: "zero", body: strings.Repeat("\x00", 3<<20)})
	var limit *LimitError
	var mismatch *MismatchError
	for _, test := range []struct {
		name  string
		layer func(*stored)
		bytes []byte
		as    any
		is    error
		says  string
		seen  int
	}{
		{name: "digest", layer: func(s *stored) { s.digest = digestOf(nil) }, as: &mismatch, says: "digest is", seen: 2},
		{name: "DiffID", layer: func(s *stored) { s.diffID = digestOf(nil) }, as: &mismatch, says: "DiffID is", seen: 2},
		{name: "larger than promised", layer: func(s *stored) { s.size-- }, as: &mismatch, says: "size is larger", seen: -1},
		{name: "smaller than promised", layer: func(s *stored) { s.size++ }, as: &mismatch, says: "size is", seen: -1},
		{name: "cut off", layer: func(s *stored) { s.size = 0 }, bytes: good[:len(good)/2], is: io.ErrUnexpectedEOF, says: "ends in the middle", seen: -1},
		{name: "cut off, plain", layer: func(s *stored) { s.size = 0 }, bytes: plain[:2000], is: io.ErrUnexpectedEOF, says: "ends in the middle", seen: 2},
		{name: "garbage after gzip", layer: func(s *stored) { s.size = 0 }, bytes: append(bytes.Clone(good), "garbage garbage"...), says: "gzip", seen: 2},
		{name: "damaged gzip", layer: func(s *stored) { s.digest = digestOf(good) }, bytes: damaged(good), as: &mismatch, says: "digest is", seen: -1},
		{name: "other bytes", layer: func(s *stored) { s.digest = digestOf(good); s.size = 0 }, bytes: bytes.Repeat([]byte("no tar "), 200_000), as: &mismatch, says: "digest is"},
		{name: "no tar", layer: func(s *stored) { s.size = 0 }, bytes: bytes.Repeat([]byte("no tar "), 1000), is: tar.ErrHeader, says: "invalid tar header"},
		{name: "xz", layer: func(s *stored) { s.size = 0 }, bytes: append(bytes.Clone(magicXZ), 1, 2, 3), says: "xz"},
		{name: "entries", layer: func(s *stored) { s.opt.Limits.Entries = 1 }, as: &limit, says: "more than 1 entries", seen: 1},
		{name: "bytes", layer: func(s *stored) { s.opt.Limits.LayerBytes = 1 << 20; s.size = 0 }, bytes: zipped(t, bomb), as: &limit, says: "uncompressed bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			packed := good
			if test.bytes != nil {
				packed = test.bytes
			}
			s := layerOf(plain, packed)
			test.layer(&s)
			visited := 0
			err := s.walk(t.Context(), func(f *File) error {
				visited++
				if _, err := f.Bytes(1 << 20); err != nil && f.Size < 1<<20 {
					return err
				}
				return nil
			})
			var layer *LayerError
			if !errors.As(err, &layer) || !strings.Contains(err.Error(), test.says) || test.is != nil && !errors.Is(err, test.is) {
				t.Fatalf("error %v; want a LayerError that says %q", err, test.says)
			}
			if test.as != nil && !errors.As(err, test.as) {
				t.Errorf("error %v is not a %T", err, test.as)
			}
			if test.seen >= 0 && visited != test.seen {
				t.Errorf("%d files were visited, want %d", visited, test.seen)
			}
			if !strings.Contains(err.Error(), s.diffID) {
				t.Errorf("error %v does not name the layer", err)
			}
		})
	}
}

func damaged(b []byte) []byte {
	b = bytes.Clone(b)
	for n := len(b) / 2; n < len(b)/2+20; n++ {
		b[n] ^= 0x5a
	}
	return b
}

// zeros is a tar of one file that has so many zeros.
func zeros(t testing.TB, size int64) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&b, io.LimitReader(nothing{}, size), bytes.NewReader(make([]byte, 1024)))
}

type nothing struct{}

func (nothing) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestWalkBomb ends at the ratio, long before the bomb's own end.
func TestWalkBomb(t *testing.T) {
	read, write := io.Pipe()
	go func() {
		z := gzip.NewWriter(write)
		_, err := io.Copy(z, zeros(t, 64<<30))
		write.CloseWithError(err)
	}()
	s := layerOf(nil, nil)
	s.size, s.open = 0, func(context.Context) (io.ReadCloser, error) { return read, nil }
	err := s.walk(t.Context(), func(*File) error { return nil })
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != defaultRatio {
		t.Errorf("error %v, want the ratio's", err)
	}
}

// TestWalkSpool gives large files out of a temporary one, which goes.
func TestWalkSpool(t *testing.T) {
	dir := t.TempDir()
	body := strings.Repeat("0123456789", 1000)
	plain := tarOf(t, entry{name: "large", body: body}, entry{name: "after", body: "x"})
	s := layerOf(plain, plain)
	s.opt.Limits.Memory, s.opt.Temp = 100, dir
	var paths []string
	err := s.walk(t.Context(), func(f *File) error {
		paths = append(paths, f.Path)
		if f.Path != "large" {
			return nil
		}
		at, err := f.ReaderAt()
		if err != nil {
			return err
		}
		end := make([]byte, 10)
		if _, err := at.ReadAt(end, f.Size-10); err != nil || string(end) != "0123456789" {
			return fmt.Errorf("end %q: %w", end, err)
		}
		for range 2 {
			b, err := f.Bytes(1 << 20)
			if err != nil || string(b) != body {
				return fmt.Errorf("%d bytes: %w", len(b), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if diff := cmp.Diff([]string{"large", "after"}, paths); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}
}

// TestWalkHeld gives what streams by and is in memory to all who ask, without a copy of it for each.
func TestWalkHeld(t *testing.T) {
	plain := tarOf(t, entry{name: "a", body: "x"}, entry{name: "large", body: strings.Repeat("x", 1000)})
	s := layerOf(plain, zipped(t, plain))
	s.opt.Limits.Memory, s.opt.Temp = 100, t.TempDir()
	err := s.walk(t.Context(), func(f *File) error {
		if f.Held() != (f.Path == "a") {
			return fmt.Errorf("%s: held %t", f.Path, f.Held())
		}
		first, err1 := f.Bytes(1 << 20)
		second, err2 := f.Bytes(1 << 20)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(first, second) {
			return fmt.Errorf("%s: %d and %d bytes: %w", f.Path, len(first), len(second), err)
		}
		if same := &first[0] == &second[0]; same != f.Held() {
			return fmt.Errorf("%s: the same bytes %t", f.Path, same)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWalkNoTemp loses the one file that has no place, and goes on.
func TestWalkNoTemp(t *testing.T) {
	plain := tarOf(t, entry{name: "large", body: strings.Repeat("x", 1000)}, entry{name: "after", body: "y"})
	s := layerOf(plain, plain)
	s.opt.Limits.Memory, s.opt.Temp = 100, "/nonexistent"
	var got []string
	err := s.walk(t.Context(), func(f *File) error {
		_, err := f.Bytes(1 << 20)
		got = append(got, fmt.Sprint(f.Path, " ", err == nil))
		return nil
	})
	if diff := cmp.Diff([]string{"large false", "after true"}, got); diff != "" || err != nil {
		t.Errorf("error %v; files (-want +got):\n%s", err, diff)
	}
}

// TestWalkVisit returns the visit's own error as it is, and ends the walk.
func TestWalkVisit(t *testing.T) {
	own := errors.New("enough")
	plain := tarOf(t, entry{name: "a"}, entry{name: "b"})
	visits := 0
	err := layerOf(plain, zipped(t, plain)).walk(t.Context(), func(*File) error { visits++; return own })
	if err != own || visits != 1 {
		t.Errorf("error %v after %d visits, want the visit's own after one", err, visits)
	}
}

func TestWalkCancelled(t *testing.T) {
	plain := tarOf(t, entry{name: "a"}, entry{name: "b"})
	ctx, cancel := context.WithCancel(t.Context())
	err := layerOf(plain, plain).walk(ctx, func(*File) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// TestWalkTogether walks one layer many times at once.
func TestWalkTogether(t *testing.T) {
	plain := tarOf(t, entry{name: "a", body: strings.Repeat("abc", 500_000)}, entry{name: "b", body: "x"})
	s := layerOf(plain, zipped(t, plain))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := s.walk(t.Context(), func(f *File) error { _, err := f.Bytes(4 << 20); return err }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestNoContent(t *testing.T) {
	f := &File{Path: "dir", Kind: Directory}
	if _, err := f.Reader(); err == nil {
		t.Error("a directory has a reader")
	}
	if _, err := f.ReaderAt(); err == nil {
		t.Error("a directory has a ReaderAt")
	}
}

// TestWalkHeaders refuses headers of absurd sizes without taking the memory for them.
func TestWalkHeaders(t *testing.T) {
	for name, kind := range map[string]byte{"PAX": tar.TypeXHeader, "GNU name": tar.TypeGNULongName, "GNU link": tar.TypeGNULongLink} {
		head := rawHeader(kind, 2<<30)
		s := layerOf(nil, nil)
		s.size, s.open = 0, func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(head), io.LimitReader(nothing{}, 2<<30))), nil
		}
		s.digest = ""
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := s.walk(t.Context(), func(*File) error { return nil })
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d MiB were taken", name, used>>20)
		}
	}
}

// rawHeader is a header that archive/tar would not write.
func rawHeader(kind byte, size int64) []byte {
	b := make([]byte, 512)
	copy(b, "x")
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// TestWalkMany holds nothing of an entry that was visited.
func TestWalkMany(t *testing.T) {
	const many = 200_000
	read, write := io.Pipe()
	go func() {
		w := tar.NewWriter(write)
		for n := range many {
			if w.WriteHeader(&tar.Header{Name: fmt.Sprint("a/file/with/a/longer/name/", n), Typeflag: tar.TypeReg, Mode: 0o644}) != nil {
				return
			}
		}
		write.CloseWithError(w.Close())
	}()
	s := layerOf(nil, nil)
	s.diffID, s.digest, s.size, s.open = "", "", 0, func(context.Context) (io.ReadCloser, error) { return read, nil }
	var start, end runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&start)
	visited := 0
	err := s.walk(t.Context(), func(*File) error {
		if visited++; visited == many {
			runtime.GC()
			runtime.ReadMemStats(&end)
		}
		return nil
	})
	if err != nil || visited != many {
		t.Errorf("%d entries, %v", visited, err)
	}
	if end.HeapAlloc > start.HeapAlloc+16<<20 {
		t.Errorf("%d MiB are held after %d entries", (end.HeapAlloc-start.HeapAlloc)>>20, many)
	}
}
