package language

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

func TestLists(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range Analyzers() {
		if a.Name == "" || seen[a.Name] || a.Version == 0 || a.Kind != look.Packages {
			t.Errorf("%q: name, version or kind is missing, or the name is there twice", a.Name)
		}
		seen[a.Name] = true
	}
}

// TestImageOrDirectory: lock files count in directories only.
func TestImageOrDirectory(t *testing.T) {
	declared := []string{
		"go.mod", "package-lock.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "requirements.txt", "poetry.lock", "uv.lock", "Pipfile.lock",
		"pom.xml", "gradle.lockfile", "Gemfile.lock", "composer.lock", "Cargo.lock", "packages.lock.json", "packages.config", "mix.lock",
	}
	for _, path := range declared {
		if n := wanting(Installed(), path); n != 0 {
			t.Errorf("%s: counts in images", path)
		}
		if n := wanting(Declared(), "src/"+path); n != 1 {
			t.Errorf("%s: %d analyzers want it in directories", path, n)
		}
	}
	installed := []string{
		"usr/bin/app", "node_modules/a/package.json", "a.dist-info/METADATA", "a.jar", "specifications/a.gemspec",
		"vendor/composer/installed.json", "a.deps.json", "conda-meta/a.json",
	}
	for _, path := range installed {
		if n := wanting(Installed(), path); n != 1 {
			t.Errorf("%s: %d analyzers want it", path, n)
		}
	}
}

func wanting(analyzers []look.Analyzer, path string) (n int) {
	f := image.Memory(path, 0o644, make([]byte, 1<<20))
	if path == "usr/bin/app" {
		f.Mode = 0o755
	}
	for _, a := range analyzers {
		if a.Wants(f) {
			n++
		}
	}
	return n
}

func TestSettle(t *testing.T) {
	npm := func(name, version, path string, dev bool) bulkhead.Package {
		return bulkhead.Package{Name: name, Version: version, Type: "npm", Path: path, Dev: dev}
	}
	got := Settle([]bulkhead.Package{
		npm("a", "1", "app/package-lock.json", false),
		npm("b", "1", "app/package-lock.json", true),
		npm("fsevents", "1", "app/package-lock.json", false), // not on this platform
		npm("a", "1", "app/node_modules/a/package.json", false),
		npm("b", "1", "app/node_modules/b/package.json", false),
		npm("b", "0.9", "app/node_modules/a/node_modules/b/package.json", false),
		npm("c", "1", "other/yarn.lock", false), // nothing is installed there
		{Name: "x/y", Version: "1", Type: "composer", Path: "composer.lock"},
		{Name: "x/y", Version: "1", Type: "composer", Path: "vendor/composer/installed.json"},
		{Name: "z", Version: "1", Type: "golang", Path: "app/go.mod"},
	})
	want := []bulkhead.Package{
		npm("a", "1", "app/node_modules/a/package.json", false),
		npm("b", "1", "app/node_modules/b/package.json", true),
		npm("b", "0.9", "app/node_modules/a/node_modules/b/package.json", false),
		npm("c", "1", "other/yarn.lock", false),
		{Name: "x/y", Version: "1", Type: "composer", Path: "vendor/composer/installed.json"},
		{Name: "z", Version: "1", Type: "golang", Path: "app/go.mod"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// paths are those of a usual image: libraries, documentation, modules, certificates.
func paths() []*image.File {
	var files []*image.File
	for i := range 1000 {
		for _, pattern := range []string{
			"usr/lib/x86_64-linux-gnu/libfoo%d.so.1", "usr/share/doc/package%d/copyright", "usr/lib/python3.11/site-packages/foo/module%d.py",
			"app/node_modules/package%d/lib/index.js", "app/node_modules/package%d/package.json", "usr/bin/program%d", "etc/ssl/certs/certificate%d.pem",
		} {
			files = append(files, &image.File{Path: fmt.Sprintf(pattern, i), Mode: 0o644, Size: 5000})
		}
	}
	return files
}

func TestWantsAllocatesNothing(t *testing.T) {
	files, analyzers := paths(), Analyzers()
	n := testing.AllocsPerRun(3, func() {
		for _, f := range files {
			for _, a := range analyzers {
				a.Wants(f)
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations for %d files", n, len(files))
	}
}

// BenchmarkWants asks all analyzers about one file.
func BenchmarkWants(b *testing.B) {
	files := paths()
	for name, analyzers := range map[string][]look.Analyzer{"installed": Installed(), "all": Analyzers()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				f := files[i%len(files)]
				for _, a := range analyzers {
					a.Wants(f)
				}
			}
		})
	}
}
