package version

import "strings"

// compareRPM compares epoch, version and release; a missing epoch is zero.
func compareRPM(a, b string) int {
	ae, a := epoch(a)
	be, b := epoch(b)
	if c := compareNumbers(ae, be); c != 0 {
		return c
	}
	av, ar := lastCut(a)
	bv, br := lastCut(b)
	if c := rpmPart(av, bv); c != 0 {
		return c
	}
	return rpmPart(ar, br)
}

// rpmPart is rpmvercmp: by turns numbers and letters, whatever stands between them; a tilde is older than the end, a
// caret newer than the end and older than anything else; a number is newer than letters.
func rpmPart(a, b string) int {
	for a != b {
		a, b = rpmTrim(a), rpmTrim(b)
		if at, bt := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); at || bt {
			if at != bt {
				return truth(bt) - truth(at)
			}
			a, b = a[1:], b[1:]
			continue
		}
		if at, bt := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); at || bt {
			if at && bt {
				a, b = a[1:], b[1:]
				continue
			}
			return rpmCaret(a, b, at)
		}
		if a == "" || b == "" {
			return sign(len(a), len(b))
		}
		n, m := rpmRun(a, digit(a[0])), rpmRun(b, digit(a[0]))
		if m == 0 { // of different kinds
			return 2*truth(digit(a[0])) - 1
		}
		c := strings.Compare(a[:n], b[:m])
		if digit(a[0]) {
			c = compareNumbers(a[:n], b[:m])
		}
		if c != 0 {
			return c
		}
		a, b = a[n:], b[m:]
	}
	return 0
}

// rpmCaret decides where one of the two has a caret and the other has not.
func rpmCaret(a, b string, left bool) int {
	switch {
	case a == "":
		return -1
	case b == "":
		return 1
	case left:
		return -1
	}
	return 1
}

func rpmTrim(s string) string {
	for s != "" && !digit(s[0]) && !letter(s[0]) && s[0] != '~' && s[0] != '^' {
		s = s[1:]
	}
	return s
}

func rpmRun(s string, number bool) int {
	if number {
		return digits(s)
	}
	n := 0
	for n < len(s) && letter(s[n]) {
		n++
	}
	return n
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
