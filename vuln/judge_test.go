package vuln

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

const digest = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

func finding(id, name, version string) bulkhead.Vulnerability {
	return bulkhead.Vulnerability{ID: id, Aliases: []string{"DEBIAN-" + id}, Package: name, Version: version, PURL: "pkg:deb/debian/" + name + "@" + version + "?arch=amd64", Path: "/var/lib/dpkg/status"}
}

// vex writes a document of one statement.
func vex(statement string) string {
	return `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"Us","timestamp":"2026-01-01T00:00:00Z","version":1,"statements":[` + statement + `]}`
}

const notAffected = `"status":"not_affected","justification":"vulnerable_code_not_present"`

func TestOpenVEXProducts(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		want      bool
	}{
		"package":             {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl@1.0"}],` + notAffected + `}`, true},
		"any version":         {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl"}],` + notAffected + `}`, true},
		"another version":     {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl@2.0"}],` + notAffected + `}`, false},
		"same qualifier":      {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl?arch=amd64"}],` + notAffected + `}`, true},
		"another qualifier":   {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl?arch=arm64"}],` + notAffected + `}`, false},
		"another package":     {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/wget"}],` + notAffected + `}`, false},
		"by alias":            {`{"vulnerability":{"name":"DEBIAN-CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl"}],` + notAffected + `}`, true},
		"its alias":           {`{"vulnerability":{"name":"GHSA-x","aliases":["CVE-2024-0001"]},"products":[{"@id":"pkg:deb/debian/curl"}],` + notAffected + `}`, true},
		"version 0.0.1":       {`{"vulnerability":"CVE-2024-0001","products":["pkg:deb/debian/curl@1.0"],` + notAffected + `}`, true},
		"another CVE":         {`{"vulnerability":{"name":"CVE-2024-0002"},"products":[{"@id":"pkg:deb/debian/curl"}],` + notAffected + `}`, false},
		"image":               {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@` + strings.ReplaceAll(digest, ":", "%3A") + `"}],` + notAffected + `}`, true},
		"image and its part":  {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@` + digest + `","subcomponents":[{"@id":"pkg:deb/debian/curl"}]}],` + notAffected + `}`, true},
		"image, another part": {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@` + digest + `","subcomponents":[{"@id":"pkg:deb/debian/wget"}]}],` + notAffected + `}`, false},
		"part without a name": {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@` + digest + `","subcomponents":[{"@id":"thing"}]}],` + notAffected + `}`, false},
		"another image":       {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@sha256:22"}],` + notAffected + `}`, false},
		"repository":          {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web?repository_url=registry.example/shop/web"}],` + notAffected + `}`, true},
		"another repository":  {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web?repository_url=registry.example/other/web"}],` + notAffected + `}`, false},
		"a tag is no promise": {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@latest"}],` + notAffected + `}`, false},
		"hash":                {`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"our web","hashes":{"sha-256":"` + digest[7:] + `"}}],` + notAffected + `}`, true},
		"no product":          {`{"vulnerability":{"name":"CVE-2024-0001"},` + notAffected + `}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := ParseVEX("our.vex", []byte(vex(c.statement)))
			if err != nil {
				t.Fatal(err)
			}
			list := []bulkhead.Vulnerability{finding("CVE-2024-0001", "curl", "1.0")}
			Judge(list, Judgments{VEX: []*VEX{d}, Subject: Subject{Digests: []string{digest}, Name: "registry.example/shop/web"}})
			if got := list[0].VEX != nil; got != c.want || Counts(list[0]) == c.want {
				t.Errorf("judged %v, want %v", got, c.want)
			}
		})
	}
}

func TestVEXLatestHolds(t *testing.T) {
	old, err := ParseVEX("old", []byte(vex(`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:deb/debian/curl"}],`+notAffected+`},
		{"vulnerability":{"name":"CVE-2024-0001"},"timestamp":"2026-02-01T00:00:00Z","products":[{"@id":"pkg:deb/debian/curl"}],"status":"affected","action_statement":"update"}`)))
	if err != nil {
		t.Fatal(err)
	}
	list := []bulkhead.Vulnerability{finding("CVE-2024-0001", "curl", "1.0")}
	Judge(list, Judgments{VEX: []*VEX{old}})
	want := &bulkhead.Judgment{Status: "affected", Reason: "update", By: "old"}
	if diff := cmp.Diff(want, list[0].VEX); diff != "" || !Counts(list[0]) {
		t.Errorf("-want +got:\n%s", diff)
	}
}

const csafDocument = `{"document":{"category":"csaf_vex","publisher":{"name":"Vendor"},"tracking":{"current_release_date":"2026-03-01T00:00:00Z"}},
"product_tree":{"branches":[{"branches":[
  {"product":{"product_id":"el9","product_identification_helper":{"cpe":"cpe:/o:redhat:enterprise_linux:9::baseos"}}},
  {"product":{"product_id":"curl","product_identification_helper":{"purl":"pkg:rpm/redhat/curl?arch=src"}}},
  {"product":{"product_id":"web","product_identification_helper":{"purl":"pkg:oci/web@` + digest + `"}}},
  {"product":{"product_id":"lib","product_identification_helper":{"purl":"pkg:deb/debian/curl@1.0"}}}]}],
 "relationships":[
  {"product_reference":"curl","relates_to_product_reference":"el9","full_product_name":{"product_id":"el9:curl"}},
  {"product_reference":"lib","relates_to_product_reference":"web","full_product_name":{"product_id":"web:lib"}}]},
"vulnerabilities":[
 {"cve":"CVE-2024-0001","product_status":{"known_not_affected":["el9:curl","web:lib"]},"flags":[{"label":"component_not_present","product_ids":["el9:curl"]}],
  "threats":[{"category":"impact","details":"never called","product_ids":["web:lib"]}]},
 {"cve":"CVE-2024-0002","product_status":{"known_affected":["el9:curl"]},"remediations":[{"category":"no_fix_planned","details":"Will not fix","product_ids":["el9:curl"]}]}]}`

func TestCSAF(t *testing.T) {
	d, err := ParseVEX("rh.json", []byte(csafDocument))
	if err != nil {
		t.Fatal(err)
	}
	rpm := func(id string) bulkhead.Vulnerability {
		return bulkhead.Vulnerability{ID: id, Package: "curl", PURL: "pkg:rpm/redhat/curl@7.76.1-26.el9?arch=x86_64"}
	}
	list := []bulkhead.Vulnerability{rpm("CVE-2024-0001"), rpm("CVE-2024-0002"), finding("CVE-2024-0001", "curl", "1.0")}
	Judge(list, Judgments{VEX: []*VEX{d}, Subject: Subject{Digests: []string{digest}, OS: bulkhead.OS{ID: "rhel", Version: "9.4"}}})
	for i, want := range []*bulkhead.Judgment{
		{Status: "not_affected", Justification: "component_not_present", By: "rh.json"},
		{Status: "affected", Reason: "Will not fix", By: "rh.json"},
		{Status: "not_affected", Reason: "never called", By: "rh.json"},
	} {
		if diff := cmp.Diff(want, list[i].VEX); diff != "" {
			t.Errorf("%d: -want +got:\n%s", i, diff)
		}
	}
	for _, os := range []bulkhead.OS{{}, {ID: "rhel", Version: "8.1"}, {ID: "rocky", Version: "9.4"}} {
		list := []bulkhead.Vulnerability{rpm("CVE-2024-0001")}
		Judge(list, Judgments{VEX: []*VEX{d}, Subject: Subject{OS: os}})
		if list[0].VEX != nil {
			t.Errorf("a statement about RHEL 9 holds for %+v", os)
		}
	}
}

func TestVEXRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{`:                             "is no JSON",
		`{}`:                            "is neither OpenVEX nor CSAF",
		`{"document":{"category":"x"}}`: "is neither OpenVEX nor CSAF",
		vex(`{"vulnerability":{"name":"CVE-1"},"status":"harmless"}`):                                                `statement 1 (CVE-1): has status "harmless"`,
		vex(`{"vulnerability":{"name":"CVE-1"},"status":"not_affected"}`):                                            "without a justification",
		vex(`{"vulnerability":{"name":"CVE-1"},"status":"not_affected","justification":"because"}`):                  `has justification "because"`,
		vex(`{"vulnerability":{"name":"CVE-1"},"status":"fixed"},{"vulnerability":{"name":""},"status":"affected"}`): "statement 2 (): names no vulnerability",
	} {
		if _, err := ParseVEX("v", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestIgnores(t *testing.T) {
	file, err := ParseIgnores(".bulkheadignore", []byte(`
ignore:
  - id: CVE-2024-0001
    package: "lib*"
    reason: not reachable
    expires: 2027-01-31
  - id: CVE-2024-0002
    reason: accepted until the next release
    expires: 2026-11-24
  - purl: pkg:deb/debian/bash
    reason: no shell is started
  - path: "/var/*/status"
    id: "CVE-2019-*"
    reason: old
`))
	if err != nil {
		t.Fatal(err)
	}
	list := []bulkhead.Vulnerability{
		finding("CVE-2024-0001", "libcurl4", "1"), finding("CVE-2024-0001", "curl", "1"), finding("CVE-2024-0002", "curl", "1"), finding("CVE-2024-0003", "bash", "5"),
	}
	verdicts := Judge(list, Judgments{Ignores: []*Ignores{file}, Now: now})
	var got []string
	for _, v := range list {
		line := "counts"
		if v.VEX != nil {
			line = strings.Join([]string{v.VEX.Status, v.VEX.Reason, v.VEX.By, v.VEX.Until}, "|")
		}
		got = append(got, line)
	}
	want := []string{"ignored|not reachable|.bulkheadignore:3|2027-01-31", "counts", "counts", "ignored|no shell is started|.bulkheadignore:10|"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(verdicts.Expired) != 1 || verdicts.Expired[0].ID != "CVE-2024-0002" || len(verdicts.Unused) != 1 || verdicts.Unused[0].Reason != "old" {
		t.Errorf("verdicts %+v", verdicts)
	}
	last := Ignore{Expires: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)}
	if last.Over(now) || !last.Over(now.AddDate(0, 0, 1)) {
		t.Error("an entry holds through its last day")
	}
}

func TestIgnoresRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"- id: x":                                `f:1:1: write "ignore:"`,
		"ignored: []":                            `f:1:1: "ignored" is not known here`,
		"ignore: x":                              "f:1:9: write a list",
		"ignore:\n  - id: CVE-1":                 "f:2:5: the entry has no reason",
		"ignore:\n  - id: CVE-1\n    reason: ''": "f:3:13: reason needs a text",
		"ignore:\n  - reason: all":               "f:2:5: the entry would hold for everything",
		"ignore:\n  - id: x\n    reason: y\n    expires: tomorrow": `f:4:14: "tomorrow" is no date`,
		"ignore:\n  - id: x\n    reason: y\n    until: 2027-01-01": `f:4:5: "until" is not known`,
		"ignore:\n  - id: x\n    id: z\n    reason: y":             "f:3:5: id is here twice",
		"ignore:\n  - id: [x]\n    reason: y":                      "f:2:9: id needs a text",
		"ignore:\n\t- id":                                          "f:2:1: ",
	} {
		_, err := ParseIgnores("f", []byte(text))
		var at *FileError
		if err == nil || !errors.As(err, &at) || !strings.Contains(err.Error(), strings.ReplaceAll(want, `"ignore:"`, "`ignore:`")) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if empty, err := ParseIgnores("f", nil); err != nil || len(empty.Entries) != 0 {
		t.Error(empty, err)
	}
}

func TestWriteVEX(t *testing.T) {
	list := []bulkhead.Vulnerability{finding("CVE-2024-0001", "curl", "1"), finding("CVE-2024-0001", "libcurl4", "1"), finding("CVE-2024-0002", "curl", "1"), finding("CVE-2024-0003", "curl", "1")}
	list[0].VEX = &bulkhead.Judgment{Status: "not_affected", Justification: "vulnerable_code_not_present"}
	list[1].VEX = list[0].VEX
	list[2].VEX = &bulkhead.Judgment{Status: "ignored", Reason: "accepted", Until: "2027-01-31"}
	image := "pkg:oci/web@" + digest
	var out bytes.Buffer
	if err := WriteVEX(&out, list, Authorship{Author: "Us", Product: image, Time: now, All: true}); err != nil {
		t.Fatal(err)
	}
	d, err := ParseVEX("again", out.Bytes())
	if err != nil || d.Statements() != 3 || d.Author != "Us" {
		t.Fatalf("%v\n%s", err, out.String())
	}
	again := []bulkhead.Vulnerability{finding("CVE-2024-0001", "libcurl4", "1"), finding("CVE-2024-0002", "curl", "1"), finding("CVE-2024-0003", "curl", "1"), finding("CVE-2024-0001", "wget", "1")}
	Judge(again, Judgments{VEX: []*VEX{d}, Subject: Subject{Digests: []string{digest}}})
	for i, want := range []string{"not_affected", "affected", "under_investigation", ""} {
		got := ""
		if again[i].VEX != nil {
			got = again[i].VEX.Status
		}
		if got != want {
			t.Errorf("%s of %s: %q, want %q", again[i].ID, again[i].Package, got, want)
		}
	}
	if err := WriteVEX(&out, list, Authorship{}); err == nil {
		t.Error("a document without an author")
	}
}

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true}, {"a*c", "abc", true}, {"a*c", "abd", false}, {"*a*a*b", strings.Repeat("a", 50), false}, {"a**", "a", true}, {"", "", true}, {"", "a", false}, {"/usr/*.so", "/usr/lib/x.so", true},
	} {
		if got := wildcard(c.pattern, c.s); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.s, got)
		}
	}
}

func FuzzVEX(f *testing.F) {
	f.Add([]byte(csafDocument))
	f.Add([]byte(vex(`{"vulnerability":"CVE-2024-0001","products":["pkg:deb/debian/curl@1.0"],` + notAffected + `}`)))
	f.Add([]byte(vex(`{"vulnerability":{"name":"CVE-2024-0001"},"products":[{"@id":"pkg:oci/web@` + digest + `","subcomponents":[{"@id":"pkg:deb/debian/curl"}]}],` + notAffected + `}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseVEX("f", data)
		if err != nil {
			return
		}
		list := []bulkhead.Vulnerability{finding("CVE-2024-0001", "curl", "1.0")}
		Judge(list, Judgments{VEX: []*VEX{d}, Subject: Subject{Digests: []string{digest}}})
	})
}

func FuzzIgnores(f *testing.F) {
	f.Add([]byte("ignore:\n  - id: CVE-*\n    reason: y\n    expires: 2027-01-31\n"))
	f.Add([]byte("ignore: &a\n  - *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ParseIgnores("f", data)
		if err != nil {
			return
		}
		for _, e := range x.Entries {
			if e.Reason == "" || e.ID+e.Package+e.PURL+e.Path == "" {
				t.Errorf("an entry without a reason, or for everything: %+v", e)
			}
		}
		Judge([]bulkhead.Vulnerability{finding("CVE-2024-0001", "curl", "1.0")}, Judgments{Ignores: []*Ignores{x}, Now: now})
	})
}

func FuzzPURL(f *testing.F) {
	f.Add("pkg:deb/debian/curl@7.88.1-10%2Bdeb12u4?arch=amd64&distro=debian-12")
	f.Add("pkg:npm/%40s/p@1.0#sub")
	f.Fuzz(func(t *testing.T, s string) {
		p := parsePURL(s)
		if p.kind != "" && !p.covers(p) && p.qualifiers.Get("arch") == "" {
			t.Errorf("%q does not cover itself", s)
		}
		_, _ = purlName(s)
		newSystem(bulkhead.OS{}).fromPURL(s)
	})
}
