package manifest

import (
	"strings"
	"unicode"
	"unicode/utf8"

	packageurl "github.com/package-url/packageurl-go"

	"bulkhead"
	"bulkhead/scan/look"
)

// The longest name and version that are taken, in bytes: npm allows 214, and no registry much more.
const maxText = 512

// Item is one package as a file tells of it.
type Item struct {
	Name       string
	Version    string // empty when it is not known
	Path       string // empty for the file itself
	Dev        bool
	Licenses   []string
	Qualifiers map[string]string // of the purl
}

// List collects the packages of one file, each once.
type List struct {
	kind  string
	found map[key]int // index in items
	items []bulkhead.Package
}

type key struct{ name, version, path, purl string }

// NewList returns an empty list of packages of this purl type.
func NewList(kind string) *List { return &List{kind: kind, found: map[key]int{}} }

// Add adds a package. A second one with the same name and version counts only in that it may be needed outside
// development when the first was not. A name or version that is no text is left out: no advisory can name it.
func (l *List) Add(i Item) {
	if i.Name == "" || !plain(i.Name) || !plain(i.Version) {
		return
	}
	purl := PURL(l.kind, i.Name, i.Version, i.Qualifiers)
	k := key{i.Name, i.Version, i.Path, purl}
	if n, ok := l.found[k]; ok {
		l.items[n].Dev = l.items[n].Dev && i.Dev
		return
	}
	l.found[k] = len(l.items)
	l.items = append(l.items, bulkhead.Package{
		Name: i.Name, Version: i.Version, Type: l.kind, PURL: purl, Path: i.Path, Dev: i.Dev, Licenses: licenses(i.Licenses),
	})
}

// Len is the number of packages so far.
func (l *List) Len() int { return len(l.items) }

// Facts are the packages in the order in which they were added.
func (l *List) Facts() look.Facts { return look.Facts{Packages: l.items} }

// PURL writes the package URL of a package. The name is as in the ecosystem: "@scope/name", "group:artifact".
func PURL(kind, name, version string, qualifiers map[string]string) string {
	namespace, base := split(kind, name)
	if version == "(devel)" {
		version = "" // Go's word for a version that is not known
	}
	p := packageurl.NewPackageURL(kind, namespace, base, version, packageurl.QualifiersFromMap(qualifiers), "")
	if p.Normalize() != nil {
		return ""
	}
	return p.ToString()
}

// split takes the namespace off a name.
func split(kind, name string) (namespace, base string) {
	separator := "/"
	switch kind {
	case packageurl.TypeMaven:
		separator = ":"
	case packageurl.TypeGolang, packageurl.TypeNPM, packageurl.TypeComposer, packageurl.TypeSwift:
	default:
		return "", name
	}
	i := strings.LastIndex(name, separator)
	if i <= 0 || i == len(name)-1 {
		return "", name
	}
	return name[:i], name[i+1:]
}

func plain(s string) bool {
	if len(s) > maxText || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// licenses leaves out what is empty or whole licence text in place of a name.
func licenses(all []string) []string {
	var kept []string
	for _, one := range all {
		one = strings.TrimSpace(one)
		if one == "" || len(one) > maxText || strings.ContainsAny(one, "\r\n") || !utf8.ValidString(one) || one == "UNKNOWN" {
			continue
		}
		kept = append(kept, one)
	}
	return kept
}
