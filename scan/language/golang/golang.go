// Package golang finds the modules that a go.mod asks for. Start with [Declared].
//
// It promises what the module itself says: from Go 1.17 on that is all that its build needs. It is not for programs,
// which say more exactly what is in them: those are for package linked.
package golang

import (
	"context"
	"fmt"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of go.mod.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "go-mod", Version: 1, Kind: look.Packages, Wants: wants, Look: lookAt}}
}

func wants(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && manifest.Base(f.Path) == "go.mod"
}

func lookAt(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	m, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		m, err = modfile.ParseLax("go.mod", b, nil) // of a later Go, with words that are new; leaves replacements out
	}
	if err != nil {
		return look.Facts{}, fmt.Errorf("read the module file: %w", err)
	}
	l := manifest.NewList("golang")
	for _, r := range m.Require {
		if used, ok := replaced(m, r.Mod); ok {
			l.Add(manifest.Item{Name: used.Path, Version: used.Version})
		}
	}
	return l.Facts(), nil
}

// replaced returns what is used in place of a module; not ok for a folder, whose version nobody knows.
func replaced(m *modfile.File, mod module.Version) (used module.Version, ok bool) {
	for _, r := range m.Replace {
		if r.Old.Path == mod.Path && (r.Old.Version == "" || r.Old.Version == mod.Version) {
			return r.New, r.New.Version != ""
		}
	}
	return mod, true
}
