package secret

import "regexp/syntax"

// Most keywords are short beginnings of tokens, and begin many words besides. What tells a token from a word before any
// pattern is tried is its length: so many characters without a space, a quote or a bracket.

// isToken reports whether tokens have the character.
func isToken(c rune) bool {
	switch c {
	case '_', '-', '.', '+', '/', '=', '~', '%', '$', ':', '@':
		return true
	}
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// tokenRun returns how long the shortest text is that the pattern matches, if it matches tokens only; else 0.
func tokenRun(pattern string) int {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0
	}
	n, ok := shortest(re.Simplify())
	if !ok {
		return 0
	}
	return n
}

// shortest returns the length of the shortest match, and whether every match is made of tokens' characters.
func shortest(re *syntax.Regexp) (n int, ok bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return 0, true
	case syntax.OpLiteral:
		return len(re.Rune), allTokens(re.Rune)
	case syntax.OpCharClass:
		return 1, classIsToken(re.Rune)
	case syntax.OpCapture, syntax.OpPlus:
		return shortest(re.Sub[0])
	case syntax.OpStar, syntax.OpQuest:
		_, ok = shortest(re.Sub[0])
		return 0, ok
	case syntax.OpConcat:
		return sum(re.Sub)
	case syntax.OpAlternate:
		return least(re.Sub)
	}
	return 0, false
}

func sum(list []*syntax.Regexp) (n int, ok bool) {
	for _, sub := range list {
		m, ok := shortest(sub)
		if !ok {
			return 0, false
		}
		n += m
	}
	return n, true
}

func least(list []*syntax.Regexp) (n int, ok bool) {
	for i, sub := range list {
		m, ok := shortest(sub)
		if !ok {
			return 0, false
		}
		if i == 0 || m < n {
			n = m
		}
	}
	return n, true
}

func allTokens(runes []rune) bool {
	for _, r := range runes {
		if !isToken(r) {
			return false
		}
	}
	return true
}

// classIsToken looks at the ranges of a class, which are pairs.
func classIsToken(ranges []rune) bool {
	for i := 0; i < len(ranges); i += 2 {
		if ranges[i+1]-ranges[i] > 127 {
			return false
		}
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if !isToken(r) {
				return false
			}
		}
	}
	return true
}

func hasRun(text []byte, n int) bool {
	if len(text) < n {
		return false
	}
	for _, c := range text[:n] {
		if !isToken(rune(c)) {
			return false
		}
	}
	return true
}
