package keyword

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func letters(r *rand.Rand, alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// TestEach compares the automaton with the plain way.
func TestEach(t *testing.T) {
	words := []string{"hers", "she", "his", "her", "aab", "aabb", "bhe"}
	s := New(words)
	r := rand.New(rand.NewPCG(11, 12))
	for range 200 {
		text := letters(r, "heSirsabXB", 200)
		var got, want []string
		s.Each([]byte(text), func(k, start int) bool {
			got = append(got, fmt.Sprint(start, words[k]))
			return true
		})
		for _, w := range words {
			for i := range text {
				if strings.HasPrefix(strings.ToLower(text[i:]), w) {
					want = append(want, fmt.Sprint(i, w))
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func FuzzEach(f *testing.F) {
	f.Add("she hers", "her")
	f.Fuzz(func(t *testing.T, text, word string) {
		word = strings.ToLower(word)
		if len(word) < Shortest || len(word) > 1000 || strings.ToUpper(word) == word || strings.ContainsFunc(text+word, func(r rune) bool { return r > 126 }) {
			return
		}
		found := false
		New([]string{word}).Each([]byte(text), func(int, int) bool { found = true; return false })
		if found != strings.Contains(strings.ToLower(text), word) {
			t.Errorf("%q in %q: %v", word, text, found)
		}
	})
}

// BenchmarkEach compares with a search for each word by the standard library.
func BenchmarkEach(b *testing.B) {
	text := []byte(letters(rand.New(rand.NewPCG(1, 2)), "etaoinshrdlu \n.()=", 1<<20))
	var words []string
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		words = append(words, letters(r, "abcdefghijklmnopqrstuvwxyz_", 8))
	}
	b.Run("one by one", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			for _, w := range words {
				strings.Contains(string(text), w)
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		s := New(words)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			s.Each(text, func(int, int) bool { return true })
		}
	})
}
