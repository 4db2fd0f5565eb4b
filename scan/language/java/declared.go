package java

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Declared returns the analyzer of what Gradle and Maven keep beside sources.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "java-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

func wantsLock(f *image.File) bool {
	if f.Kind != image.Regular || f.Size == 0 {
		return false
	}
	switch base := manifest.Base(f.Path); base {
	case "pom.xml", "gradle.lockfile", "buildscript-gradle.lockfile":
		return true
	default:
		return strings.HasSuffix(base, ".lockfile") && strings.HasSuffix(manifest.Dir(f.Path), "gradle/dependency-locks")
	}
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	limit := int64(manifest.Large)
	read := readGradle
	if manifest.Base(f.Path) == "pom.xml" {
		limit, read = manifest.Small, readModel
	}
	b, err := manifest.Bytes(f, limit)
	if err != nil {
		return look.Facts{}, err
	}
	return read(b)
}

// readGradle reads lines like "com.google.guava:guava:31.1-jre=compileClasspath,testCompileClasspath".
func readGradle(b []byte) (look.Facts, error) {
	l := manifest.NewList("maven")
	for line := range bytes.Lines(b) {
		library, uses, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		parts := strings.Split(library, ":")
		if !ok || len(parts) != 3 {
			continue // a comment, or "empty=" with the names of what has no libraries
		}
		l.Add(manifest.Item{Name: parts[0] + ":" + parts[1], Version: parts[2], Dev: onlyTests(uses)})
	}
	return l.Facts(), nil
}

func onlyTests(uses string) bool {
	for _, use := range strings.Split(uses, ",") {
		if !strings.HasPrefix(use, "test") && !strings.Contains(use, "Test") {
			return false
		}
	}
	return true
}

// project is a pom.xml.
type project struct {
	Parent struct {
		GroupID    string `xml:"groupId"`
		ArtifactID string `xml:"artifactId"`
		Version    string `xml:"version"`
	} `xml:"parent"`
	GroupID      string       `xml:"groupId"`
	ArtifactID   string       `xml:"artifactId"`
	Version      string       `xml:"version"`
	Properties   values       `xml:"properties"`
	Managed      []dependency `xml:"dependencyManagement>dependencies>dependency"`
	Dependencies []dependency `xml:"dependencies>dependency"`
}

type dependency struct {
	GroupID    string `xml:"groupId"`
	ArtifactID string `xml:"artifactId"`
	Version    string `xml:"version"`
	Scope      string `xml:"scope"`
	Type       string `xml:"type"`
}

// values are the properties of a model.
type values map[string]string

func (v *values) UnmarshalXML(d *xml.Decoder, _ xml.StartElement) error {
	*v = values{}
	for {
		token, err := d.Token()
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			var text string
			if err := d.DecodeElement(&text, &t); err != nil {
				return err
			}
			(*v)[t.Name.Local] = strings.TrimSpace(text)
		case xml.EndElement:
			return nil
		}
	}
}

func decodeModel(b []byte) (*project, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = false
	// Names and versions are ASCII in every encoding that models are written in.
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	p := &project{}
	if err := d.Decode(p); err != nil {
		return nil, fmt.Errorf("read the project model: %w", err)
	}
	if p.Properties == nil {
		p.Properties = values{}
	}
	return p, nil
}

// parseModel returns the coordinates in a pom.xml, none when it is damaged.
func parseModel(b []byte) coordinates {
	p, err := decodeModel(b)
	if err != nil {
		return coordinates{}
	}
	return p.coordinates()
}

func (p *project) coordinates() coordinates {
	return coordinates{
		group:    p.resolve(first(p.GroupID, p.Parent.GroupID)),
		artifact: p.resolve(p.ArtifactID),
		version:  p.resolve(first(p.Version, p.Parent.Version)),
	}
}

// readModel returns the dependencies that a model names. A version that stands in a parent elsewhere is left empty: it
// is known only when the project is built.
func readModel(b []byte) (look.Facts, error) {
	p, err := decodeModel(b)
	if err != nil {
		return look.Facts{}, err
	}
	managed := map[string]dependency{}
	for _, d := range p.Managed {
		managed[p.resolve(d.GroupID)+":"+p.resolve(d.ArtifactID)] = d
	}
	l := manifest.NewList("maven")
	for _, d := range p.Dependencies {
		name := p.resolve(d.GroupID) + ":" + p.resolve(d.ArtifactID)
		version := p.resolve(first(d.Version, managed[name].Version))
		if strings.ContainsAny(version, "[(,${") {
			version = "" // a range, or a property from elsewhere
		}
		scope := first(d.Scope, managed[name].Scope)
		l.Add(manifest.Item{Name: name, Version: version, Dev: p.resolve(scope) == "test"})
	}
	return l.Facts(), nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text = strings.TrimSpace(text); text != "" {
			return text
		}
	}
	return ""
}

// maxResolved is the longest text that comes out of properties, in bytes: they can double one another.
const maxResolved = 1024

// resolve fills in the properties in a text; those that are not in this model stay.
func (p *project) resolve(text string) string {
	text = strings.TrimSpace(text)
	for range 8 { // properties name other properties; nobody does so more often
		start := strings.Index(text, "${")
		if start < 0 {
			return text
		}
		end := strings.IndexByte(text[start:], '}')
		if end < 0 {
			return text
		}
		value := p.property(text[start+2 : start+end])
		if value == "" || len(text)+len(value) > maxResolved {
			return text
		}
		text = text[:start] + value + text[start+end+1:]
	}
	return text
}

func (p *project) property(name string) string {
	if name = strings.TrimPrefix(name, "pom."); strings.HasPrefix(name, "project.") {
		name = name[len("project."):]
	}
	switch name {
	case "version":
		return first(p.Version, p.Parent.Version)
	case "groupId":
		return first(p.GroupID, p.Parent.GroupID)
	case "artifactId":
		return strings.TrimSpace(p.ArtifactID)
	case "parent.version":
		return strings.TrimSpace(p.Parent.Version)
	case "parent.groupId":
		return strings.TrimSpace(p.Parent.GroupID)
	}
	return p.Properties[name]
}
