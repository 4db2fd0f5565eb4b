// Package document reads YAML that people write, and says of every mistake where it stands and what to do about it.
// Start with [Parse] and [Reader.Fields].
//
// It promises that a document has no anchors (a few bytes of them can stand for gigabytes), that a field which nobody
// reads is refused, and that a mistake inside a text of several lines is placed on its line of the file. It is
// not for what documents are about: rules and policies are their own packages' business.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Error is a mistake in a file.
type Error struct {
	File         string
	Line, Column int // from 1
	Problem      string
	Next         string // what to do about it
}

// Error implements error: FILE:LINE:COLUMN: problem; next step.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s; %s", e.File, e.Line, e.Column, e.Problem, e.Next)
}

// Place is where something stands in a file.
type Place struct {
	File  string
	Node  *yaml.Node
	Lines []string // of the file, to find how far a block is indented
}

// Wrong is a mistake at this place.
func (p Place) Wrong(next, problem string, args ...any) *Error {
	return &Error{File: p.File, Line: max(p.Node.Line, 1), Column: max(p.Node.Column, 1), Problem: fmt.Sprintf(problem, args...), Next: next}
}

// At is the place of another node of the same file.
func (p Place) At(n *yaml.Node) Place { return Place{p.File, n, p.Lines} }

// Items are the places of a list's items.
func (p Place) Items() []Place {
	if p.Node.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]Place, 0, len(p.Node.Content))
	for _, n := range p.Node.Content {
		items = append(items, p.At(n))
	}
	return items
}

// Inside turns a position in the text of a scalar (from 1, from 0) into one in the file. Of a
// folded or escaped text only the start is known.
func (p Place) Inside(line, column int) Place {
	n := *p.Node
	switch {
	case n.Style&yaml.LiteralStyle != 0:
		n.Line += line
		n.Column = column + 1 + p.indent()
	case line == 1 && n.Style&(yaml.FoldedStyle|yaml.DoubleQuotedStyle) == 0:
		n.Column += column
		if n.Style&yaml.SingleQuotedStyle != 0 {
			n.Column++
		}
	}
	return p.At(&n)
}

// indent is how far the block that p begins is indented: as its first line that is not empty.
func (p Place) indent() int {
	for i := p.Node.Line; i < len(p.Lines); i++ {
		if text := strings.TrimLeft(p.Lines[i], " "); strings.TrimSpace(text) != "" {
			return len(p.Lines[i]) - len(text)
		}
	}
	return 0
}

// maxDocuments bounds the documents of one file.
const maxDocuments = 1000

// Parse reads the documents of a file, divided by "---". One with nothing but comments is left out.
func Parse(name string, data []byte) ([]Place, error) {
	lines := strings.Split(string(data), "\n")
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var documents []Place
	for len(documents) <= maxDocuments {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, syntaxError(name, data, err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		root := Place{name, doc.Content[0], lines}
		if alias := findAlias(root.Node); alias != nil {
			return nil, root.At(alias).Wrong("write the value out", "anchors and aliases are not allowed")
		}
		documents = append(documents, root)
	}
	return nil, &Error{File: name, Line: 1, Column: 1, Problem: fmt.Sprintf("more than %d documents", maxDocuments), Next: "split the file"}
}

var syntaxLine = regexp.MustCompile(`line (\d+)`)

func syntaxError(name string, data []byte, err error) *Error {
	e := &Error{File: name, Line: 1, Column: 1, Problem: strings.TrimPrefix(err.Error(), "yaml: "), Next: "correct the YAML; lists and fields must be indented alike"}
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Problem = strings.TrimPrefix(e.Problem, m[0]+": ")
	}
	if strings.Contains(e.Problem, "did not find expected") {
		e.Line = firstWrongLine(data, e.Line)
	}
	return e
}

// firstWrongLine is the line after the longest beginning of the file that is still YAML: for a
// value that goes on wrongly the parser only names the line where the value began.
func firstWrongLine(data []byte, known int) int {
	lines := strings.SplitAfter(string(data), "\n")
	for n := len(lines) - 1; n >= known && len(lines)-n < 300; n-- { // a bound on the work, not on the file
		if yaml.Unmarshal([]byte(strings.Join(lines[:n], "")), &yaml.Node{}) == nil {
			return n + 1
		}
	}
	return known
}

func findAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return n
	}
	for _, c := range n.Content {
		if found := findAlias(c); found != nil {
			return found
		}
	}
	return nil
}

// Reader reads documents and collects what is wrong with them.
type Reader struct{ Problems []error }

// Wrong notes a mistake.
func (r *Reader) Wrong(p Place, next, problem string, args ...any) {
	r.Problems = append(r.Problems, p.Wrong(next, problem, args...))
}

// Fields calls the reader of each field of a mapping, and refuses fields that nobody reads.
func (r *Reader) Fields(p Place, readers map[string]func(Place)) {
	if p.Node.Kind != yaml.MappingNode {
		r.Wrong(p, "write `name: value` lines", "here must be the fields %s", names(readers))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(p.Node.Content); i += 2 {
		key, value := p.At(p.Node.Content[i]), p.At(p.Node.Content[i+1])
		read := readers[key.Node.Value]
		switch {
		case read == nil:
			r.Wrong(key, "use one of "+names(readers), "unknown field %q", key.Node.Value)
		case seen[key.Node.Value]:
			r.Wrong(key, "keep one of them", "field %q appears twice", key.Node.Value)
		default:
			seen[key.Node.Value] = true
			read(value)
		}
	}
}

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), ", ") }

// Decode reads a value into a variable.
func (r *Reader) Decode(p Place, into any) bool {
	err := p.Node.Decode(into)
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && len(wrong.Errors) > 0 {
		r.Wrong(p, "correct the value", "%s", syntaxLine.ReplaceAllString(wrong.Errors[0], "value"))
	} else if err != nil {
		r.Wrong(p, "correct the value", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return err == nil
}

// List calls a reader for each item of a list, of which there may be so many.
func (r *Reader) List(p Place, most int, read func(Place)) {
	if p.Node.Kind != yaml.SequenceNode {
		r.Wrong(p, "write `- …` lines", "here must be a list")
		return
	}
	if len(p.Node.Content) > most {
		r.Wrong(p, "make it shorter", "%d items, the limit is %d", len(p.Node.Content), most)
		return
	}
	for _, item := range p.Items() {
		read(item)
	}
}
