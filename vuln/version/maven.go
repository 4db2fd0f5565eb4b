package version

import "strings"

// compareMaven is the order of Maven's ComparableVersion: lists of numbers and words, where each hyphen and each change
// between digits and letters opens a list inside the list.
func compareMaven(a, b string) int {
	var bufA, bufB [24]mavenItem
	return compareMavenLists(parseMaven(a, bufA[:0]), parseMaven(b, bufB[:0]))
}

// mavenItem is one item; of a list, all that follows is inside.
type mavenItem struct {
	kind mavenKind
	text string
	rank int8 // of a word
}

type mavenKind uint8

const (
	mavenWord mavenKind = iota
	mavenList
	mavenNumber
)

// The known words in rising order; an unknown one is behind all of them, in the order of letters.
const (
	mavenRelease = 5
	mavenOther   = 7
)

var mavenWords = [...]struct {
	word string
	rank int8
}{
	{"alpha", 0},
	{"beta", 1},
	{"milestone", 2},
	{"rc", 3},
	{"cr", 3},
	{"snapshot", 4},
	{"", mavenRelease},
	{"ga", mavenRelease},
	{"final", mavenRelease},
	{"release", mavenRelease},
	{"sp", 6},
}

func (i mavenItem) null() bool {
	switch i.kind {
	case mavenNumber:
		return strings.Trim(i.text, "0") == ""
	case mavenWord:
		return i.rank == mavenRelease
	}
	return false
}

// parseMaven appends the items of v to items.
func parseMaven(v string, items []mavenItem) []mavenItem {
	start, number := 0, false
	opened := true // the current list is empty so far
	add := func(i mavenItem) { items, opened = append(items, i), i.kind == mavenList }
	for i := 0; i < len(v); i++ {
		switch c := v[i]; {
		case c == '.' || c == '-':
			if i == start {
				add(mavenItem{kind: mavenNumber, text: "0"})
			} else {
				add(newMavenItem(v[start:i], number, false))
			}
			start = i + 1
			if c == '-' {
				add(mavenItem{kind: mavenList})
			}
		case digit(c):
			if !number && i > start {
				if !opened {
					add(mavenItem{kind: mavenList})
				}
				add(newMavenItem(v[start:i], false, true))
				add(mavenItem{kind: mavenList})
				start = i
			}
			number = true
		default:
			if number && i > start {
				add(newMavenItem(v[start:i], true, false))
				add(mavenItem{kind: mavenList})
				start = i
			}
			number = false
		}
	}
	if start < len(v) {
		if !number && !opened {
			add(mavenItem{kind: mavenList})
		}
		add(newMavenItem(v[start:], number, false))
	}
	return normalizeMaven(items)
}

func newMavenItem(text string, number, digitFollows bool) mavenItem {
	if number {
		return mavenItem{kind: mavenNumber, text: text}
	}
	if digitFollows && len(text) == 1 {
		switch lower(text[0]) {
		case 'a':
			text = "alpha"
		case 'b':
			text = "beta"
		case 'm':
			text = "milestone"
		}
	}
	for _, w := range mavenWords {
		if compareFold(text, w.word) == 0 {
			return mavenItem{kind: mavenWord, text: w.word, rank: w.rank}
		}
	}
	return mavenItem{kind: mavenWord, text: text, rank: mavenOther}
}

// normalizeMaven takes zeros and words that mean nothing away from the end of each list, and empty lists with them.
func normalizeMaven(items []mavenItem) []mavenItem {
	end := len(items)
	out := len(items)
	trimming := true
	for i := end - 1; i >= 0; i-- {
		item := items[i]
		switch {
		case item.kind == mavenList && out == len(items):
			trimming = true // empty: not kept, and what is before it is an end
		case item.kind == mavenList:
			trimming = true
			out--
			items[out] = item
		case trimming && item.null():
		default:
			trimming = false
			out--
			items[out] = item
		}
	}
	return items[out:]
}

func compareMavenLists(a, b []mavenItem) int {
	for i := range min(len(a), len(b)) {
		if c := a[i].compare(b[i]); c != 0 {
			return c
		}
	}
	if len(a) > len(b) {
		return mavenAgainstNothing(a[len(b):])
	}
	return -mavenAgainstNothing(b[len(a):])
}

// mavenAgainstNothing compares what one version has more with what the other has not.
func mavenAgainstNothing(items []mavenItem) int {
	for _, i := range items {
		switch {
		case i.kind == mavenNumber && !i.null():
			return 1
		case i.kind == mavenWord && i.rank != mavenRelease:
			return sign(int(i.rank), mavenRelease)
		}
	}
	return 0
}

// compare orders kinds too: 1-word < 1-1 < 1.1.
func (i mavenItem) compare(j mavenItem) int {
	switch {
	case i.kind != j.kind:
		return sign(int(i.kind), int(j.kind))
	case i.kind == mavenNumber:
		return compareNumbers(i.text, j.text)
	case i.kind == mavenList:
		return 0 // what is inside follows
	case i.rank != j.rank:
		return sign(int(i.rank), int(j.rank))
	case i.rank == mavenOther:
		return compareFold(i.text, j.text)
	}
	return 0
}
