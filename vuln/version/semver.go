package version

import "strings"

// compareSemVer is the order of semver.org 2.0.0, with what feeds and programs write besides: a leading v, any number of
// numbers, a pre-release without its hyphen ("1.0rc1"). What follows a plus does not count. Fold: neither does case.
func compareSemVer(a, b string, fold bool) int {
	an, ap := semverParts(a)
	bn, bp := semverParts(b)
	if (an == "") != (bn == "") {
		return sign(truth(an == ""), truth(bn == "")) // "nightly.2026-05-06" is behind every numbered release
	}
	if c := compareDotted(an, bn); c != 0 {
		return c
	}
	if ap == "" || bp == "" {
		return sign(truth(ap == ""), truth(bp == "")) // a release is newer than what leads to it
	}
	return comparePrerelease(ap, bp, fold)
}

func semverParts(v string) (numbers, prerelease string) {
	v = strings.TrimSpace(v)
	if v != "" && (v[0] == 'v' || v[0] == 'V' || v[0] == '=') {
		v = v[1:]
	}
	v, _, _ = strings.Cut(v, "+")
	n := 0
	for n < len(v) && (digit(v[n]) || v[n] == '.') {
		n++
	}
	numbers, prerelease = v[:n], v[n:]
	return strings.TrimRight(numbers, "."), strings.TrimPrefix(prerelease, "-")
}

// compareDotted compares numbers with dots between them; what is missing is zero.
func compareDotted(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	return 0
}

func comparePrerelease(a, b string, fold bool) int {
	for {
		x, moreA, okA := strings.Cut(a, ".")
		y, moreB, okB := strings.Cut(b, ".")
		if c := compareIdentifier(x, y, fold); c != 0 {
			return c
		}
		if !okA || !okB {
			return sign(truth(okA), truth(okB))
		}
		a, b = moreA, moreB
	}
}

func compareIdentifier(a, b string, fold bool) int {
	an, bn := a != "" && digits(a) == len(a), b != "" && digits(b) == len(b)
	switch {
	case an && bn:
		return compareNumbers(a, b)
	case an != bn:
		return sign(truth(bn), truth(an)) // a number is older than a word
	case fold:
		return compareFold(a, b)
	}
	return strings.Compare(a, b)
}
