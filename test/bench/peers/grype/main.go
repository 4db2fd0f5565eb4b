// Command grype writes a database for Grype from the archives of osv.dev, so that it can be measured with the same
// advisories as Bulkhead and without a network. Start with [main] and [placeOf].
//
// It promises what Grype's own database has for such advisories, written with Grype's own package. It is not part of
// the product: it lives in a module of its own, which also names the version of Grype that is built.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	v6 "github.com/anchore/grype/grype/db/v6"
	"github.com/spf13/afero"

	"bulkhead/test/bench/peers/osv"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: grype OSV-DIR CACHE-DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1], filepath.Join(os.Args[2], fmt.Sprint(v6.ModelVersion))); err != nil {
		fmt.Fprintln(os.Stderr, "write a database for Grype:", err)
		os.Exit(1)
	}
}

func write(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	s, err := v6.NewWriter(v6.Config{DBDirPath: to})
	if err != nil {
		return err
	}
	if err := s.SetDBMetadata(); err != nil {
		return err
	}
	now := time.Now().UTC()
	w := &writer{to: s, provider: &v6.Provider{ID: "osv", Version: "1", Processor: "bench", DateCaptured: &now}}
	if err := osv.Each(from, w.add); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := v6.Hydrater()(to); err != nil {
		return err
	}
	_, err = v6.WriteImportMetadata(afero.NewOsFs(), to, "bench")
	return err
}

// batch is how many are written at a time.
const batch = 2000

type writer struct {
	to       v6.ReadWriter
	provider *v6.Provider
	found    []*v6.VulnerabilityHandle
	affected []*v6.AffectedPackageHandle
}

func (w *writer) add(r *osv.Record) error {
	for _, id := range r.CVEs() {
		w.one(id, r)
	}
	if len(w.found) < batch {
		return nil
	}
	return w.flush()
}

func (w *writer) one(id string, r *osv.Record) {
	v := &v6.VulnerabilityHandle{Name: id, Status: v6.VulnerabilityActive, Provider: w.provider, ProviderID: w.provider.ID, BlobValue: &v6.VulnerabilityBlob{ID: id, Description: r.Details, Aliases: r.Aliases}}
	for _, ref := range r.References {
		v.BlobValue.References = append(v.BlobValue.References, v6.Reference{URL: ref.URL})
	}
	for _, s := range r.Severity {
		if strings.HasPrefix(s.Score, "CVSS:3") {
			v.BlobValue.Severities = append(v.BlobValue.Severities, v6.Severity{Scheme: v6.SeveritySchemeCVSS, Value: v6.CVSSSeverity{Vector: s.Score, Version: s.Score[5:8]}, Rank: 1})
		}
	}
	before := len(w.affected)
	for _, a := range r.Affected {
		os, pkg, kind := placeOf(a)
		if kind == "" {
			continue
		}
		blob := &v6.PackageBlob{CVEs: []string{id}}
		for _, b := range a.Bounds() {
			blob.Ranges = append(blob.Ranges, rangeOf(b, kind))
		}
		w.affected = append(w.affected, &v6.AffectedPackageHandle{Vulnerability: v, OperatingSystem: os, Package: pkg, BlobValue: blob})
	}
	if len(w.affected) > before {
		w.found = append(w.found, v)
	}
}

func rangeOf(b osv.Bound, kind string) v6.Range {
	var parts []string
	if b.Introduced != "" && b.Introduced != "0" {
		parts = append(parts, ">="+b.Introduced)
	}
	fix := &v6.Fix{State: v6.NotFixedStatus}
	switch {
	case b.Fixed != "":
		parts = append(parts, "<"+b.Fixed)
		fix = &v6.Fix{Version: b.Fixed, State: v6.FixedStatus}
	case b.Last != "":
		parts = append(parts, "<="+b.Last)
	}
	return v6.Range{Version: v6.Version{Type: kind, Constraint: strings.Join(parts, ",")}, Fix: fix}
}

// flush writes vulnerabilities first: packages refer to them by number.
func (w *writer) flush() error {
	if err := w.to.AddVulnerabilities(w.found...); err != nil {
		return err
	}
	err := w.to.AddAffectedPackages(w.affected...)
	w.found, w.affected = w.found[:0], w.affected[:0]
	return err
}

// codenames are asked for where an image names one.
var codenames = map[string]string{
	"debian 10": "buster", "debian 11": "bullseye", "debian 12": "bookworm", "debian 13": "trixie",
	"ubuntu 18.04": "bionic", "ubuntu 20.04": "focal", "ubuntu 22.04": "jammy", "ubuntu 23.10": "mantic", "ubuntu 24.04": "noble", "ubuntu 24.10": "oracular",
}

// placeOf says how Grype's database calls a package, its system and the order of its versions.
func placeOf(a osv.Affected) (*v6.OperatingSystem, *v6.Package, string) {
	name, release, _ := strings.Cut(a.Package.Ecosystem, ":")
	system := func(id, kind, versions string) (*v6.OperatingSystem, *v6.Package, string) {
		major, minor, _ := strings.Cut(release, ".")
		return &v6.OperatingSystem{Name: id, ReleaseID: id, MajorVersion: major, MinorVersion: minor, Codename: codenames[id+" "+release]}, &v6.Package{Ecosystem: kind, Name: a.Package.Name}, versions
	}
	switch name {
	case "Debian":
		return system("debian", "deb", "dpkg")
	case "Ubuntu":
		release, _, _ = strings.Cut(strings.TrimPrefix(release, "Pro:"), ":")
		return system("ubuntu", "deb", "dpkg")
	case "Alpine":
		release = strings.TrimPrefix(release, "v")
		return system("alpine", "apk", "apk")
	case "AlmaLinux":
		return system("almalinux", "rpm", "rpm")
	case "Rocky Linux":
		return system("rockylinux", "rpm", "rpm")
	}
	kinds, ok := map[string][2]string{
		"Go": {"go-module", "go"}, "PyPI": {"python", "python"}, "npm": {"npm", "semver"}, "crates.io": {"rust-crate", "semver"},
		"RubyGems": {"gem", "gem"}, "Packagist": {"php-composer", "semver"}, "Maven": {"java-archive", "maven"}, "Bitnami": {"bitnami", "bitnami"},
	}[name]
	if !ok {
		return nil, nil, ""
	}
	return nil, &v6.Package{Ecosystem: kinds[0], Name: a.Package.Name}, kinds[1]
}
