package distro

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

const (
	dpkgStatus = "var/lib/dpkg/status"
	dpkgParts  = "var/lib/dpkg/status.d" // of distroless images: a file per package, no dpkg
	dpkgInfo   = "var/lib/dpkg/info"

	// A desktop with 5,000 packages has a status of 8 MB.
	maxStatus = 128 << 20
	// The largest .list of Debian (a kernel's headers, icon themes) has some 3 MB.
	maxList = 32 << 20
)

func wantsDpkg(f *image.File) bool {
	if !regular(f) || !strings.HasPrefix(f.Path, "var/lib/dpkg/") && !strings.HasPrefix(f.Path, docs) {
		return false
	}
	return f.Path == dpkgStatus || isPart(f) || isList(f.Path) || isCopyright(f.Path)
}

// isPart knows the packages of distroless images from what some builders leave beside them.
func isPart(f *image.File) bool {
	if !in(f, dpkgParts) {
		return false
	}
	switch path.Ext(f.Path) {
	case ".preinst", ".postinst", ".prerm", ".postrm", ".config", ".conffiles", ".templates", ".triggers", ".shlibs", ".symbols", ".list":
		return false
	}
	return true
}

func isList(p string) bool {
	return path.Dir(p) == dpkgInfo && strings.HasSuffix(p, ".list")
}

func lookDpkg(_ context.Context, f *image.File) (look.Facts, error) {
	switch {
	case isCopyright(f.Path):
		return lookCopyright(f)
	case isList(f.Path):
		name, _, _ := strings.Cut(strings.TrimSuffix(path.Base(f.Path), ".list"), ":")
		return whole(f, maxList, func(b []byte) (look.Facts, error) { return owner(f.Path, name, listed(b)), nil })
	case strings.HasSuffix(f.Path, ".md5sums"):
		name := strings.TrimSuffix(path.Base(f.Path), ".md5sums")
		return whole(f, maxList, func(b []byte) (look.Facts, error) { return owner(f.Path, name, summed(b)), nil })
	}
	return whole(f, maxStatus, func(b []byte) (look.Facts, error) { return status(f.Path, b), nil })
}

func owner(list, name string, paths []string) (facts look.Facts) {
	o := newOwners()
	o.add(name, paths)
	o.tell(list, &facts)
	return facts
}

// listed reads one path a line.
func listed(b []byte) []string {
	return strings.Split(string(bytes.TrimSpace(b)), "\n")
}

// summed reads what md5sum prints: a checksum of 32 digits, two spaces, a path.
func summed(b []byte) []string {
	var paths []string
	lines(b, func(line []byte) {
		if _, p, ok := bytes.Cut(line, []byte("  ")); ok {
			paths = append(paths, string(p))
		}
	})
	return paths
}

// status reads the packages of a status file. What cannot be one is left out and told; the rest stands.
func status(name string, b []byte) look.Facts {
	var facts look.Facts
	bad := 0
	at := map[[2]string]int{} // name and architecture → place
	for len(b) > 0 {
		var s stanza
		s, b = nextStanza(b)
		if !s.installed(name != dpkgStatus) {
			continue
		}
		p, ok := s.debian()
		if !ok {
			bad++
			continue
		}
		// dpkg appends while it works: the last word on a package holds.
		key := [2]string{p.Name, p.Arch}
		if i, again := at[key]; again {
			facts.Packages[i] = p
			continue
		}
		at[key] = len(facts.Packages)
		facts.Packages = append(facts.Packages, p)
	}
	if bad > 0 {
		facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{
			Path:    name,
			Message: fmt.Sprintf("read the package database: %d entries have no valid Package or Version and were left out", bad),
		})
	}
	return facts
}

// stanza is one paragraph of the file: the fields that are used, as slices of it.
type stanza struct {
	some                               bool // it has a field at all
	name, version, arch, source, state []byte
}

// nextStanza reads up to the next empty line and returns what follows it.
func nextStanza(b []byte) (stanza, []byte) {
	var s stanza
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		if len(bytes.TrimSpace(line)) == 0 {
			return s, b
		}
		s.take(line)
	}
	return s, nil
}

func (s *stanza) take(line []byte) {
	if line[0] == ' ' || line[0] == '\t' {
		return // goes on with a field that has several lines: none of ours
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return
	}
	s.some = true
	if field := s.field(line[:colon]); field != nil {
		*field = bytes.TrimSpace(line[colon+1:])
	}
}

// field returns where the value of a field goes; nil for those that are not used. Names ignore case.
func (s *stanza) field(name []byte) *[]byte {
	switch len(name) {
	case len("Package"):
		if bytes.EqualFold(name, []byte("Package")) {
			return &s.name
		}
		if bytes.EqualFold(name, []byte("Version")) {
			return &s.version
		}
	case len("Status"):
		if bytes.EqualFold(name, []byte("Status")) {
			return &s.state
		}
		if bytes.EqualFold(name, []byte("Source")) {
			return &s.source
		}
	case len("Architecture"):
		if bytes.EqualFold(name, []byte("Architecture")) {
			return &s.arch
		}
	}
	return nil
}

// installed reports whether files of the package are there. The third word of the status says so: only
// "not-installed" and "config-files" leave none. Without a status, dpkg takes a package as one that it has only heard of;
// in a distroless image, what is named is there.
func (s *stanza) installed(distroless bool) bool {
	if !s.some {
		return false
	}
	words := bytes.Fields(s.state)
	if len(words) < 3 {
		return distroless
	}
	state := string(words[2])
	return state != "not-installed" && state != "config-files"
}

func (s *stanza) debian() (bulkhead.Package, bool) {
	if !debianName(s.name) || !debianVersionText(s.version) {
		return bulkhead.Package{}, false
	}
	return bulkhead.Package{
		Name:    string(s.name),
		Version: string(s.version),
		Type:    typeDeb,
		Arch:    string(s.arch),
		Source:  s.sourcePackage(),
	}, true
}

// sourcePackage reads "Source: name (version)". Without the field, or without the version, the binary's own holds.
func (s *stanza) sourcePackage() *bulkhead.Source {
	if len(s.source) == 0 {
		return nil
	}
	name, rest, _ := strings.Cut(string(s.source), "(")
	source := bulkhead.Source{Name: strings.TrimSpace(name), Version: string(s.version)}
	if version, _, closed := strings.Cut(rest, ")"); closed {
		source.Version = strings.TrimSpace(version)
	}
	if source.Name == "" || source.Name == string(s.name) && source.Version == string(s.version) {
		return nil
	}
	return &source
}

// debianName follows Debian policy 5.6.1, and admits capitals, which dpkg does.
func debianName(b []byte) bool {
	for i, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && strings.IndexByte("+-._", c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// debianVersionText admits what dpkg reads from its own database: one printable word.
func debianVersionText(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(b) > 0
}
