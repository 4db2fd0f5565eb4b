// Package osv reads the archives of osv.dev, so that databases for the programs Bulkhead is measured against hold the
// same advisories as its own. Start with [Each].
//
// It promises each record once. It is not part of the product, which reads feeds in package vuln and takes them for
// hostile; this takes them as they are.
package osv

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Record is the part of a record that the other databases have a place for.
type Record struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Upstream  []string `json:"upstream"`
	Related   []string `json:"related"`
	Summary   string   `json:"summary"`
	Details   string   `json:"details"`
	Published string   `json:"published"`
	Withdrawn string   `json:"withdrawn"`
	Severity  []struct {
		Type  string `json:"type"`
		Score string `json:"score"`
	} `json:"severity"`
	References []struct {
		URL string `json:"url"`
	} `json:"references"`
	Affected []Affected `json:"affected"`
}

// Affected is one package of a record.
type Affected struct {
	Package struct {
		Ecosystem string `json:"ecosystem"`
		Name      string `json:"name"`
	} `json:"package"`
	Ranges []struct {
		Type   string  `json:"type"`
		Events []Event `json:"events"`
	} `json:"ranges"`
	Versions []string `json:"versions"`
}

// Event is a bound of a range.
type Event struct {
	Introduced   string `json:"introduced"`
	Fixed        string `json:"fixed"`
	LastAffected string `json:"last_affected"`
}

// CVEs are the CVEs that a record is about; its own name where there is none.
func (r *Record) CVEs() []string {
	var list []string
	for _, name := range slices.Concat([]string{r.ID}, r.Aliases, r.Upstream, r.Related) {
		if strings.HasPrefix(name, "CVE-") && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	if list == nil {
		return []string{r.ID}
	}
	return list
}

// Bound is one affected interval: from Introduced to before Fixed, or up to Last.
type Bound struct{ Introduced, Fixed, Last string }

// Bounds are the intervals of a package's ranges that have versions in them.
func (a *Affected) Bounds() []Bound {
	var list []Bound
	for _, r := range a.Ranges {
		if r.Type == "GIT" {
			continue
		}
		open := false
		for _, e := range r.Events {
			switch {
			case e.Introduced != "":
				list, open = append(list, Bound{Introduced: e.Introduced}), true
			case e.Fixed != "" && open:
				list[len(list)-1].Fixed, open = e.Fixed, false
			case e.LastAffected != "" && open:
				list[len(list)-1].Last, open = e.LastAffected, false
			}
		}
	}
	return list
}

// Each visits the records of all archives DIR/*/all.zip.
func Each(dir string, visit func(*Record) error) error {
	archives, err := filepath.Glob(filepath.Join(dir, "*", "all.zip"))
	if err == nil && len(archives) == 0 {
		err = fmt.Errorf("no */all.zip in %s", dir)
	}
	seen := map[string]bool{}
	for _, name := range archives {
		if err == nil {
			err = archive(name, seen, visit)
		}
	}
	return err
}

func archive(name string, seen map[string]bool, visit func(*Record) error) error {
	z, err := zip.OpenReader(name)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		file, err := f.Open()
		if err != nil {
			return err
		}
		var r Record
		err = json.NewDecoder(file).Decode(&r)
		file.Close()
		if err != nil {
			return fmt.Errorf("%s in %s: %w", f.Name, name, err)
		}
		if seen[r.ID] || r.Withdrawn != "" {
			continue
		}
		seen[r.ID] = true
		if err := visit(&r); err != nil {
			return err
		}
	}
	return nil
}
