// Package corpus is what the request model is trained with and the engine is measured on: payloads of
// public collections, the Core Rule Set's own regression requests, and honest traffic that is generated
// from public texts in many languages. Start with [Load] and [Traffic].
//
// It promises the same corpus for the same files and seed, and that a repository which is held out is
// never read for training. It is not part of any program that runs in production.
package corpus

import (
	"bufio"
	"bytes"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Sample is one payload as an attacker would write it into a field.
type Sample struct {
	Source string // the repository
	Class  string
	Part   Part
	Weak   bool // a line of a page that explains attacks: not each is one
	Value  string
	Raw    []byte // of a source that says itself how it is sent; nil: as one of the [Ways]
}

// Part is what a repository is for.
type Part string

// The parts.
const (
	Train Part = "train"
	Tune  Part = "tune" // not trained with, but its wrong verdicts were looked at
	Held  Part = "held" // neither trained with nor looked at
)

// Corpus is what the recipe names, read.
type Corpus struct {
	Attacks []Sample
	Benign  []Sample        // single values
	Texts   map[Part]*Texts // of which traffic is generated
}

//go:embed sources.tsv
var recipe string

type source struct {
	role                      string
	part                      Part
	repo, commit, class, glob string
}

// Load reads the repositories under dir, each in a directory named owner+name. One that is not there is an error:
// figures of half a corpus mislead.
func Load(dir string) (*Corpus, error) {
	c := &Corpus{Texts: map[Part]*Texts{Train: {}, Tune: {}, Held: {}}}
	for _, line := range strings.Split(recipe, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("sources.tsv: want six columns: %q", line)
		}
		if err := c.read(dir, source{f[0], Part(f[1]), f[2], f[3], f[4], f[5]}); err != nil {
			return nil, fmt.Errorf("reading %s: %w (clone it at commit %s into %s)", f[2], err, f[3], dir)
		}
	}
	c.dedupe()
	return c, nil
}

func (c *Corpus) read(dir string, s source) error {
	root := filepath.Join(dir, strings.ReplaceAll(s.repo, "/", "+"))
	if _, err := os.Stat(root); err != nil {
		return err
	}
	if s.role == "text" && s.glob == "**" {
		return c.readTexts(root, s)
	}
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(s.glob)))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no files match %s", s.glob)
	}
	for _, file := range files {
		if noPayloads(file) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := c.readFile(s, file, string(text)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// noPayloads are files among the lists that name events, addresses or tools, which are no attacks by themselves.
func noPayloads(file string) bool {
	return strings.HasSuffix(file, "event_handlers.txt") || strings.HasSuffix(file, "jsonp_endpoint.txt") || strings.HasSuffix(file, ".py") || strings.HasSuffix(file, "xss_swf_fuzz.txt")
}

func (c *Corpus) readFile(s source, file, text string) error {
	add := func(class, v string) {
		c.Attacks = append(c.Attacks, Sample{Source: s.repo, Class: class, Part: s.part, Weak: s.role == "markdown", Value: v})
	}
	switch s.role {
	case "attack":
		for v := range payloads(text, strings.HasPrefix(s.repo, "client9/")) {
			if !dictionaryEntry(v) {
				add(s.class, v)
			}
		}
	case "text":
		for v := range payloads(text, true) {
			c.Benign = append(c.Benign, Sample{Source: s.repo, Class: "values", Part: s.part, Value: v})
		}
	case "markdown":
		for v := range codeLines(text) {
			add(s.class, v)
		}
	case "gotestwaf":
		return c.readGoTestWAF(s, file, text)
	}
	return nil
}

// dictionaryEntry says whether a line of a list is one word or number (select, whoami, null, -1, 21 %, data.php): the
// lists have them to be joined to others, and honest clients send them all day. It is asked of the line alone,
// never of what the engine thinks of it.
func dictionaryEntry(s string) bool {
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "#"), "?") // #NAME? is a spreadsheet's
	if number, percent := strings.CutSuffix(s, "%"); percent {
		s = strings.TrimSpace(number)
	}
	for _, c := range []byte(s) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_.-+", c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// payloads are the lines of a list. Those of libinjection are percent-encoded and have comments.
func payloads(text string, encoded bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		lines := bufio.NewScanner(strings.NewReader(text))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			v := strings.TrimRight(lines.Text(), "\r")
			if encoded && strings.HasPrefix(v, "#") || strings.TrimSpace(v) == "" || len(v) < 2 {
				continue
			}
			if encoded {
				v = unquotePlus(v)
			}
			if !yield(v) {
				return
			}
		}
	}
}

