package version

import "strings"

// compareDebian is dpkg's order: epoch, upstream version, revision (deb-version(7)).
func compareDebian(a, b string) int {
	ae, a := epoch(a)
	be, b := epoch(b)
	if c := compareNumbers(ae, be); c != 0 {
		return c
	}
	au, ar := lastCut(a)
	bu, br := lastCut(b)
	if c := debianPart(au, bu); c != 0 {
		return c
	}
	return debianPart(ar, br)
}

// epoch cuts "2:" off; without one it is zero.
func epoch(v string) (number, rest string) {
	v = strings.TrimSpace(v)
	if n := digits(v); n < len(v) && v[n] == ':' {
		return v[:n], v[n+1:]
	}
	return "", v
}

// lastCut cuts at the last hyphen: what is behind it is the revision.
func lastCut(v string) (before, after string) {
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return v[:i], v[i+1:]
	}
	return v, ""
}

// debianPart compares by turns a run of other characters and a number.
func debianPart(a, b string) int {
	for a != "" || b != "" {
		for a != "" && !digit(a[0]) || b != "" && !digit(b[0]) {
			if c := sign(debianWeight(a), debianWeight(b)); c != 0 {
				return c
			}
			a, b = rest(a), rest(b)
		}
		n, m := digits(a), digits(b)
		if c := compareNumbers(a[:n], b[:m]); c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
	return 0
}

func rest(s string) string {
	if s == "" {
		return s
	}
	return s[1:]
}

// debianWeight orders one character: tilde, the end or a number, letters, everything else.
func debianWeight(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case letter(s[0]):
		return int(s[0])
	}
	return int(s[0]) + 256
}
