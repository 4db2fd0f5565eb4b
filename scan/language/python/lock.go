package python

import (
	"context"
	"maps"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of requirements and lock files.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "pypi-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

// IsLock reports whether a file of this name is a lock file.
func IsLock(base string) bool {
	switch base {
	case "Pipfile.lock", "poetry.lock", "uv.lock", "pdm.lock", "pylock.toml":
		return true
	}
	return strings.HasPrefix(base, "pylock.") && strings.HasSuffix(base, ".toml")
}

func wantsLock(f *image.File) bool {
	base := manifest.Base(f.Path)
	return f.Kind == image.Regular && f.Size > 0 && (IsLock(base) || requirements(f.Path, base))
}

// requirements tells requirements-dev.txt, dev-requirements.txt and requirements/base.txt from other text.
func requirements(path, base string) bool {
	name, ok := strings.CutSuffix(base, ".txt")
	return ok && (strings.HasPrefix(name, "requirements") || strings.HasSuffix(name, "requirements") ||
		manifest.Base(manifest.Dir(path)) == "requirements")
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	switch base := manifest.Base(f.Path); base {
	case "Pipfile.lock":
		return readPipfile(f)
	case "poetry.lock", "pdm.lock":
		return readGroups(f)
	case "uv.lock":
		return readUV(f)
	default:
		if strings.HasSuffix(base, ".toml") {
			return readPylock(f)
		}
		return readRequirements(f)
	}
}

func readPipfile(f *image.File) (look.Facts, error) {
	type entry struct{ Version string }
	var lock struct {
		Default map[string]entry
		Develop map[string]entry
	}
	if err := manifest.JSON(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("pypi")
	for i, all := range []map[string]entry{lock.Default, lock.Develop} {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if version, ok := strings.CutPrefix(all[name].Version, "=="); ok {
				l.Add(manifest.Item{Name: Name(name), Version: strings.TrimPrefix(version, "="), Dev: i == 1})
			}
		}
	}
	return l.Facts(), nil
}

// readGroups reads the lock files of Poetry and PDM, whose packages say to which groups of dependencies they belong.
func readGroups(f *image.File) (look.Facts, error) {
	var lock struct {
		Package []struct {
			Name, Version string
			Category      string   // Poetry before 1.5
			Groups        []string // Poetry since 2.0, PDM
			Path          string   // PDM: a folder of the project
			Source        struct{ Type string }
		}
	}
	if err := manifest.TOML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("pypi")
	for _, p := range lock.Package {
		if p.Path != "" || p.Source.Type == "directory" {
			continue
		}
		needed := len(p.Groups) == 0 || slices.Contains(p.Groups, "main") || slices.Contains(p.Groups, "default")
		l.Add(manifest.Item{Name: Name(p.Name), Version: p.Version, Dev: !needed || p.Category == "dev"})
	}
	return l.Facts(), nil
}

// uvPackage is one of uv.lock. The project's own packages are in it too, and name what is for development.
type uvPackage struct {
	Name, Version string
	Source        map[string]any
	Dependencies  []uvReference
	Optional      map[string][]uvReference `toml:"optional-dependencies"`
}

type uvReference struct{ Name string }

// local tells the project's own packages.
func (p *uvPackage) local() bool {
	for _, source := range []string{"virtual", "editable", "directory", "path"} {
		if _, ok := p.Source[source]; ok {
			return true
		}
	}
	return false
}

func readUV(f *image.File) (look.Facts, error) {
	var lock struct{ Package []uvPackage }
	if err := manifest.TOML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	var roots []string
	edges := map[string][]string{}
	for _, p := range lock.Package {
		if p.local() {
			roots = append(roots, p.Name)
		}
		for _, d := range p.Dependencies {
			edges[p.Name] = append(edges[p.Name], d.Name)
		}
		for _, extra := range p.Optional {
			for _, d := range extra {
				edges[p.Name] = append(edges[p.Name], d.Name)
			}
		}
	}
	needed := manifest.Reach(roots, edges)
	l := manifest.NewList("pypi")
	for _, p := range lock.Package {
		if !p.local() {
			l.Add(manifest.Item{Name: Name(p.Name), Version: p.Version, Dev: len(roots) > 0 && !needed[p.Name]})
		}
	}
	return l.Facts(), nil
}

// readPylock reads the lock file that all tools can write (PEP 751).
func readPylock(f *image.File) (look.Facts, error) {
	var lock struct {
		Packages []struct {
			Name, Version string
			Directory     map[string]any
		}
	}
	if err := manifest.TOML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("pypi")
	for _, p := range lock.Packages {
		if p.Directory == nil && p.Version != "" {
			l.Add(manifest.Item{Name: Name(p.Name), Version: p.Version})
		}
	}
	return l.Facts(), nil
}
