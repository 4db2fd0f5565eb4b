package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// The limits of a Dockerfile. The largest real ones have some 1,000 lines; what is beyond is not written by people.
const (
	maxDockerfile   = 1 << 20
	maxInstructions = 10_000
)

// instruction is one instruction of a Dockerfile.
type instruction struct {
	line    int    // of its first word, from 1
	name    string // "RUN", in capitals
	flags   []string
	text    string   // what comes after the flags, continued lines joined, with here-documents
	words   []string // of text, or the strings of a list in JSON
	isList  bool     // text is a list: ["program", "argument"]
	comment bool     // there is a comment inside
}

// flag returns the value of --name=value.
func (i *instruction) flag(name string) (string, bool) {
	for _, f := range i.flags {
		if value, ok := strings.CutPrefix(f, "--"+name); ok && (value == "" || value[0] == '=') {
			return strings.TrimPrefix(value, "="), true
		}
	}
	return "", false
}

// stage is what one FROM begins.
type stage struct {
	name, base string
	line       int
	list       []instruction // without the FROM
}

// dockerfile is a parsed Dockerfile.
type dockerfile struct {
	all    []instruction
	before []instruction // ARGs ahead of the first FROM
	stages []stage
}

// last is the stage that makes the image.
func (d *dockerfile) last() *stage { return &d.stages[len(d.stages)-1] }

func (d *dockerfile) stage(name string) *stage {
	for i := range d.stages {
		if strings.EqualFold(d.stages[i].name, name) || fmt.Sprint(i) == name {
			return &d.stages[i]
		}
	}
	return nil
}

var (
	escapeDirective = regexp.MustCompile(`(?i)^#\s*escape\s*=\s*(\S)\s*$`)
	directive       = regexp.MustCompile(`(?i)^#\s*[a-z]+\s*=`)
	heredoc         = regexp.MustCompile(`<<-?\s*["']?([A-Za-z_][A-Za-z0-9_.]*)["']?`)
)

// parse reads a Dockerfile as its builder does: continued lines, comments between them, the escape directive, flags,
// lists, here-documents. It does not expand variables.
func parse(content []byte) (*dockerfile, error) {
	if len(content) > maxDockerfile {
		return nil, fmt.Errorf("it has %d bytes, more than the %d that are read of a Dockerfile", len(content), maxDockerfile)
	}
	text := strings.ReplaceAll(strings.TrimPrefix(strings.ToValidUTF8(string(content), "\uFFFD"), "\ufeff"), "\r\n", "\n")
	p := &lineParser{lines: strings.Split(text, "\n"), escape: `\`}
	p.directives()
	d := &dockerfile{}
	for {
		i, ok := p.next()
		if !ok {
			break
		}
		if len(d.all) == maxInstructions {
			return nil, fmt.Errorf("it has more than %d instructions", maxInstructions)
		}
		d.add(i)
	}
	if len(d.stages) == 0 {
		return nil, fmt.Errorf("it has no FROM")
	}
	return d, nil
}

func (d *dockerfile) add(i instruction) {
	d.all = append(d.all, i)
	switch {
	case i.name == "FROM":
		s := stage{line: i.line}
		if len(i.words) > 0 {
			s.base = i.words[0]
		}
		if len(i.words) == 3 && strings.EqualFold(i.words[1], "as") {
			s.name = i.words[2]
		}
		d.stages = append(d.stages, s)
	case len(d.stages) == 0:
		d.before = append(d.before, i)
	default:
		s := d.last()
		s.list = append(s.list, i)
	}
}

// lineParser joins lines to instructions.
type lineParser struct {
	lines  []string
	at     int
	escape string
}

func (p *lineParser) directives() {
	for _, line := range p.lines {
		if m := escapeDirective.FindStringSubmatch(line); m != nil && (m[1] == "`" || m[1] == `\`) {
			p.escape = m[1]
		}
		if !directive.MatchString(line) {
			return
		}
	}
}

func (p *lineParser) next() (instruction, bool) {
	for p.at < len(p.lines) {
		line := strings.TrimSpace(p.lines[p.at])
		if line == "" || line[0] == '#' {
			p.at++
			continue
		}
		first := p.at + 1
		text, comment := p.join()
		return p.instruction(first, text, comment), true
	}
	return instruction{}, false
}

// join takes a line and those that continue it. Comments and empty lines between them belong to nothing.
func (p *lineParser) join() (text string, comment bool) {
	var out strings.Builder
	for p.at < len(p.lines) {
		line := p.lines[p.at]
		p.at++
		trimmed := strings.TrimSpace(line)
		if out.Len() > 0 && (trimmed == "" || trimmed[0] == '#') {
			comment = comment || trimmed != ""
			continue
		}
		line = strings.TrimRight(line, " \t")
		if before, ok := strings.CutSuffix(line, p.escape); ok {
			out.WriteString(before + " ")
			continue
		}
		out.WriteString(line)
		break
	}
	return strings.TrimSpace(out.String()), comment
}

func (p *lineParser) instruction(line int, text string, comment bool) instruction {
	name, rest := cutSpace(text)
	i := instruction{line: line, name: strings.ToUpper(name), comment: comment}
	for strings.HasPrefix(rest, "--") {
		var f string
		f, rest = cutSpace(rest)
		i.flags = append(i.flags, f)
	}
	i.text = rest
	if i.name == "RUN" || i.name == "COPY" || i.name == "ADD" {
		for _, m := range heredoc.FindAllStringSubmatch(rest, 8) {
			i.text += "\n" + p.document(m[1])
		}
	}
	if i.name == "ONBUILD" {
		return p.instruction(line, rest, comment)
	}
	i.words, i.isList = list(rest)
	return i
}

func cutSpace(s string) (first, rest string) {
	n := strings.IndexAny(s, " \t")
	if n < 0 {
		return s, ""
	}
	return s[:n], strings.TrimSpace(s[n:])
}

// document takes the lines of a here-document.
func (p *lineParser) document(end string) string {
	var out strings.Builder
	for p.at < len(p.lines) {
		line := p.lines[p.at]
		p.at++
		if strings.TrimSpace(line) == end {
			break
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// list reads ["a", "b"]; anything else is words.
func list(text string) ([]string, bool) {
	if strings.HasPrefix(text, "[") {
		var words []string
		if json.Unmarshal([]byte(text), &words) == nil {
			return words, true
		}
	}
	return strings.Fields(text), false
}
