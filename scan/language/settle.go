package language

import (
	"strings"

	"bulkhead"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/language/node"
	"bulkhead/scan/language/php"
	"bulkhead/scan/language/python"
	"bulkhead/scan/language/ruby"
)

// ecosystem says by which file names a lock file is known, and in which folders beside it is what it names once it is
// installed.
type ecosystem struct {
	lock    func(base string) bool
	folders []string
}

// ecosystems are those with a place for installed packages beside the lock file, by purl type.
func ecosystems() map[string]ecosystem {
	return map[string]ecosystem{
		"npm":      {node.IsLock, []string{"node_modules/"}},
		"pypi":     {python.IsLock, []string{".venv/", "venv/", "env/", "__pypackages__/"}},
		"gem":      {ruby.IsLock, []string{"vendor/bundle/"}},
		"composer": {php.IsLock, []string{"vendor/composer/"}},
	}
}

// Settle leaves out what a lock file names where packages are installed beside it, as those tell what is there. An
// installed package is for development when the lock file says so. The order of the rest stays; it changes the list
// that it is given.
func Settle(packages []bulkhead.Package) []bulkhead.Package {
	known := ecosystems()
	places := installed(packages, known)
	dev := map[coordinates]bool{} // what the lock files that are left out say
	kept := packages[:0]
	for _, p := range packages {
		dir := manifest.Dir(p.Path)
		if e, ok := known[p.Type]; ok && e.lock(manifest.Base(p.Path)) && places[place{p.Type, dir}] {
			dev[coordinates{place{p.Type, dir}, p.Name, p.Version}] = p.Dev
			continue
		}
		kept = append(kept, p)
	}
	for i, p := range kept {
		if dir, ok := project(p, known); ok && dev[coordinates{place{p.Type, dir}, p.Name, p.Version}] {
			kept[i].Dev = true
		}
	}
	return kept
}

// place is a folder in which something of one type is installed.
type place struct{ kind, dir string }

type coordinates struct {
	place
	name, version string
}

func installed(packages []bulkhead.Package, known map[string]ecosystem) map[place]bool {
	places := map[place]bool{}
	for _, p := range packages {
		if dir, ok := project(p, known); ok {
			places[place{p.Type, dir}] = true
		}
	}
	return places
}

// project returns the folder of the project into which a package was installed.
func project(p bulkhead.Package, known map[string]ecosystem) (dir string, ok bool) {
	for _, folder := range known[p.Type].folders {
		if strings.HasPrefix(p.Path, folder) {
			return "", true
		}
		if at := strings.Index(p.Path, "/"+folder); at >= 0 {
			return p.Path[:at], true
		}
	}
	return "", false
}
