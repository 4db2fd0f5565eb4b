package distro

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"bulkhead/image"
	"bulkhead/scan/look"
)

// BenchmarkDpkg reads the status of 500 packages and their lists of 60,000 files. "unpacks" is its time in units of
// what gunzip takes for the same bytes: an image has to be unpacked in any case.
func BenchmarkDpkg(b *testing.B) {
	files := debianImage(500, 120)
	benchmark(b, files, lookDpkg)
}

// BenchmarkSQLite, BenchmarkBDB and BenchmarkNDB read the fixtures.
func BenchmarkSQLite(b *testing.B) { benchmarkRPM(b, "var/lib/rpm/rpmdb.sqlite", "rpmdb-512.sqlite") }
func BenchmarkBDB(b *testing.B)    { benchmarkRPM(b, "var/lib/rpm/Packages", "Packages") }
func BenchmarkNDB(b *testing.B)    { benchmarkRPM(b, "var/lib/rpm/Packages.db", "Packages.db") }

func benchmarkRPM(b *testing.B, path, name string) {
	benchmark(b, []*image.File{image.Memory(path, 0o644, fixture(b, name))}, lookRPM)
}

func benchmark(b *testing.B, files []*image.File, analyze func(context.Context, *image.File) (look.Facts, error)) {
	size, unpack := unpacking(b, files)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range files {
			if _, err := analyze(b.Context(), f); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(unpack), "unpacks")
}

// unpacking returns the size of the files and how long gunzip takes for them.
func unpacking(b *testing.B, files []*image.File) (int64, time.Duration) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	size := int64(0)
	for _, f := range files {
		content, err := f.Bytes(1 << 30)
		if err != nil {
			b.Fatal(err)
		}
		size += f.Size
		if _, err := z.Write(content); err != nil {
			b.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		b.Fatal(err)
	}
	const times = 5
	start := time.Now()
	for range times {
		r, err := gzip.NewReader(bytes.NewReader(packed.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
	return size, time.Since(start) / times
}

// debianImage has a status and lists as Debian's: a stanza of 900 bytes, paths of 60.
func debianImage(packages, files int) []*image.File {
	var status bytes.Buffer
	all := make([]*image.File, 0, packages+1)
	for i := range packages {
		fmt.Fprintf(&status, "Package: libharbour-%d\nStatus: install ok installed\nPriority: optional\nSection: libs\nInstalled-Size: %d\n"+
			"Maintainer: Somebody <somebody@example.org>\nArchitecture: amd64\nMulti-Arch: same\nSource: harbour-%d (1.2.%d-3)\nVersion: 1:1.2.%d-3+b1\n"+
			"Depends: libc6 (>= 2.34), libgcc-s1 (>= 3.3.1), libstdc++6 (>= 11)\nConffiles:\n /etc/harbour/%d.conf 0123456789abcdef0123456789abcdef\n"+
			"Description: library for what ships do in harbours\n It has words of every kind, and each number has a use: %d.\n .\n%s\nHomepage: https://www.example.org/\n\n",
			i, i*7919%50000, i%97, i, i, i, i*31, bytes.Repeat([]byte(" It goes on for some lines as descriptions do.\n"), 6))
		var list bytes.Buffer
		list.WriteString("/.\n/usr\n/usr/share\n/usr/share/harbour\n")
		for n := range files {
			fmt.Fprintf(&list, "/usr/share/harbour/%d/templates/part-%d/file-%d.html\n", i, n%11, n*i)
		}
		all = append(all, image.Memory(fmt.Sprintf("var/lib/dpkg/info/libharbour-%d:amd64.list", i), 0o644, list.Bytes()))
	}
	return append(all, image.Memory(dpkgStatus, 0o644, status.Bytes()))
}
