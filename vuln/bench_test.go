//go:build integration

package vuln_test

import (
	"archive/zip"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/vuln"
)

// The benchmarks print what a plain way takes in the same run: to read every record as JSON, which is what a tool does
// that has no database.

func database(b *testing.B) string {
	dst := filepath.Join(b.TempDir(), "vuln.db")
	if _, err := vuln.Import(b.Context(), dst, []string{feedsPath(b)}, vuln.ImportOptions{}); err != nil {
		b.Fatal(err)
	}
	return dst
}

// plainScan reads all records of all archives and calls see with them.
func plainScan(b *testing.B, see func(naive)) time.Duration {
	b.Helper()
	start := time.Now()
	archives, err := filepath.Glob(filepath.Join(feedsPath(b), "osv", "*", "all.zip"))
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range archives {
		z, err := zip.OpenReader(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range z.File {
			in, err := f.Open()
			if err != nil {
				b.Fatal(err)
			}
			data, err := io.ReadAll(in)
			if err != nil {
				b.Fatal(err)
			}
			var r naive
			if err := json.Unmarshal(data, &r); err != nil {
				b.Fatal(err)
			}
			see(r)
			in.Close()
		}
		z.Close()
	}
	return time.Since(start)
}

// feedsPath is where the public feeds lie: figures of feeds of our own would say nothing.
func feedsPath(b *testing.B) string {
	path := publicFeeds()
	if path == "" {
		b.Skip("no feeds: set BULKHEAD_FEEDS to a directory that has osv/<Ecosystem>/all.zip")
	}
	return path
}

func BenchmarkImport(b *testing.B) {
	dir := feedsPath(b)
	plain := plainScan(b, func(naive) {})
	dst := filepath.Join(b.TempDir(), "vuln.db")
	for b.Loop() {
		if _, err := vuln.Import(b.Context(), dst, []string{dir}, vuln.ImportOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	info, err := os.Stat(dst)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB-file")
	b.ReportMetric(plain.Seconds()/(b.Elapsed().Seconds()/float64(b.N)), "x-read-as-json")
}

func BenchmarkOpen(b *testing.B) {
	dst := database(b)
	for b.Loop() {
		db, err := vuln.Open(dst)
		if err != nil {
			b.Fatal(err)
		}
		db.Close()
	}
}

type named struct{ kind, name string }

// sbom makes a list of n packages: every second one has a name that the feeds know, each of these as likely as the
// others, and a version at one of its bounds.
func sbom(b *testing.B, n int) []bulkhead.Package {
	kinds := map[string]string{"Debian:12": "deb", "Go": "golang", "npm": "npm", "PyPI": "pypi", "Maven": "maven", "crates.io": "cargo", "RubyGems": "gem", "Packagist": "composer", "Bitnami": "bitnami"}
	versions := map[named][]string{}
	plainScan(b, func(r naive) {
		for _, a := range r.Affected {
			for _, x := range a.Ranges {
				for _, e := range x.Events {
					for _, v := range e {
						if kind := kinds[a.Package.Ecosystem]; kind != "" && v != "0" && x.Type != "GIT" && a.Package.Name != "linux" {
							p := named{kind, a.Package.Name}
							versions[p] = append(versions[p], v)
						}
					}
				}
			}
		}
	})
	names := slices.SortedFunc(maps.Keys(versions), func(a, b named) int { return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name)) })
	r := rand.New(rand.NewPCG(3, 4))
	list := make([]bulkhead.Package, 0, n)
	for len(list) < n {
		known := names[r.IntN(len(names))]
		p := bulkhead.Package{Type: known.kind, Name: known.name, Version: versions[known][r.IntN(len(versions[known]))]}
		if r.IntN(2) == 0 { // half of a real list is about nothing that the feeds know
			p.Name += "-" + strings.ToLower(string(rune('a'+r.IntN(26))))
		}
		list = append(list, p)
	}
	return list
}

func BenchmarkMatch100000(b *testing.B) {
	db, err := vuln.Open(database(b))
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	packages := sbom(b, 100_000)
	plain := plainScan(b, func(naive) {})
	found := 0
	b.ReportAllocs()
	for b.Loop() {
		list, err := db.Match(bulkhead.OS{ID: "debian", Version: "12"}, packages, vuln.Options{})
		if err != nil {
			b.Fatal(err)
		}
		found = len(list)
	}
	b.ReportMetric(float64(found), "found")
	b.ReportMetric(plain.Seconds()/(b.Elapsed().Seconds()/float64(b.N)), "x-read-as-json")
}
