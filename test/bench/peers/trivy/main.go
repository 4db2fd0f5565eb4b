// Command trivy writes a database for Trivy from the archives of osv.dev, so that it can be measured with the same
// advisories as Bulkhead and without a network. Start with [main] and [bucketOf].
//
// It promises what Trivy's own database has for such advisories, written with Trivy's own package. It is not part of
// the product: it lives in a module of its own, which also names the version of Trivy that is built.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aquasecurity/trivy-db/pkg/db"
	"github.com/aquasecurity/trivy-db/pkg/metadata"
	"github.com/aquasecurity/trivy-db/pkg/types"
	java "github.com/aquasecurity/trivy-java-db/pkg/db"
	bolt "go.etcd.io/bbolt"
	_ "modernc.org/sqlite" // of the second database

	"bulkhead/test/bench/peers/osv"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: trivy OSV-DIR CACHE-DIR")
		os.Exit(2)
	}
	err := errors.Join(writeJava(filepath.Join(os.Args[2], "java-db")), write(os.Args[1], filepath.Join(os.Args[2], "db")))
	if err != nil {
		fmt.Fprintln(os.Stderr, "write a database for Trivy:", err)
		os.Exit(1)
	}
}

// writeJava writes the second database without which Trivy does not look at Java archives: names by digest. It is empty,
// so that names come from the archives themselves, as Bulkhead's do.
func writeJava(to string) error {
	d, err := java.New(to)
	if err != nil {
		return err
	}
	now := time.Now()
	meta := java.NewMetadata(to)
	return errors.Join(d.Init(), d.Close(), meta.Update(java.Metadata{Version: java.SchemaVersion, UpdatedAt: now, NextUpdate: now.AddDate(1, 0, 0), DownloadedAt: now}))
}

func write(from, to string) error {
	if err := db.Init(to); err != nil {
		return err
	}
	w := &writer{sources: map[string]bool{}, told: map[string]bool{}, advisories: map[[3]string]types.Advisory{}}
	if err := osv.Each(from, func(r *osv.Record) error { w.add(r); return nil }); err != nil {
		return err
	}
	if err := (db.Config{}).BatchUpdate(w.save); err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	now := time.Now()
	return metadata.NewClient(to).Update(metadata.Metadata{Version: db.SchemaVersion, UpdatedAt: now, NextUpdate: now.AddDate(1, 0, 0), DownloadedAt: now})
}

// writer collects what is written in one transaction.
type writer struct {
	sources    map[string]bool
	told       map[string]bool
	details    []detail
	advisories map[[3]string]types.Advisory // bucket, package, vulnerability
}

type detail struct {
	id            string
	vulnerability types.Vulnerability
}

func (w *writer) add(r *osv.Record) {
	for _, a := range r.Affected {
		bucket, language := bucketOf(a.Package.Ecosystem)
		if bucket == "" {
			continue
		}
		w.sources[bucket] = true
		for _, id := range r.CVEs() {
			key := [3]string{bucket, a.Package.Name, id}
			advisory := w.advisories[key]
			for _, b := range a.Bounds() {
				extend(&advisory, b, language)
			}
			w.advisories[key] = advisory
			w.tell(id, r)
		}
	}
}

func extend(a *types.Advisory, b osv.Bound, language bool) {
	if !language {
		if b.Fixed != "" {
			a.FixedVersion = b.Fixed
		} else if a.FixedVersion == "" {
			a.Status = types.StatusAffected
		}
		return
	}
	var parts []string
	if b.Introduced != "" && b.Introduced != "0" {
		parts = append(parts, ">="+b.Introduced)
	}
	switch {
	case b.Fixed != "":
		parts = append(parts, "<"+b.Fixed)
		a.PatchedVersions = append(a.PatchedVersions, b.Fixed)
	case b.Last != "":
		parts = append(parts, "<="+b.Last)
	}
	if parts == nil {
		parts = []string{">=0"}
	}
	a.VulnerableVersions = append(a.VulnerableVersions, strings.Join(parts, ", "))
}

func (w *writer) tell(id string, r *osv.Record) {
	if w.told[id] {
		return
	}
	w.told[id] = true
	v := types.Vulnerability{Title: r.Summary, Description: r.Details}
	for _, ref := range r.References {
		v.References = append(v.References, ref.URL)
	}
	for _, s := range r.Severity {
		if strings.HasPrefix(s.Score, "CVSS:3") {
			v.CVSS = types.VendorCVSS{"nvd": types.CVSS{V3Vector: s.Score}}
		}
	}
	if t, err := time.Parse(time.RFC3339, r.Published); err == nil {
		v.PublishedDate = &t
	}
	w.details = append(w.details, detail{id, v})
}

func (w *writer) save(tx *bolt.Tx) error {
	dbc := db.Config{}
	for bucket := range w.sources {
		if err := dbc.PutDataSource(tx, bucket, types.DataSource{ID: "osv", Name: "OSV", URL: "https://osv.dev"}); err != nil {
			return err
		}
	}
	for _, d := range w.details {
		if err := dbc.PutVulnerability(tx, d.id, d.vulnerability); err != nil {
			return err
		}
		if err := dbc.PutVulnerabilityID(tx, d.id); err != nil {
			return err
		}
	}
	for key, advisory := range w.advisories {
		if err := dbc.PutAdvisory(tx, []string{key[0], key[1]}, key[2], advisory); err != nil {
			return err
		}
	}
	return nil
}

// bucketOf names the place of an ecosystem in Trivy's database, and whether it is a language's.
func bucketOf(ecosystem string) (bucket string, language bool) {
	name, release, _ := strings.Cut(ecosystem, ":")
	switch name {
	case "Debian":
		return "debian " + release, false
	case "Ubuntu":
		release, _, _ = strings.Cut(strings.TrimPrefix(release, "Pro:"), ":")
		return "ubuntu " + release, false
	case "Alpine":
		return "alpine " + strings.TrimPrefix(release, "v"), false
	case "AlmaLinux":
		return "alma " + release, false
	case "Rocky Linux":
		return "rocky " + release, false
	}
	prefix := map[string]string{"Go": "go", "PyPI": "pip", "npm": "npm", "crates.io": "cargo", "RubyGems": "rubygems", "Packagist": "composer", "Maven": "maven", "Bitnami": "bitnami", "Kubernetes": "k8s"}[name]
	if prefix == "" {
		return "", false
	}
	return prefix + "::OSV", true
}
