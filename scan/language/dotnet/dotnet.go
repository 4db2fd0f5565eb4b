// Package dotnet finds NuGet packages: those that a built program brings, by its deps.json, and those that
// packages.lock.json and packages.config name. Start with [Installed] and [Declared].
//
// It promises to tell packages from the projects of the same solution. It is not for assemblies without such a list.
package dotnet

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Installed returns the analyzer of deps.json.
func Installed() []look.Analyzer {
	return []look.Analyzer{{Name: "nuget", Version: 1, Kind: look.Packages, Wants: wantsDeps, Look: lookAtDeps}}
}

// Declared returns the analyzer of lock files.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "nuget-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

func wantsDeps(f *image.File) bool {
	return strings.HasSuffix(f.Path, ".deps.json") && f.Kind == image.Regular && f.Size > 0
}

func wantsLock(f *image.File) bool {
	base := manifest.Base(f.Path)
	return f.Kind == image.Regular && f.Size > 0 && (base == "packages.lock.json" || base == "packages.config")
}

// lookAtDeps reads the libraries of a program: "Newtonsoft.Json/13.0.1": {"type": "package"}. In a runtime that comes
// with the program the name of its pack is preceded by "runtimepack.".
func lookAtDeps(_ context.Context, f *image.File) (look.Facts, error) {
	var deps struct {
		Libraries map[string]struct{ Type string }
	}
	if head, err := manifest.Head(f, 64); err != nil || strings.HasPrefix(strings.TrimSpace(string(head)), "[") {
		return look.Facts{}, err // a list: of Unity's editor, and nothing of .NET
	}
	if err := manifest.JSON(f, &deps); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("nuget")
	for _, key := range slices.Sorted(maps.Keys(deps.Libraries)) {
		name, version, _ := strings.Cut(key, "/")
		switch deps.Libraries[key].Type {
		case "package":
			l.Add(manifest.Item{Name: name, Version: version})
		case "runtimepack":
			l.Add(manifest.Item{Name: strings.TrimPrefix(name, "runtimepack."), Version: version})
		}
	}
	return l.Facts(), nil
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	if manifest.Base(f.Path) == "packages.config" {
		b, err := manifest.Bytes(f, manifest.Small)
		if err != nil {
			return look.Facts{}, err
		}
		return readConfig(b)
	}
	return readLock(f)
}

func readLock(f *image.File) (look.Facts, error) {
	var lock struct {
		Dependencies map[string]map[string]struct{ Type, Resolved string } // by framework, by name
	}
	if err := manifest.JSON(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("nuget")
	for _, framework := range slices.Sorted(maps.Keys(lock.Dependencies)) {
		all := lock.Dependencies[framework]
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name].Type != "Project" && all[name].Resolved != "" {
				l.Add(manifest.Item{Name: name, Version: all[name].Resolved})
			}
		}
	}
	return l.Facts(), nil
}

func readConfig(b []byte) (look.Facts, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	// Names and versions are ASCII in every encoding.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	var config struct {
		Packages []struct {
			ID      string `xml:"id,attr"`
			Version string `xml:"version,attr"`
			Dev     string `xml:"developmentDependency,attr"`
		} `xml:"package"`
	}
	if err := d.Decode(&config); err != nil {
		return look.Facts{}, fmt.Errorf("read the package list: %w", err)
	}
	l := manifest.NewList("nuget")
	for _, p := range config.Packages {
		l.Add(manifest.Item{Name: p.ID, Version: p.Version, Dev: strings.EqualFold(p.Dev, "true")})
	}
	return l.Facts(), nil
}
