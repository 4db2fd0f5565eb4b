package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of lock files.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "npm-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

// IsLock reports whether a file of this name is a lock file.
func IsLock(base string) bool {
	switch base {
	case "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock":
		return true
	}
	return false
}

// wantsLock leaves out the lock files that packages in node_modules ship without use.
func wantsLock(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && IsLock(manifest.Base(f.Path)) && findModules(f.Path) < 0
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	switch manifest.Base(f.Path) {
	case "pnpm-lock.yaml":
		return readPnpm(f)
	case "yarn.lock":
		return readYarn(f)
	case "bun.lock":
		return readBun(f)
	}
	return readNPM(f)
}

// npmEntry is a package of package-lock.json under "packages", since version 2.
type npmEntry struct {
	Name    string // where it is another than that of the folder
	Version string
	Link    bool
	Dev     bool
	License json.RawMessage
}

// npmNested is one under "dependencies", up to version 2.
type npmNested struct {
	Version      string
	Dev          bool
	Dependencies map[string]npmNested
}

func readNPM(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	var packages, dependencies []byte
	err = manifest.Fields(b, func(key string, value []byte) bool {
		switch key {
		case "packages":
			packages = value
		case "dependencies":
			dependencies = value
		}
		return true
	})
	if err != nil {
		return look.Facts{}, err
	}
	if packages == nil {
		return readNested(dependencies)
	}
	var all map[string]npmEntry
	if err := json.Unmarshal(packages, &all); err != nil {
		return look.Facts{}, fmt.Errorf("read the packages: %w", err)
	}
	l := manifest.NewList("npm")
	for _, path := range slices.Sorted(maps.Keys(all)) {
		addEntry(l, path, all[path])
	}
	return l.Facts(), nil
}

// addEntry adds what is under node_modules in a lock file; other entries are folders of the project itself.
func addEntry(l *manifest.List, path string, e npmEntry) {
	at := strings.LastIndex(path, modules)
	if at < 0 || e.Link {
		return
	}
	name := e.Name
	if name == "" {
		name = path[at+len(modules):]
	}
	item := manifest.Item{Name: name, Version: e.Version, Dev: e.Dev}
	if len(e.License) > 0 {
		item.Licenses = licenses(e.License)
	}
	l.Add(item)
}

func readNested(dependencies []byte) (look.Facts, error) {
	l := manifest.NewList("npm")
	if dependencies == nil {
		return l.Facts(), nil // a project without any
	}
	var all map[string]npmNested
	if err := json.Unmarshal(dependencies, &all); err != nil {
		return look.Facts{}, fmt.Errorf("read the dependencies: %w", err)
	}
	addNested(l, all)
	return l.Facts(), nil
}

// addNested recurses as deep as the decoder has let through, which is 10,000.
func addNested(l *manifest.List, all map[string]npmNested) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		item := manifest.Item{Name: name, Version: e.Version, Dev: e.Dev}
		if alias, ok := strings.CutPrefix(e.Version, "npm:"); ok {
			item.Name, item.Version = splitAt(alias)
		}
		if registry(item.Version) {
			l.Add(item)
		}
		addNested(l, e.Dependencies)
	}
}

// registry tells a version from the address of something that is in no registry, as "file:../x" or a Git address.
func registry(version string) bool { return version != "" && !strings.ContainsAny(version, ":/") }

// splitAt takes "@scope/name@1.2.3" apart.
func splitAt(s string) (name, version string) {
	if s == "" {
		return "", ""
	}
	at := strings.IndexByte(s[1:], '@')
	if at < 0 {
		return s, ""
	}
	return s[:at+1], s[at+2:]
}
