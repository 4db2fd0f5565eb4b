package scan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/scan/eol"
	"bulkhead/scan/look"
	"bulkhead/vuln"
)

// Match tells the vulnerabilities of the packages in the report, whoever found them, and puts the report in order. A
// report that was kept is so matched again when the database has changed.
func (s *Scanner) Match(r *bulkhead.Report) error {
	if !s.options.Dev {
		r.Packages = slices.DeleteFunc(r.Packages, func(p bulkhead.Package) bool { return p.Dev })
	}
	if s.wants(look.Packages) {
		if err := s.match(r); err != nil {
			return err
		}
	}
	Tidy(r)
	return nil
}

// NoDatabase is what a report without a vulnerability database leaves out.
const NoDatabase = "there is no vulnerability database: packages were not looked up; make one with `bulkhead db import` or `bulkhead db update`"

func (s *Scanner) match(r *bulkhead.Report) error {
	db := s.options.Database
	r.Incomplete = slices.DeleteFunc(r.Incomplete, ofDatabase) // of an earlier match
	cycles, err := cyclesOf(db, r)
	if err != nil {
		return err
	}
	r.Findings = slices.DeleteFunc(r.Findings, func(f bulkhead.Finding) bool { return f.Kind == bulkhead.FindingEOL })
	r.Findings = append(r.Findings, s.ends(cycles, r)...)
	if db == nil {
		r.Incomplete = append(r.Incomplete, bulkhead.Omission{Message: NoDatabase})
		return nil
	}
	r.Database = s.about(db.Status())
	found, err := db.Match(r.OS, r.Packages, vuln.Options{})
	if err != nil {
		return fmt.Errorf("look up %d packages: %w", len(r.Packages), err)
	}
	r.Vulnerabilities = found
	r.Incomplete = append(r.Incomplete, uncovered(db, r)...)
	return nil
}

// ends tells what gets no fixes any more. What is about the distribution came with its first layer.
func (s *Scanner) ends(cycles eol.Cycles, r *bulkhead.Report) []bulkhead.Finding {
	found := eol.Find(cycles, r.OS, r.Packages, s.now())
	for i := range found {
		if f := &found[i]; f.Layer == "" && len(r.Layers) > 0 {
			f.Layer, f.Base = r.Layers[0].DiffID, r.Layers[0].Base
		}
	}
	return found
}

// cyclesOf are the release cycles that the database knows of what is in the report.
func cyclesOf(db *vuln.DB, r *bulkhead.Report) (eol.Cycles, error) {
	cycles := eol.Cycles{}
	if db == nil {
		return cycles, nil
	}
	for _, product := range eol.Products(r.OS, r.Packages) {
		known, err := db.Cycles(product)
		if err != nil {
			return nil, fmt.Errorf("look up the end of life of %s: %w", product, err)
		}
		for _, c := range known {
			cycles[product] = append(cycles[product], eol.Cycle{Name: c.Name, Codename: c.Codename, End: day(c.EOL), Ended: c.Ended, Extended: day(c.Extended)})
		}
	}
	return cycles, nil
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}

func (s *Scanner) about(status vuln.Status) *bulkhead.DatabaseInfo {
	return &bulkhead.DatabaseInfo{Built: status.Built.UTC().Format(time.RFC3339), Records: status.Records, Stale: status.Stale(s.now(), 0)}
}

func (s *Scanner) now() time.Time {
	if s.options.Now.IsZero() {
		return time.Now()
	}
	return s.options.Now
}

const noAdvisories = "the vulnerability database has no advisories for "

func ofDatabase(o bulkhead.Omission) bool {
	return o.Message == NoDatabase || strings.HasPrefix(o.Message, noAdvisories)
}

// uncovered says that nobody can tell anything of a distribution's packages.
func uncovered(db *vuln.DB, r *bulkhead.Report) []bulkhead.Omission {
	n := 0
	for _, p := range r.Packages {
		if isDistribution(p.Type) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	if _, ok := db.Covers(r.OS); ok {
		return nil
	}
	name := cmp.Or(r.OS.Name, r.OS.ID+" "+cmp.Or(r.OS.Version, r.OS.Codename))
	if r.OS.ID == "" {
		name = "an unknown distribution"
	}
	return []bulkhead.Omission{{Message: fmt.Sprintf("%s%s: its %d packages were not judged", noAdvisories, name, n)}}
}
