package node

import (
	"slices"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// bunLock is bun.lock: JSON with commas before closing brackets.
type bunLock struct {
	roots    []root
	keys     []string // of packages, in order
	packages map[string]bunPackage
}

// root is a dependency of the project itself: of one of its folders, "" for the first.
type root struct{ from, name string }

// bunPackage is an entry like "debug/ms": ["ms@2.0.0", "", {"dependencies": {}}, "sha512-…"]. As in node_modules, the
// key says for which package this one is, where others get another.
type bunPackage struct {
	name, version string
	needs         []string
}

func readBun(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	lock := bunLock{packages: map[string]bunPackage{}}
	if err := lock.read(b); err != nil {
		return look.Facts{}, err
	}
	needed := lock.needed()
	l := manifest.NewList("npm")
	for _, key := range lock.keys {
		if p := lock.packages[key]; registry(p.version) {
			l.Add(manifest.Item{Name: p.name, Version: p.version, Dev: len(lock.roots) > 0 && !needed[key]})
		}
	}
	return l.Facts(), nil
}

func (lock *bunLock) read(b []byte) (err error) {
	var damage error
	err = manifest.Fields(b, func(key string, value []byte) bool {
		switch key {
		case "workspaces":
			damage = manifest.Fields(value, lock.workspace)
		case "packages":
			damage = manifest.Fields(value, lock.entry)
		}
		return damage == nil
	})
	if damage != nil {
		return damage
	}
	return err
}

func (lock *bunLock) workspace(folder string, value []byte) bool {
	from := ""
	_ = manifest.Fields(value, func(key string, value []byte) bool { // the name stands first
		if key == "name" && folder != "" {
			from = manifest.Text(value)
		}
		return true
	})
	for _, name := range needs(value) {
		lock.roots = append(lock.roots, root{from, name})
	}
	return true
}

func (lock *bunLock) entry(key string, value []byte) bool {
	var p bunPackage
	at := 0
	_ = manifest.Elements(value, func(element []byte) bool { // what is no list names no package
		if at == 0 {
			p.name, p.version = splitAt(manifest.Text(element))
		} else if element[0] == '{' {
			p.needs = needs(element)
		}
		at++
		return true
	})
	lock.keys = append(lock.keys, key)
	lock.packages[key] = p
	return true
}

// needs returns the names of what has to be there for a package, or for a folder of the project, to run. A peer that is
// optional is used when it is there for another reason.
func needs(value []byte) []string {
	var names, optional []string
	_ = manifest.Fields(value, func(key string, value []byte) bool {
		switch key {
		case "dependencies", "optionalDependencies", "peerDependencies":
			_ = manifest.Fields(value, func(name string, _ []byte) bool {
				names = append(names, name)
				return true
			})
		case "optionalPeers":
			_ = manifest.Elements(value, func(name []byte) bool {
				optional = append(optional, manifest.Text(name))
				return len(optional) < 100
			})
		}
		return true
	})
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(optional, name) })
}

// needed returns the keys of what is reached without a development dependency.
func (lock *bunLock) needed() map[string]bool {
	var roots []string
	for _, r := range lock.roots {
		roots = append(roots, lock.find(r.from, r.name))
	}
	edges := map[string][]string{}
	for key, p := range lock.packages {
		for _, name := range p.needs {
			edges[key] = append(edges[key], lock.find(key, name))
		}
	}
	return manifest.Reach(roots, edges)
}

// find looks for a package as Node does: beside the one that needs it, then ever further out.
func (lock *bunLock) find(from, name string) string {
	for range 50 { // deeper than anything is nested
		if from == "" {
			break
		}
		if key := from + "/" + name; lock.has(key) {
			return key
		}
		from = outer(from)
	}
	return name
}

func (lock *bunLock) has(key string) bool {
	_, ok := lock.packages[key]
	return ok
}

// outer takes the last name off a key: "a/@s/b" is inside "a".
func outer(key string) string {
	dir := manifest.Dir(key)
	if base := manifest.Base(dir); strings.HasPrefix(base, "@") {
		return manifest.Dir(dir)
	}
	return dir
}
