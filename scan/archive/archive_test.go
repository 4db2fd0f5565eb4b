package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

type entry struct {
	name    string
	content []byte
}

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		w, err := z.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(e.content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o755, Size: int64(len(e.content))}); err != nil {
			t.Fatal(err)
		}
		w.Write(e.content)
	}
	w.Close()
	return b.Bytes()
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zst(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

func arOf(members ...entry) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.content))
		b.Write(m.content)
		if len(m.content)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

func cpioOf(entries ...entry) []byte {
	var b bytes.Buffer
	pad := func() {
		for b.Len()%4 != 0 {
			b.WriteByte(0)
		}
	}
	for i, e := range append(entries, entry{name: "TRAILER!!!"}) {
		mode := 0o100755
		if i == len(entries) {
			mode = 0
		}
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", i, mode, 0, 0, 1, 0, len(e.content), 0, 0, 0, 0, len(e.name)+1, 0)
		b.WriteString(e.name + "\x00")
		pad()
		b.Write(e.content)
		pad()
	}
	return b.Bytes()
}

func rpmOf(payload []byte) []byte {
	header := func(data int) []byte {
		h := append([]byte{0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0}, make([]byte, 8)...)
		binary.BigEndian.PutUint32(h[12:], uint32(data))
		return append(h, make([]byte, data)...)
	}
	b := append([]byte{0xed, 0xab, 0xee, 0xdb}, make([]byte, 92)...)
	b = append(b, header(5)...)
	b = append(b, 0, 0, 0) // to a multiple of eight
	b = append(b, header(12)...)
	return append(b, payload...)
}

func unbase64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// "hello\n" compressed by bzip2 and xz, which nothing here can write.
const (
	helloBzip2 = "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi"
	helloXZ    = "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAFaGVsbG8KAAAApWCX8ZT2/eAAAR4GwS+kHR+2830BAAAAAARZWg=="
)

