package unzip

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func all([]byte) bool { return true }

// pack writes an archive of these files, in order, each stored and packed in turn.
func pack(tb testing.TB, prefix string, files ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	b.WriteString(prefix)
	w := zip.NewWriter(&b)
	w.SetOffset(int64(len(prefix)))
	for i, name := range files {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: []uint16{zip.Store, zip.Deflate}[i%2]})
		if err != nil {
			tb.Fatal(err)
		}
		io.WriteString(f, "content of "+name)
	}
	if err := w.SetComment("a comment"); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestOpen(t *testing.T) {
	files := []string{"a.txt", "META-INF/MANIFEST.MF", "b/", "b/c.class"}
	plain := pack(t, "", files...)
	shifted := append([]byte("#!/bin/sh\n"), plain...) // offsets do not count what was put in front
	tests := []struct {
		name string
		b    []byte
	}{
		{"plain", plain},
		{"with a script in front that offsets count", pack(t, "#!/bin/sh\nexec java -jar $0\n", files...)},
		{"with a script in front that they do not", shifted},
		{"none", pack(t, "")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { compare(t, test.b) })
	}
}

// compare compares all entries and their content with what archive/zip reads.
func compare(t *testing.T, b []byte) {
	t.Helper()
	z, err := Open(bytes.NewReader(b), int64(len(b)), all)
	if err != nil {
		t.Fatal(err)
	}
	reference, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, e := range z.Entries {
		content, err := z.Read(e, 1<<20)
		got = append(got, fmt.Sprintf("%s: %s, %v", e.Name, content, err))
	}
	for _, e := range reference.File {
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		want = append(want, fmt.Sprintf("%s: %s, %v", e.Name, content, err))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestFilter(t *testing.T) {
	b := pack(t, "", "a", "b", "c")
	z, err := Open(bytes.NewReader(b), int64(len(b)), func(name []byte) bool { return string(name) == "b" })
	if err != nil || len(z.Entries) != 1 || z.Entries[0].Name != "b" {
		t.Errorf("%v, %v", z, err)
	}
}

func TestLimits(t *testing.T) {
	b := pack(t, "", "a", "b")
	z, err := Open(bytes.NewReader(b), int64(len(b)), all)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Read(z.Entries[1], 5); err == nil {
		t.Error("an entry was read beyond its limit")
	}
	names := make([]string, maxKept+1)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	many := pack(t, "", names...)
	if _, err := Open(bytes.NewReader(many), int64(len(many)), all); err != errMany {
		t.Errorf("%d entries: %v", len(names), err)
	}
}

// TestDamaged: lies in the list of entries are errors.
func TestDamaged(t *testing.T) {
	whole := pack(t, "", "a", "b")
	end := bytes.LastIndex(whole, []byte("PK\x05\x06"))
	central := bytes.Index(whole, []byte("PK\x01\x02"))
	tests := []struct {
		name string
		lie  func(b []byte) []byte
	}{
		{"cut", func(b []byte) []byte { return b[:end] }},
		{"empty", func([]byte) []byte { return nil }},
		{"list larger than the file", func(b []byte) []byte { return put32(b, end+12, 1<<30) }},
		{"list ends in an entry", func(b []byte) []byte { return put32(put32(b, end+12, 60), end+16, uint32(central)) }},
		{"no list at its place", func(b []byte) []byte { return put32(b, central, 0) }},
		{"entry beyond the end", func(b []byte) []byte { return put32(b, central+42, 1<<31) }},
		{"unknown method", func(b []byte) []byte { b[central+10] = 99; return b }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := test.lie(bytes.Clone(whole))
			z, err := Open(bytes.NewReader(b), int64(len(b)), all)
			if err == nil {
				_, err = z.Read(z.Entries[0], 1<<20)
			}
			if err == nil {
				t.Error("was read")
			}
		})
	}
}

func put32(b []byte, at int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

// TestLarge opens an archive of more than 4 GiB, whose offsets need the records of ZIP64. The file is sparse.
func TestLarge(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "large.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const before = 5 << 30
	if _, err := f.Seek(before, io.SeekStart); err != nil {
		t.Skip("no sparse files here")
	}
	w := zip.NewWriter(f)
	w.SetOffset(before)
	entry, err := w.Create("META-INF/MANIFEST.MF")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(entry, strings.Repeat("x", 100))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	z, err := Open(f, info.Size(), all)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := z.Read(z.Entries[0], 1000); err != nil || len(b) != 100 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// FuzzOpen: no archive makes it panic, and what archive/zip lists in full is listed here.
func FuzzOpen(f *testing.F) {
	f.Add(pack(f, "", "a", "META-INF/MANIFEST.MF"))
	f.Add(pack(f, "prefix", "a"))
	f.Add(pack(f, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := Open(bytes.NewReader(b), int64(len(b)), all)
		if err != nil {
			return
		}
		for _, e := range z.Entries[:min(len(z.Entries), 10)] {
			if content, err := z.Read(e, 1<<16); err == nil && len(content) > 1<<16 {
				t.Errorf("%s: %d bytes", e.Name, len(content))
			}
		}
	})
}

// BenchmarkOpen lists an archive of 20,000 classes for its manifest, beside archive/zip.
func BenchmarkOpen(b *testing.B) {
	names := []string{"META-INF/MANIFEST.MF"}
	for i := range 20_000 {
		names = append(names, fmt.Sprintf("com/example/application/feature/Class%d.class", i))
	}
	archive := pack(b, "", names...)
	b.Run("archive-zip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive))); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unzip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Open(bytes.NewReader(archive), int64(len(archive)), func(name []byte) bool { return string(name) == names[0] }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
