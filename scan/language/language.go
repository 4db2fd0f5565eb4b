// Package language lists the analyzers of languages and of their package managers. Start with [Installed] and
// [Declared].
//
// It promises that each fact is told once: what is installed wins over a lock file beside it, see [Settle]. It is not
// the place for an analyzer: each language has a folder below this one.
package language

import (
	"slices"

	"bulkhead/scan/language/dotnet"
	"bulkhead/scan/language/golang"
	"bulkhead/scan/language/java"
	"bulkhead/scan/language/linked"
	"bulkhead/scan/language/locks"
	"bulkhead/scan/language/node"
	"bulkhead/scan/language/php"
	"bulkhead/scan/language/python"
	"bulkhead/scan/language/ruby"
	"bulkhead/scan/language/rust"
	"bulkhead/scan/look"
)

// Installed returns the analyzers of what is there to be run. They are for images and for the root of a host.
func Installed() []look.Analyzer {
	return slices.Concat(
		linked.Analyzers(),
		node.Installed(),
		python.Installed(),
		java.Installed(),
		ruby.Installed(),
		php.Installed(),
		dotnet.Installed(),
	)
}

// Declared returns the analyzers of what sources ask for: lock files and the like. They are for directories and
// repositories only. In images such files mostly are left behind from a build: what they name was not installed, or is
// found where it was.
func Declared() []look.Analyzer {
	return slices.Concat(
		golang.Declared(),
		node.Declared(),
		python.Declared(),
		java.Declared(),
		ruby.Declared(),
		php.Declared(),
		rust.Declared(),
		dotnet.Declared(),
		locks.Declared(),
	)
}

// Analyzers returns all of them, as a directory is scanned. The packages that they find go through [Settle].
func Analyzers() []look.Analyzer { return slices.Concat(Installed(), Declared()) }
