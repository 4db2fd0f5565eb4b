package vuln

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"bulkhead"
	"bulkhead/vuln/version"
)

// canonical names an ecosystem by the release that a system knows of itself: Ubuntu's ":LTS" says nothing more, and
// repositories of a Red Hat release ("::appstream") are one.
func canonical(ecosystem string) string {
	if strings.HasPrefix(ecosystem, "Ubuntu:") {
		return strings.TrimSuffix(ecosystem, ":LTS")
	}
	if strings.HasPrefix(ecosystem, "Red Hat:") {
		ecosystem, _, _ = strings.Cut(ecosystem, "::")
	}
	return ecosystem
}

// canonicalName spells a package's name in the one way of its ecosystem.
func canonicalName(ecosystem, name string) string {
	switch ecosystem {
	case "PyPI":
		return pythonName(name)
	case "Packagist", "NuGet":
		return strings.ToLower(name)
	}
	return name
}

// pythonName is the normal form of PEP 503.
func pythonName(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return r == '_' || r == '.' || r >= 'A' && r <= 'Z' }) < 0 && !strings.Contains(name, "--") {
		return name
	}
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	return strings.Join(parts, "-")
}

// isDistribution knows the ecosystems that are operating systems.
func isDistribution(ecosystem string) bool {
	switch version.Of(ecosystem) {
	case version.Debian, version.RPM, version.APK:
		return true
	}
	return false
}

// languages are the ecosystems of package types that do not depend on the operating system.
var languages = map[string]string{
	"golang": "Go", "npm": "npm", "pypi": "PyPI", "maven": "Maven", "gem": "RubyGems", "composer": "Packagist",
	"cargo": "crates.io", "nuget": "NuGet", "hex": "Hex", "pub": "Pub", "bitnami": "Bitnami", "generic": "Bitnami", "k8s": "Kubernetes",
}

// programs are well-known programs without a package manager, by the name that their feed gives them. What is not
// here is looked up under its own name with Bitnami, whose advisories are about the software itself.
var programs = map[string]struct{ ecosystem, name string }{
	"go": {"Go", "stdlib"}, "golang": {"Go", "stdlib"},
	"nodejs": {"Bitnami", "node"}, "openjdk": {"Bitnami", "java"}, "jdk": {"Bitnami", "java"},
	"httpd": {"Bitnami", "apache"}, "apache2": {"Bitnami", "apache"}, "apache-http-server": {"Bitnami", "apache"},
	"postgres": {"Bitnami", "postgresql"}, "redis-server": {"Bitnami", "redis"}, "valkey-server": {"Bitnami", "valkey"},
	"mysqld": {"Bitnami", "mysql"}, "mariadbd": {"Bitnami", "mariadb"}, "mongod": {"Bitnami", "mongodb"},
	"php-fpm": {"Bitnami", "php"}, "php-cli": {"Bitnami", "php"}, "cpython": {"Bitnami", "python"},
	"kube-apiserver": {"Kubernetes", "k8s.io/apiserver"}, "kubelet": {"Kubernetes", "k8s.io/kubelet"},
	"kubectl": {"Kubernetes", "k8s.io/kubectl"}, "kube-proxy": {"Kubernetes", "k8s.io/kube-proxy"},
	"kube-controller-manager": {"Kubernetes", "k8s.io/controller-manager"}, "ingress-nginx": {"Kubernetes", "k8s.io/ingress-nginx"},
}

// distributions say by the ID of os-release how the advisories of a release are named, and which part of the version
// names the release.
var distributions = map[string]struct {
	prefix string
	parts  int // numbers of the version that name the release; 0: there is one release
	kind   string
}{
	"debian": {"Debian:", 1, "deb"}, "raspbian": {"Debian:", 1, "deb"}, "ubuntu": {"Ubuntu:", 2, "deb"},
	"alpine": {"Alpine:v", 2, "apk"}, "wolfi": {"Wolfi", 0, "apk"}, "chainguard": {"Chainguard", 0, "apk"}, "minimos": {"MinimOS", 0, "apk"},
	"rhel": {"Red Hat:enterprise_linux:", 1, "rpm"}, "redhat": {"Red Hat:enterprise_linux:", 1, "rpm"}, "centos": {"Red Hat:enterprise_linux:", 1, "rpm"},
	"rocky": {"Rocky Linux:", 1, "rpm"}, "almalinux": {"AlmaLinux:", 1, "rpm"}, "alma": {"AlmaLinux:", 1, "rpm"},
	"mageia": {"Mageia:", 1, "rpm"}, "photon": {"Photon OS:", 2, "rpm"}, "azurelinux": {"Azure Linux:", 1, "rpm"}, "mariner": {"Azure Linux:", 1, "rpm"},
	"opensuse-leap": {"openSUSE:Leap ", 2, "rpm"}, "opensuse-tumbleweed": {"openSUSE:Tumbleweed", 0, "rpm"},
	"openeuler": {"openEuler:", 2, "rpm"},
}

