// Package version orders version numbers as each packaging system defines it. Start with [Compare] and [Of].
//
// It promises the answers of the system's own tool (dpkg, rpm, apk, pip, gem, Maven …) for every version that the tool
// accepts, some total answer for everything else, time in proportion to the length, and no memory of its own.
// It is not for ranges: those are the matching's, in package vuln.
package version

import "strings"

// Order is the rule by which one packaging system compares.
type Order uint8

// The orders. Unknown compares nothing: every two versions that differ in a byte are unequal and none matches a range.
const (
	Unknown  Order = iota
	Debian         // dpkg: Debian, Ubuntu
	RPM            // rpm: Red Hat and its kin, SUSE
	APK            // apk-tools 2: Alpine, Wolfi
	SemVer         // semver.org 2.0.0, lenient: Go, npm, crates.io, Bitnami, Kubernetes, Hex, Pub
	PEP440         // Python
	Maven          // Maven's ComparableVersion
	Ruby           // Gem::Version
	NuGet          // SemVer with a fourth number, case does not count
	Composer       // Packagist: PHP's version_compare on Composer's normal form
)

// orders say how an ecosystem of OSV, without its release, compares.
var orders = map[string]Order{
	"Debian": Debian, "Ubuntu": Debian, "Echo": Debian,
	"Alpine": APK, "Wolfi": APK, "Chainguard": APK, "Alpaquita": APK, "BellSoft Hardened Containers": APK, "MinimOS": APK,
	"Red Hat": RPM, "Rocky Linux": RPM, "AlmaLinux": RPM, "SUSE": RPM, "openSUSE": RPM, "Mageia": RPM, "openEuler": RPM,
	"Azure Linux": RPM, "Photon OS": RPM, "Oracle Linux": RPM, "Amazon Linux": RPM,
	"Go": SemVer, "npm": SemVer, "crates.io": SemVer, "Bitnami": SemVer, "Kubernetes": SemVer, "Hex": SemVer, "Pub": SemVer, "SwiftURL": SemVer,
	"PyPI": PEP440, "Maven": Maven, "RubyGems": Ruby, "NuGet": NuGet, "Packagist": Composer,
}

// Of returns the order of an ecosystem as OSV names it, with or without a release: "Debian:12", "npm".
// An ecosystem that is not known here has [Unknown].
func Of(ecosystem string) Order {
	name, _, _ := strings.Cut(ecosystem, ":")
	return orders[name]
}

// Compare returns -1, 0 or +1 as a is older than, equal to or newer than b.
func Compare(o Order, a, b string) int {
	if a == b {
		return 0
	}
	switch o {
	case Debian:
		return compareDebian(a, b)
	case RPM:
		return compareRPM(a, b)
	case APK:
		return compareAPK(a, b)
	case SemVer:
		return compareSemVer(a, b, false)
	case NuGet:
		return compareSemVer(a, b, true)
	case PEP440:
		return comparePEP440(a, b)
	case Maven:
		return compareMaven(a, b)
	case Ruby:
		return compareRuby(a, b)
	case Composer:
		return compareComposer(a, b)
	}
	return strings.Compare(a, b)
}

// Valid reports whether v can be a version at all: what a program says of itself when it does not know ("", "(devel)",
// "unknown") is none, and matches no range.
func Valid(o Order, v string) bool {
	if o == Unknown || len(v) > maxLength {
		return false
	}
	return strings.ContainsAny(v, "0123456789")
}

// maxLength is four times the longest version of all feeds; a longer one is an attack or an accident.
const maxLength = 512

func digit(c byte) bool { return c >= '0' && c <= '9' }

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func sign[T int | byte](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// digits returns the number of digits at the start of s.
func digits(s string) int {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	return n
}

// compareNumbers compares two runs of digits of any length by value; an empty one is zero.
func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return sign(len(a), len(b))
	}
	return strings.Compare(a, b)
}

// compareFold compares without regard to the case of ASCII letters.
func compareFold(a, b string) int {
	for i := 0; i < len(a) && i < len(b); i++ {
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return sign(x, y)
		}
	}
	return sign(len(a), len(b))
}
