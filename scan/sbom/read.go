package sbom

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"bulkhead"
)

// ErrFormat is a document that is neither CycloneDX nor SPDX in a form that is read here.
var ErrFormat = errors.New("it is neither CycloneDX (JSON, XML) nor SPDX 2 (JSON, tag-value)")

// Read reads a document in whichever of the formats it is. The report has its packages and its distribution, and says
// what could not be understood; name is what it was read from.
func Read(r io.Reader, name string) (bulkhead.Report, error) {
	b, err := whole(r)
	if err != nil {
		return bulkhead.Report{}, fmt.Errorf("read the package list %s: %w", name, err)
	}
	report, err := parse(b)
	if err != nil {
		return bulkhead.Report{}, fmt.Errorf("read the package list %s: %w", name, err)
	}
	report.Target = name
	return report, nil
}

// parse also stands against libraries that give up on what they did not expect.
func parse(b []byte) (r bulkhead.Report, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("it is malformed: %v", broken)
		}
	}()
	text := bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff")))
	switch {
	case bytes.HasPrefix(text, []byte("<")):
		return readCycloneDX(text, cdx.BOMFileFormatXML)
	case !bytes.HasPrefix(text, []byte("{")):
		return readTagValue(text)
	case position(text, `"bomFormat"`) < position(text, `"spdxVersion"`):
		return readCycloneDX(text, cdx.BOMFileFormatJSON)
	case bytes.Contains(text, []byte(`"spdxVersion"`)):
		return readSPDX(text)
	}
	return r, ErrFormat
}

func position(text []byte, word string) int {
	if i := bytes.Index(text, []byte(word)); i >= 0 {
		return i
	}
	return len(text)
}

func readCycloneDX(b []byte, format cdx.BOMFileFormat) (bulkhead.Report, error) {
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(b), format).Decode(&bom); err != nil {
		return bulkhead.Report{}, fmt.Errorf("CycloneDX: %w", err)
	}
	if format == cdx.BOMFileFormatXML && !bytes.Contains(b, []byte("cyclonedx.org/schema/bom")) {
		return bulkhead.Report{}, ErrFormat
	}
	r := &reader{distros: map[string]int{}}
	if bom.Metadata != nil && bom.Metadata.Component != nil {
		r.about(bom.Metadata.Component)
	}
	r.components(bom.Components, 0)
	return r.finish(), nil
}

// about reads what the document is about.
func (r *reader) about(c *cdx.Component) {
	for _, p := range list(c.Properties) {
		if p.Name == prefix+"digest" {
			r.report.Digest = p.Value
		}
	}
	r.components(c.Components, 0)
}

// maxDepth bounds components inside components.
const maxDepth = 64

func (r *reader) components(all *[]cdx.Component, depth int) {
	if depth > maxDepth {
		r.broken = append(r.broken, fmt.Sprintf("components are nested more than %d deep: those further down were left out", maxDepth))
		return
	}
	for i := range list(all) {
		c := &(*all)[i]
		r.component(c)
		r.components(c.Components, depth+1)
	}
}

func (r *reader) component(c *cdx.Component) {
	switch {
	case c.Type == cdx.ComponentTypeOS:
		r.system(c.Name, c.Version)
		return
	case c.PackageURL == "" && c.Type != cdx.ComponentTypeLibrary && c.Type != cdx.ComponentTypeFramework:
		return // files, lock files, the application as a whole
	}
	r.add(c.PackageURL, func(p *bulkhead.Package) {
		for _, l := range list((*[]cdx.LicenseChoice)(c.Licenses)) {
			if l.License != nil {
				p.Licenses = append(p.Licenses, cmp.Or(l.License.ID, l.License.Name))
			} else if l.Expression != "" {
				p.Licenses = append(p.Licenses, l.Expression)
			}
		}
		trivySource(p, list(c.Properties))
		for _, property := range list(c.Properties) {
			setExtra(p, property.Name, property.Value)
			setExtra(p, pathNames[property.Name], property.Value)
		}
	})
}

// pathNames are what other tools call the path of a package.
var pathNames = map[string]string{"syft:location:0:path": "path", "aquasecurity:trivy:FilePath": "path"}

// trivySource reads the source package from what Trivy writes beside the package URL.
func trivySource(p *bulkhead.Package, properties []cdx.Property) {
	said := map[string]string{}
	for _, property := range properties {
		if name, ok := strings.CutPrefix(property.Name, "aquasecurity:trivy:"); ok {
			said[name] = property.Value
		}
	}
	name, version := said["SrcName"], said["SrcVersion"]
	if name == "" || version == "" || !isDistribution(p.Type) {
		return
	}
	if said["SrcRelease"] != "" {
		version += "-" + said["SrcRelease"]
	}
	if epoch := said["SrcEpoch"]; epoch != "" && epoch != "0" {
		version = epoch + ":" + version
	}
	p.Source = &bulkhead.Source{Name: name, Version: version}
}

