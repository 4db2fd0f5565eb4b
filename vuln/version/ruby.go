package version

import "strings"

// compareRuby is Gem::Version's order: numbers and words by turns, a word is older than a number, a hyphen begins a
// pre-release, zeros at the end of the numbers do not count.
func compareRuby(a, b string) int {
	x, y := newGem(a), newGem(b)
	for x.more() || y.more() {
		s, t := x.next(), y.next()
		sn, tn := s == "" || digit(s[0]), t == "" || digit(t[0])
		c := 0
		switch {
		case sn && tn:
			c = compareNumbers(s, t)
		case sn != tn:
			return sign(truth(sn), truth(tn))
		default:
			c = strings.Compare(s, t)
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// gem is read part by part: first the numbers, then all that follows the first word.
type gem struct {
	numbers, words string
}

func newGem(v string) gem {
	n := 0
	for n < len(v) && !letter(v[n]) && v[n] != '-' {
		n++
	}
	g := gem{numbers: v[:n], words: v[n:]}
	for len(g.numbers) > 0 && (!digit(last(g.numbers)) || zeroPart(g.numbers) > 0) {
		if z := zeroPart(g.numbers); z > 0 {
			g.numbers = g.numbers[:len(g.numbers)-z]
			continue
		}
		g.numbers = g.numbers[:len(g.numbers)-1]
	}
	return g
}

func last(s string) byte { return s[len(s)-1] }

// zeroPart is the length of a last number that is zero.
func zeroPart(s string) int {
	n := 0
	for n < len(s) && s[len(s)-1-n] == '0' {
		n++
	}
	if n == len(s) || n > 0 && !digit(s[len(s)-1-n]) {
		return n
	}
	return 0
}

func (g *gem) more() bool { return g.numbers != "" || g.words != "" }

// next returns a number or a word, empty for what is missing.
func (g *gem) next() string {
	if g.numbers != "" {
		return cutPart(&g.numbers)
	}
	if g.words != "" && g.words[0] == '-' {
		g.words = g.words[1:]
		return "pre"
	}
	return cutPart(&g.words)
}

func cutPart(s *string) string {
	v := *s
	i := 0
	for i < len(v) && !digit(v[i]) && !letter(v[i]) && v[i] != '-' {
		i++
	}
	j := i
	for j < len(v) && (digit(v[j]) || letter(v[j])) && digit(v[j]) == digit(v[i]) {
		j++
	}
	*s = v[j:]
	return v[i:j]
}
