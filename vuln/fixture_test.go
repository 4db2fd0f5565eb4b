package vuln

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
)

// The feeds of the tests are of our own making: a few records for each rule.

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

var fixture = map[string]map[string]string{
	"osv/Debian/all.zip": {
		"DEBIAN-CVE-2024-0001.json": `{"id":"DEBIAN-CVE-2024-0001","modified":"2026-05-01T00:00:00Z","published":"2024-01-02T00:00:00Z","upstream":["CVE-2024-0001"],
			"details":"curl trips over\n a header.","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
			"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"7.88.1-10+deb12u5"}]}]},
			            {"package":{"ecosystem":"Debian:11","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}],
			"references":[{"type":"ADVISORY","url":"https://tracker.example/CVE-2024-0001"},{"type":"WEB","url":"javascript:alert(1)"}]}`,
		// The tracker has it open; the advisory names a fix.
		"DEBIAN-CVE-2024-0002.json": `{"id":"DEBIAN-CVE-2024-0002","modified":"2023-07-14T00:00:00Z","upstream":["CVE-2024-0002"],
			"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
		"DSA-1-1.json": `{"id":"DSA-1-1","modified":"2026-05-02T00:00:00Z","published":"2024-02-02T00:00:00Z","upstream":["CVE-2024-0001","CVE-2024-0002"],"summary":"curl - security update",
			"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
			"affected":[{"package":{"ecosystem":"Debian:12","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"7.88.1-10+deb12u6"}]}]}]}`,
		"DEBIAN-CVE-2024-0003.json": `{"id":"DEBIAN-CVE-2024-0003","modified":"2026-01-01T00:00:00Z","upstream":["CVE-2024-0003"],
			"affected":[{"package":{"ecosystem":"Debian:12","name":"bash"},"ecosystem_specific":{"urgency":"end-of-life"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`,
	},
	"osv/Ubuntu/all.zip": {
		"UBUNTU-CVE-2024-0001.json": `{"id":"UBUNTU-CVE-2024-0001","modified":"2024-02-16T00:00:00Z","upstream":["CVE-2024-0001"],"severity":[{"type":"Ubuntu","score":"negligible"}],
			"affected":[{"package":{"ecosystem":"Ubuntu:22.04:LTS","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]},
			            {"package":{"ecosystem":"Ubuntu:Pro:22.04:LTS","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"7.81.0-1ubuntu1.1+esm1"}]}]}]}`,
	},
	"osv/Alpine/all.zip": {
		"ALPINE-CVE-2024-0001.json": `{"id":"ALPINE-CVE-2024-0001","modified":"2024-12-31T00:00:00Z","upstream":["CVE-2024-0001"],
			"affected":[{"package":{"ecosystem":"Alpine:v3.20","name":"curl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"8.9.0-r1"}]}]}]}`,
	},
	"osv/AlmaLinux/all.zip": {
		"ALSA-2024:1.json": `{"id":"ALSA-2024:1","modified":"2026-08-01T00:00:00Z","related":["CVE-2024-0010","CVE-2024-0011"],"summary":"Important: nodejs:18 security update",
			"affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"nodejs"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"1:18.20.2-1.module_el9.4.0+100+aa"}]}]}]}`,
		"ALBA-2024:2.json": `{"id":"ALBA-2024:2","modified":"2026-08-01T00:00:00Z","summary":"bash bug fix update",
			"affected":[{"package":{"ecosystem":"AlmaLinux:9","name":"bash"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"5.1.8-9.el9"}]}]}]}`,
	},
	"osv/PyPI/all.zip": {
		"PYSEC-2024-1.json": `{"id":"PYSEC-2024-1","modified":"2027-07-01T00:00:00Z","aliases":["GHSA-aaaa-bbbb-cccc","CVE-2024-0020"],
			"affected":[{"package":{"ecosystem":"PyPI","name":"Flask_Thing"},"ranges":[{"type":"GIT","events":[{"introduced":"0"}]},{"type":"ECOSYSTEM","events":[{"introduced":"2.0"},{"fixed":"2.1"},{"introduced":"0"},{"fixed":"1.5"}]}],"versions":["1.0","1.4","1.7"]}]}`,
		"GHSA-aaaa-bbbb-cccc.json": `{"id":"GHSA-aaaa-bbbb-cccc","modified":"2026-07-01T00:00:00Z","related":["CVE-2024-0099"],"summary":"Thing leaks",
			"affected":[{"package":{"ecosystem":"PyPI","name":"flask-thing"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"last_affected":"1.4"}]}]}]}`,
		"PYSEC-2024-2.json": `{"id":"PYSEC-2024-2","modified":"2026-07-01T00:00:00Z","withdrawn":"2026-07-02T00:00:00Z","aliases":["CVE-2024-0021"],
			"affected":[{"package":{"ecosystem":"PyPI","name":"flask-thing"},"versions":["1.0"]}]}`,
		"bad.json": `{"id":`,
	},
	"osv/Go/all.zip": {
		"GO-2024-1.json": `{"id":"GO-2024-1","modified":"2026-08-20T00:00:00Z","aliases":["CVE-2024-0030","CVE-2024-0031"],"affected":[
			{"package":{"ecosystem":"Go","name":"stdlib"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.21.5"},{"introduced":"1.22.0-0"},{"fixed":"1.22.2"}]}]}]}`,
		"GO-2024-2.json": `{"id":"GO-2024-2","modified":"2026-08-20T00:00:00Z","affected":[
			{"package":{"ecosystem":"Go","name":"example.com/m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`,
	},
	"osv/Bitnami/all.zip": {
		"BIT-nginx-2024-1.json": `{"id":"BIT-nginx-2024-1","modified":"2026-08-01T00:00:00Z","aliases":["CVE-2024-0040"],"database_specific":{"severity":"Medium"},"affected":[
			{"package":{"ecosystem":"Bitnami","name":"nginx"},"severity":[{"type":"CVSS_V4","score":"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N"}],"ranges":[{"type":"SEMVER","events":[{"introduced":"1.20.0"},{"fixed":"1.25.4"}]}]}]}`,
	},
	"osv/npm/all.zip": {
		"GHSA-both.json": `{"id":"GHSA-both","modified":"2026-08-01T00:00:00Z","aliases":["CVE-2024-0050"],"affected":[{"package":{"ecosystem":"npm","name":"@s/p"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}]},
			{"package":{"ecosystem":"RubyGems","name":"p"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}]}]}`,
	},
	"osv/RubyGems/all.zip": {
		"GHSA-both.json": `{"id":"GHSA-both","modified":"2026-08-01T00:00:00Z","aliases":["CVE-2024-0050"],"affected":[{"package":{"ecosystem":"npm","name":"@s/p"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}]},
			{"package":{"ecosystem":"RubyGems","name":"p"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}]}]}`,
	},
}

var plainFixture = map[string]string{
	"kev/known_exploited_vulnerabilities.json": `{"title":"catalog","catalogVersion":"2026.01.27","dateReleased":"2026-01-27T20:51:50Z","vulnerabilities":[{"cveID":"CVE-2024-0001"}]}`,
	"endoflife/endoflife.json": `[{"product":"debian","releases":[{"releaseCycle":"12","eol":"2026-06-10","lts":"2028-06-30","latest":"12.11"},{"releaseCycle":"11","eol":true}]},
		{"product":"python","releases":[{"releaseCycle":"3","eol":false},{"releaseCycle":"3.8","eol":"2024-10-07","latest":"3.8.20"}]}]`,
	"attack/matrix.json": `{"techniques":[]}`,
}

const scores = "#model_version:v2025,score_date:2026-08-16T00:00:00Z\ncve,epss,percentile\nCVE-2024-0001,0.90512,0.99\nCVE-2024-0020,0.00043,0.1\n"

// feeds writes the fixture as a directory laid out like the publishers'.
func feeds(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for name, records := range fixture {
		put(t, filepath.Join(root, name), archive(t, records))
	}
	for name, text := range plainFixture {
		put(t, filepath.Join(root, name), []byte(text))
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(scores)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(root, "epss/epss_scores-2026-08-16.csv.gz"), packed.Bytes())
	return root
}

func archive(t testing.TB, records map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range records {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// build imports the fixture and returns the path of the database.
func build(t testing.TB) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "vuln.db")
	if _, err := Import(t.Context(), dst, []string{feeds(t)}, ImportOptions{Now: func() time.Time { return now }}); err != nil {
		t.Fatal(err)
	}
	return dst
}

func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func deb(name, version, source string) bulkhead.Package {
	return bulkhead.Package{Name: name, Version: version, Type: "deb", PURL: "pkg:deb/debian/" + name + "@" + version, Source: &bulkhead.Source{Name: source, Version: version}}
}
