// Package python finds Python packages: those that are installed, as pip, setuptools and conda write it beside them,
// and those that requirements and lock files name. Start with [Installed] and [Declared].
//
// It promises names as the index compares them (PEP 503). It is not for modules that no installer knows of.
package python

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/language/unzip"
	"bulkhead/scan/look"
)

// Installed returns the analyzers of what is installed.
func Installed() []look.Analyzer {
	return []look.Analyzer{
		{Name: "pypi", Version: 1, Kind: look.Packages, Wants: wantsMetadata, Look: lookAtMetadata},
		{Name: "conda", Version: 1, Kind: look.Packages, Wants: wantsConda, Look: lookAtConda},
	}
}

// maxEgg is the largest zipped egg that is opened, in bytes. Eggs have not been made for years.
const maxEgg = 256 << 20

func wantsMetadata(f *image.File) bool {
	switch base := manifest.Base(f.Path); base {
	case "METADATA":
		return strings.HasSuffix(manifest.Dir(f.Path), ".dist-info") && manifest.Sized(f, manifest.Small)
	case "PKG-INFO":
		return egg(manifest.Dir(f.Path)) && manifest.Sized(f, manifest.Small)
	default:
		return strings.HasSuffix(base, ".egg-info") && manifest.Sized(f, manifest.Small) ||
			strings.HasSuffix(base, ".egg") && manifest.Sized(f, maxEgg)
	}
}

func egg(dir string) bool {
	return strings.HasSuffix(dir, ".egg-info") || strings.HasSuffix(dir, ".egg/EGG-INFO")
}

func lookAtMetadata(_ context.Context, f *image.File) (look.Facts, error) {
	if strings.HasSuffix(f.Path, ".egg") {
		return readEgg(f)
	}
	r, err := f.Reader()
	if err != nil {
		return look.Facts{}, err
	}
	return readMetadata(r)
}

// readEgg reads a zipped egg.
func readEgg(f *image.File) (look.Facts, error) {
	r, err := f.ReaderAt()
	if err != nil {
		return look.Facts{}, err
	}
	z, err := unzip.Open(r, f.Size, func(name []byte) bool { return string(name) == "EGG-INFO/PKG-INFO" })
	if errors.Is(err, unzip.ErrFormat) || err == nil && len(z.Entries) == 0 {
		return look.Facts{}, nil // something else with such a name
	}
	if err != nil {
		return look.Facts{}, fmt.Errorf("open the egg: %w", err)
	}
	info, err := z.Open(z.Entries[0])
	if err != nil {
		return look.Facts{}, fmt.Errorf("open the egg: %w", err)
	}
	return readMetadata(info)
}

// readMetadata reads the head of core metadata, which has the form of a mail; the description after it can be long.
func readMetadata(r io.Reader) (look.Facts, error) {
	var item manifest.Item
	var classified []string
	lines := bufio.NewScanner(io.LimitReader(r, manifest.Small))
	lines.Buffer(nil, 1<<20) // old files have whole licences in one field
	for lines.Scan() && len(bytes.TrimRight(lines.Bytes(), "\r")) > 0 {
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			item.Name = Name(value)
		case "Version":
			item.Version = value
		case "License", "License-Expression":
			if value != "" && value != "UNKNOWN" { // what setuptools wrote for nothing
				item.Licenses = append(item.Licenses, value)
			}
		case "Classifier":
			if _, license, ok := strings.Cut(value, "License :: "); ok {
				classified = append(classified, strings.TrimPrefix(license, "OSI Approved :: "))
			}
		}
	}
	if err := lines.Err(); err != nil {
		return look.Facts{}, fmt.Errorf("read the metadata: %w", err)
	}
	if item.Version == "" {
		return look.Facts{}, nil
	}
	if len(item.Licenses) == 0 {
		item.Licenses = classified
	}
	l := manifest.NewList("pypi")
	l.Add(item)
	return l.Facts(), nil
}

// Name makes a name one of those that are compared: lower-case, runs of "-", "_" and "." as one "-" (PEP 503).
func Name(name string) string {
	var b strings.Builder
	b.Grow(len(name))
	separated := false
	for _, r := range strings.ToLower(name) {
		if r == '-' || r == '_' || r == '.' {
			separated = true
			continue
		}
		if separated {
			b.WriteByte('-')
			separated = false
		}
		b.WriteRune(r)
	}
	if separated {
		b.WriteByte('-')
	}
	return b.String()
}

func wantsConda(f *image.File) bool {
	return strings.HasSuffix(f.Path, ".json") && strings.HasSuffix(manifest.Dir(f.Path), "conda-meta") &&
		manifest.Sized(f, manifest.Large)
}

// lookAtConda reads what conda keeps of a package: mostly a list of its files.
func lookAtConda(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	item := manifest.Item{Qualifiers: map[string]string{}}
	err = manifest.Fields(b, func(key string, value []byte) bool {
		switch key {
		case "name":
			item.Name = manifest.Text(value)
		case "version":
			item.Version = manifest.Text(value)
		case "license":
			item.Licenses = []string{manifest.Text(value)}
		case "build", "subdir":
			item.Qualifiers[key] = manifest.Text(value)
		}
		return true
	})
	if err != nil || item.Version == "" {
		return look.Facts{}, err
	}
	l := manifest.NewList("conda")
	l.Add(item)
	return l.Facts(), nil
}
