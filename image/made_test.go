package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// entry is one line of a tar that a test makes.
type entry struct {
	name string
	kind byte // tar.TypeReg when 0
	body string
	link string
	mode int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body))}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// layerOf is a stored layer that is in memory; its digests are right.
func layerOf(plain, packed []byte) stored {
	return stored{
		diffID: digestOf(plain), digest: digestOf(packed), size: int64(len(packed)),
		open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil },
		opt:  Options{}.withDefaults(), skip: func(Skip) {},
	}
}

// seen is what a walk told of each entry, one line each.
func seen(t testing.TB, walk func(context.Context, func(*File) error) error) (lines []string, err error) {
	t.Helper()
	err = walk(t.Context(), func(f *File) error {
		line := fmt.Sprintf("%s %s", names[f.Kind], f.Path)
		if f.Link != "" {
			line += " -> " + f.Link
		}
		if f.Kind == Regular {
			b, err := f.Bytes(1 << 20)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

var names = map[Kind]string{Regular: "file", Directory: "dir", Symlink: "symlink", HardLink: "link", Other: "other", Whiteout: "whiteout", Opaque: "opaque"}

// testImage is an image that tests make: its documents by digest.
type testImage struct {
	layers  [][]byte // packed
	plain   [][]byte
	config  []byte
	tag     string
	history []configHistory
	labels  map[string]string
	arch    string
}

func newTestImage(t testing.TB, layers ...[]byte) *testImage {
	t.Helper()
	i := &testImage{arch: "amd64", tag: "docker.io/library/made:1"}
	for n, plain := range layers {
		i.plain = append(i.plain, plain)
		i.layers = append(i.layers, zipped(t, plain))
		i.history = append(i.history, configHistory{CreatedBy: fmt.Sprintf("RUN step %d", n)}, configHistory{CreatedBy: "ENV A=1", EmptyLayer: true})
	}
	return i
}

func (i *testImage) configuration(t testing.TB) []byte {
	t.Helper()
	if i.config != nil {
		return i.config
	}
	var c configFile
	c.OS, c.Architecture, c.History = "linux", i.arch, i.history
	c.Config.Labels, c.Config.User = i.labels, "nobody"
	for _, plain := range i.plain {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digestOf(plain))
	}
	return marshal(t, c)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dockerArchive is the image as docker save wrote it before it wrote layouts; links stand in for equal layers.
func (i *testImage) dockerArchive(t testing.TB) []byte {
	t.Helper()
	config := i.configuration(t)
	name := strings.TrimPrefix(digestOf(config), "sha256:") + ".json"
	entries := []entry{{name: name, body: string(config)}}
	item := dockerItem{Config: name, RepoTags: []string{"made:1"}}
	first := map[string]string{}
	for n, plain := range i.plain {
		layer := fmt.Sprintf("%d/layer.tar", n)
		if other, ok := first[string(plain)]; ok {
			entries = append(entries, entry{name: layer, kind: tar.TypeSymlink, link: "../" + other})
		} else {
			entries = append(entries, entry{name: layer, body: string(plain)})
			first[string(plain)] = layer
		}
		item.Layers = append(item.Layers, layer)
	}
	return tarOf(t, append(entries, entry{name: "manifest.json", body: string(marshal(t, []dockerItem{item}))})...)
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// The media types that tests write.
const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

func describe(kind string, b []byte) descriptor {
	return descriptor{MediaType: kind, Digest: digestOf(b), Size: len(b)}
}

// manifest is the image's manifest.
func (i *testImage) manifest(t testing.TB) []byte {
	t.Helper()
	layers := []descriptor{}
	for _, packed := range i.layers {
		layers = append(layers, describe(typeLayer, packed))
	}
	return marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": describe(typeConfig, i.configuration(t)), "layers": layers,
	})
}

// blobs are all documents of the image.
func (i *testImage) blobs(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, b := range append([][]byte{i.manifest(t), i.configuration(t)}, i.layers...) {
		all[digestOf(b)] = b
	}
	return all
}

// index is an index of images, by their architectures.
func index(t testing.TB, images ...*testImage) []byte {
	t.Helper()
	manifests := []descriptor{}
	for _, i := range images {
		d := describe(typeManifest, i.manifest(t))
		d.Platform = map[string]string{"os": "linux", "architecture": i.arch}
		d.Annotations = map[string]string{"io.containerd.image.name": i.tag}
		manifests = append(manifests, d)
	}
	return marshal(t, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests})
}

// layout are the files of an OCI layout.
func layoutOf(t testing.TB, images ...*testImage) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json": index(t, images...)}
	for _, i := range images {
		for digest, b := range i.blobs(t) {
			files[blobPath(digest)] = b
		}
	}
	return files
}

func writeTree(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		writeFile(t, filepath.Join(dir, name), b)
	}
	return dir
}

func writeFile(t testing.TB, name string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func writeExecutable(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
