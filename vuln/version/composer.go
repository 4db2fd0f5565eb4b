package version

import "strings"

// compareComposer compares as Composer does: by numbers, then by stability (dev, alpha, beta, RC, stable, patch) and its
// number. A branch ("dev-main") is older than every number.
func compareComposer(a, b string) int {
	x, y := parseComposer(a), parseComposer(b)
	if c := compareDotted(x.numbers, y.numbers); c != 0 {
		return c
	}
	if c := sign(int(x.rank), int(y.rank)); c != 0 {
		return c
	}
	if c := compareListed(x.suffix, y.suffix); c != 0 {
		return c
	}
	return sign(truth(!x.dev), truth(!y.dev))
}

// compareListed compares numbers with dots between them; a longer list is newer than its beginning.
func compareListed(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareNumbers(x, y); c != 0 {
			return c
		}
	}
	return sign(truth(a != ""), truth(b != ""))
}

type composer struct {
	numbers, suffix string
	rank            int8
	dev             bool
}

const composerStable = 5

// The words of stability; a longer one comes before its beginning.
var composerWords = [...]struct {
	word string
	rank int8
}{{"stable", composerStable}, {"alpha", 2}, {"beta", 3}, {"patch", 6}, {"dev", 1}, {"rc", 4}, {"pl", 6}, {"a", 2}, {"b", 3}, {"p", 6}}

func parseComposer(v string) composer {
	v = strings.TrimSpace(v)
	if v != "" && lower(v[0]) == 'v' {
		v = v[1:]
	}
	v, _, _ = strings.Cut(v, "+")
	if strings.HasPrefix(v, "dev-") {
		return composer{rank: 0}
	}
	n := dottedRun(v)
	c := composer{numbers: v[:n], rank: composerStable}
	r := separator(v[n:])
	for _, w := range composerWords {
		if after, ok := cutFold(r, w.word); ok {
			c.rank, r = w.rank, separator(after)
			break
		}
	}
	if c.rank == composerStable && len(r) < len(v)-n {
		if _, ok := cutFold(separator(v[n:]), "stable"); ok {
			return c // and whatever follows does not count
		}
	}
	n = dottedRun(r)
	c.suffix = r[:n]
	if _, ok := cutFold(separator(r[n:]), "dev"); ok {
		c.dev = true
	}
	return c
}

// dottedRun is the length of numbers with dots or hyphens between them: Composer takes both.
func dottedRun(s string) int {
	n := digits(s)
	for n > 0 && n+1 < len(s) && s[n] == '.' && digit(s[n+1]) {
		n += 1 + digits(s[n+1:])
	}
	return n
}
