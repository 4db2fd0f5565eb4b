package secret

// searcher finds many keywords in one pass (Aho and Corasick, 1975), without regard to the case of ASCII letters. Bytes
// that are in no keyword share one class, so that the table of some 1,500 states stays in a processor's second cache.
type searcher struct {
	class   [256]uint8
	classes int
	next    []uint16  // state*classes + class → state
	found   [][]int32 // state → keywords that end here
	hot     []bool    // state → whether found has any
	lengths []int
}

// newSearcher compiles the keywords, which are lower case. There are at most 65,535 bytes in all of them.
func newSearcher(keywords []string) *searcher {
	s := &searcher{classes: 1}
	for _, k := range keywords {
		for i := range len(k) {
			s.addClass(k[i])
		}
		s.lengths = append(s.lengths, len(k))
	}
	s.trie(keywords)
	s.close()
	return s
}

func (s *searcher) addClass(c byte) {
	if s.class[c] != 0 {
		return
	}
	s.class[c] = uint8(s.classes)
	if c >= 'a' && c <= 'z' {
		s.class[c-'a'+'A'] = uint8(s.classes)
	}
	s.classes++
}

func (s *searcher) grow() uint16 {
	s.next = append(s.next, make([]uint16, s.classes)...)
	s.found = append(s.found, nil)
	return uint16(len(s.found) - 1)
}

func (s *searcher) trie(keywords []string) {
	s.grow()
	for n, k := range keywords {
		state := uint16(0)
		for i := range len(k) {
			at := int(state)*s.classes + int(s.class[k[i]])
			if s.next[at] == 0 {
				s.next[at] = s.grow()
			}
			state = s.next[at]
		}
		s.found[state] = append(s.found[state], int32(n))
	}
}

// close makes an automaton of the trie: where it has no branch, that of the longest suffix is taken.
func (s *searcher) close() {
	fail := make([]uint16, len(s.found))
	var queue []uint16
	for c := range s.classes {
		if to := s.next[c]; to != 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		s.found[state] = append(s.found[state], s.found[fail[state]]...)
		for c := range s.classes {
			at := int(state)*s.classes + c
			suffix := s.next[int(fail[state])*s.classes+c]
			if to := s.next[at]; to != 0 {
				fail[to] = suffix
				queue = append(queue, to)
			} else {
				s.next[at] = suffix
			}
		}
	}
	s.hot = make([]bool, len(s.found))
	for i, f := range s.found {
		s.hot[i] = len(f) > 0
	}
}

// each calls found with the number of each keyword and where it begins, until found returns false.
func (s *searcher) each(text []byte, found func(keyword, start int) bool) {
	state, classes := 0, s.classes
	for i, c := range text {
		state = int(s.next[state*classes+int(s.class[c])])
		if !s.hot[state] {
			continue
		}
		for _, k := range s.found[state] {
			if !found(int(k), i+1-s.lengths[k]) {
				return
			}
		}
	}
}
