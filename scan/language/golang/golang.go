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
	replaced := map[module.Version]module.Version{}
	for _, r := range m.Replace {
		replaced[r.Old] = r.New
	}
	l := manifest.NewList("golang")
	for _, r := range m.Require {
		// What is replaced by a folder has a version that nobody knows.
		if used := replacement(replaced, r.Mod); used.Version != "" {
			l.Add(manifest.Item{Name: used.Path, Version: used.Version})
		}
	}
	return l.Facts(), nil
}

// replacement returns what is used in place of a module, which can be replaced in one version or in all.
func replacement(replaced map[module.Version]module.Version, mod module.Version) module.Version {
	for _, old := range []module.Version{mod, {Path: mod.Path}} {
		if used, ok := replaced[old]; ok {
			return used
		}
	}
	return mod
}
