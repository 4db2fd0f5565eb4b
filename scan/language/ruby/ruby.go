// Package ruby finds gems: those that are installed, by the specification that RubyGems keeps of each, and those that a
// Gemfile.lock names. Start with [Installed] and [Declared].
//
// It promises to read specifications without running them, though they are Ruby. It is not for gems that a project has
// as folders of its own.
package ruby

import (
	"bytes"
	"context"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Installed returns the analyzer of specifications.
func Installed() []look.Analyzer {
	return []look.Analyzer{{Name: "gem", Version: 1, Kind: look.Packages, Wants: wantsSpecification, Look: lookAtSpecification}}
}

// Declared returns the analyzer of lock files.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "gem-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

// wantsSpecification leaves out the specifications inside gems, from which they were built.
func wantsSpecification(f *image.File) bool {
	if !strings.HasSuffix(f.Path, ".gemspec") || !manifest.Sized(f, manifest.Small) {
		return false
	}
	dir := manifest.Dir(f.Path)
	return manifest.Base(dir) == "specifications" || strings.HasSuffix(dir, "specifications/default")
}

func lookAtSpecification(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	return readSpecification(b)
}

// readSpecification reads the assignments that RubyGems writes one a line: s.name = "rake".freeze.
func readSpecification(b []byte) (look.Facts, error) {
	var item manifest.Item
	for line := range bytes.Lines(b) {
		target, value, ok := strings.Cut(string(bytes.TrimSpace(line)), " = ")
		_, attribute, dotted := strings.Cut(target, ".")
		if !ok || !dotted {
			continue
		}
		texts := literals(value)
		if len(texts) == 0 {
			continue
		}
		switch attribute {
		case "name":
			item.Name = texts[0]
		case "version":
			item.Version = texts[0]
		case "platform":
			item.Qualifiers = platform(texts[0])
		case "license", "licenses":
			item.Licenses = texts
		}
	}
	l := manifest.NewList("gem")
	if item.Version != "" {
		l.Add(item)
	}
	return l.Facts(), nil
}

func platform(name string) map[string]string {
	if name == "" || name == "ruby" {
		return nil
	}
	return map[string]string{"platform": name}
}

// literals returns the quoted strings in an expression.
func literals(expression string) []string {
	var found []string
	for len(found) < 20 {
		start := strings.IndexAny(expression, `"'`)
		if start < 0 {
			return found
		}
		text, rest, ok := strings.Cut(expression[start+1:], expression[start:start+1])
		if !ok {
			return found
		}
		found, expression = append(found, text), rest
	}
	return found
}

// IsLock reports whether a file of this name is a lock file.
func IsLock(base string) bool { return base == "Gemfile.lock" || base == "gems.locked" }

func wantsLock(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && IsLock(manifest.Base(f.Path))
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Small)
	if err != nil {
		return look.Facts{}, err
	}
	return readLock(b)
}

// readLock reads the sections GEM and GIT, in which the gems stand four spaces deep and what they need six.
//
//	GEM
//	  specs:
//	    nokogiri (1.16.0-x86_64-linux)
//	      racc (~> 1.4)
func readLock(b []byte) (look.Facts, error) {
	l := manifest.NewList("gem")
	section := ""
	for line := range bytes.Lines(b) {
		text := string(bytes.TrimRight(line, "\r\n"))
		if text != "" && text[0] != ' ' {
			section = text
		}
		name, version, ok := strings.Cut(strings.TrimPrefix(text, "    "), " (")
		if section != "GEM" && section != "GIT" || !ok || !strings.HasPrefix(text, "    ") || strings.HasPrefix(name, " ") {
			continue
		}
		// A version has no hyphen; what follows one is the platform for which the gem was built.
		version, machine, _ := strings.Cut(strings.TrimSuffix(version, ")"), "-")
		l.Add(manifest.Item{Name: name, Version: version, Qualifiers: platform(machine)})
	}
	return l.Facts(), nil
}
