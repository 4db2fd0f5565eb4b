package image

import (
	"path"
	"strings"
)

const (
	// maxHops is how many links Linux follows on one way.
	maxHops = 40
	// maxLinkBytes bounds the paths and targets of links that are kept: the largest real layers have some 2 MiB.
	maxLinkBytes = 16 << 20
)

// links are the symbolic links that a layer has made so far. Engines unpack a layer by itself, so an entry below one of
// its own links is written to where that leads; links of lower layers are not there to be followed.
type links struct {
	to    map[string]string // by path
	bytes int

	dir, real string // the directory that was asked for last
}

// note keeps what is at a path from now on.
func (l *links) note(f *File) {
	_, known := l.to[f.Path]
	switch {
	case f.Kind == Symlink && l.bytes+len(f.Path)+len(f.Link) <= maxLinkBytes:
		if l.to == nil {
			l.to = map[string]string{}
		}
		l.to[f.Path] = f.Link
		l.bytes += len(f.Path) + len(f.Link)
	case known:
		delete(l.to, f.Path)
	default:
		return
	}
	l.dir = ""
}

// resolve is where an entry of this name is written: the links on the way to it are followed, itself is none.
func (l *links) resolve(name string) string {
	dir, base := split(name)
	if dir == "." || len(l.to) == 0 {
		return name
	}
	if dir != l.dir {
		l.dir, l.real = dir, l.follow(dir)
	}
	if l.real == dir {
		return name
	}
	return path.Join(l.real, base)
}

// follow stays inside, as an engine does. What leads nowhere stays as it is.
func (l *links) follow(dir string) string {
	at, hops := ".", 0
	for rest := dir; rest != ""; {
		var first string
		first, rest, _ = strings.Cut(rest, "/")
		if first == ".." {
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, first)
		target, ok := l.to[at]
		if !ok {
			continue
		}
		if hops++; hops > maxHops || len(target)+len(rest) > maxPath {
			return dir
		}
		at, rest = path.Dir(at), target+"/"+rest
		if strings.HasPrefix(target, "/") {
			at = "."
		}
	}
	return at
}
