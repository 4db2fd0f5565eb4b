// Package keyword finds many words in one pass over a text. Start with [New] and [Searcher.Each].
//
// It promises the same cost for every text, whatever is in it, as long as few places look like the start of a word, and
// that the case of ASCII letters does not matter. It is not for patterns: those are tried where a word was found.
package keyword

import "encoding/binary"

// Searcher finds words. At every second byte it asks a small table whether three bytes as these stand at the beginning
// of a word or one behind it; only then it follows the tree of words. The question costs the same whatever the text is
// and needs 32 KB, which stay in a processor's first cache; an automaton of the same words needs 200 KB and waits for
// memory at each byte.
type Searcher struct {
	table   [1 << hashBits]uint32 // by two bytes, a bit for the third
	class   [256]uint8
	classes int
	next    []uint16  // state*classes + class → state; 0 is none
	found   [][]int32 // state → words that end here
}

const hashBits = 13

// Shortest is the length of the shortest word that can be searched.
const Shortest = 3

// lower makes letters small, eight at once; what it makes of other bytes only has to be always the same.
const lower = 0x2020_2020_2020_2020

// place is where the table has the first two bytes of v.
func place(v uint64) uint32 { return uint32(uint16(v)) * 0x9e3779b1 >> (32 - hashBits) }

// New compiles the words, which are lower case, have [Shortest] bytes or more, and together fewer than 65,535.
func New(keywords []string) *Searcher {
	s := &Searcher{classes: 1}
	for _, k := range keywords {
		for i := range len(k) {
			s.addClass(k[i])
		}
		s.mark(k)
	}
	s.grow()
	for n, k := range keywords {
		s.add(n, k)
	}
	return s
}

// mark enters the three bytes that are seen where the word begins at the place that is looked at, or one before it.
func (s *Searcher) mark(k string) {
	var b [8]byte
	copy(b[:], k)
	v := binary.LittleEndian.Uint64(b[:]) | lower
	s.table[place(v)] |= 1 << (v >> 16 & 31)
	if v >>= 8; len(k) > Shortest {
		s.table[place(v)] |= 1 << (v >> 16 & 31)
	} else {
		s.table[place(v)] = 1<<32 - 1 // any third byte
	}
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

// stride is how many bytes one turn of [Searcher.Each] sees, at three places.
const stride = 6

// Each calls found with the number of each keyword and where it begins, in the order of the places, until found
// returns false.
func (s *Searcher) Each(text []byte, found func(keyword, start int) bool) {
	rest := text
	for len(rest) >= 8 {
		v := binary.LittleEndian.Uint64(rest) | lower
		if s.hits(v) || s.hits(v>>16) || s.hits(v>>32) {
			if !s.turn(text, len(text)-len(rest), v, found) {
				return
			}
		}
		rest = rest[stride:]
	}
	for start := len(text) - len(rest) - 1; start+Shortest <= len(text); start++ {
		if !s.from(text, start, found) {
			return
		}
	}
}

// hits asks the table for the first three bytes of v.
func (s *Searcher) hits(v uint64) bool { return s.table[place(v)]&(1<<(v>>16&31)) != 0 }

// turn looks closer at the places of which the table says yes.
func (s *Searcher) turn(text []byte, at int, v uint64, found func(keyword, start int) bool) bool {
	for range stride / 2 {
		if s.hits(v) && !(s.from(text, at-1, found) && s.from(text, at, found)) {
			return false
		}
		at, v = at+2, v>>16
	}
	return true
}

// from follows the tree from one place, and reports whether to go on.
func (s *Searcher) from(text []byte, start int, found func(keyword, start int) bool) bool {
	if start < 0 || s.next[s.class[text[start]]] == 0 {
		return true
	}
	return s.follow(text, start, found)
}

func (s *Searcher) follow(text []byte, start int, found func(keyword, start int) bool) bool {
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
