package distro

import (
	"bytes"
	"cmp"
	"context"
	"regexp"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxRelease is far more than any release file has: os-release is some 400 bytes.
const maxRelease = 64 << 10

// release says how to read one file that names the distribution.
type release struct {
	path string
	id   string // of the distribution that has this file; empty where the file says it
	read func([]byte) bulkhead.OS
}

// releases are the files that tell the distribution, the best first: os-release is a standard; the older files are one
// distribution's each, and derived distributions keep those of what they come from, which is why debian_version,
// redhat-release and system-release come last.
var releases = []release{
	{path: "etc/os-release", read: osRelease},
	{path: "usr/lib/os-release", read: osRelease},
	{path: "usr/lib/initrd-release", read: osRelease},
	{path: "etc/alpine-release", id: "alpine", read: plainVersion},
	{path: "etc/oracle-release", id: "ol", read: sentence},
	{path: "etc/almalinux-release", id: "almalinux", read: sentence},
	{path: "etc/rocky-release", id: "rocky", read: sentence},
	{path: "etc/centos-release", id: "centos", read: sentence},
	{path: "etc/fedora-release", id: "fedora", read: sentence},
	{path: "etc/photon-release", id: "photon", read: sentence},
	{path: "etc/mariner-release", id: "mariner", read: sentence},
	{path: "etc/azurelinux-release", id: "azurelinux", read: sentence},
	{path: "etc/SuSE-release", read: suseRelease},
	{path: "etc/lsb-release", read: lsbRelease},
	{path: "etc/gentoo-release", id: "gentoo", read: sentence},
	{path: "etc/system-release", read: sentence},
	{path: "etc/redhat-release", read: sentence},
	{path: "etc/arch-release", id: "arch", read: func([]byte) bulkhead.OS { return bulkhead.OS{} }},
	{path: "etc/debian_version", id: "debian", read: debianVersion},
}

func wantsRelease(f *image.File) bool {
	if f.Kind != image.Regular || !strings.HasPrefix(f.Path, "etc/") && !strings.HasPrefix(f.Path, "usr/lib/") {
		return false
	}
	_, ok := releaseOf(f.Path)
	return ok
}

func releaseOf(path string) (release, bool) {
	for _, r := range releases {
		if r.path == path {
			return r, true
		}
	}
	return release{}, false
}

func lookRelease(_ context.Context, f *image.File) (look.Facts, error) {
	r, _ := releaseOf(f.Path)
	return whole(f, maxRelease, func(b []byte) (look.Facts, error) {
		os := r.read(b)
		if r.id != "" {
			os.ID = r.id
		}
		if os.ID == "" {
			return look.Facts{}, nil // none that anybody knows: an image may be made from nothing
		}
		return look.Facts{OS: &os}, nil
	})
}

// Choose returns the distribution of an image from what its release files said, by their paths. The best file decides;
// a file of the same distribution may add what that one leaves open.
func Choose(found map[string]bulkhead.OS) bulkhead.OS {
	var os bulkhead.OS
	for _, r := range releases {
		next, ok := found[r.path]
		switch {
		case !ok:
		case os.ID == "":
			os = next
		case os.ID == next.ID:
			os = fill(os, next)
		}
	}
	return os
}

func fill(os, more bulkhead.OS) bulkhead.OS {
	if os.Version == "" && os.Codename == "" {
		os.Version, os.Codename = more.Version, more.Codename
	}
	if os.Name == "" {
		os.Name = more.Name
	}
	return os
}

// osRelease reads the format of os-release(5).
func osRelease(b []byte) bulkhead.OS {
	v := assignments(b)
	return bulkhead.OS{
		ID:       cmp.Or(strings.ToLower(v["ID"]), idOf(v["NAME"])),
		Version:  v["VERSION_ID"],
		Name:     v["PRETTY_NAME"],
		Codename: v["VERSION_CODENAME"],
	}
}

func lsbRelease(b []byte) bulkhead.OS {
	v := assignments(b)
	return bulkhead.OS{
		ID:       idOf(v["DISTRIB_ID"]),
		Version:  v["DISTRIB_RELEASE"],
		Name:     v["DISTRIB_DESCRIPTION"],
		Codename: v["DISTRIB_CODENAME"],
	}
}

// assignments reads lines NAME=value with the quotes of a shell.
func assignments(b []byte) map[string]string {
	v := map[string]string{}
	lines(b, func(line []byte) {
		name, value, ok := strings.Cut(string(bytes.TrimSpace(line)), "=")
		if ok && !strings.HasPrefix(name, "#") {
			v[name] = unquote(value)
		}
	})
	return v
}

func unquote(value string) string {
	if len(value) < 2 || value[0] != '"' && value[0] != '\'' || value[len(value)-1] != value[0] {
		return value
	}
	quote, value := value[0], value[1:len(value)-1]
	if quote == '\'' {
		return value
	}
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`, `\$`, `$`, "\\`", "`").Replace(value)
}

func plainVersion(b []byte) bulkhead.OS { return bulkhead.OS{Version: firstLine(b)} }

// debianVersion reads "12.5", of which the release is 12, and "trixie/sid", which has no number.
func debianVersion(b []byte) bulkhead.OS {
	line := firstLine(b)
	if codename, _, testing := strings.Cut(line, "/"); testing {
		return bulkhead.OS{Codename: codename}
	}
	major, _, _ := strings.Cut(line, ".")
	return bulkhead.OS{Version: major}
}

var (
	// "CentOS release 6.10 (Final)", "VMware Photon OS 3.0", "CBL-Mariner 2.0.20240123"
	named = regexp.MustCompile(`^(.*?)(?: release| OS)? (?:v|version )?(\d[\w.]*)(?: .*?\(([\w ]+)\))?`)
	// VERSION = 11
	suseValue = regexp.MustCompile(`(?m)^(VERSION|PATCHLEVEL)\s*=\s*([\w.]+)`)
)

// sentence reads "NAME release VERSION (CODENAME)".
func sentence(b []byte) bulkhead.OS {
	line := firstLine(b)
	m := named.FindStringSubmatch(line)
	if m == nil {
		return bulkhead.OS{ID: idOf(line), Name: line}
	}
	return bulkhead.OS{ID: idOf(m[1]), Version: m[2], Codename: m[3], Name: line}
}

// suseRelease reads the file of SUSE up to 12: the service pack is a line of its own.
func suseRelease(b []byte) bulkhead.OS {
	os := bulkhead.OS{ID: "sles", Name: firstLine(b)}
	for _, m := range suseValue.FindAllStringSubmatch(string(b), -1) {
		switch {
		case m[1] == "VERSION":
			os.Version = m[2]
		case m[2] != "0" && os.Version != "":
			os.Version += "." + m[2]
		}
	}
	if strings.HasPrefix(strings.ToLower(os.Name), "opensuse") {
		os.ID = "opensuse"
	}
	return os
}

// ids are the IDs of os-release for the names that older files write, by how these begin.
var ids = []struct{ name, id string }{
	{"almalinux", "almalinux"},
	{"amazon linux", "amzn"},
	{"arch", "arch"},
	{"centos", "centos"},
	{"cbl-mariner", "mariner"},
	{"debian", "debian"},
	{"fedora", "fedora"},
	{"linuxmint", "linuxmint"},
	{"microsoft azure linux", "azurelinux"},
	{"opensuse", "opensuse"},
	{"oracle", "ol"},
	{"red hat enterprise linux", "rhel"},
	{"redhatenterprise", "rhel"},
	{"rocky", "rocky"},
	{"scientific linux", "scientific"},
	{"suse linux", "sles"},
	{"ubuntu", "ubuntu"},
	{"vmware photon", "photon"},
	{"wolfi", "wolfi"},
}

func idOf(name string) string {
	name = strings.ToLower(name)
	for _, known := range ids {
		if strings.HasPrefix(name, known.name) {
			return known.id
		}
	}
	return ""
}

func firstLine(b []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.TrimSpace(line))
}
