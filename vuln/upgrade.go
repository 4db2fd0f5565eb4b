package vuln

import (
	"bulkhead"
	"bulkhead/vuln/version"
)

// Upgrade is what to do about a package: the lowest version that has none of those of its vulnerabilities that have a fix.
type Upgrade struct {
	Type, Package, Version string // installed
	To                     string
}

// Upgrades says of each package with a fix to which version to go, in the order of the list. What was judged away asks for none.
func Upgrades(list []bulkhead.Vulnerability) []Upgrade {
	out, at := []Upgrade{}, map[Upgrade]int{}
	for _, v := range list {
		if v.Fixed == "" || !Counts(v) {
			continue
		}
		key := Upgrade{Type: v.Type, Package: v.Package, Version: v.Version}
		i, ok := at[key]
		if !ok {
			i, at[key] = len(out), len(out)
			out = append(out, key)
		}
		out[i].To = later(orderOf(v.Type), out[i].To, v.Fixed)
	}
	return out
}

// orderOf is how versions of a type of packages compare.
func orderOf(kind string) version.Order {
	switch kind {
	case "deb":
		return version.Debian
	case "rpm":
		return version.RPM
	case "apk":
		return version.APK
	}
	return version.Of(languages[kind])
}