func list[T any](p *[]T) []T {
	if p == nil {
		return nil
	}
	return *p
}

// spdxPackage is what is read of a package, in either of SPDX's forms. The library's own readers check documents, which
// is not the question here, and can be kept busy for long by a hostile one.
type spdxPackage struct {
	Name     string          `json:"name"`
	Version  string          `json:"versionInfo"`
	Purpose  string          `json:"primaryPackagePurpose"`
	Licence  string          `json:"licenseDeclared"`
	Source   string          `json:"sourceInfo"`
	Refs     []spdxReference `json:"externalRefs"`
	Comments []struct {
		Text string `json:"comment"`
	} `json:"annotations"`
}

type spdxReference struct {
	Type    string `json:"referenceType"`
	Locator string `json:"referenceLocator"`
}

func readSPDX(b []byte) (bulkhead.Report, error) {
	var doc struct {
		Version  string        `json:"spdxVersion"`
		Packages []spdxPackage `json:"packages"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		return bulkhead.Report{}, fmt.Errorf("SPDX: %w", err)
	}
	if !strings.HasPrefix(doc.Version, "SPDX-2.") {
		return bulkhead.Report{}, fmt.Errorf("SPDX: the version %q is not read, only those of SPDX 2", doc.Version)
	}
	return fromSPDX(doc.Packages), nil
}

// readTagValue reads lines "Tag: value". A text in <text>…</text> may go over several lines; none of those is used.
func readTagValue(b []byte) (bulkhead.Report, error) {
	var packages []spdxPackage
	versioned := false
	var p *spdxPackage
	for line := range bytes.Lines(b) {
		tag, value, _ := strings.Cut(strings.TrimSpace(string(line)), ": ")
		versioned = versioned || tag == "SPDXVersion" && strings.HasPrefix(value, "SPDX-2.")
		if tag == "PackageName" {
			packages = append(packages, spdxPackage{})
			p = &packages[len(packages)-1]
		}
		if p != nil {
			p.take(tag, value)
		}
	}
	if !versioned {
		return bulkhead.Report{}, ErrFormat
	}
	return fromSPDX(packages), nil
}

func (p *spdxPackage) take(tag, value string) {
	switch tag {
	case "PackageName":
		p.Name = value
	case "PackageVersion":
		p.Version = value
	case "PrimaryPackagePurpose":
		p.Purpose = value
	case "PackageLicenseDeclared":
		p.Licence = value
	case "PackageSourceInfo":
		p.Source = strings.TrimSuffix(strings.TrimPrefix(value, "<text>"), "</text>")
	case "ExternalRef":
		if words := strings.Fields(value); len(words) == 3 {
			p.Refs = append(p.Refs, spdxReference{Type: words[1], Locator: words[2]})
		}
	}
}

func fromSPDX(packages []spdxPackage) bulkhead.Report {
	r := &reader{distros: map[string]int{}}
	for _, p := range packages {
		switch strings.ToUpper(p.Purpose) {
		case "OPERATING-SYSTEM", "OPERATING_SYSTEM":
			r.system(p.Name, p.Version)
			continue
		case "CONTAINER":
			if strings.HasPrefix(p.Version, "sha256:") {
				r.report.Digest = p.Version
			}
			continue
		}
		if url := p.url(); url != "" || p.Purpose == "LIBRARY" {
			r.add(url, p.fill)
		}
	}
	return r.finish()
}

func (p *spdxPackage) url() string {
	for _, ref := range p.Refs {
		if ref.Type == "purl" {
			return ref.Locator
		}
	}
	return ""
}

func (p *spdxPackage) fill(found *bulkhead.Package) {
	if l := p.Licence; l != "" && l != noAssertion && l != "NONE" {
		found.Licenses = []string{l}
	}
	if found.Source == nil {
		found.Source = builtFrom(p.Source, found)
	}
	for _, c := range p.Comments {
		if name, value, ok := strings.Cut(c.Text, "="); ok {
			setExtra(found, name, value)
		}
	}
}

// builtFrom reads Trivy's words about the source package: "built package from: zlib 1:1.2.13.dfsg-1".
func builtFrom(info string, p *bulkhead.Package) *bulkhead.Source {
	rest, ok := strings.CutPrefix(info, "built package from: ")
	name, version, _ := strings.Cut(rest, " ")
	if !ok || !isDistribution(p.Type) || name == "" {
		return nil
	}
	return &bulkhead.Source{Name: name, Version: cmp.Or(version, p.Version)}
}
