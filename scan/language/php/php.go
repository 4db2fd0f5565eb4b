// Package php finds PHP packages: those that Composer has installed and those that a composer.lock names. Start with
// [Installed] and [Declared].
//
// It promises to tell what is only for development. It is not for code that was copied into a project by hand.
package php

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/look"
)

// Installed returns the analyzer of vendor/composer/installed.json.
func Installed() []look.Analyzer {
	return []look.Analyzer{{Name: "composer", Version: 1, Kind: look.Packages, Wants: wantsInstalled, Look: lookAtInstalled}}
}

// Declared returns the analyzer of composer.lock.
func Declared() []look.Analyzer {
	return []look.Analyzer{{Name: "composer-lock", Version: 1, Kind: look.Packages, Wants: wantsLock, Look: lookAtLock}}
}

func wantsInstalled(f *image.File) bool {
	return strings.HasSuffix(f.Path, "composer/installed.json") && f.Kind == image.Regular && f.Size > 0
}

// IsLock reports whether a file of this name is a lock file.
func IsLock(base string) bool { return base == "composer.lock" }

func wantsLock(f *image.File) bool {
	return f.Kind == image.Regular && f.Size > 0 && IsLock(manifest.Base(f.Path))
}

type entry struct {
	Name, Version string
	Type          string
	License       any // a string or a list of them
}

// lookAtInstalled reads a list of packages, as Composer 1 wrote it, or an object with such a list.
func lookAtInstalled(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := manifest.Bytes(f, manifest.Large)
	if err != nil {
		return look.Facts{}, err
	}
	var list struct {
		Packages []entry
		Dev      []string `json:"dev-package-names"`
	}
	var into any = &list
	if strings.HasPrefix(strings.TrimSpace(string(b[:min(len(b), 64)])), "[") {
		into = &list.Packages
	}
	if err := json.Unmarshal(b, into); err != nil {
		return look.Facts{}, fmt.Errorf("read the installed packages: %w", err)
	}
	dev := map[string]bool{}
	for _, name := range list.Dev {
		dev[name] = true
	}
	l := manifest.NewList("composer")
	for _, e := range list.Packages {
		add(l, e, dev[e.Name])
	}
	return l.Facts(), nil
}

func lookAtLock(_ context.Context, f *image.File) (look.Facts, error) {
	var lock struct {
		Packages []entry
		Dev      []entry `json:"packages-dev"`
	}
	if err := manifest.JSON(f, &lock); err != nil {
		return look.Facts{}, err
	}
	l := manifest.NewList("composer")
	for _, e := range lock.Packages {
		add(l, e, false)
	}
	for _, e := range lock.Dev {
		add(l, e, true)
	}
	return l.Facts(), nil
}

// add adds a package. A meta-package has no code, and only names others.
func add(l *manifest.List, e entry, dev bool) {
	if e.Type == "metapackage" {
		return
	}
	l.Add(manifest.Item{Name: e.Name, Version: e.Version, Dev: dev, Licenses: licenses(e.License)})
}

func licenses(license any) []string {
	switch l := license.(type) {
	case string:
		return []string{l}
	case []any:
		var names []string
		for _, one := range l {
			if name, ok := one.(string); ok {
				names = append(names, name)
			}
		}
		return names
	}
	return nil
}