// codenames help where os-release has no version: testing has none until it is released.
var codenames = map[string]string{
	"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
	"bionic": "18.04", "focal": "20.04", "jammy": "22.04", "mantic": "23.10", "noble": "24.04", "oracular": "24.10",
}

// release returns the ecosystem of a distribution's release, "Debian:12", and the type of its packages; empty when the
// distribution is not known here or does not say its version.
func release(os bulkhead.OS) (ecosystem, kind string) {
	d, ok := distributions[strings.ToLower(os.ID)]
	if !ok {
		return "", ""
	}
	if d.parts == 0 {
		return d.prefix, d.kind
	}
	v := strings.TrimPrefix(os.Version, "v")
	if v == "" || !isNumber(v[:1]) {
		v = codenames[strings.ToLower(os.Codename)]
	}
	if v == "" || strings.Contains(v, "_alpha") || strings.ToLower(os.Version) == "edge" {
		return "", ""
	}
	parts := strings.Split(v, ".")
	if len(parts) < d.parts {
		return "", ""
	}
	return d.prefix + strings.Join(parts[:d.parts], "."), d.kind
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// target is what to look up for a package.
type target struct {
	ecosystem, name, version string
	order                    version.Order
	module                   string
	overrides                bool // where it knows a CVE, it alone decides
}

// system is the operating system of a list of packages, worked out once.
type system struct {
	ecosystem, kind string
	others          map[string]string // by what a purl says, for lists without a system
}

func newSystem(os bulkhead.OS) *system {
	s := &system{others: map[string]string{}}
	s.ecosystem, s.kind = release(os)
	return s
}

// targets appends what to look up for p.
func (s *system) targets(p *bulkhead.Package, to []target) []target {
	switch p.Type {
	case "deb", "apk", "rpm":
		return s.distribution(p, to)
	}
	return language(p, to)
}

func (s *system) distribution(p *bulkhead.Package, to []target) []target {
	ecosystem := s.ecosystem
	if s.kind != p.Type {
		if ecosystem = s.fromPURL(p.PURL); ecosystem == "" {
			return to
		}
	}
	t := target{ecosystem: ecosystem, name: p.Name, version: p.Version, order: version.Of(ecosystem), module: p.Module}
	if p.Type != "rpm" && p.Source != nil {
		if p.Source.Name != "" {
			t.name = p.Source.Name
		}
		if p.Source.Version != "" {
			t.version = p.Source.Version
		}
	}
	return extended(append(to, t))
}

// extended adds the advisories of Ubuntu Pro for a package that came from there, which its version says. They overrule
// the ordinary archive's, where the same fix does not exist.
func extended(to []target) []target {
	t := to[len(to)-1]
	number, ok := strings.CutPrefix(t.ecosystem, "Ubuntu:")
	if !ok {
		return to
	}
	t.overrides = true
	switch {
	case strings.Contains(t.version, "esm"):
		t.ecosystem = "Ubuntu:Pro:" + number
		to = append(to, t)
	case strings.Contains(strings.ToLower(t.version), "fips"):
		t.ecosystem = "Ubuntu:Pro:FIPS-updates:" + number
		to = append(to, t)
	}
	return to
}

// fromPURL works the release out of "pkg:deb/debian/curl@7.88?distro=debian-12".
func (s *system) fromPURL(purl string) string {
	_, query, ok := strings.Cut(purl, "?")
	if !ok {
		return ""
	}
	i := strings.Index(query, "distro=")
	if i < 0 {
		return ""
	}
	distro, _, _ := strings.Cut(query[i+len("distro="):], "&")
	distro, _, _ = strings.Cut(distro, "#")
	if e, ok := s.others[distro]; ok {
		return e
	}
	name, err := url.PathUnescape(distro)
	if err != nil || len(s.others) > 1000 { // no list has a thousand distributions
		return ""
	}
	e := purlRelease(name, purl)
	s.others[distro] = e
	return e
}

func purlRelease(distro, purl string) string {
	id, number, ok := strings.Cut(distro, "-")
	if i := strings.LastIndexByte(distro, '-'); ok && i >= 0 {
		id, number = distro[:i], distro[i+1:]
	}
	if !ok { // distro=bookworm: the namespace names the distribution
		id, number = "", ""
		if parts := strings.Split(purl, "/"); len(parts) > 2 {
			id = parts[1]
		}
	}
	ecosystem, _ := release(bulkhead.OS{ID: id, Version: number, Codename: distro})
	return ecosystem
}

// language appends the target of a package that is no distribution's.
func language(p *bulkhead.Package, to []target) []target {
	ecosystem, ok := languages[p.Type]
	if !ok {
		return to
	}
	t := target{ecosystem: ecosystem, name: p.Name, version: p.Version}
	switch p.Type {
	case "generic":
		if known, ok := programs[strings.ToLower(p.Name)]; ok {
			t.ecosystem, t.name = known.ecosystem, known.name
		}
	case "maven":
		t.name = mavenName(p)
	case "golang":
		t.version = strings.TrimPrefix(strings.TrimPrefix(t.version, "go"), "v")
		t.version, _, _ = strings.Cut(t.version, " ") // "1.22.1 X:boringcrypto"
	case "composer", "npm":
		t.name = spacedName(p)
	}
	if t.ecosystem == "Bitnami" {
		t.version = withoutRevision(t.version)
	}
	if t.ecosystem == "Go" {
		t.version = goRelease(t.version)
	}
	t.name, t.order = canonicalName(t.ecosystem, t.name), version.Of(t.ecosystem)
	return append(to, t)
}

// mavenName is "group:artifact", which some lists keep in the purl alone.
func mavenName(p *bulkhead.Package) string {
	if strings.Contains(p.Name, ":") {
		return p.Name
	}
	if group, artifact, ok := strings.Cut(p.Name, "/"); ok {
		return group + ":" + artifact
	}
	if namespace, name := purlName(p.PURL); namespace != "" {
		return namespace + ":" + name
	}
	return p.Name
}

// spacedName is "@scope/name" or "vendor/name", which some lists keep in the purl alone.
func spacedName(p *bulkhead.Package) string {
	if strings.Contains(p.Name, "/") {
		return p.Name
	}
	if namespace, name := purlName(p.PURL); namespace != "" {
		return namespace + "/" + name
	}
	return p.Name
}

// purlName returns the namespace and the name of "pkg:type/namespace/name@version?…".
func purlName(purl string) (namespace, name string) {
	path, _, _ := strings.Cut(purl, "?")
	path, _, _ = strings.Cut(path, "#")
	parts := strings.Split(path, "/")
	if len(parts) < 3 {
		return "", ""
	}
	parts = parts[1:]
	parts[len(parts)-1], _, _ = strings.Cut(parts[len(parts)-1], "@")
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return "", ""
		}
		parts[i] = text
	}
	return strings.Join(parts[:len(parts)-1], "/"), parts[len(parts)-1]
}

