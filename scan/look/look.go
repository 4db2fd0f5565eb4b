// Package look says what an analyzer is: something that looks at single files of an image and tells facts about them.
// Start with [Analyzer] and [Facts].
//
// It promises nothing but the words, so that the analyzers' folders and the walk that calls them can both import it.
// It is not the place for an analyzer: those have folders of their own beside this one.
package look

import (
	"context"

	"bulkhead"
	"bulkhead/image"
)

// Analyzer looks at single files. It is plain data: the explicit list of all of them is in package scan.
type Analyzer struct {
	Name    string // unique: "dpkg"
	Version int    // raised when its answers change: kept answers of another version are not used
	Kind    Kind
	// Wants says by path, kind, mode and size alone whether to look at a file. It is called for every file of every
	// layer and must be cheap.
	Wants func(*image.File) bool
	// Look reads one file that is wanted. An error means that this one file could not be understood: it is told in
	// the report's list of what is incomplete and the walk goes on.
	Look func(context.Context, *image.File) (Facts, error)
}

// Kind is what a person selects with --only.
type Kind string

// The kinds of analyzers.
const (
	Packages  Kind = "vuln"
	Malware   Kind = "malware"
	WebShell  Kind = "webshell"
	Secret    Kind = "secret"
	Misconfig Kind = "misconfig"
)

// Facts are what one analyzer tells of one file. Analyzers leave Path and Layer of what they return empty where it is
// the file itself: the walk fills them in.
type Facts struct {
	OS         *bulkhead.OS        `json:"os,omitempty"`
	Packages   []bulkhead.Package  `json:"packages,omitempty"`
	Findings   []bulkhead.Finding  `json:"findings,omitempty"`
	Owned      map[string][]string `json:"owned,omitempty"` // distribution package → paths of its files, as a package database tells
	Incomplete []bulkhead.Omission `json:"incomplete,omitempty"`
}
