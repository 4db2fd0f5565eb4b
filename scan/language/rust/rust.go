// Package rust finds the crates that a Cargo.lock names. Start with [Declared].
//
// It promises what cargo would build, on every platform. It is not for programs: the crates that are in one are for
// package linked.
package rust

import (
	"context"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of Cargo.lock.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "cargo-lock", Version: 1, Kind: look.Packages, Wants: wants, Look: lookAt}}
}

func wants(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && manifest.Base(f.Path) == "Cargo.lock"
}

func lookAt(_ context.Context, f *image.File) (look.Facts, error) {
	var lock struct {
		Package []struct{ Name, Version, Source string }
	}
	if err := manifest.TOML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("cargo")
	for _, p := range lock.Package {
		if p.Source != "" { // the project's own crates have none
			l.Add(manifest.Item{Name: p.Name, Version: p.Version})
		}
	}
	return l.Facts(), nil
}
