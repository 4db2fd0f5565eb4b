// Package locks reads the lock files of languages of which nothing is left in a built image: Dart, Elixir, Conan for C
// and C++, Swift. Start with [Declared].
//
// It promises versions as they are locked. It is not for a language that can be found installed: that one has a folder.
package locks

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of these lock files.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "locks", Version: 1, Kind: look.Packages, Wants: wants, Look: lookAt}}
}

func wants(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && reader(manifest.Base(f.Path)) != nil
}

// reader is where a lock file is added.
func reader(base string) func(*image.File) (look.Facts, error) {
	switch base {
	case "pubspec.lock":
		return readDart
	case "mix.lock":
		return readElixir
	case "conan.lock":
		return readConan
	case "Package.resolved":
		return readSwift
	}
	return nil
}

func lookAt(_ context.Context, f *image.File) (look.Facts, error) {
	return reader(manifest.Base(f.Path))(f)
}

func readDart(f *image.File) (look.Facts, error) {
	var lock struct {
		Packages map[string]struct{ Dependency, Source, Version string }
	}
	if err := manifest.YAML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("pub")
	for _, name := range slices.Sorted(maps.Keys(lock.Packages)) {
		p := lock.Packages[name]
		if p.Source == "path" || p.Source == "sdk" {
			continue
		}
		l.Add(manifest.Item{Name: name, Version: p.Version, Dev: p.Dependency == "direct dev"})
	}
	return l.Facts(), nil
}

// readElixir reads one package a line: "jason": {:hex, :jason, "1.4.1", "…", [:mix], […], "hexpm", "…"},
func readElixir(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("hex")
	for line := range bytes.Lines(b) {
		_, entry, ok := strings.Cut(string(line), "{:hex, :")
		if !ok {
			continue // from Git, or the braces around all
		}
		name, rest, _ := strings.Cut(entry, ",")
		version, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(rest), `"`), `"`)
		l.Add(manifest.Item{Name: strings.Trim(name, `"`), Version: version})
	}
	return l.Facts(), nil
}

// readConan reads references, "zlib/1.3.1@user/channel#revision%time": of version 1 in a graph, of 2 in lists.
func readConan(f *image.File) (look.Facts, error) {
	var lock struct {
		Graph struct {
			Nodes map[string]struct{ Ref, Context string }
		} `json:"graph_lock"`
		Requires []string
		Build    []string `json:"build_requires"`
		Python   []string `json:"python_requires"`
	}
	if err := manifest.JSON(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("conan")
	for _, id := range slices.Sorted(maps.Keys(lock.Graph.Nodes)) {
		n := lock.Graph.Nodes[id]
		addReference(l, n.Ref, n.Context == "build")
	}
	for _, reference := range lock.Requires {
		addReference(l, reference, false)
	}
	for _, reference := range append(lock.Build, lock.Python...) {
		addReference(l, reference, true)
	}
	return l.Facts(), nil
}

func addReference(l *manifest.List, reference string, build bool) {
	reference, _, _ = strings.Cut(reference, "#")
	reference, _, _ = strings.Cut(reference, "@")
	name, version, _ := strings.Cut(reference, "/")
	if version != "" {
		l.Add(manifest.Item{Name: name, Version: version, Dev: build})
	}
}

// readSwift reads Package.resolved. A package is known by its repository; of version 1 the pins are in an object.
func readSwift(f *image.File) (look.Facts, error) {
	type pin struct {
		Location, RepositoryURL string
		State                   struct{ Version string }
	}
	var lock struct {
		Pins   []pin
		Object struct{ Pins []pin }
	}
	if err := manifest.JSON(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("swift")
	for _, p := range append(lock.Pins, lock.Object.Pins...) {
		_, name, ok := strings.Cut(p.Location+p.RepositoryURL, "://")
		if ok && p.State.Version != "" {
			l.Add(manifest.Item{Name: strings.TrimSuffix(name, ".git"), Version: p.State.Version})
		}
	}
	return l.Facts(), nil
}