// walked returns "path: content" of everything that is visited.
func walked(t testing.TB, name string, b []byte, l Limits) ([]string, []bulkhead.Omission) {
	t.Helper()
	var seen []string
	omitted, err := Walk(context.Background(), image.Memory(name, 0o644, b), l, Visitor{
		Wants: func(*image.File) bool { return true },
		Visit: func(f *image.File) error {
			content, err := f.Bytes(1 << 20)
			seen = append(seen, f.Path+": "+string(content[:min(len(content), 20)]))
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen, omitted
}

func TestFormats(t *testing.T) {
	x := entry{"d/x.txt", []byte("hello\n")}
	inner := zipOf(t, x)
	for name, c := range map[string]struct {
		content []byte
		want    []string
	}{
		"a.zip":     {zipOf(t, x), []string{"a.zip!d/x.txt: hello\n"}},
		"a.tar":     {tarOf(t, x), []string{"a.tar!d/x.txt: hello\n"}},
		"a.tar.gz":  {gz(tarOf(t, x)), []string{"a.tar.gz!d/x.txt: hello\n"}},
		"a.tar.zst": {zst(tarOf(t, x)), []string{"a.tar.zst!d/x.txt: hello\n"}},
		"x.txt.gz":  {gz(x.content), []string{"x.txt.gz!x.txt: hello\n"}},
		"x.bz2":     {unbase64(t, helloBzip2), []string{"x.bz2!x: hello\n"}},
		"x.xz":      {unbase64(t, helloXZ), []string{"x.xz!x: hello\n"}},
		"x.gz":      {gz(x.content), []string{"x.gz!x: hello\n"}},
		"a.deb":     {arOf(entry{"debian-binary", []byte("2.0\n")}, entry{"control.tar.gz", gz(tarOf(t, entry{"control", []byte("c")}))}, entry{"data.tar.zst", zst(tarOf(t, x))}), []string{"a.deb!control.tar.gz!control: c", "a.deb!data.tar.zst!d/x.txt: hello\n"}},
		"lib.a":     {arOf(entry{"x.o", []byte("o")}), nil},
		"a.cpio":    {cpioOf(x, entry{"y", []byte("abc")}), []string{"a.cpio!d/x.txt: hello\n", "a.cpio!y: abc"}},
		"a.rpm":     {rpmOf(gz(cpioOf(x))), []string{"a.rpm!d/x.txt: hello\n"}},
		"a.war":     {zipOf(t, entry{"lib/b.jar", inner}, x), []string{"a.war!lib/b.jar: PK", "a.war!lib/b.jar!d/x.txt: hello\n", "a.war!d/x.txt: hello\n"}},
		"up.zip":    {zipOf(t, entry{"../../etc/passwd", []byte("p")}, entry{`c:\x\y`, []byte("w")}), []string{"up.zip!etc/passwd: p", "up.zip!c:/x/y: w"}},
		"x.txt":     {[]byte("hello"), nil},
		"empty":     {nil, nil},
	} {
		got, omitted := walked(t, name, c.content, Default())
		for i := range got {
			got[i], _, _ = strings.Cut(got[i], "\x03")
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if len(omitted) > 0 {
			t.Errorf("%s: %v", name, omitted)
		}
	}
}

func TestBombs(t *testing.T) {
	zeros := make([]byte, 8<<20)
	deep := []byte("x")
	for range 12 {
		deep = zipOf(t, entry{"a.zip", deep})
	}
	many := make([]entry, 300)
	for i := range many {
		many[i] = entry{fmt.Sprint(i), []byte("x")}
	}
	small := Limits{Depth: 3, Entries: 100, EntryBytes: 1 << 20, Bytes: 4 << 20, Ratio: 10, Free: 3 << 20, Time: time.Minute}
	for name, c := range map[string]struct {
		content []byte
		limits  Limits
		want    string
	}{
		"deep.zip":   {deep, Default(), "nested deeper than 5"},
		"many.zip":   {zipOf(t, many...), small, "more than 100 entries"},
		"large.zip":  {zipOf(t, entry{"x", zeros}), small, "more than the 1048576 that are read"},
		"grows.gz":   {gz(zeros), small, "1048576"},
		"tar.gz":     {gz(tarOf(t, entry{"a", zeros[:1<<20]}, entry{"b", zeros[:1<<20]}, entry{"c", zeros[:1<<20]}, entry{"d", zeros})), small, "grows too large"},
		"cut.tar.gz": {gz(tarOf(t, entry{"a", []byte("x")}))[:40], Default(), "cannot be read to its end"},
		"cut.zip":    {zipOf(t, entry{"a", []byte("x")})[:60], Default(), "cannot be read to its end"},
		"x.7z":       {[]byte("7z\xbc\xaf\x27\x1cxxxx"), Default(), "is not opened"},
		"slow.tar":   {tarOf(t, entry{"a", []byte("x")}), Limits{Depth: 3, Entries: 9, EntryBytes: 99, Bytes: 9999, Ratio: 1, Time: time.Nanosecond}, "took longer"},
	} {
		_, omitted := walked(t, name, c.content, c.limits)
		if len(omitted) == 0 || !slices.ContainsFunc(omitted, func(o bulkhead.Omission) bool { return strings.Contains(o.Message, c.want) }) {
			t.Errorf("%s: %v, want one with %q", name, omitted, c.want)
		}
	}
}

// TestTarCountsOnce: bytes of a tar are counted when the tar is read, and not again for each entry.
func TestTarCountsOnce(t *testing.T) {
	mb := make([]byte, 1<<20)
	l := Default()
	l.Bytes, l.Free, l.Ratio = 4<<20, 0, 100
	seen, omitted := walked(t, "a.tar", tarOf(t, entry{"a", mb}, entry{"b", mb}, entry{"c", mb}), l)
	if len(seen) != 3 || len(omitted) != 0 {
		t.Errorf("%d entries, %v", len(seen), omitted)
	}
}

func TestVisitErrorEnds(t *testing.T) {
	boom := errors.New("boom")
	b := zipOf(t, entry{"a.zip", zipOf(t, entry{"x", []byte("x")})})
	_, err := Walk(context.Background(), image.Memory("a.zip", 0, b), Default(), Visitor{
		Wants: func(f *image.File) bool { return strings.HasSuffix(f.Path, "x") },
		Visit: func(*image.File) error { return boom },
	})
	if !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
}

func TestInside(t *testing.T) {
	finder := look.Analyzer{
		Name: "finder", Version: 1, Kind: look.Secret,
		Wants: func(f *image.File) bool { return strings.HasSuffix(f.Path, ".php") && f.Path == "d/a.php" },
		Look: func(_ context.Context, f *image.File) (look.Facts, error) {
			return look.Facts{Findings: []bulkhead.Finding{{Rule: "r", Line: 3}}}, nil
		},
	}
	a := Inside(finder)
	f := image.Memory("srv/x.zip", 0o644, zipOf(t, entry{"y.jar", zipOf(t, entry{"d/a.php", []byte("x")}, entry{"b.php", []byte("x")})}))
	if !a.Wants(f) || a.Wants(image.Memory("usr/share/man/man1/x.1.gz", 0o644, []byte("x"))) || a.Wants(image.Memory("a.txt", 0o644, []byte("x"))) {
		t.Error("wants the wrong files")
	}
	facts, err := a.Look(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	want := look.Facts{Findings: []bulkhead.Finding{{Rule: "r", Line: 3, Path: "srv/x.zip!y.jar!d/a.php"}}}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func FuzzWalk(f *testing.F) {
	x := entry{"d/x.txt", []byte("hello\n")}
	for _, b := range [][]byte{zipOf(f, x), tarOf(f, x), gz(tarOf(f, x)), zst(tarOf(f, x)), arOf(entry{"debian-binary", []byte("2.0\n")}, entry{"data.tar", tarOf(f, x)}), cpioOf(x), rpmOf(gz(cpioOf(x))), unbase64(f, helloBzip2), unbase64(f, helloXZ)} {
		f.Add(b)
	}
	l := Limits{Depth: 3, Entries: 50, EntryBytes: 1 << 16, Bytes: 1 << 20, Ratio: 50, Free: 1 << 18, Time: 5 * time.Second}
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		omitted, err := Walk(context.Background(), image.Memory("a.zip", 0o644, b), l, Visitor{
			Wants: func(*image.File) bool { return true },
			Visit: func(e *image.File) error {
				total += int(e.Size)
				if strings.Contains(e.Path, "..") && strings.Contains(e.Path, "/../") {
					t.Errorf("path %q climbs", e.Path)
				}
				return nil
			},
		})
		for _, o := range omitted {
			if strings.Contains(o.Message, "took longer") {
				t.Errorf("a few bytes take %v", l.Time)
			}
		}
		if err != nil || total > 8<<20 {
			t.Errorf("%d bytes, error %v", total, err)
		}
	})
}

func BenchmarkWalk(b *testing.B) {
	content := gz(tarOf(b, entry{"a", bytes.Repeat([]byte("some text that is compressed "), 1<<15)}, entry{"b", make([]byte, 1<<20)}))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		walked(b, "a.tar.gz", content, Default())
	}
}
