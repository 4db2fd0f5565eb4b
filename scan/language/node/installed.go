// Package node finds JavaScript packages: those that are installed in node_modules, and those that the lock files of
// npm, yarn, pnpm and bun name. Start with [Installed] and [Declared].
//
// It promises to take from node_modules what Node could load from there and nothing else: the package.json files of
// test data inside packages are none of it. It is not for scripts that are part of no package.
package node

import (
	"context"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Installed returns the analyzer of package.json files.
func Installed() []look.Analyzer {
	return []look.Analyzer{{Name: "npm", Version: 1, Kind: look.Packages, Wants: wantsPackage, Look: lookAtPackage}}
}

func wantsPackage(f *image.File) bool {
	return strings.HasSuffix(f.Path, "package.json") && manifest.Base(f.Path) == "package.json" &&
		manifest.Sized(f, manifest.Small) && place(f.Path) != inside
}

// where says where a package.json lies.
type where uint8

const (
	alone  where = iota // under no node_modules: a program of its own
	loaded              // a package in node_modules
	inside              // deeper in a package: test data, or a part of it with other settings
)

const modules = "node_modules/"

// place follows a path of node_modules/name or node_modules/@scope/name, each of which may have node_modules below it.
// pnpm keeps packages in node_modules/.pnpm/anything/node_modules.
func place(path string) where {
	at := findModules(path)
	if at < 0 {
		return alone
	}
	rest := path[at:]
	for strings.HasPrefix(rest, modules) {
		rest = rest[len(modules):]
		rest = afterName(rest)
	}
	if rest == "package.json" {
		return loaded
	}
	return inside
}

// findModules is where the first node_modules of a path begins, -1 without one.
func findModules(path string) int {
	for from := 0; ; {
		i := strings.Index(path[from:], modules)
		if i < 0 {
			return -1
		}
		if i += from; i == 0 || path[i-1] == '/' {
			return i
		}
		from = i + len(modules)
	}
}

// afterName takes the name of a package off a path.
func afterName(path string) string {
	name, rest, _ := strings.Cut(path, "/")
	if strings.HasPrefix(name, "@") || name == ".pnpm" {
		_, rest, _ = strings.Cut(rest, "/")
	}
	return rest
}

func lookAtPackage(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	return readPackage(b, place(f.Path) == alone)
}

// readPackage reads a package.json. One that is no package, as many that only say which kind of modules are beside
// them, has no facts; neither has a private one outside of node_modules, which is in no registry.
func readPackage(b []byte, alone bool) (look.Facts, error) {
	var item manifest.Item
	private := false
	err := manifest.Fields(b, func(key string, value []byte) bool {
		switch key {
		case "name":
			item.Name = manifest.Text(value)
		case "version":
			item.Version = strings.TrimPrefix(strings.TrimSpace(manifest.Text(value)), "v")
		case "license", "licenses":
			item.Licenses = licenses(value)
		case "private":
			private = string(value) == "true"
		}
		return true
	})
	if err != nil || item.Version == "" || alone && private {
		return look.Facts{}, err
	}
	l := manifest.NewList("npm")
	l.Add(item)
	return l.Facts(), nil
}

// licenses reads "MIT", and what npm took in its early years: {"type": "MIT"} and a list of those.
func licenses(value []byte) []string {
	var found []string
	switch value[0] {
	case '"':
		found = append(found, manifest.Text(value))
	case '{':
		_ = manifest.Fields(value, func(key string, value []byte) bool { // what it has before damage counts
			if key == "type" {
				found = append(found, manifest.Text(value))
			}
			return true
		})
	case '[':
		_ = manifest.Elements(value, func(value []byte) bool {
			if value[0] != '[' { // lists in lists are no licences, and could be deep
				found = append(found, licenses(value)...)
			}
			return len(found) < 20
		})
	}
	return found
}
