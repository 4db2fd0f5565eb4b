package version

import "strings"

// compareAPK is the order of apk-tools 3: numbers with dots, a letter, suffixes like _rc1 and _p2, a commit, the
// revision -r3. Version 2 differs from it in commits alone, and in zeros in front of numbers that no package has.
func compareAPK(a, b string) int {
	x, y := apkReader{rest: a, kind: apkFirst}, apkReader{rest: b, kind: apkFirst}
	x.number()
	y.number()
	for x.kind == y.kind && x.kind < apkEnd {
		if c := x.compare(&y); c != 0 {
			return c
		}
		x.next()
		y.next()
	}
	switch {
	case x.kind == y.kind:
		return 0
	case x.kind == apkSuffix && x.suffix < apkRelease:
		return -1
	case y.kind == apkSuffix && y.suffix < apkRelease:
		return 1
	}
	return sign(int(y.kind), int(x.kind)) // what comes earlier in a version weighs more
}

// apkKind is the kind of a part, in the order in which they may come.
type apkKind int8

const (
	apkFirst  apkKind = iota // the first number
	apkNumber                // one behind a dot
	apkLetter
	apkSuffix
	apkSuffixNumber
	apkCommit
	apkRevision
	apkEnd
	apkInvalid
)

// apkSuffixes in rising order; those before apkRelease lead to a release, the others follow it.
var apkSuffixes = [...]string{"alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p"}

const apkRelease = 4

// apkReader reads a version part by part.
type apkReader struct {
	rest   string
	kind   apkKind
	text   string // of the part
	suffix int
}

func (x *apkReader) compare(y *apkReader) int {
	switch {
	case x.kind == apkSuffix:
		return sign(x.suffix, y.suffix)
	case x.kind == apkLetter, x.kind == apkCommit, x.kind == apkNumber && (x.text[0] == '0' || y.text[0] == '0'):
		return strings.Compare(x.text, y.text) // with a zero in front a number is a fraction
	}
	return compareNumbers(x.text, y.text)
}

func (x *apkReader) next() {
	if x.rest == "" {
		x.kind = apkEnd
		return
	}
	c := x.rest[0]
	if digit(c) && x.kind == apkSuffix {
		x.kind = apkSuffixNumber
		x.number()
		return
	}
	x.rest = x.rest[1:]
	switch {
	case c == '.' && x.kind <= apkNumber:
		x.kind = apkNumber
		x.number()
	case c >= 'a' && c <= 'z' && x.kind <= apkNumber:
		x.kind, x.text = apkLetter, apkLetters[c-'a':c-'a'+1]
	case c == '_' && x.kind <= apkSuffixNumber:
		x.word()
	case c == '~' && x.kind < apkCommit:
		x.take(apkCommit, run(x.rest, hexadecimal))
	case c == '-' && x.kind < apkRevision && strings.HasPrefix(x.rest, "r"):
		x.rest, x.kind = x.rest[1:], apkRevision
		x.number()
	default:
		x.kind = apkInvalid
	}
}

const apkLetters = "abcdefghijklmnopqrstuvwxyz"

func (x *apkReader) number() { x.take(x.kind, digits(x.rest)) }

func (x *apkReader) take(kind apkKind, n int) {
	x.kind, x.text, x.rest = kind, x.rest[:n], x.rest[n:]
	if n == 0 {
		x.kind = apkInvalid
	}
}

func (x *apkReader) word() {
	x.take(apkSuffix, run(x.rest, func(c byte) bool { return c >= 'a' && c <= 'z' }))
	if x.kind == apkInvalid {
		return
	}
	for i, name := range apkSuffixes {
		if name == x.text {
			x.suffix = i
			return
		}
	}
	x.kind = apkInvalid
}

func hexadecimal(c byte) bool { return digit(c) || c >= 'a' && c <= 'f' }

// run returns how many bytes at the start of s are of a kind.
func run(s string, of func(byte) bool) int {
	n := 0
	for n < len(s) && of(s[n]) {
		n++
	}
	return n
}
