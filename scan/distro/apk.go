package distro

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxAPK is the largest installed database that is read: an Alpine desktop's has some 30 MB, because it lists all files.
const maxAPK = 128 << 20

func wantsAPK(f *image.File) bool {
	return regular(f) && (f.Path == "lib/apk/db/installed" || f.Path == "usr/lib/apk/db/installed")
}

func lookAPK(_ context.Context, f *image.File) (look.Facts, error) {
	return whole(f, maxAPK, func(b []byte) (look.Facts, error) { return installed(f.Path, b), nil })
}

// entry is one package of the database while it is read: lines of a letter, a colon and a value.
type entry struct {
	some                                 bool
	name, version, arch, origin, licence string
	dir                                  string
	files                                []string
	left                                 int // bytes of paths that may still come
}

// installed reads the database of apk, which versions 2 and 3 of it write alike.
func installed(name string, b []byte) look.Facts {
	var facts look.Facts
	o := newOwners()
	e := entry{left: o.left + 1}
	bad := 0
	finish := func() {
		if e.some && !e.tell(&facts, o) {
			bad++
		}
		e = entry{files: e.files[:0], left: o.left + 1}
	}
	lines(b, func(line []byte) {
		if len(line) == 0 {
			finish()
			return
		}
		e.take(line)
	})
	finish()
	o.tell(name, &facts)
	if bad > 0 {
		facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{
			Path:    name,
			Message: fmt.Sprintf("read the package database: %d entries have no name (P:) or version (V:) and were left out", bad),
		})
	}
	return facts
}

func (e *entry) take(line []byte) {
	if len(line) < 2 || line[1] != ':' {
		return
	}
	e.some = true
	value := line[2:]
	switch line[0] {
	case 'P':
		e.name = string(value)
	case 'V':
		e.version = string(value)
	case 'A':
		e.arch = string(value)
	case 'o':
		e.origin = string(value)
	case 'L':
		e.licence = string(value)
	case 'F':
		e.dir = string(bytes.Trim(value, "/"))
	case 'R':
		// Longer than what the kernel opens: it names no file, and would make a small database large in memory.
		if len(e.dir)+len(value) < maxPath && e.left > 0 {
			e.left -= len(e.dir) + len(value)
			e.files = append(e.files, join(e.dir, value))
		}
	}
}

func join(dir string, file []byte) string {
	if dir == "" {
		return string(file)
	}
	return dir + "/" + string(file)
}

// tell adds the package to the facts and says whether it is one.
func (e *entry) tell(facts *look.Facts, o *owners) bool {
	if !word(e.name) || !word(e.version) {
		return false
	}
	p := bulkhead.Package{Name: e.name, Version: e.version, Type: typeAPK, Arch: e.arch, Licenses: expression(e.licence)}
	if e.origin != "" && e.origin != e.name {
		p.Source = &bulkhead.Source{Name: e.origin, Version: e.version}
	}
	facts.Packages = append(facts.Packages, p)
	o.add(e.name, e.files)
	return true
}

// expression returns an SPDX expression whole, and the words of what older packages wrote in its place.
func expression(licence string) []string {
	if strings.ContainsAny(licence, "()") || strings.Contains(licence, " AND ") ||
		strings.Contains(licence, " OR ") || strings.Contains(licence, " WITH ") {
		return []string{strings.TrimSpace(licence)}
	}
	return tidy(strings.Fields(licence))
}

// word reports whether s is one printable word.
func word(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}
