// Package distro tells an image's distribution and the packages that the distribution's own databases know. Start
// with [Analyzers], [Choose] and [Complete].
//
// It promises the list that the distribution's own tool prints (dpkg-query, apk info, rpm -qa), read without that
// tool and without a database engine, in memory and time that grow with the file and not with what the file claims.
// It is not for software that came without a package manager: that is package binary.
package distro

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// Analyzers returns all of this folder's. Packages of types "deb", "apk" and "rpm" have no purl yet, because that
// names the distribution, which another file tells: [Complete] adds it when the whole image is known.
func Analyzers() []look.Analyzer {
	return []look.Analyzer{
		{Name: "os", Version: 1, Kind: look.Packages, Wants: wantsRelease, Look: lookRelease},
		{Name: "dpkg", Version: 1, Kind: look.Packages, Wants: wantsDpkg, Look: lookDpkg},
		{Name: "apk", Version: 1, Kind: look.Packages, Wants: wantsAPK, Look: lookAPK},
		{Name: "rpm", Version: 1, Kind: look.Packages, Wants: wantsRPM, Look: lookRPM},
	}
}

// parser reads one kind of file.
type parser func([]byte) (look.Facts, error)

// whole reads a file of at most limit bytes and hands it to parse.
func whole(f *image.File, limit int64, parse parser) (look.Facts, error) {
	b, err := f.Bytes(limit)
	if err != nil {
		return look.Facts{}, err
	}
	return parse(b)
}

// Complete returns the packages of a whole image with what could not be known from one file: the purls of the
// distribution's packages, and their licences, which analyzers tell as packages without a version. A package that two
// databases list alike is in the result once. Packages of other types stay as they are. It may be called again.
func Complete(os bulkhead.OS, packages []bulkhead.Package) []bulkhead.Package {
	licences := licencesOf(packages)
	seen := map[[4]string]bool{}
	done := make([]bulkhead.Package, 0, len(packages))
	for _, p := range packages {
		if !ours(p.Type) {
			done = append(done, p)
			continue
		}
		key := [4]string{p.Type, p.Name, p.Version, p.Arch}
		if p.Version == "" || seen[key] {
			continue
		}
		seen[key] = true
		if p.Licenses == nil {
			p.Licenses = licences.find(p)
		}
		if p.PURL == "" {
			p.PURL = purl(os, p)
		}
		done = append(done, p)
	}
	return done
}

func ours(kind string) bool { return kind == typeDeb || kind == typeAPK || kind == typeRPM }

// licences are those that copyright files tell, by package and by source package: packages that come from one source
// often share the file by a link.
type licences struct{ byName, bySource map[string][]string }

func licencesOf(packages []bulkhead.Package) licences {
	l := licences{map[string][]string{}, map[string][]string{}}
	for _, p := range packages {
		if p.Type == typeDeb && p.Version == "" {
			l.byName[p.Name] = p.Licenses
		}
	}
	for _, p := range packages {
		if found := l.byName[p.Name]; found != nil && p.Source != nil {
			l.bySource[p.Source.Name] = found
		}
	}
	return l
}

func (l licences) find(p bulkhead.Package) []string {
	if p.Type != typeDeb {
		return nil
	}
	if found := l.byName[p.Name]; found != nil {
		return found
	}
	if p.Source != nil {
		return l.bySource[p.Source.Name]
	}
	return nil
}

// maxOwned bounds the bytes of all paths that one database may name. A database writes directories and names apart, so
// that a small hostile one could stand for gigabytes of paths; an image with 500,000 files has some 40 MB of them.
const maxOwned = 128 << 20

// owners collects which package owns which files.
type owners struct {
	files map[string][]string
	left  int // bytes that may still come
}

func newOwners() *owners { return &owners{map[string][]string{}, maxOwned} }

// add joins paths that a database lists to the files of a package. Databases name paths from the root; where a
// distribution has merged /bin, /lib and /sbin into /usr, its older packages still name the old places, so that both
// are told. A directory, which is the parent of the path after it, is left out.
func (o *owners) add(name string, paths []string) {
	files := slices.Grow(o.files[name], len(paths))
	for i, p := range paths {
		p = strings.TrimPrefix(strings.TrimPrefix(p, "./"), "/")
		if p == "" || p == "." || i+1 < len(paths) && inside(p, strings.TrimPrefix(paths[i+1], "/")) {
			continue
		}
		if o.left -= len(p); o.left < 0 {
			break
		}
		files = append(files, p)
		if merged(p) {
			files = append(files, "usr/"+p)
		}
	}
	if len(files) > 0 {
		o.files[name] = files
	}
}

// tell puts what was collected into the facts of the database.
func (o *owners) tell(database string, facts *look.Facts) {
	facts.Owned = o.files
	if o.left < 0 {
		facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{
			Path:    database,
			Message: fmt.Sprintf("list the files of packages: their paths have more than %d MiB together; the rest was left out", maxOwned>>20),
		})
	}
}

func inside(dir, p string) bool {
	return len(p) > len(dir) && p[len(dir)] == '/' && strings.HasPrefix(p, dir)
}

// merged reports whether p is at a place that the merge of /usr moves.
func merged(p string) bool {
	first, _, deeper := strings.Cut(p, "/")
	if !deeper {
		return false
	}
	switch first {
	case "bin", "sbin", "lib", "lib32", "lib64", "libx32":
		return true
	}
	return false
}

// lines calls visit with each line, without its end.
func lines(b []byte, visit func([]byte)) {
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n"))
		visit(bytes.TrimSuffix(line, []byte("\r")))
	}
}

// regular reports whether f is a file with content. Links are looked at under the name of what they stand for.
func regular(f *image.File) bool { return f.Kind == image.Regular && f.Size > 0 }

// in reports whether f lies directly in one of the directories.
func in(f *image.File, dirs ...string) bool {
	return slices.Contains(dirs, path.Dir(f.Path))
}
