package languagetest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// Walk returns the packages that analyzers find below a real folder, with their paths filled in.
func Walk(t testing.TB, analyzers []look.Analyzer, root string) []bulkhead.Package {
	t.Helper()
	var packages []bulkhead.Package
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		packages = append(packages, visit(t, analyzers, name, filepath.ToSlash(inside), info)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

func visit(t testing.TB, analyzers []look.Analyzer, name, inside string, info fs.FileInfo) []bulkhead.Package {
	t.Helper()
	var packages []bulkhead.Package
	for _, a := range analyzers {
		if !a.Wants(&image.File{Path: inside, Mode: info.Mode().Perm(), Size: info.Size()}) {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		facts, err := a.Look(t.Context(), image.Memory(inside, info.Mode().Perm(), b))
		if err != nil {
			t.Logf("%s: %s: %v", a.Name, inside, err)
		}
		for _, o := range facts.Incomplete {
			t.Logf("%s: %s: incomplete: %s", a.Name, inside, o.Message)
		}
		for _, p := range facts.Packages {
			if p.Path == "" {
				p.Path = inside
			}
			packages = append(packages, p)
		}
	}
	return packages
}
