package python

import (
	"bytes"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// readRequirements reads the lines of a requirements file that pin a version: "name[extra]==1.2.3 ; marker --hash=…".
// Other files that it names ("-r") are looked at by themselves.
func readRequirements(f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	dev := forDevelopment(f.Path)
	l := manifest.NewList("pypi")
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\\\n"), nil) // a line that goes on
	for line := range bytes.Lines(b) {
		if name, version := pinned(string(line)); version != "" {
			l.Add(manifest.Item{Name: name, Version: version, Dev: dev})
		}
	}
	return l.Facts(), nil
}

// pinned returns the name and the version of a requirement that allows one version only.
func pinned(line string) (name, version string) {
	line, _, _ = strings.Cut(line, "#")
	line, _, _ = strings.Cut(line, ";")
	line, _, _ = strings.Cut(line, " --")
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "-") {
		return "", ""
	}
	name, version, ok := strings.Cut(line, "==")
	if !ok {
		return "", ""
	}
	version = strings.TrimSpace(strings.TrimPrefix(version, "=")) // "===" compares as text
	name, _, _ = strings.Cut(name, "[")
	if strings.ContainsAny(name, "<>!~=@,") || strings.ContainsAny(version, "*,<>!= \t@") {
		return "", ""
	}
	return Name(strings.TrimSpace(name)), version
}

// forDevelopment tells by the usual names: requirements-dev.txt, test-requirements.txt, requirements/docs.txt.
func forDevelopment(path string) bool {
	base := strings.TrimSuffix(manifest.Base(path), ".txt")
	for _, word := range strings.FieldsFunc(base, func(r rune) bool { return r == '-' || r == '_' || r == '.' }) {
		switch word {
		case "dev", "develop", "development", "test", "tests", "testing", "docs", "doc", "lint", "ci":
			return true
		}
	}
	return false
}
