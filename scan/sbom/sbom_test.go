package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"

	"bulkhead"
)

var (
	tool = Tool{Name: "bulkhead", Version: "1.2.3"}
	when = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
)

// report has one package of each kind that formats could treat otherwise.
func report() bulkhead.Report {
	const layer = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	return bulkhead.Report{
		Target: "registry.example:5000/team/shop:v1",
		Digest: "sha256:2222222222222222222222222222222222222222222222222222222222222222",
		OS:     bulkhead.OS{ID: "debian", Version: "12"},
		Layers: []bulkhead.LayerInfo{{DiffID: layer, Base: true}},
		Packages: []bulkhead.Package{
			{Name: "libssl3", Version: "3.0.9-1+b1", Type: "deb", PURL: "pkg:deb/debian/libssl3@3.0.9-1%2Bb1?arch=amd64&distro=debian-12&upstream=openssl%403.0.9-1", Path: "var/lib/dpkg/status", Layer: layer, Base: true, Arch: "amd64", Source: &bulkhead.Source{Name: "openssl", Version: "3.0.9-1"}, Licenses: []string{"Apache-2.0"}},
			{Name: "nodejs", Version: "1:18.20.2-1.el9", Type: "rpm", PURL: "pkg:rpm/almalinux/nodejs@18.20.2-1.el9?arch=x86_64&epoch=1&rpmmod=nodejs:18", Path: "var/lib/rpm/rpmdb.sqlite", Layer: layer, Arch: "x86_64", Module: "nodejs:18"},
			{Name: "@babel/core", Version: "7.0.0", Type: "npm", PURL: "pkg:npm/%40babel/core@7.0.0", Path: "srv/app/package-lock.json", Layer: layer, Dev: true},
			{Name: "@babel/core", Version: "7.0.0", Type: "npm", PURL: "pkg:npm/%40babel/core@7.0.0", Path: "srv/other/package-lock.json", Layer: layer},
			{Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1", Type: "maven", PURL: "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", Path: "srv/app.war!WEB-INF/lib/x.jar", Layer: layer},
			{Name: "github.com/docker/docker", Version: "v20.10.0+incompatible", Type: "golang", PURL: "pkg:golang/github.com/docker/docker@v20.10.0%2Bincompatible", Path: "usr/bin/dockerd", Layer: layer, Owner: "docker.io"},
			{Name: "symfony/http-kernel", Version: "5.0.0", Type: "composer", PURL: "pkg:composer/symfony/http-kernel@5.0.0", Path: "srv/composer.lock", Layer: layer},
			{Name: "redis", Version: "7.0.1", Type: "generic", PURL: "pkg:generic/redis@7.0.1", Path: "usr/local/bin/redis-server", Layer: layer},
		},
		Vulnerabilities: []bulkhead.Vulnerability{
			{ID: "CVE-2023-0001", Package: "libssl3", Version: "3.0.9-1+b1", Severity: bulkhead.High, CVSS: 7.5, Vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", KEV: true, EPSS: 0.5, PURL: "pkg:deb/debian/libssl3@3.0.9-1%2Bb1?arch=amd64&distro=debian-12&upstream=openssl%403.0.9-1", Path: "var/lib/dpkg/status", Status: "fixed", Fixed: "3.0.11-1", Source: "Debian", URLs: []string{"https://example.com/a"}, Published: "2023-01-01T00:00:00Z", Title: "a title"},
			{ID: "CVE-2024-0002", Package: "@babel/core", Version: "7.0.0", PURL: "pkg:npm/%40babel/core@7.0.0", Path: "srv/other/package-lock.json", Status: "open", VEX: &bulkhead.Judgment{Status: "not_affected", Reason: "not reached"}},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	for name, write := range map[string]func(*bytes.Buffer) error{
		"cyclonedx": func(b *bytes.Buffer) error { return WriteCycloneDX(b, report(), tool, when) },
		"spdx":      func(b *bytes.Buffer) error { return WriteSPDX(b, report(), tool, when) },
	} {
		t.Run(name, func(t *testing.T) {
			var first, second bytes.Buffer
			if err := errors.Join(write(&first), write(&second)); err != nil {
				t.Fatal(err)
			}
			if first.String() != second.String() {
				t.Error("the same report makes two documents")
			}
			got, err := Read(&first, "x")
			if err != nil {
				t.Fatal(err)
			}
			want := report()
			if name == "spdx" { // which has no field that takes any licence
				want.Packages[0].Licenses = nil
			}
			if diff := cmp.Diff(want.Packages, got.Packages); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if got.OS.ID != "debian" || got.OS.Version != "12" || got.Digest != want.Digest || len(got.Incomplete) > 0 {
				t.Errorf("got %+v, %q, %v", got.OS, got.Digest, got.Incomplete)
			}
		})
	}
}

// TestCycloneDXSchema holds a document against the publisher's own schema, which comes with the library.
func TestCycloneDXSchema(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	for _, name := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schemax.json"} {
		addSchema(t, c, filepath.Join(strings.TrimSpace(string(dir)), "schema", name), name)
	}
	schema, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]bulkhead.Report{"full": report(), "empty": {Target: "dir:x"}} {
		var b bytes.Buffer
		if err := WriteCycloneDX(&b, r, tool, when); err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// addSchema names a schema as others refer to it.
func addSchema(t *testing.T, c *jsonschema.Compiler, file, name string) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "jsf") {
		b, err = os.ReadFile(strings.Replace(file, "schemax", "schema", 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("http://cyclonedx.org/schema/"+strings.Replace(name, "schemax", "schema", 1), schema); err != nil {
		t.Fatal(err)
	}
}

// TestSPDXRules holds a document against what SPDX 2.3 demands and no schema checks.
func TestSPDXRules(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSPDX(&b, report(), tool, when); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	doc, err := spdxjson.Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	described, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(described) != 1 {
		t.Errorf("describes %v: %v", described, err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || doc.DataLicense != "CC0-1.0" || doc.SPDXIdentifier != "DOCUMENT" || strings.Contains(doc.DocumentNamespace, "#") {
		t.Errorf("header: %s %s %s %s", doc.SPDXVersion, doc.DataLicense, doc.SPDXIdentifier, doc.DocumentNamespace)
	}
	// The JSON schema writes OPERATING_SYSTEM, the specification's text OPERATING-SYSTEM.
	purposes := []string{"LIBRARY", "CONTAINER", "OPERATING_SYSTEM"}
	identifier := regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	for _, p := range doc.Packages {
		if !slices.Contains(purposes, p.PrimaryPackagePurpose) {
			t.Errorf("package %s is for %q", p.PackageName, p.PrimaryPackagePurpose)
		}
		if !identifier.MatchString(string(p.PackageSPDXIdentifier)) || p.PackageDownloadLocation == "" || p.FilesAnalyzed {
			t.Errorf("package %s: %q, %q, files analyzed %v", p.PackageName, p.PackageSPDXIdentifier, p.PackageDownloadLocation, p.FilesAnalyzed)
		}
	}
	if n := strings.Count(text, `"relationshipType": "CONTAINS"`); n != len(report().Packages)+1 {
		t.Errorf("%d packages are contained", n)
	}
}

func TestXML(t *testing.T) {
	var j, x bytes.Buffer
	if err := WriteCycloneDX(&j, report(), tool, when); err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&j, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	bom.XMLNS = "http://cyclonedx.org/schema/bom/1.6"
	if err := cdx.NewBOMEncoder(&x, cdx.BOMFileFormatXML).Encode(&bom); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&x, "x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report().Packages, got.Packages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestForeign reads what other tools write, in short.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name, document string
		os             bulkhead.OS
		want           []bulkhead.Package
		incomplete     int
	}{
		{
			"trivy, cyclonedx",
			`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[
			 {"type":"operating-system","name":"debian","version":"12.5"},
			 {"type":"application","name":"package-lock.json"},
			 {"type":"library","name":"zlib1g","version":"1:1.2.13.dfsg-1","purl":"pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.5&epoch=1",
			  "properties":[{"name":"aquasecurity:trivy:SrcName","value":"zlib"},{"name":"aquasecurity:trivy:SrcVersion","value":"1.2.13.dfsg"},{"name":"aquasecurity:trivy:SrcRelease","value":"1"},{"name":"aquasecurity:trivy:SrcEpoch","value":"1"}]}]}`,
			bulkhead.OS{ID: "debian", Version: "12.5"},
			[]bulkhead.Package{{Name: "zlib1g", Version: "1:1.2.13.dfsg-1", Type: "deb", Arch: "amd64", PURL: "pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.5&epoch=1", Source: &bulkhead.Source{Name: "zlib", Version: "1:1.2.13.dfsg-1"}}},
			0,
		},
		{
			"syft, cyclonedx, nothing says the system but package URLs",
			`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[
			 {"type":"library","name":"openssl-libs","version":"1:3.0.7","purl":"pkg:rpm/rhel/openssl-libs@3.0.7-24.el9?arch=x86_64&distro=rhel-9.3&epoch=1&upstream=openssl-3.0.7-24.el9.src.rpm","properties":[{"name":"syft:location:0:path","value":"/var/lib/rpm/rpmdb.sqlite"}]}]}`,
			bulkhead.OS{ID: "rhel", Version: "9.3"},
			[]bulkhead.Package{{Name: "openssl-libs", Version: "1:3.0.7-24.el9", Type: "rpm", Arch: "x86_64", Path: "/var/lib/rpm/rpmdb.sqlite", PURL: "pkg:rpm/rhel/openssl-libs@3.0.7-24.el9?arch=x86_64&distro=rhel-9.3&epoch=1&upstream=openssl-3.0.7-24.el9.src.rpm", Source: &bulkhead.Source{Name: "openssl", Version: "3.0.7-24.el9"}}},
			0,
		},
		{
			"spdx as tag-value",
			"SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\nSPDXID: SPDXRef-DOCUMENT\nDocumentName: x\nDocumentNamespace: https://example.com/x\nCreator: Tool: x\nCreated: 2026-01-01T00:00:00Z\n\n" +
				"PackageName: flask\nSPDXID: SPDXRef-1\nPackageVersion: 1.0\nPackageDownloadLocation: NOASSERTION\nFilesAnalyzed: false\nExternalRef: PACKAGE-MANAGER purl pkg:pypi/flask@1.0\n",
			bulkhead.OS{},
			[]bulkhead.Package{{Name: "flask", Version: "1.0", Type: "pypi", PURL: "pkg:pypi/flask@1.0"}},
			0,
		},
		{
			"things without a package URL are told",
			`{"bomFormat":"CycloneDX","specVersion":"1.4","components":[{"type":"library","name":"a"},{"type":"library","name":"b","purl":"nonsense"}]}`,
			bulkhead.OS{},
			nil, 2,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(c.document), "x")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Packages); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.OS != c.os || len(got.Incomplete) != c.incomplete {
				t.Errorf("system %+v, incomplete %v", got.OS, got.Incomplete)
			}
		})
	}
}

func TestNoPackageList(t *testing.T) {
	for _, text := range []string{"", "hello", "{}", `{"bomFormat":"CycloneDX","components":7}`, "<html/>", `{"spdxVersion":"SPDX-9"}`, "SPDXVersion: 7\n"} {
		if r, err := Read(strings.NewReader(text), "x"); err == nil {
			t.Errorf("%q: got %+v", text, r)
		}
	}
}

func FuzzRead(f *testing.F) {
	var a, b bytes.Buffer
	_ = WriteCycloneDX(&a, report(), tool, when)
	_ = WriteSPDX(&b, report(), tool, when)
	f.Add(a.Bytes())
	f.Add(b.Bytes())
	f.Add([]byte(`<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components><component type="library"><name>a</name><purl>pkg:npm/a@1</purl></component></components></bom>`))
	f.Add([]byte("SPDXVersion: SPDX-2.3\nPackageName: a\nExternalRef: PACKAGE-MANAGER purl pkg:npm/a@1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b), "x")
		if err != nil {
			return
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