// codeLines are the lines within the fences of a Markdown file.
func codeLines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		inside := false
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.TrimRight(line, "\r")
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inside = !inside
				continue
			}
			if inside && len(strings.TrimSpace(line)) >= 6 && !yield(line) {
				return
			}
		}
	}
}

// dedupe keeps the first of equal payloads; one that is held out goes when an earlier part has it too.
func (c *Corpus) dedupe() {
	seen := map[string]bool{}
	var kept []Sample
	for _, part := range []Part{Train, Tune, Held} {
		for _, a := range c.Attacks {
			key := strings.ToLower(strings.Join(strings.Fields(a.Value), " "))
			if a.Raw != nil {
				key = string(a.Raw)
			}
			if a.Part != part || seen[key] {
				continue
			}
			seen[key] = true
			kept = append(kept, a)
		}
	}
	c.Attacks = kept
}

func unquotePlus(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// Texts are pieces of what people write, by kind.
type Texts struct {
	Paragraphs, Phrases, Code, Markdown, HTML []string
}

const (
	maxPiece  = 4000
	maxPieces = 2500 // of a kind and repository: enough for variety
)

func (c *Corpus) readTexts(root string, s source) error {
	var t Texts
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() { // a link would leave the repository, or name it twice
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 512<<10 {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !isText(text) {
			return err
		}
		t.add(path, string(text))
		return nil
	})
	c.Texts[s.part].merge(&t)
	return err
}

// isText is false for fonts, pictures and programs among the sources.
func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

func (t *Texts) add(path, text string) {
	switch ext := filepath.Ext(path); ext {
	case ".md", ".rst", ".txt", ".adoc":
		t.Markdown = appendPiece(t.Markdown, text)
		for p := range strings.SplitSeq(text, "\n\n") {
			p = strings.TrimSpace(p)
			if len(p) > 40 && len(p) < maxPiece {
				t.Paragraphs = append(t.Paragraphs, p)
			}
		}
	case ".po", ".properties":
		t.quoted(text)
	case ".php", ".json":
		if translations(path) {
			t.quoted(text)
		} else if ext == ".php" {
			t.code(text)
		}
	case ".html":
		t.HTML = appendPiece(t.HTML, text)
	default:
		t.code(text)
	}
}

// translations says whether a file is of sentences that people see: what is quoted in a program is SQL, markup
// and code, which no visitor types into a search, and which must not be learned as if one did.
func translations(path string) bool {
	for dir := range strings.SplitSeq(strings.ToLower(filepath.ToSlash(filepath.Dir(path))), "/") {
		switch dir {
		case "lang", "langs", "language", "languages", "locale", "locales", "i18n", "l10n", "translations", "messages":
			return true
		}
	}
	return false
}

// quoted takes the sentences out of a file of translations.
func (t *Texts) quoted(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		i := strings.LastIndexAny(line, "'\"")
		if i < 2 {
			continue
		}
		start := strings.LastIndexByte(line[:i], line[i])
		if v := line[start+1 : i]; start >= 0 && len(v) > 6 && strings.ContainsAny(v, " ") {
			t.Phrases = append(t.Phrases, strings.ReplaceAll(v, `\'`, "'"))
		}
	}
}

// code takes stretches of a few lines.
func (t *Texts) code(text string) {
	lines := strings.Split(text, "\n")
	for i := 10; i+8 < len(lines) && i < 400; i += 37 {
		piece := strings.TrimSpace(strings.Join(lines[i:i+3+i%6], "\n"))
		if len(piece) > 30 && len(piece) < maxPiece/2 {
			t.Code = append(t.Code, piece)
		}
	}
}

func appendPiece(list []string, s string) []string {
	s = strings.TrimSpace(s)
	if len(s) < 80 {
		return list
	}
	if len(s) > maxPiece {
		s = s[:maxPiece]
		if i := strings.LastIndexByte(s, '\n'); i > 0 {
			s = s[:i]
		}
	}
	return append(list, s)
}

// merge takes an even choice of each kind.
func (t *Texts) merge(o *Texts) {
	t.Paragraphs = append(t.Paragraphs, thin(o.Paragraphs)...)
	t.Phrases = append(t.Phrases, thin(o.Phrases)...)
	t.Code = append(t.Code, thin(o.Code)...)
	t.Markdown = append(t.Markdown, thin(o.Markdown)...)
	t.HTML = append(t.HTML, thin(o.HTML)...)
}

func thin(list []string) []string {
	if len(list) <= maxPieces {
		return list
	}
	var kept []string
	for i := range maxPieces {
		kept = append(kept, list[i*len(list)/maxPieces])
	}
	return kept
}
