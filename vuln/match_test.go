package vuln

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

var debian12 = bulkhead.OS{ID: "debian", Version: "12"}

func pkg(kind, name, version string) bulkhead.Package {
	return bulkhead.Package{Type: kind, Name: name, Version: version}
}

var everything = []bulkhead.Package{
	deb("libcurl4", "7.88.1-10+deb12u4", "curl"), deb("bash", "5.2", "bash"), pkg("pypi", "Flask.Thing", "1.0"),
	pkg("golang", "stdlib", "go1.22.1"), pkg("generic", "nginx", "1.22.0"), pkg("npm", "@s/p", "1.0.0"), pkg("gem", "p", "1.0"),
}

// brief writes a vulnerability in one line: package, id, status, fixed version.
func brief(list []bulkhead.Vulnerability) (lines []string) {
	for _, v := range list {
		lines = append(lines, strings.TrimSpace(strings.Join([]string{v.Package, v.ID, v.Status, v.Fixed}, " ")))
	}
	return lines
}

func TestMatch(t *testing.T) {
	db := open(t, build(t))
	owned := pkg("pypi", "flask-thing", "1.0")
	owned.Owner = "python3-flask-thing"
	modular := pkg("rpm", "nodejs", "1:18.1.0-1.module_el9.1.0+1+bb")
	modular.Module = "nodejs:18:9010:abc"
	other := modular
	other.Module = "nodejs:20"
	maven := pkg("npm", "p", "1.9.9")
	maven.PURL = "pkg:npm/%40s/p@1.9.9"
	listed := pkg("deb", "curl", "7.88.1-10+deb12u4")
	listed.PURL = "pkg:deb/debian/curl@7.88.1-10%2Bdeb12u4?arch=amd64&distro=debian-12"
	alma := bulkhead.OS{ID: "almalinux", Version: "9.4"}
	ubuntu := bulkhead.OS{ID: "ubuntu", Version: "22.04"}
	for name, c := range map[string]struct {
		os   bulkhead.OS
		pkg  bulkhead.Package
		want []string
	}{
		"source package, two records of one CVE": {debian12, deb("libcurl4", "7.88.1-10+deb12u4", "curl"), []string{"libcurl4 CVE-2024-0001 fixed 7.88.1-10+deb12u6", "libcurl4 CVE-2024-0002 fixed 7.88.1-10+deb12u6"}},
		"an advisory overtakes an open entry":    {debian12, deb("curl", "7.88.1-10+deb12u6", "curl"), nil},
		"open":                                   {bulkhead.OS{ID: "debian", Version: "11"}, deb("curl", "7.74.0-1", "curl"), []string{"curl CVE-2024-0001 open"}},
		"will not be fixed":                      {debian12, deb("bash", "5.2", "bash"), []string{"bash CVE-2024-0003 wont-fix"}},
		"another release":                        {bulkhead.OS{ID: "debian", Version: "13"}, deb("curl", "1", "curl"), nil},
		"release by code name":                   {bulkhead.OS{ID: "debian", Codename: "bookworm"}, deb("bash", "5.2", "bash"), []string{"bash CVE-2024-0003 wont-fix"}},
		"release by purl":                        {bulkhead.OS{}, listed, []string{"curl CVE-2024-0001 fixed 7.88.1-10+deb12u6", "curl CVE-2024-0002 fixed 7.88.1-10+deb12u6"}},
		"Ubuntu open":                            {ubuntu, deb("curl", "7.81.0-1ubuntu1.1", "curl"), []string{"curl CVE-2024-0001 open"}},
		"Ubuntu Pro has the fix":                 {ubuntu, deb("curl", "7.81.0-1ubuntu1.1+esm1", "curl"), nil},
		"Ubuntu Pro, not yet":                    {ubuntu, deb("curl", "7.81.0-1ubuntu1.0+esm9", "curl"), []string{"curl CVE-2024-0001 fixed 7.81.0-1ubuntu1.1+esm1"}},
		"Alpine":                                 {bulkhead.OS{ID: "alpine", Version: "3.20.1"}, pkg("apk", "curl", "8.9.0-r0"), []string{"curl CVE-2024-0001 fixed 8.9.0-r1"}},
		"Alpine edge":                            {bulkhead.OS{ID: "alpine", Version: "3.22_alpha20250108"}, pkg("apk", "curl", "8.9.0-r0"), nil},
		"module stream":                          {alma, modular, []string{"nodejs CVE-2024-0010 fixed 1:18.20.2-1.module_el9.4.0+100+aa", "nodejs CVE-2024-0011 fixed 1:18.20.2-1.module_el9.4.0+100+aa"}},
		"another stream":                         {alma, other, nil},
		"no module":                              {alma, pkg("rpm", "nodejs", "1:16.1.0-1.el9"), nil},
		"bug fixes are none":                     {alma, pkg("rpm", "bash", "5.1.8-1.el9"), nil},
		"joined by alias":                        {debian12, pkg("pypi", "Flask.Thing", "1.0"), []string{"Flask.Thing CVE-2024-0020 unknown"}},
		"second range":                           {debian12, pkg("pypi", "flask-thing", "2.0.1"), []string{"flask-thing CVE-2024-0020 fixed 2.1"}},
		"enumerated":                             {debian12, pkg("pypi", "flask-thing", "1.7.0"), []string{"flask-thing CVE-2024-0020 unknown"}},
		"between the ranges":                     {debian12, pkg("pypi", "flask-thing", "1.6"), nil},
		"files of a distribution package":        {debian12, owned, nil},
		"two CVEs of one advisory":               {debian12, pkg("golang", "stdlib", "go1.22.1"), []string{"stdlib CVE-2024-0030 fixed 1.22.2", "stdlib CVE-2024-0031 fixed 1.22.2"}},
		"release candidate":                      {debian12, pkg("golang", "stdlib", "go1.22rc1"), []string{"stdlib CVE-2024-0030 fixed 1.22.2", "stdlib CVE-2024-0031 fixed 1.22.2"}},
		"Go, fixed":                              {debian12, pkg("golang", "stdlib", "v1.21.5"), nil},
		"without a CVE":                          {debian12, pkg("golang", "example.com/m", "v0.0.0-2020"), []string{"example.com/m GO-2024-2 open"}},
		"unknown version":                        {debian12, pkg("golang", "example.com/m", "(devel)"), nil},
		"program without a package":              {debian12, pkg("generic", "nginx", "1.25.3"), []string{"nginx CVE-2024-0040 fixed 1.25.4"}},
		"Bitnami's revision":                     {debian12, pkg("bitnami", "nginx", "1.25.4-1"), nil},
		"npm with a scope":                       {debian12, pkg("npm", "@s/p", "1.0.0"), []string{"@s/p CVE-2024-0050 fixed 2.0.0"}},
		"scope in the purl":                      {debian12, maven, []string{"p CVE-2024-0050 fixed 2.0.0"}},
		"unknown type":                           {debian12, pkg("conan", "p", "1"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := db.Match(c.os, []bulkhead.Package{c.pkg}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, brief(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if got, err := db.Match(debian12, []bulkhead.Package{owned}, Options{Owned: true}); err != nil || len(got) != 1 {
		t.Errorf("owned on demand: %v %v", got, err)
	}
}

func TestMatchWhole(t *testing.T) {
	db := open(t, build(t))
	p := deb("libcurl4", "7.88.1-10+deb12u4", "curl")
	p.Layer, p.Path, p.Base = "sha256:aa", "/var/lib/dpkg/status", true
	got, err := db.Match(debian12, []bulkhead.Package{p, deb("curl", "7.88.1-10+deb12u4", "curl")}, Options{})
	if err != nil || len(got) != 4 {
		t.Fatal(got, err)
	}
	want := bulkhead.Vulnerability{
		ID: "CVE-2024-0001", Aliases: []string{"DEBIAN-CVE-2024-0001", "DSA-1-1"}, Package: "libcurl4", Version: "7.88.1-10+deb12u4",
		Fixed: "7.88.1-10+deb12u6", Status: "fixed", Severity: bulkhead.Critical, CVSS: 9.8, Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
		KEV: true, EPSS: 0.90512, PURL: p.PURL, Type: "deb", Path: p.Path, Layer: p.Layer, Base: true, Title: "curl - security update",
		Details: "curl trips over a header.", Published: "2024-01-02T00:00:00Z", Source: "Debian", URLs: []string{"https://tracker.example/CVE-2024-0001"},
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	vendor, err := db.Match(bulkhead.OS{ID: "ubuntu", Version: "22.04"}, []bulkhead.Package{deb("curl", "1", "curl")}, Options{})
	if err != nil || len(vendor) != 1 || vendor[0].Severity != bulkhead.Low || vendor[0].CVSS != 9.8 {
		t.Errorf("the vendor's severity, the CVE's own vector: %+v %v", vendor, err)
	}
}

func TestCovers(t *testing.T) {
	db := open(t, build(t))
	for os, want := range map[bulkhead.OS]string{
		{ID: "debian", Version: "12"}: "Debian:12", {ID: "debian", Version: "14"}: "", {ID: "ubuntu", Version: "22.04"}: "Ubuntu:22.04",
		{ID: "alpine", Version: "3.20.3"}: "Alpine:v3.20", {ID: "plan9"}: "", {ID: "almalinux", Version: "9"}: "AlmaLinux:9",
	} {
		name, ok := db.Covers(os)
		if ok != (want != "") || ok && name != want {
			t.Errorf("%+v: %q %v", os, name, ok)
		}
	}
}

func TestScore(t *testing.T) {
	for vector, want := range map[string]float64{ // from FIRST's calculators
		"AV:N/AC:L/Au:N/C:P/I:P/A:P":                                      7.5,
		"CVSS:3.0/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N":                    6.1,
		"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H":                    7.8,
		"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N": 9.3,
	} {
		if got, ok := Score(vector); !ok || got != want {
			t.Errorf("%s: %v %v, want %v", vector, got, ok, want)
		}
	}
	for _, vector := range []string{"", "CVSS:3.1/AV:N", "CVSS:9.9/AV:N", strings.Repeat("AV:N/", 1000)} {
		if _, ok := Score(vector); ok {
			t.Errorf("%q has a score", shorten(vector, 40))
		}
	}
}

func FuzzScore(f *testing.F) {
	f.Add("AV:N/AC:L/Au:N/C:P/I:P/A:P")
	f.Add("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H")
	f.Add("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:P")
	f.Fuzz(func(t *testing.T, vector string) {
		if score, ok := Score(vector); ok && !(score >= 0 && score <= 10) {
			t.Errorf("%q: %v", vector, score)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, records := range fixture {
		for _, text := range records {
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		back, err := decodeRecord(string(encodeRecord(r)))
		if err != nil || back.id != r.id || len(back.cves) != len(r.cves) {
			t.Errorf("written and read again: %v %v", back, err)
		}
		for i := range r.affected {
			in := reader{s: string(encodeAffected(&r.affected[i]))}
			evaluate(&in, &question{target: target{version: "1.0", order: 4}})
			if in.bad || in.s != "" {
				t.Errorf("entry %d is not read as it was written", i)
			}
		}
	})
}

func TestByUrgency(t *testing.T) {
	judged := bulkhead.Vulnerability{ID: "judged", KEV: true, VEX: &bulkhead.Judgment{Status: "not_affected"}}
	list := []bulkhead.Vulnerability{
		{ID: "kev", KEV: true, CVSS: 5},
		{ID: "likely", CVSS: 7, EPSS: 0.9},
		{ID: "bad", CVSS: 9.8, EPSS: 0.1, Fixed: "1"},
		{ID: "bad without fix", CVSS: 9.8, EPSS: 0.1},
		{ID: "new", Severity: bulkhead.High},
		{ID: "rare", CVSS: 9.8, EPSS: 0.0001},
		judged,
	}
	for i := range list {
		for j := range list {
			if got, want := ByUrgency(list[i], list[j]), cmpInt(i, j); got != want {
				t.Errorf("%s against %s: %d, want %d", list[i].ID, list[j].ID, got, want)
			}
		}
	}
}

func cmpInt(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
