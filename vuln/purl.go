package vuln

import (
	"net/url"
	"slices"
	"strings"
)

// purl is a package URL taken apart: pkg:type/namespace/name@version?qualifiers.
type purl struct {
	kind, namespace, name, version string
	qualifiers                     url.Values
}

// maxPURL is far beyond any name that a package can have.
const maxPURL = 4096

// parsePURL takes a package URL apart; what is none has no kind and covers nothing.
func parsePURL(s string) (p purl) {
	rest, ok := strings.CutPrefix(s, "pkg:")
	if !ok || len(s) > maxPURL {
		return p
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	rest = strings.TrimLeft(rest, "/")
	kind, path, ok := strings.Cut(rest, "/")
	if !ok {
		return p
	}
	if at := strings.LastIndexByte(path, '@'); at > 0 && at > strings.LastIndexByte(path, '/') {
		path, p.version = path[:at], unescape(path[at+1:])
	}
	if slash := strings.LastIndexByte(strings.TrimRight(path, "/"), '/'); slash >= 0 {
		p.namespace, path = unescape(path[:slash]), path[slash+1:]
	}
	p.kind, p.name = strings.ToLower(kind), unescape(strings.TrimRight(path, "/"))
	p.qualifiers, _ = url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // a plus is a plus in versions of Debian
	if p.kind == "pypi" {
		p.name = pythonName(p.name)
	}
	if foldedKinds[p.kind] {
		p.namespace, p.name = strings.ToLower(p.namespace), strings.ToLower(p.name)
	}
	return p
}

// foldedKinds are the types whose names do not depend on case.
var foldedKinds = map[string]bool{"deb": true, "apk": true, "rpm": true, "pypi": true, "composer": true, "nuget": true, "oci": true, "docker": true, "github": true, "bitnami": true}

func unescape(s string) string {
	if t, err := url.PathUnescape(s); err == nil {
		return t
	}
	return s
}

// covers reports whether p, as a statement writes it, stands for the package q: what p leaves open does not matter.
func (p purl) covers(q purl) bool {
	if p.kind == "" || p.kind != q.kind || p.name != q.name || p.namespace != q.namespace || p.version != "" && p.version != q.version {
		return false
	}
	for name, values := range p.qualifiers {
		// Of a source package all that was built from it is meant; its name is the binary's where it stands for one.
		if name == "arch" && (slices.Equal(values, []string{"src"}) || slices.Equal(values, []string{"source"})) {
			continue
		}
		if !slices.Equal(values, q.qualifiers[name]) {
			return false
		}
	}
	return true
}

// isImage reports whether p, "pkg:oci/web@sha256:…?repository_url=registry.example/shop/web", is the image.
func (p purl) isImage(s *Subject) bool {
	if p.kind != "oci" && p.kind != "docker" {
		return false
	}
	if p.version != "" && strings.Contains(p.version, ":") {
		return slices.Contains(s.Digests, p.version)
	}
	if p.version != "" || s.Name == "" {
		return false // a tag is no promise of what is behind it
	}
	if at := p.qualifiers.Get("repository_url"); at != "" {
		return strings.TrimSuffix(at, "/") == s.Name || strings.TrimSuffix(at, "/")+"/"+p.name == s.Name
	}
	if p.namespace != "" {
		return s.Name == p.namespace+"/"+p.name || strings.HasSuffix(s.Name, "/"+p.namespace+"/"+p.name)
	}
	return s.Name[strings.LastIndexByte(s.Name, '/')+1:] == p.name
}
