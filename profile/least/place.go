package least

import (
	"path"
	"slices"
	"strings"
)

// Layers is what can be asked of the image that a container was made of.
type Layers interface {
	Has(dir string) bool    // whether the image has this directory
	Filled(dir string) bool // whether the image has something in it
}

// Places are the directories of the image that have to be writable for what a workload writes: the patterns of its profile,
// and what the container's own layer has that is changed: files, and with a slash behind them directories with nothing in them.
// What lies on a mount needs none.
func Places(writes, changed []string, mounts []Mount, layers Layers) []Directory {
	found := map[string]bool{}
	add := func(dir string) {
		if elsewhere(dir, mounts) {
			return
		}
		for !layers.Has(dir) && dir != "/" {
			dir = path.Dir(dir) // it was made, in one of the image
		}
		found[dir] = true
	}
	for _, pattern := range writes {
		add(folder(pattern))
	}
	for _, p := range changed {
		directory := strings.HasSuffix(p, "/")
		switch p = path.Clean("/" + p); {
		case p == "/.dockerenv", p == "/run/.containerenv", elsewhere(p, mounts):
		case directory && layers.Has(p):
			add(p) // what was in it is gone again
		default:
			add(path.Dir(p))
		}
	}
	all := []Directory{}
	for _, dir := range outermost(found) {
		all = append(all, Directory{dir, layers.Filled(dir), apart(dir, writes, changed, mounts)})
	}
	return all
}

// apart reports whether each file that was written below a directory has a name of its own in the profile and is there, and
// each that is there was written by that name. Else files may have come from elsewhere, or gone there, by another name.
func apart(dir string, writes, changed []string, mounts []Mount) bool {
	for _, w := range writes {
		if below(folder(w), dir) && !elsewhere(folder(w), mounts) && (strings.Contains(w, "*") || !slices.Contains(changed, w)) {
			return false
		}
	}
	for _, p := range changed {
		if below(path.Clean(p), dir) && !elsewhere(path.Clean(p), mounts) && (strings.HasSuffix(p, "/") || !slices.Contains(writes, p)) {
			return false
		}
	}
	return true
}

// together are the directories that need a file system: where a program moves files, those between which it may have done so
// have to share one, as nothing is moved from one file system to another.
func together(list []Directory, moves bool) []Directory {
	if !moves {
		return list
	}
	var out []Directory
	common := ""
	for _, d := range list {
		switch {
		case d.Apart:
			out = append(out, d)
		case common == "":
			common = d.Path
			out = append(out, d)
		default:
			for !below(d.Path, common) {
				common = path.Dir(common)
			}
		}
	}
	for i, d := range out {
		if !d.Apart && d.Path != common {
			out[i] = Directory{Path: common, Filled: true}
		}
	}
	return outerDirectories(out)
}

// elsewhere says that a path is not on the container's root file system.
func elsewhere(p string, mounts []Mount) bool {
	return usualMount(p) || slices.ContainsFunc(mounts, func(m Mount) bool {
		return slices.ContainsFunc(spellings(m.Path), func(at string) bool { return below(p, at) })
	})
}

// folder is the directory that has all that a pattern stands for.
func folder(pattern string) string {
	at := "/"
	parts := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
	for _, part := range parts[:len(parts)-1] {
		plain := strings.NewReplacer(`\*`, "", `\\`, "").Replace(part)
		if strings.Contains(plain, "*") {
			break
		}
		at = path.Join(at, strings.NewReplacer(`\*`, "*", `\\`, `\`).Replace(part))
	}
	return at
}

// outermost leaves out what lies in another.
func outermost(found map[string]bool) (all []string) {
	list := make([]string, 0, len(found))
	for dir := range found {
		list = append(list, dir)
	}
	slices.Sort(list)
	for _, dir := range list {
		if !slices.ContainsFunc(all, func(other string) bool { return below(dir, other) }) {
			all = append(all, dir)
		}
	}
	return all
}
