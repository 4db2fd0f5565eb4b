package version

import "strings"

// compareAPK is the order of apk-tools: numbers with dots, a letter, suffixes like _rc1 and _p2, the revision -r3.
func compareAPK(a, b string) int {
	x, y := apkReader{s: a, at: apkNumber}, apkReader{s: b, at: apkNumber}
	for x.at == y.at && x.at != apkEnd && x.at != apkInvalid {
		if c := x.step(&y); c != 0 {
			return c
		}
	}
	return apkTail(x, y)
}

// apkTail decides between two versions of which one goes on with another kind of part.
func apkTail(x, y apkReader) int {
	switch {
	case x.at == y.at:
		return 0
	case x.at == apkSuffix && x.preRelease():
		return -1
	case y.at == apkSuffix && y.preRelease():
		return 1
	}
	return sign(int(y.at), int(x.at)) // what comes earlier in a version weighs more
}

// apkPart is the kind of the part that is read next, in the order in which they may come.
type apkPart int8

const (
	apkInvalid  apkPart = iota - 1
	apkDotted           // a number behind a dot: zeros at its start make it smaller
	apkNumber           // the first number
	apkLetter           // 1.2b
	apkSuffix           // _rc
	apkSuffixNo         // _rc2
	apkRevision         // -r3
	apkEnd
)

type apkReader struct {
	s  string
	at apkPart
}

// step compares the next part of both, which are of one kind, and goes on behind it.
func (x *apkReader) step(y *apkReader) int {
	switch x.at {
	case apkLetter:
		c := sign(x.s[0], y.s[0])
		x.advance(1)
		y.advance(1)
		return c
	case apkSuffix:
		c := sign(x.suffix(), y.suffix())
		return c
	}
	return x.number(y)
}

// number compares numbers. Behind a dot, a number with a zero in front is smaller than one without, and the more
// zeros, the smaller; the rest of it is a number of its own.
func (x *apkReader) number(y *apkReader) int {
	if x.at == apkDotted {
		zx, zy := zeros(x.s), zeros(y.s)
		if zx > 0 || zy > 0 {
			x.skipZeros(zx)
			y.skipZeros(zy)
			return sign(zy, zx)
		}
	}
	n, m := digits(x.s), digits(y.s)
	c := compareNumbers(x.s[:n], y.s[:m])
	x.advance(n)
	y.advance(m)
	return c
}

func (x *apkReader) skipZeros(n int) {
	if n == len(x.s) || n == 0 || !digit(x.s[n]) {
		x.advance(n)
		return
	}
	x.s, x.at = x.s[n:], apkNumber
}

func zeros(s string) int {
	n := 0
	for n < len(s) && s[n] == '0' {
		n++
	}
	return n
}

// apkSuffixes in rising order; those before the fourth lead to a release, the others follow it.
var apkSuffixes = [...]string{"alpha", "beta", "pre", "rc", "cvs", "svn", "git", "hg", "p"}

const apkReleases = 4

// suffix reads one and returns its place around the release, which is 0.
func (x *apkReader) suffix() int {
	for i, name := range apkSuffixes {
		if strings.HasPrefix(x.s, name) {
			x.advance(len(name))
			if i < apkReleases {
				return i - apkReleases
			}
			return i - apkReleases + 1
		}
	}
	x.at = apkInvalid
	return 0
}

func (x apkReader) preRelease() bool { return x.suffix() < 0 }

// advance goes on by n bytes and says what comes next.
func (x *apkReader) advance(n int) {
	x.s = x.s[n:]
	next, skip := apkNext(x.s, x.at)
	if next < x.at && !(next == apkDotted && x.at == apkNumber || next == apkSuffix && x.at == apkSuffixNo) {
		next = apkInvalid
	}
	x.s, x.at = x.s[skip:], next
}

func apkNext(s string, at apkPart) (next apkPart, skip int) {
	switch {
	case s == "":
		return apkEnd, 0
	case s[0] >= 'a' && s[0] <= 'z':
		return apkLetter, 0
	case at == apkSuffix && digit(s[0]):
		return apkSuffixNo, 0
	case s[0] == '.':
		return apkDotted, 1
	case s[0] == '_':
		return apkSuffix, 1
	case strings.HasPrefix(s, "-r"):
		return apkRevision, 2
	}
	return apkInvalid, 0
}
