package node

import (
	"bytes"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// readYarn reads a yarn.lock, of version 1 and of the later ones, which are YAML of one fixed shape: a line with all
// ranges that were asked for, and below it fields of which two matter.
//
//	"@babel/core@^7.0.0", "@babel/core@^7.1.0":      "@babel/core@npm:^7.0.0":
//	  version "7.24.0"                                 version: 7.24.0
//	  resolved "https://…"                             resolution: "@babel/core@npm:7.24.0"
//
// Yarn does not say what is only for development; that stands in package.json alone.
func readYarn(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	y := yarn{found: manifest.NewList("npm")}
	for line := range bytes.Lines(b) {
		y.line(string(bytes.TrimRight(line, "\r\n")))
	}
	y.end()
	return y.found.Facts(), nil
}

type yarn struct {
	found                *manifest.List
	asked, version, says string // of the entry that is being read
}

func (y *yarn) line(line string) {
	switch {
	case line == "" || line[0] == '#':
	case line[0] != ' ':
		y.end()
		y.asked = firstRange(line)
	case strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "   "):
		y.field(line[2:])
	}
}

// firstRange is the first of the ranges that an entry answers.
func firstRange(line string) string {
	line = strings.TrimSuffix(line, ":")
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		line, _, _ = strings.Cut(quoted, `"`)
	}
	line, _, _ = strings.Cut(line, ", ")
	return line
}

func (y *yarn) field(text string) {
	key, value, ok := strings.Cut(text, " ")
	if !ok {
		return
	}
	value = strings.Trim(value, `"`)
	switch strings.TrimSuffix(key, ":") {
	case "version":
		y.version = value
	case "resolution":
		y.says = value
	}
}

// end adds the entry that was read.
func (y *yarn) end() {
	name, _ := splitAt(y.asked)
	if y.says != "" {
		name = y.resolution()
	} else if at := strings.Index(y.asked, "@npm:"); at > 0 {
		name, _ = splitAt(y.asked[at+len("@npm:"):]) // installed under another name
	}
	if name != "" && name != "__metadata" && registry(y.version) && !local(y.asked) {
		y.found.Add(manifest.Item{Name: name, Version: y.version})
	}
	y.asked, y.version, y.says = "", "", ""
}

// resolution is the name of what was taken: "typescript@npm:5.0.0", "typescript@patch:typescript@npm%3A5.0.0#…".
func (y *yarn) resolution() string {
	name, from := splitAt(y.says)
	if local("@" + from) {
		return ""
	}
	return name
}

// local reports whether a range names a folder of the project itself.
func local(asked string) bool {
	for _, protocol := range []string{"@workspace:", "@link:", "@portal:", "@file:"} {
		if strings.Contains(asked, protocol) {
			return true
		}
	}
	return false
}
