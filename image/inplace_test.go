package image

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInPlace holds what is read in place against what streams by.
func TestInPlace(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range 200 {
		content := strings.Repeat(fmt.Sprint(i), i*i*7)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("dir/%d", i), Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, content)
	}
	if err := w.WriteHeader(&tar.Header{Name: "dir/.wh.gone"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	read := func(unproved bool, every int, content []byte) ([]string, error) {
		s := stored{size: int64(len(content)), at: bytes.NewReader(content), opt: Options{Unproved: unproved}.withDefaults(), skip: func(Skip) {}, open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}}
		var list []string
		n := 0
		err := s.walk(t.Context(), func(f *File) error {
			n++
			line := fmt.Sprint(f.Path, f.Kind, f.Size)
			if f.Kind == Regular && n%every == 0 {
				b, err := f.Bytes(1 << 20)
				if err != nil {
					return err
				}
				line += string(b)
			}
			list = append(list, line)
			return nil
		})
		return list, err
	}
	for _, every := range []int{1, 7, 1000} {
		want, err := read(false, every, b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(true, every, b.Bytes())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("every %d: %v (-want +got):\n%s", every, err, diff)
		}
	}
	for _, cut := range []int{100, 600, 5000, b.Len() / 2} {
		if _, err := read(true, 1000, b.Bytes()[:cut]); err == nil && cut > 600 {
			t.Errorf("a layer that ends after %d bytes was read to its end", cut)
		}
	}
}

// TestSource: a file has a name that changes with it, once its times can be believed.
func TestSource(t *testing.T) {
	lately, err := os.Create(filepath.Join(t.TempDir(), "lately"))
	if err != nil {
		t.Fatal(err)
	}
	defer lately.Close()
	if got := sourceOf(lately, 0, 1); got != "" {
		t.Errorf("a file that was made now: %q, want nothing", got)
	}
	settled, err := os.Open("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	defer settled.Close()
	if a, b := sourceOf(settled, 0, 1), sourceOf(settled, 0, 1); a == "" || a != b || a == sourceOf(settled, 1, 1) {
		t.Errorf("the same place: %q, then %q, and another place %q", a, b, sourceOf(settled, 1, 1))
	}
}
