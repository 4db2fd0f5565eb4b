package image

import (
	"archive/tar"
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzWalk walks any bytes as a layer: it ends, stays inside, and says the same size that it gives.
func FuzzWalk(f *testing.F) {
	good := tarOf(f, entry{name: "a/b", body: "hello"}, entry{name: "a/.wh.c"}, entry{name: "../../x", kind: tar.TypeLink, link: "/y"}, entry{name: strings.Repeat("n", 300)})
	f.Add(good)
	f.Add(zipped(f, good))
	f.Add(zstandard(f, good))
	f.Add(good[:700])
	f.Add(sparseTar)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := layerOf(b, b)
		s.diffID = ""
		s.opt.Limits.LayerBytes, s.opt.Limits.Entries, s.opt.Limits.Memory = 4<<20, 1000, 64<<10
		_ = s.walk(t.Context(), func(file *File) error {
			if file.Path == "" || path.Clean("/"+file.Path) != "/"+file.Path && file.Path != "." || file.Path == "." && file.Kind != Opaque || strings.HasPrefix(file.Path, "../") || file.Path == ".." {
				t.Errorf("path %q of a %s", file.Path, names[file.Kind])
			}
			if file.Kind != Regular {
				return nil
			}
			if b, err := file.Bytes(4 << 20); err == nil && int64(len(b)) != file.Size {
				t.Errorf("%d bytes of a file of %d", len(b), file.Size)
			}
			return nil
		})
	})
}

// sparseTar is a file with a hole as GNU tar stores it, of a terabyte with nothing in it.
var sparseTar = func() []byte {
	b := make([]byte, 512*3)
	copy(b, "sparse")
	copy(b[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	b[156] = tar.TypeGNUSparse
	copy(b[257:], "ustar  \x00")
	copy(b[483:], "20000000000000\x00"[3:])
	sum := 0
	copy(b[148:], "        ")
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], []byte{byte('0' + sum>>15&7), byte('0' + sum>>12&7), byte('0' + sum>>9&7), byte('0' + sum>>6&7), byte('0' + sum>>3&7), byte('0' + sum&7), 0, ' '})
	return b
}()

// FuzzOpenArchive opens any bytes as a file, and whatever image it turns out to be.
func FuzzOpenArchive(f *testing.F) {
	made := newTestImage(f, tarOf(f, entry{name: "a", body: "one"}))
	var members []entry
	for name, b := range layoutOf(f, made) {
		members = append(members, entry{name: name, body: string(b)})
	}
	f.Add(made.dockerArchive(f))
	f.Add(tarOf(f, members...))
	f.Add(zipped(f, made.dockerArchive(f)))
	f.Add([]byte(`{"bomFormat":"CycloneDX"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "f.tar")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		o := nowhere
		o.Limits.LayerBytes, o.Limits.Entries = 4<<20, 1000
		i, err := Open(t.Context(), name, o)
		if err != nil {
			return
		}
		defer i.Close()
		for n := range i.Layers {
			_ = i.Layers[n].Walk(t.Context(), func(*File) error { return nil })
		}
	})
}

// FuzzManifest reads any document as a manifest, an index and a configuration.
func FuzzManifest(f *testing.F) {
	made := twoLayers(f)
	f.Add(made.manifest(f))
	f.Add(index(f, made))
	f.Add(made.configuration(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseConfig(b); err == nil {
			c.config()
		}
		i := &Image{}
		o := &opener{store: &archive{members: map[string]member{}}, opt: Options{}.withDefaults(), image: i}
		_ = o.open(t.Context(), document{digest: digestOf(b), raw: bytes.Clone(b)})
		i.attribute(base{})
	})
}
