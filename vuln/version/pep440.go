package version

import "strings"

// python is a version of PEP 440 taken apart. The parts are pieces of the version itself.
type python struct {
	epoch, release         string
	pre                    int8 // 1 alpha, 2 beta, 3 release candidate; 0 none
	preNo, postNo, devNo   string
	post, dev, local, good bool
	localText              string
}

// comparePEP440 is the order of PEP 440. What is no version of it is older than all that are, as it was for pip when it
// still took such versions.
func comparePEP440(a, b string) int {
	x, y := parsePython(a), parsePython(b)
	if !x.good || !y.good {
		if x.good != y.good {
			return sign(truth(x.good), truth(y.good))
		}
		return rpmPart(a, b)
	}
	if c := compareNumbers(x.epoch, y.epoch); c != 0 {
		return c
	}
	if c := compareDotted(x.release, y.release); c != 0 {
		return c
	}
	return x.compareTail(y)
}

func (x python) compareTail(y python) int {
	if c := sign(x.preRank(), y.preRank()); c != 0 {
		return c
	}
	if c := compareNumbers(x.preNo, y.preNo); c != 0 {
		return c
	}
	if c := compareOptional(x.post, y.post, x.postNo, y.postNo); c != 0 {
		return c
	}
	if c := compareOptional(!x.dev, !y.dev, x.devNo, y.devNo); c != 0 {
		return c
	}
	if x.local != y.local {
		return sign(truth(x.local), truth(y.local))
	}
	return compareLocal(x.localText, y.localText)
}

// preRank puts 1.0.dev1 before 1.0a1, and 1.0 behind 1.0rc1.
func (x python) preRank() int {
	switch {
	case x.pre != 0:
		return int(x.pre)
	case x.dev && !x.post:
		return 0
	}
	return 4
}

// compareOptional compares a part that is later when it is there, and by its number when both have it.
func compareOptional(a, b bool, numberA, numberB string) int {
	if a != b {
		return sign(truth(a), truth(b))
	}
	return compareNumbers(numberA, numberB)
}

// compareLocal compares what follows the plus: numbers are newer than words, and a longer one than its beginning.
func compareLocal(a, b string) int {
	for a != "" && b != "" {
		x, y := a[:localRun(a)], b[:localRun(b)]
		an, bn := digits(x) == len(x), digits(y) == len(y)
		c := 0
		switch {
		case an && bn:
			c = compareNumbers(x, y)
		case an != bn:
			c = sign(truth(an), truth(bn))
		default:
			c = compareFold(x, y)
		}
		if c != 0 {
			return c
		}
		a, b = skipOne(a[len(x):]), skipOne(b[len(y):])
	}
	return sign(truth(a != ""), truth(b != ""))
}

func localRun(s string) int {
	if n := strings.IndexAny(s, ".-_"); n >= 0 {
		return n
	}
	return len(s)
}

func skipOne(s string) string { return rest(s) }

func parsePython(v string) (p python) {
	r := strings.TrimSpace(v)
	if r != "" && lower(r[0]) == 'v' {
		r = r[1:]
	}
	if n := digits(r); n > 0 && n < len(r) && r[n] == '!' {
		p.epoch, r = r[:n], r[n+1:]
	}
	n := releaseRun(r)
	if n == 0 {
		return p
	}
	p.release, r = r[:n], r[n:]
	r = p.takePre(r)
	r = p.takePost(r)
	r = p.takeDev(r)
	if r != "" && r[0] == '+' {
		p.local, p.localText, r = true, r[1:], ""
	}
	p.good = r == ""
	return p
}

// releaseRun is the length of 1.2.3 at the start of s.
func releaseRun(s string) int {
	n := digits(s)
	for n > 0 && n+1 < len(s) && s[n] == '.' && digit(s[n+1]) {
		n += 1 + digits(s[n+1:])
	}
	return n
}

// pre-releases by every spelling that PEP 440 takes for them; a longer one comes before its beginning.
var pythonPre = [...]struct {
	word string
	rank int8
}{{"alpha", 1}, {"beta", 2}, {"preview", 3}, {"pre", 3}, {"rc", 3}, {"a", 1}, {"b", 2}, {"c", 3}}

func (p *python) takePre(s string) string {
	t := separator(s)
	for _, w := range pythonPre {
		if after, ok := cutFold(t, w.word); ok {
			p.pre = w.rank
			p.preNo, after = takeNumber(after)
			return after
		}
	}
	return s
}

func (p *python) takePost(s string) string {
	if len(s) > 1 && s[0] == '-' && digit(s[1]) {
		n := digits(s[1:])
		p.post, p.postNo = true, s[1:1+n]
		return s[1+n:]
	}
	t := separator(s)
	for _, word := range [...]string{"post", "rev", "r"} {
		if after, ok := cutFold(t, word); ok {
			p.post = true
			p.postNo, after = takeNumber(after)
			return after
		}
	}
	return s
}

func (p *python) takeDev(s string) string {
	after, ok := cutFold(separator(s), "dev")
	if !ok {
		return s
	}
	p.dev = true
	p.devNo, after = takeNumber(after)
	return after
}

func separator(s string) string {
	if s != "" && (s[0] == '.' || s[0] == '-' || s[0] == '_') {
		return s[1:]
	}
	return s
}

func takeNumber(s string) (number, after string) {
	t := separator(s)
	n := digits(t)
	if n == 0 {
		return "", s
	}
	return t[:n], t[n:]
}

func cutFold(s, word string) (after string, ok bool) {
	if len(s) < len(word) || compareFold(s[:len(word)], word) != 0 {
		return s, false
	}
	return s[len(word):], true
}
