package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// goroot is where Go is: it runs this.
func goroot(b *testing.B) string {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// benchLayer is a layer as real ones are, made of what every machine with Go has: thousands of texts, some of them
// small, and programs.
func benchLayer(b *testing.B) (plain, packed []byte) {
	b.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	root := goroot(b)
	add := func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name[1:], Mode: 0o644, Size: int64(len(body))}); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	}
	for _, dir := range []string{"src/net", "src/crypto", "src/cmd/compile", "src/runtime", "bin", "pkg/tool"} {
		if err := filepath.WalkDir(filepath.Join(root, dir), add); err != nil && !os.IsNotExist(err) {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes(), zipped(b, out.Bytes())
}

// plainWalk is what one would write in five minutes: no check, no limit, one goroutine.
func plainWalk(packed []byte) error {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	t := tar.NewReader(z)
	for {
		if _, err := t.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func timed(n int, work func() error) (time.Duration, error) {
	began := time.Now()
	for range n {
		if err := work(); err != nil {
			return 0, err
		}
	}
	return time.Since(began) / time.Duration(n), nil
}

// BenchmarkWalk walks a layer and proves its two digests; times-plain is how many times faster that is than reading it
// with archive/tar and compress/gzip alone.
func BenchmarkWalk(b *testing.B) {
	plain, packed := benchLayer(b)
	for name, stored := range map[string]stored{"gzip": layerOf(plain, packed), "zstd": layerOf(plain, zstandard(b, plain)), "tar": layerOf(plain, plain)} {
		b.Run(name, func(b *testing.B) {
			base, err := timed(3, func() error { return plainWalk(packed) })
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if err := stored.walk(context.Background(), func(*File) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(base.Seconds()/(b.Elapsed().Seconds()/float64(b.N)), "times-plain")
		})
	}
}

// BenchmarkWalkTwo walks two layers at once, as a scan on two processors does.
func BenchmarkWalkTwo(b *testing.B) {
	plain, packed := benchLayer(b)
	s := layerOf(plain, packed)
	base, err := timed(3, func() error { return plainWalk(packed) })
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(2 * int64(len(plain)))
	for b.Loop() {
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if err := s.walk(context.Background(), func(*File) error { return nil }); err != nil {
					b.Error(err)
				}
			})
		}
		group.Wait()
	}
	b.ReportMetric(2*base.Seconds()/(b.Elapsed().Seconds()/float64(b.N)), "times-plain")
}

// BenchmarkDir walks the same files as a directory.
func BenchmarkDir(b *testing.B) {
	i, err := Open(b.Context(), "dir:"+filepath.Join(goroot(b), "src"), nowhere)
	if err != nil {
		b.Fatal(err)
	}
	defer i.Close()
	files := 0
	for b.Loop() {
		files = 0
		if err := i.Layers[0].Walk(context.Background(), func(*File) error { files++; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*files), "µs/file")
}
