package node

import (
	"maps"
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// pnpmLock is pnpm-lock.yaml, versions 5 to 9. Up to 8 each package says whether it is for development; from 9 on that
// has to be found by following the snapshots.
type pnpmLock struct {
	Packages  map[string]pnpmPackage
	Snapshots map[string]struct {
		Dependencies         map[string]string
		OptionalDependencies map[string]string `yaml:"optionalDependencies"`
	}
	Importers map[string]struct {
		Dependencies         map[string]pnpmRange
		OptionalDependencies map[string]pnpmRange `yaml:"optionalDependencies"`
	}
}

type pnpmPackage struct {
	Name, Version string // where the key does not say them: what is in no registry
	Dev           bool
}

type pnpmRange struct{ Version string }

// UnmarshalYAML takes the form of version 5 as well, in which the version stands alone.
func (r *pnpmRange) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&r.Version) == nil {
		return nil
	}
	var long struct{ Version string }
	err := unmarshal(&long)
	r.Version = long.Version
	return err
}

func readPnpm(f *image.File) (look.Facts, error) {
	var lock pnpmLock
	if err := manifest.YAML(f, &lock); err != nil {
		return look.Facts{}, err
	}
	needed := lock.needed()
	l := manifest.NewList("npm")
	for _, key := range slices.Sorted(maps.Keys(lock.Packages)) {
		p := lock.Packages[key]
		name, version := pnpmKey(key)
		if p.Name != "" {
			name = p.Name
		}
		if p.Version != "" {
			version = p.Version
		}
		if registry(version) {
			l.Add(manifest.Item{Name: name, Version: version, Dev: p.Dev || needed != nil && !needed[key]})
		}
	}
	return l.Facts(), nil
}

// needed returns the keys of what is reached without a development dependency, nil before version 9.
func (lock *pnpmLock) needed() map[string]bool {
	if len(lock.Snapshots) == 0 {
		return nil
	}
	edges := map[string][]string{}
	for key, s := range lock.Snapshots {
		edges[key] = append(references(s.Dependencies), references(s.OptionalDependencies)...)
	}
	var roots []string
	for _, i := range lock.Importers {
		for _, all := range []map[string]pnpmRange{i.Dependencies, i.OptionalDependencies} {
			for name, r := range all {
				roots = append(roots, reference(name, r.Version))
			}
		}
	}
	needed := map[string]bool{}
	for key := range manifest.Reach(roots, edges) {
		needed[withoutPeers(key)] = true
	}
	return needed
}

func references(all map[string]string) []string {
	keys := make([]string, 0, len(all))
	for name, version := range all {
		keys = append(keys, reference(name, version))
	}
	return keys
}

// reference is the key of a snapshot. A package under another name has its whole key in place of a version.
func reference(name, version string) string {
	plain := withoutPeers(version)
	if at := strings.LastIndexByte(plain, '@'); at > 0 && !strings.Contains(plain, ":") {
		return version
	}
	return name + "@" + version
}

// withoutPeers takes "(react@18.2.0)" off.
func withoutPeers(s string) string {
	s, _, _ = strings.Cut(s, "(")
	return s
}

// pnpmKey takes a key apart: "/foo/1.0.0_peer@2" of version 5, "/foo@1.0.0(peer@2)" of 6, "foo@1.0.0" of 9, each with a
// registry's name before it where it is not the usual one.
func pnpmKey(key string) (name, version string) {
	key = withoutPeers(key)
	if host, rest, ok := strings.Cut(key, "/"); ok && !strings.Contains(host, "@") {
		key = rest
	}
	parts, n := strings.Split(key, "/"), 1
	if strings.HasPrefix(key, "@") {
		n = 2
	}
	if len(parts) <= n || strings.LastIndexByte(parts[n-1], '@') > 0 {
		return splitAt(key)
	}
	version, _, _ = strings.Cut(parts[n], "_")
	return strings.Join(parts[:n], "/"), version
}
