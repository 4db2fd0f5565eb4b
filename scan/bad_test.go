package scan

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"bulkhead"
	"bulkhead/image"
)

// TestBadInput scans whole images that somebody made to break a scanner, with every analyzer: what cannot be looked at
// is told, the rest is, and nothing is written outside.
func TestBadInput(t *testing.T) {
	release := file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")
	noise := make([]byte, 40_000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(noise) // never fails
	junk := string(noise)
	zeros := strings.Repeat("\x00", 20<<20)
	nested := zipped(t, "x.php", "<?php")
	for range 8 {
		nested = zipped(t, "n.zip", nested)
	}
	var many []member
	for n := range 100_000 {
		many = append(many, file(fmt.Sprintf("d%d/f%d", n%997, n), ""))
	}
	lying := tarOf(t, release, file("x", strings.Repeat("a", 1000)))
	copy(lying[1024+124:], "00000077777\x00")
	for _, c := range []struct {
		name  string
		layer []byte
		gzip  bool
		lie   bool     // about the digest
		cut   bool     // in its middle
		tell  []string // one of what is told for each; none: nothing is left out
	}{
		{name: "a zip bomb", layer: tarOf(t, release, file("srv/a.zip", zipped(t, "1.txt", zeros, "2.txt", zeros, "3.txt", zeros, "4.txt", zeros, "5.txt", zeros))), tell: []string{"srv/a.zip!4.txt: it grows too large"}},
		{name: "a tar bomb", layer: tarOf(t, release, file("srv/a.tar.gz", gzipped(t, tarOf(t, file("a", zeros+zeros))))), tell: []string{"more than the 33554432 that are read"}},
		{name: "a layer that is a bomb", layer: tarOf(t, file("zeros", strings.Repeat("\x00", 300<<20))), gzip: true, tell: []string{"times its stored size"}},
		{name: "archives deep in archives", layer: tarOf(t, release, file("srv/a.zip", nested)), tell: []string{"nested deeper than 5"}},
		{name: "very many empty files", layer: tarOf(t, append(many, release)...), gzip: true},
		{name: "paths to outside", layer: tarOf(t, release, file("../../../../../../../../tmp/bulkhead-escaped", "x"), file("a/../../../../../../tmp/bulkhead-escaped", "x"), file("/abs", "x"))},
		{name: "links in circles", layer: tarOf(t, release, link("usr", "usr"), link("opt", "srv"), link("srv", "opt"), file("opt/x.php", "<?php"), link("var", "../../../../var"))},
		{name: "hard links to outside and to nothing", layer: tarOf(t, release, hard("srv/shadow.php", "../../../../etc/shadow"), hard("srv/passwd.php", "/etc/passwd"), hard("srv/none.php", "none"))},
		{name: "devices and pipes where files should be", layer: tarOf(t, release, special(tar.TypeFifo, "var/lib/dpkg/status", ""), special(tar.TypeBlock, "dev/sda", ""), special(tar.TypeChar, "srv/x.php", ""))},
		{name: "a gzip that is cut off", layer: tarOf(t, release, file("a", junk)), gzip: true, cut: true, tell: []string{"ends in the middle"}},
		{name: "a wrong digest", layer: tarOf(t, release), lie: true, tell: []string{"the image was damaged or changed on its way"}},
		{name: "a size that lies", layer: lying, tell: []string{"read layer"}},
		{
			name: "broken package databases", layer: tarOf(t, release, file("var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: "+junk), file("lib/apk/db/installed", "P:a\nV:"+junk+"\n\n"),
				file("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\x00"+junk), file("var/lib/rpm/Packages.db", "RpmP"+junk), file("var/lib/rpm/Packages", junk[:12]+"\x61\x15\x06\x00"+junk)),
			tell: []string{"var/lib/dpkg/status: ", "lib/apk/db/installed: ", "rpmdb.sqlite: ", "Packages.db: ", "Packages: "},
		},
		{name: "text that nests without end", layer: tarOf(t, release, file("srv/x.php", "<?php "+strings.Repeat("(", 300_000)), file("srv/y.py", strings.Repeat("[", 300_000)), file("usr/lib/node_modules/a/package.json", strings.Repeat(`{"a":`, 200_000))), tell: []string{"package.json: "}},
		{name: "text that is no UTF-8", layer: tarOf(t, release, file("srv/\xff\xfe\xc3.php", "<?php \xff\xfe"), file("var/lib/dpkg/status", "Package: b\nStatus: install ok installed\nVersion: 1\xff\nArchitecture: all\n\n")), tell: []string{"var/lib/dpkg/status: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			r := scannedWhole(t, archiveOf(t, filepath.Join(dir, "image.tar"), c.layer, c.gzip, c.lie, c.cut))
			for _, want := range c.tell {
				if !slices.ContainsFunc(r.Incomplete, func(o bulkhead.Omission) bool { return strings.Contains(o.Path+": "+o.Message, want) }) {
					t.Errorf("nothing says %q: %v", want, r.Incomplete)
				}
			}
			if len(c.tell) == 0 && len(r.Incomplete) > 0 {
				t.Errorf("left out: %v", r.Incomplete)
			}
			for _, f := range r.Findings {
				if text, err := json.Marshal(f); err != nil || strings.Contains(f.Path, "..") {
					t.Errorf("finding %s: %v", text, err)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("beside the image: %v, %v", left, err)
			}
			if _, err := os.Lstat("/tmp/bulkhead-escaped"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a file was written outside: %v", err)
			}
		})
	}
}

// TestHugeJars looks into sparse files of more than 4 GiB: one that is no archive, and one whose list of entries is at
// its end.
func TestHugeJars(t *testing.T) {
	dir := t.TempDir()
	for name, end := range map[string]string{"none.jar": "PK\x03\x04", "tail.jar": zipped(t, "META-INF/maven/g/a/pom.properties", "groupId=g\nartifactId=a\nversion=1\n")} {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			_, err = f.WriteAt([]byte(end), 5<<30)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	r := scannedWhole(t, "dir:"+dir)
	if len(r.Packages) != 1 || r.Packages[0].Name != "g:a" || r.Packages[0].Path != "tail.jar" {
		t.Errorf("packages %v", r.Packages)
	}
	for _, name := range []string{"none.jar", "tail.jar"} {
		if !slices.ContainsFunc(r.Incomplete, func(o bulkhead.Omission) bool { return o.Path == name }) {
			t.Errorf("nothing is told of %s: %v", name, r.Incomplete)
		}
	}
}

// scannedWhole looks for everything but vulnerabilities.
func scannedWhole(t *testing.T, target string) bulkhead.Report {
	t.Helper()
	s, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := image.Open(t.Context(), target, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	r, err := s.Scan(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	r.Incomplete = slices.DeleteFunc(r.Incomplete, func(o bulkhead.Omission) bool { return o.Path == "" && o.Layer == "" }) // no database, no YARA
	return r
}

// archiveOf writes an image of one layer as docker save does.
func archiveOf(t *testing.T, name string, layer []byte, pack, lie, cut bool) string {
	t.Helper()
	id := fmt.Sprintf("sha256:%x", sha256.Sum256(layer))
	if lie {
		id = "sha256:" + strings.Repeat("0", 64)
	}
	stored := string(layer)
	if pack {
		stored = gzipped(t, layer)
	}
	if cut {
		stored = stored[:len(stored)/2]
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"User":"1"},"rootfs":{"type":"layers","diff_ids":[%q]}}`, id)
	b := tarOf(t, file("layer.tar", stored), file("config.json", config), file("manifest.json", `[{"Config":"config.json","Layers":["layer.tar"]}]`))
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// member is an entry of a tar.
type member struct {
	tar.Header
	content string
}

func file(name, content string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func link(name, target string) member { return special(tar.TypeSymlink, name, target) }
func hard(name, target string) member { return special(tar.TypeLink, name, target) }

func special(kind byte, name, target string) member {
	return member{Header: tar.Header{Name: name, Typeflag: kind, Linkname: target}}
}

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		m.Format = tar.FormatGNU // which takes any bytes as a name
		err := w.WriteHeader(&m.Header)
		if err == nil {
			_, err = w.Write([]byte(m.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t *testing.T, entries ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for pair := range slices.Chunk(entries, 2) {
		w, err := z.Create(pair[0])
		if err == nil {
			_, err = w.Write([]byte(pair[1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipped(t *testing.T, content []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(content)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
