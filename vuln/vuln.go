// Package vuln knows which versions of which packages are vulnerable: it builds the database from public feeds, matches
// packages with it, and reads what people have judged (VEX, ignore files). Start with [Import], [Open] and [DB.Match].
//
// It promises one entry per package and CVE however many advisories tell of it, the version order of each packaging
// system, a database that is one file, whole or refused, and that every feed and document is taken for hostile.
// It is not for finding packages in an image (package scan) nor for showing what was found.
//
// The rules of matching, in the order in which they hold:
//
//   - A package of a distribution is judged by its distribution's advisories, by the name and version that the feed
//     uses: the source package for deb and apk, the binary package for rpm. A package of a language whose files belong
//     to a distribution package is left to that one.
//   - A version is affected when any record says so. One thing overrules: where an advisory of a release names a fix,
//     an entry of the same CVE, package and release that is merely open does not count, for the tracker has been
//     overtaken (docs/decisions/vuln-matching.md).
//   - Records of one CVE are one vulnerability. Records without a CVE are joined by their other names.
package vuln

import (
	"fmt"
	"time"
)

// Schema is the version of the database's format. A file with another one has to be imported again.
const Schema = 1

// MaxAge is how old data may be before [Status.Stale] says so. Advisories appear daily.
const MaxAge = 7 * 24 * time.Hour

// Status tells what is in a database.
type Status struct {
	Path       string      `json:"path"`
	Size       int64       `json:"size"` // bytes
	Schema     int         `json:"schema"`
	Built      time.Time   `json:"built"`
	Data       time.Time   `json:"data"`     // the newest change in any feed
	Records    int         `json:"records"`  // advisories that can match
	Packages   int         `json:"packages"` // names per ecosystem and release
	KEV        int         `json:"kev"`
	EPSS       int         `json:"epss"`
	Products   int         `json:"products"` // of endoflife.date
	Sources    []Source    `json:"sources"`
	Ecosystems []Ecosystem `json:"ecosystems"`
	Left       Left        `json:"left"`
}

// Source is one file that was imported.
type Source struct {
	Name    string    `json:"name"` // "osv/Debian/all.zip"
	Kind    Kind      `json:"kind"`
	Records int       `json:"records"`
	Date    time.Time `json:"date,omitzero"` // of its newest record
	SHA256  string    `json:"sha256"`
}

// Kind is the format of a source.
type Kind string

// The kinds of sources.
const (
	OSV       Kind = "osv"
	KEV       Kind = "kev"
	EPSS      Kind = "epss"
	EndOfLife Kind = "endoflife"
)

// Ecosystem is one ecosystem and release for which there are advisories.
type Ecosystem struct {
	Name     string `json:"name"` // "Debian:12"
	Packages int    `json:"packages"`
}

// Left counts what an import left out, and why.
type Left struct {
	Withdrawn  int      `json:"withdrawn"`
	Twice      int      `json:"twice"`      // the same record in several archives
	NoSecurity int      `json:"noSecurity"` // bug fixes and enhancements without a CVE
	NoVersions int      `json:"noVersions"` // nothing that a version could be compared with
	Bad        int      `json:"bad"`        // not understood
	Problems   []string `json:"problems"`   // the first of the bad ones
}

// Stale reports whether the newest data is older than max; zero: [MaxAge].
func (s Status) Stale(now time.Time, max time.Duration) bool {
	if max == 0 {
		max = MaxAge
	}
	return now.Sub(s.Data) > max
}

// Age says in words how old the data is: "3 hours", "101 days".
func (s Status) Age(now time.Time) string {
	age := now.Sub(s.Data)
	if age < 48*time.Hour {
		return fmt.Sprintf("%d hours", max(0, int(age.Hours())))
	}
	return fmt.Sprintf("%d days", int(age.Hours()/24))
}
