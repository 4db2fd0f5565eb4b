//go:build integration

package vuln_test

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// ownFeeds are for where the public ones are not: made at random, the same each time, in the shapes that public ones
// have. Packages of this host are among those of Debian.
func ownFeeds(t *testing.T, beds []bed) string {
	t.Helper()
	root := t.TempDir()
	m := &maker{r: rand.New(rand.NewPCG(3, 4))}
	feeds, done := map[string][]map[string]any{}, map[string]bool{}
	for i := range beds {
		b := &beds[i]
		if done[b.ecosystem] {
			continue
		}
		done[b.ecosystem] = true
		for n := range 60 {
			feeds[b.feed] = append(feeds[b.feed], m.records(b, fmt.Sprintf("made-%d", n), m.version(b.kind))...)
		}
	}
	for n, p := range hostPackages(t) {
		if n%5 == 0 {
			feeds["Debian"] = append(feeds["Debian"], m.records(&beds[0], p.Source.Name, p.Source.Version)...)
		}
	}
	for feed, records := range feeds {
		writeFeed(t, filepath.Join(root, "osv", feed, "all.zip"), records)
	}
	return root
}

func writeFeed(t *testing.T, path string, records []map[string]any) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z := zip.NewWriter(f)
	for _, r := range records {
		w, err := z.Create(r["id"].(string) + ".json")
		if err == nil {
			err = json.NewEncoder(w).Encode(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
}

// maker makes records, each of a CVE of its own.
type maker struct {
	r *rand.Rand
	n int
}

// records are some of one package, about versions around the given one.
func (m *maker) records(b *bed, name, version string) (list []map[string]any) {
	for range 1 + m.r.IntN(4) {
		m.n++
		cve := fmt.Sprintf("CVE-2030-%05d", m.n)
		r := map[string]any{
			"id": m.id(b, cve), "modified": "2030-01-01T00:00:00Z", b.field: []string{cve},
			"affected": []any{map[string]any{"package": map[string]string{"ecosystem": b.ecosystem, "name": name}, "ranges": []any{m.events(b, version)}}},
		}
		if m.r.IntN(10) == 0 {
			r["withdrawn"] = "2030-01-02T00:00:00Z"
		}
		list = append(list, r)
	}
	return list
}

func (m *maker) id(b *bed, cve string) string {
	switch b.feed {
	case "Debian", "Ubuntu", "Alpine":
		return map[string]string{"Debian": "DEBIAN-", "Ubuntu": "UBUNTU-", "Alpine": "ALPINE-"}[b.feed] + cve
	case "Rocky Linux", "Red Hat", "AlmaLinux":
		return fmt.Sprintf("%s-2030:%d", map[string]string{"Rocky Linux": "RLSA", "Red Hat": "RHSA", "AlmaLinux": "ALSA"}[b.feed], m.n)
	case "PyPI":
		return fmt.Sprintf("PYSEC-2030-%d", m.n)
	case "Go":
		return fmt.Sprintf("GO-2030-%04d", m.n)
	case "crates.io":
		return fmt.Sprintf("RUSTSEC-2030-%04d", m.n)
	case "Bitnami":
		return fmt.Sprintf("BIT-made-2030-%05d", m.n)
	}
	return fmt.Sprintf("GHSA-2222-3333-%04d", m.n)
}

// events are one range: all versions, up to one, between two, or again after a while.
func (m *maker) events(b *bed, version string) map[string]any {
	first, second := version, m.version(b.kind)
	if b.compare(first, second) > 0 {
		first, second = second, first
	}
	events := []map[string]string{{"introduced": "0"}}
	switch m.r.IntN(5) {
	case 0:
		events = append(events, map[string]string{"fixed": first})
	case 1:
		events = append(events, map[string]string{"fixed": second})
	case 2:
		events = []map[string]string{{"introduced": first}}
		if b.compare(first, second) < 0 {
			events = append(events, map[string]string{"fixed": second})
		}
	case 3:
		events = append(events, map[string]string{"last_affected": first})
	}
	kind := "ECOSYSTEM"
	if b.kind == "golang" || b.kind == "npm" || b.kind == "cargo" || b.kind == "bitnami" {
		kind = "SEMVER"
	}
	return map[string]any{"type": kind, "events": events}
}

// version is one as packages of the kind have it.
func (m *maker) version(kind string) string {
	v := fmt.Sprintf("%d.%d.%d", 1+m.r.IntN(3), m.r.IntN(12), m.r.IntN(12))
	tail := map[string][]string{
		"deb": {"-1", "-2+deb12u1", "~rc1-1", "+dfsg-3", "-1ubuntu0.2"}, "apk": {"-r0", "-r2", "-r10", "_rc1-r0", "_p1-r1"},
		"rpm": {"-1.el9", "-12.el9_2", "~rc1-1.el9"}, "pypi": {"", "", "rc1", ".post2"},
	}[kind]
	if tail == nil {
		tail = []string{"", "", "-rc.1", "-beta.10"}
	}
	if kind == "deb" && m.r.IntN(5) == 0 {
		v = "1:" + v
	}
	return v + tail[m.r.IntN(len(tail))]
}
