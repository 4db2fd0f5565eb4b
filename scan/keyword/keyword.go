// Package keyword finds many words in one pass over a text. Start with [New] and [Searcher.Each].
//
// It promises the same cost for every text, whatever is in it, as long as few places look like the start of a word, and
// that the case of ASCII letters does not matter. It is not for patterns: those are tried where a word was found.
package keyword

// Searcher finds words. At each byte it asks a small
// table whether any keyword begins with the three bytes that end there; only then it follows the tree of keywords. The
// question costs the same whatever the text is and needs 4 KB, which stay in a processor's first cache; an automaton of
// the same keywords needs 200 KB and waits for memory at each byte.
type Searcher struct {
	starts  [1 << (3 * codeBits) / 64]uint64 // bit: three codes with which a keyword begins
	class   [256]uint8
	classes int
	next    []uint16  // state*classes + class → state; 0 is none
	found   [][]int32 // state → keywords that end here
}

// codeBits is the size of a byte's code: letters have one each, all else shares six.
const codeBits = 5

// Shortest is the length of the shortest word that can be searched.
const Shortest = 3

// codes gives each byte its code.
var codes = func() (table [256]uint32) {
	for c := range table {
		switch {
		case c >= 'a' && c <= 'z':
			table[c] = uint32(c-'a') + 1
		case c >= 'A' && c <= 'Z':
			table[c] = uint32(c-'A') + 1
		case c >= '0' && c <= '9':
			table[c] = 27
		case c == '_':
			table[c] = 28
		case c == '-':
			table[c] = 29
		case c == '.' || c == ':' || c == '/':
			table[c] = 30
		case c > ' ' && c < 0x7f:
			table[c] = 31
		}
	}
	return table
}()

// New compiles the words, which are lower case, have [Shortest] bytes or more, and together fewer than 65,535.
func New(keywords []string) *Searcher {
	s := &Searcher{classes: 1}
	for _, k := range keywords {
		for i := range len(k) {
			s.addClass(k[i])
		}
		code := codes[k[0]]<<(2*codeBits) | codes[k[1]]<<codeBits | codes[k[2]]
		s.starts[code/64] |= 1 << (code % 64)
	}
	s.grow()
	for n, k := range keywords {
		s.add(n, k)
	}
	return s
}

// addClass gives a byte a column of its own in the tree; all bytes that are in no keyword share the first.
func (s *Searcher) addClass(c byte) {
	if s.class[c] != 0 {
		return
	}
	s.class[c] = uint8(s.classes)
	if c >= 'a' && c <= 'z' {
		s.class[c-'a'+'A'] = uint8(s.classes)
	}
	s.classes++
}

func (s *Searcher) grow() uint16 {
	s.next = append(s.next, make([]uint16, s.classes)...)
	s.found = append(s.found, nil)
	return uint16(len(s.found) - 1)
}

func (s *Searcher) add(n int, keyword string) {
	state := uint16(0)
	for i := range len(keyword) {
		at := int(state)*s.classes + int(s.class[keyword[i]])
		if s.next[at] == 0 {
			s.next[at] = s.grow()
		}
		state = s.next[at]
	}
	s.found[state] = append(s.found[state], int32(n))
}

// Each calls found with the number of each keyword and where it begins, in the order of the places, until found
// returns false.
func (s *Searcher) Each(text []byte, found func(keyword, start int) bool) {
	const mask = 1<<(3*codeBits) - 1
	code := uint32(0)
	for i, c := range text {
		code = (code<<codeBits | codes[c]) & mask
		if s.starts[code/64]&(1<<(code%64)) != 0 && i >= Shortest-1 && !s.from(text, i-Shortest+1, found) {
			return
		}
	}
}

// from follows the tree from one place.
func (s *Searcher) from(text []byte, start int, found func(keyword, start int) bool) bool {
	state := 0
	for _, c := range text[start:] {
		state = int(s.next[state*s.classes+int(s.class[c])])
		if state == 0 {
			return true
		}
		for _, k := range s.found[state] {
			if !found(int(k), start) {
				return false
			}
		}
	}
	return true
}
