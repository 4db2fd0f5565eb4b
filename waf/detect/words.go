package detect

import "sync"

// wordSet says whose words are in a text: one bit for each detector and each pattern.
type wordSet [2]uint64

func (w *wordSet) none() bool { return w[0]|w[1] == 0 }

func (w *wordSet) add(n int) { w[n>>6] |= 1 << (n & 63) }

func (w *wordSet) has(n int) bool { return w[n>>6]&(1<<(n&63)) != 0 }

func (w *wordSet) meets(o *wordSet) bool { return w[0]&o[0]|w[1]&o[1] != 0 }

func (w *wordSet) merge(o *wordSet) {
	w[0] |= o[0]
	w[1] |= o[1]
}

// The bits of the detectors with a grammar; a pattern has the bit after them that is its place in the table.
const (
	sqlBit = iota
	htmlBit
	scriptBit
	shellBit
	pathBit
	addressBit
	patternBit
)

// automaton finds all words in one pass over a text (Aho and Corasick, 1975), whatever the case.
type automaton struct {
	symbol  [256]uint8 // byte → column; 0: a byte of no word
	columns int
	next    []uint16 // state × column → state
	found   []wordSet
	ends    []bool // something is found in this state
}

// newAutomaton is told for each bit the words that set it.
func newAutomaton(words [][]string) *automaton {
	a := &automaton{columns: 1}
	for _, list := range words {
		for _, w := range list {
			for i := range len(w) {
				a.column(w[i])
			}
		}
	}
	a.grow()
	for bit, list := range words {
		for _, w := range list {
			a.insert(w, bit)
		}
	}
	a.link()
	return a
}

func (a *automaton) column(c byte) {
	if a.symbol[c] == 0 {
		a.symbol[c] = uint8(a.columns)
		if c >= 'a' && c <= 'z' {
			a.symbol[c-0x20] = uint8(a.columns)
		}
		a.columns++
	}
}

func (a *automaton) grow() uint16 {
	a.next = append(a.next, make([]uint16, a.columns)...)
	a.found = append(a.found, wordSet{})
	a.ends = append(a.ends, false)
	return uint16(len(a.found) - 1)
}

func (a *automaton) insert(word string, bit int) {
	state := uint16(0)
	for i := range len(word) {
		at := int(state)*a.columns + int(a.symbol[word[i]])
		if a.next[at] == 0 {
			grown := a.grow()
			a.next[at] = grown
		}
		state = a.next[at]
	}
	a.found[state].add(bit)
	a.ends[state] = true
}

// link turns the tree into a machine that never looks back.
func (a *automaton) link() {
	fail := make([]uint16, len(a.found))
	var queue []uint16
	for c := range a.columns {
		if s := a.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		a.found[s].merge(&a.found[fail[s]])
		a.ends[s] = a.ends[s] || a.ends[fail[s]]
		for c := range a.columns {
			at := int(s)*a.columns + c
			back := a.next[int(fail[s])*a.columns+c]
			if child := a.next[at]; child != 0 {
				fail[child] = back
				queue = append(queue, child)
			} else {
				a.next[at] = back
			}
		}
	}
}

func (a *automaton) scan(s string) (w wordSet) {
	state := 0
	for i := 0; i < len(s); i++ {
		state = int(a.next[state*a.columns+int(a.symbol[s[i]])])
		if a.ends[state] {
			w.merge(&a.found[state])
		}
	}
	return w
}

// gate is the machine over the words of all detectors.
var gate = sync.OnceValue(func() *automaton { return newAutomaton(gateWords()) })

func gateWords() [][]string {
	all := [][]string{sqlBit: sqlGate, htmlBit: htmlGate, scriptBit: scriptGate, shellBit: shellGate, pathBit: pathGate, addressBit: addressGate}
	for i := range patterns {
		all = append(all, patterns[i].gate)
	}
	return all
}

func scanWords(s string) wordSet { return gate().scan(s) }
