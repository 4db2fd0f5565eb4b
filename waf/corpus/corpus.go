// Package corpus is what the request model is trained with and the engine is measured on: payloads of
// public collections, the Core Rule Set's own regression requests, and honest traffic that is generated
// from public texts in many languages. Start with [Load] and [Traffic].
//
// It promises the same corpus for the same files and seed, and that a repository which is held out is
// never read for training. It is not part of any program that runs in production.
package corpus

import (
	"bufio"
	_ "embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Sample is one payload as an attacker would write it into a field.
type Sample struct {
	Source string // the repository
	Class  string
	Held   bool
	Weak   bool // a line of a page that explains attacks: not each is one
	Value  string
}

// Corpus is what the recipe names, read.
type Corpus struct {
	Attacks []Sample
	Benign  []Sample // single values
	Texts   Texts    // of which traffic is generated
	Held    Texts
}

//go:embed sources.tsv
var recipe string

type source struct{ role, part, repo, commit, class, glob string }

func (s source) held() bool { return s.part == "held" }

// Load reads the repositories under dir, each in a directory named owner+name. One that is not there is an error:
// figures of half a corpus mislead.
func Load(dir string) (*Corpus, error) {
	c := &Corpus{}
	for _, line := range strings.Split(recipe, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("sources.tsv: want six columns: %q", line)
		}
		if err := c.read(dir, source{f[0], f[1], f[2], f[3], f[4], f[5]}); err != nil {
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
		c.Attacks = append(c.Attacks, Sample{Source: s.repo, Class: class, Held: s.held(), Weak: s.role == "markdown", Value: v})
	}
	switch s.role {
	case "attack":
		for v := range payloads(text, strings.HasPrefix(s.repo, "client9/")) {
			add(s.class, v)
		}
	case "text":
		for v := range payloads(text, true) {
			c.Benign = append(c.Benign, Sample{Source: s.repo, Class: "values", Held: s.held(), Value: v})
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

func (c *Corpus) readGoTestWAF(s source, file, text string) error {
	var test struct {
		Payload []string `yaml:"payload"`
		Type    string   `yaml:"type"`
	}
	if err := yaml.Unmarshal([]byte(text), &test); err != nil {
		return err
	}
	benign := strings.Contains(file, "false-pos")
	class := strings.ToLower(test.Type)
	for _, v := range test.Payload {
		sample := Sample{Source: s.repo, Class: class, Held: s.held(), Value: v}
		if benign {
			sample.Class = "values"
			c.Benign = append(c.Benign, sample)
		} else {
			c.Attacks = append(c.Attacks, sample)
		}
	}
	return nil
}

// dedupe keeps the first of equal payloads; one that is held out goes when training has it too.
func (c *Corpus) dedupe() {
	seen := map[string]bool{}
	kept := c.Attacks[:0]
	for _, held := range []bool{false, true} {
		for _, a := range append([]Sample{}, c.Attacks...) {
			key := strings.ToLower(strings.Join(strings.Fields(a.Value), " "))
			if a.Held != held || seen[key] {
				continue
			}
			seen[key] = true
			kept = append(kept, a)
		}
		if !held {
			c.Attacks, kept = append([]Sample{}, c.Attacks...), append([]Sample{}, kept...)
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
	into := &c.Texts
	if s.held() {
		into = &c.Held
	}
	var t Texts
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Size() > 512<<10 {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		t.add(path, string(text))
		return nil
	})
	into.merge(&t)
	return err
}

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
	case ".php", ".json", ".po", ".properties":
		t.quoted(text)
	case ".html":
		t.HTML = appendPiece(t.HTML, text)
	default:
		t.code(text)
	}
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
