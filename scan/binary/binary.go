// Package binary recognises well-known software that came without a package manager: a server that was compiled in
// the Dockerfile, a runtime that was unpacked from an archive. Start with [Analyzers], [Distinct] and the table of
// programs in table.go, where one more program is one more line.
//
// It promises to read only files whose name says that they may be one of these programs, each at most once and up to
// a limit, and to tell a version only where the program's own text does. It is not for software of a distribution:
// a file that a distribution's package owns is that package's, and the caller leaves out what is found here.
package binary

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/package-url/packageurl-go"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// Analyzers returns all of this folder's.
func Analyzers() []look.Analyzer {
	native, goMade := newIndex(programs), newIndex(goPrograms)
	return []look.Analyzer{
		{
			Name: "binary", Version: 1, Kind: look.Packages,
			Wants: func(f *image.File) bool { return native.wants(f) },
			Look:  func(ctx context.Context, f *image.File) (look.Facts, error) { return lookNative(ctx, native, f) },
		},
		{
			Name: "binary-go", Version: 1, Kind: look.Packages,
			Wants: func(f *image.File) bool { return goMade.wants(f) },
			Look:  func(_ context.Context, f *image.File) (look.Facts, error) { return lookGo(goMade, f) },
		},
		{Name: "bitnami", Version: 1, Kind: look.Packages, Wants: wantsBitnami, Look: lookBitnami},
	}
}

// The types of packages that are told here. Bitnami's feed of vulnerabilities is the one that is about software as its
// makers release it, whoever built it: osv.dev, other scanners and our own database find advisories by that purl.
// What the feed does not know is "generic", which no feed knows.
const (
	typeBitnami = "bitnami"
	typeGeneric = "generic"
)

// facts tells one program.
func facts(p program, version string) look.Facts {
	kind := typeGeneric
	if p.feed {
		kind = typeBitnami
	}
	return look.Facts{Packages: []bulkhead.Package{{
		Name: p.name, Version: version, Type: kind,
		PURL: packageurl.NewPackageURL(kind, "", p.name, version, nil, "").ToString(),
	}}}
}

// Distinct leaves out what is found twice in one installation: a runtime's program and its library say the same, as do
// a JDK's release file and its libjvm. The first path in alphabetical order stays; the order of packages does.
func Distinct(packages []bulkhead.Package) []bulkhead.Package {
	type installation struct{ purl, root string }
	first := map[installation]string{}
	for _, p := range packages {
		at := installation{p.PURL, rootOf(p.Path)}
		if known, again := first[at]; found(p) && (!again || p.Path < known) {
			first[at] = p.Path
		}
	}
	return slices.DeleteFunc(slices.Clone(packages), func(p bulkhead.Package) bool {
		return found(p) && first[installation{p.PURL, rootOf(p.Path)}] != p.Path
	})
}

func found(p bulkhead.Package) bool { return p.Type == typeBitnami || p.Type == typeGeneric }

// rootOf is the directory of an installation: what is before the first directory that every one has.
func rootOf(file string) string {
	for dir := path.Dir(file); dir != "." && dir != "/"; dir = path.Dir(dir) {
		switch name := path.Base(dir); {
		case strings.HasPrefix(name, "lib"), name == "bin", name == "sbin", name == "libexec":
			file = dir
		}
	}
	return path.Dir(file)
}

// index finds the programs that a file may be, by its name.
type index struct {
	exact  map[string][]program // by base name
	prefix map[byte][]program   // by first byte of the base name, for names that go on with anything
}

func newIndex(table []program) index {
	x := index{map[string][]program{}, map[byte][]program{}}
	for _, p := range table {
		for _, name := range p.files {
			one := p
			one.files = []string{name}
			base := path.Base(name)
			if strings.HasSuffix(base, "*") {
				x.prefix[base[0]] = append(x.prefix[base[0]], one)
			} else {
				x.exact[base] = append(x.exact[base], one)
			}
		}
	}
	return x
}

func (x index) wants(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && len(x.find(f)) > 0
}

// find returns the programs in the order of the table.
func (x index) find(f *image.File) []program {
	base := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
	if base == "" {
		return nil
	}
	var all []program
	for _, p := range x.exact[base] {
		if p.mayBe(f, base) {
			all = append(all, p)
		}
	}
	for _, p := range x.prefix[base[0]] {
		if p.mayBe(f, base) {
			all = append(all, p)
		}
	}
	return all
}

// mayBe reports whether name, kind and size are the program's. A program is executable or a shared library; the size
// is more than a script's that starts it.
func (p program) mayBe(f *image.File, base string) bool {
	name := p.files[0]
	dir, last := path.Split(name)
	if start, open := strings.CutSuffix(last, "*"); open && !strings.HasPrefix(base, start) {
		return false
	}
	if dir != "" && !strings.HasSuffix("/"+f.Path[:len(f.Path)-len(base)], "/"+dir) {
		return false
	}
	if p.text {
		return f.Size <= maxText
	}
	return f.Size >= minProgram && (f.Mode&0o111 != 0 || strings.Contains(base, ".so"))
}

const (
	maxText    = 1 << 20
	minProgram = 8 << 10
)
