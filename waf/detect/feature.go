package detect

// Features of a text for the model: hashes of what is in it. Grams are of the text's words and signs, in
// windows, so that an attack within a long text is not outvoted; facts are of the whole.

// Window is a stretch of tokens whose grams are weighed together.
const (
	windowTokens = 48
	windowStep   = 32
	maxWindows   = 64 // of one text: 2,000 words and signs; detectors read all of it
)

// Features is what [Text.Features] fills. It may be used again.
type Features struct {
	Grams []uint32 // of all windows, one after the other
	Ends  []int    // of each window in Grams
	Facts []uint32

	tokens []gramToken
}

type gramToken struct {
	exact uint32 // the word itself
	shape uint32 // the word when SQL, a shell or HTML knows it, else what it is made of
}

// FNV-1a of words, whose constants these are; numbers are joined in one step.
const (
	hashStart = 2166136261
	hashPrime = 16777619
)

func mix(h, x uint32) uint32 {
	h = (h ^ x) * 0x85ebca6b
	return h ^ h>>15
}

func hashOf(s string) uint32 {
	h := uint32(hashStart)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint32(s[i])) * hashPrime
	}
	return h
}

// Features describes t, and what detectors found in it, to the model.
func (t *Text) Features(x *Features, hits []Hit) {
	x.Grams, x.Ends, x.Facts, x.tokens = x.Grams[:0], x.Ends[:0], x.Facts[:0], x.tokens[:0]
	x.read(t.Lower)
	for start, n := 0, 0; n < maxWindows; start, n = start+windowStep, n+1 {
		end := min(len(x.tokens), start+windowTokens)
		x.window(x.tokens[start:end], start == 0, end == len(x.tokens))
		if end == len(x.tokens) {
			break
		}
	}
	t.facts(x, hits)
}

// read takes the text apart into words, numbers, signs and spaces.
func (x *Features) read(s string) {
	limit := windowTokens + windowStep*maxWindows
	for i := 0; i < len(s) && len(x.tokens) < limit; {
		c := classOf[s[i]]
		end := i + 1
		switch {
		case c&(letter|digit) != 0 || s[i] == '_':
			for end < len(s) && (classOf[s[end]]&(letter|digit) != 0 || s[end] == '_') {
				end++
			}
			x.tokens = append(x.tokens, wordToken(s[i:end]))
		case c&high != 0:
			for end < len(s) && classOf[s[end]]&high != 0 {
				end++
			}
			x.tokens = append(x.tokens, gramToken{'u', 'u'})
		case c&space != 0:
			for end < len(s) && classOf[s[end]]&space != 0 {
				end++
			}
			x.tokens = append(x.tokens, gramToken{' ', ' '})
		case c&control != 0:
			x.tokens = append(x.tokens, gramToken{1, 1})
		default:
			x.tokens = append(x.tokens, gramToken{uint32(s[i]), uint32(s[i])})
		}
		i = end
	}
}

func wordToken(w string) gramToken {
	m := maskOf(w)
	switch {
	case m&letter == 0 && len(w) == 1:
		return gramToken{'1', '0'}
	case m&letter == 0:
		return gramToken{'0', '0'}
	case len(w) > 24:
		return gramToken{'L', 'L'}
	case m&digit != 0 && !knownWord(w):
		return gramToken{hashOf(w), 'm'}
	}
	h := hashOf(w)
	if knownWord(w) {
		return gramToken{h, h}
	}
	return gramToken{h, 'w'}
}

func knownWord(w string) bool { return len(w) <= longestKnown && knownWords[w] }

// knownWords are all words of the detectors' tables, so that a word is looked up once.
var knownWords, longestKnown = func() (map[string]bool, int) {
	m, longest := map[string]bool{}, 0
	add := func(w string) {
		m[w] = true
		longest = max(longest, len(w))
	}
	for w := range sqlWordKinds {
		add(w)
	}
	for w, strength := range commandNames {
		if strength >= 35 {
			add(w)
		}
	}
	for _, table := range []map[string]int{sqlFunctions, sqlNames, elements} {
		for w := range table {
			add(w)
		}
	}
	for _, table := range []map[string]bool{events, modelWords} {
		for w := range table {
			add(w)
		}
	}
	return m, longest
}()

// modelWords are words of code that no detector's table has.
var modelWords = map[string]bool{
	"script": true, "alert": true, "prompt": true, "confirm": true, "javascript": true, "document": true, "window": true, "cookie": true, "location": true, "img": true, "src": true, "href": true, "onerror": true,
	"etc": true, "passwd": true, "proc": true, "windows": true, "php": true, "system": true, "http": true, "https": true, "class": true, "config": true, "runtime": true, "bin": true, "dev": true, "tmp": true, "ini": true,
	"jndi": true, "ldap": true, "rmi": true, "dns": true, "entity": true, "doctype": true, "constructor": true, "self": true, "request": true, "java": true, "lang": true, "org": true, "com": true, "localhost": true, "uid": true, "cn": true, "user": true, "password": true,
}

func (x *Features) window(tokens []gramToken, first, last bool) {
	before, before2, before3 := uint32('^'), uint32('^'), uint32('^')
	exact := uint32('^')
	if !first {
		before, before2, before3, exact = '~', '~', '~', '~'
	}
	for _, t := range tokens {
		x.token(t, exact, before, before2, before3)
		before3, before2, before, exact = before2, before, t.shape, t.exact
	}
	if last {
		x.token(gramToken{'$' << 8, '$' << 8}, exact, before, before2, before3)
	}
	x.Ends = append(x.Ends, len(x.Grams))
}

// token adds the grams that end with t: one and two exact words, two to four shapes.
func (x *Features) token(t gramToken, exact, before, before2, before3 uint32) {
	if t.exact != t.shape {
		x.Grams = append(x.Grams, mix(mix(hashStart, 1), t.exact))
	}
	two := mix(mix(mix(hashStart, 3), t.shape), before)
	three := mix(two, before2)
	x.Grams = append(x.Grams, mix(mix(mix(hashStart, 2), t.exact), exact), two, three, mix(three, before3))
}

func (t *Text) facts(x *Features, hits []Hit) {
	add := func(kind, value uint32) { x.Facts = append(x.Facts, mix(mix(mix(hashStart, 7), kind), value)) }
	best := 0
	for _, h := range hits {
		add(hashOf(h.Rule), 0)
		add(hashOf(string(h.Class)), uint32(h.Score/15))
		best = max(best, h.Score)
	}
	add(1, uint32(best/10))
	add(2, uint32(min(len(hits), 5)))
	add(3, logLength(len(t.Raw)))
	letters, spaces := 0, 0
	for i := 0; i < len(t.Raw); i++ {
		switch c := classOf[t.Raw[i]]; {
		case c&(letter|high) != 0:
			letters++
		case c&space != 0:
			spaces++
		}
	}
	n := max(len(t.Raw), 1)
	add(4, uint32(8*letters/n))
	add(5, uint32(16*spaces/n))
	for bit := uint32(0); bit < 30; bit++ {
		if t.mask&(1<<bit) != 0 && t.mask&^(letter|digit|joiner|space) != 0 {
			add(6, bit)
		}
	}
}

func logLength(n int) (l uint32) {
	for ; n > 0; n >>= 1 {
		l++
	}
	return l
}
