package distro

import (
	"maps"
	"strings"

	"github.com/package-url/packageurl-go"

	"bulkhead"
)

// The types of packages, as purls name them.
const (
	typeDeb = "deb"
	typeAPK = "apk"
	typeRPM = "rpm"
)

// vendors are the distributions that purls call otherwise than os-release does.
var vendors = map[string]string{
	"rhel":                "redhat",
	"sles":                "suse",
	"sled":                "suse",
	"suse":                "suse",
	"sle-micro":           "suse",
	"opensuse-leap":       "opensuse",
	"opensuse-tumbleweed": "opensuse",
	"opensuse-microos":    "opensuse",
}

// purl names a package of a distribution. The qualifier "upstream" carries the source package, so that a package list
// that went through another tool can still be matched with advisories, which name source packages.
func purl(os bulkhead.OS, p bulkhead.Package) string {
	version := p.Version
	q := map[string]string{"arch": p.Arch, "distro": distroOf(os), "upstream": upstream(p)}
	if p.Type == typeRPM {
		// The type's definition wants the epoch beside the version and not in it.
		if epoch, rest, has := strings.Cut(version, ":"); has {
			q["epoch"], version = epoch, rest
		}
		q["rpmmod"] = p.Module
	}
	maps.DeleteFunc(q, func(_, value string) bool { return value == "" })
	return packageurl.NewPackageURL(p.Type, vendor(os, p.Type), p.Name, version, packageurl.QualifiersFromMap(q), "").ToString()
}

func vendor(os bulkhead.OS, kind string) string {
	if v := vendors[os.ID]; v != "" {
		return v
	}
	if os.ID != "" {
		return os.ID
	}
	// An image without any release file: the namespace is part of the name, so the likeliest is better than none.
	return map[string]string{typeDeb: "debian", typeAPK: "alpine"}[kind]
}

// distroOf is "debian-12", "alpine-3.20.1", "debian-sid".
func distroOf(os bulkhead.OS) string {
	switch {
	case os.ID == "":
		return ""
	case os.Version != "":
		return os.ID + "-" + os.Version
	case os.Codename != "":
		return os.ID + "-" + os.Codename
	}
	return os.ID
}

func upstream(p bulkhead.Package) string {
	switch {
	case p.Source == nil:
		return ""
	case p.Source.Version == p.Version || p.Source.Version == "":
		return p.Source.Name
	}
	return p.Source.Name + "@" + p.Source.Version
}