// withoutRevision takes Bitnami's own "-4" off, which would make a pre-release of the version.
func withoutRevision(v string) string {
	i := strings.LastIndexByte(v, '-')
	if i > 0 && isNumber(v[i+1:]) {
		return v[:i]
	}
	return v
}

// goRelease writes Go's own "1.22rc1" as the feed does, "1.22.0-rc.1".
func goRelease(v string) string {
	i := strings.IndexAny(v, "abcdefghijklmnopqrstuvwxyz")
	if i <= 0 || !isNumber(v[i-1:i]) || strings.ContainsAny(v[:i], "-+") {
		return v
	}
	j := strings.IndexAny(v[i:], "0123456789")
	if j < 0 {
		return v
	}
	numbers := v[:i]
	if strings.Count(numbers, ".") == 1 {
		numbers += ".0"
	}
	return numbers + "-" + v[i:i+j] + "." + v[i+j:]
}

// Covers reports whether the database has advisories for a distribution's release, and how they name it. Where it has
// none, packages of the distribution are not judged at all, and the caller has to say so.
func (db *DB) Covers(os bulkhead.OS) (ecosystem string, ok bool) {
	ecosystem, _ = release(os)
	return ecosystem, ecosystem != "" && slices.ContainsFunc(db.status.Ecosystems, func(e Ecosystem) bool { return e.Name == ecosystem })
}
