package sbom

import (
	"cmp"
	"fmt"
	"io"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"

	"bulkhead"
)

// WriteSPDX writes the packages of the report as SPDX 2.3, JSON. That format has no place for vulnerabilities.
func WriteSPDX(w io.Writer, r bulkhead.Report, tool Tool, when time.Time) error {
	created := when.UTC().Format("2006-01-02T15:04:05Z") // the form that SPDX wants
	creator := spdx.Creator{CreatorType: "Tool", Creator: tool.Name + "-" + cmp.Or(tool.Version, "dev")}
	doc := &spdx.Document{
		SPDXVersion:       spdx.Version,
		DataLicense:       spdx.DataLicense,
		SPDXIdentifier:    "DOCUMENT",
		DocumentName:      cmp.Or(r.Target, "unnamed"),
		DocumentNamespace: "https://spdx.org/spdxdocs/" + tool.Name + "-" + identity(r),
		CreationInfo:      &spdx.CreationInfo{Creators: []spdx.Creator{creator}, Created: created},
		Packages:          []*spdx.Package{subjectPackage(r)},
		Relationships:     []*spdx.Relationship{related("DOCUMENT", "DESCRIBES", subjectID)},
	}
	if r.OS.ID != "" {
		contain(doc, osPackage(r.OS))
	}
	for i, p := range r.Packages {
		contain(doc, packageOf(p, i, creator, created))
	}
	return spdxjson.Write(doc, w, spdxjson.Indent("  "), spdxjson.EscapeHTML(false))
}

const subjectID = "Target"

const noAssertion = "NOASSERTION"

func contain(doc *spdx.Document, p *spdx.Package) {
	doc.Packages = append(doc.Packages, p)
	doc.Relationships = append(doc.Relationships, related(subjectID, "CONTAINS", p.PackageSPDXIdentifier))
}

func related(a spdx.ElementID, how string, b spdx.ElementID) *spdx.Relationship {
	return &spdx.Relationship{RefA: spdx.DocElementID{ElementRefID: a}, Relationship: how, RefB: spdx.DocElementID{ElementRefID: b}}
}

func subjectPackage(r bulkhead.Report) *spdx.Package {
	p := &spdx.Package{PackageName: cmp.Or(r.Target, "unnamed"), PackageSPDXIdentifier: subjectID, PackageVersion: r.Digest, PackageDownloadLocation: noAssertion, PrimaryPackagePurpose: "CONTAINER"}
	if r.Digest == "" {
		p.PrimaryPackagePurpose = "APPLICATION"
	}
	if url := imageURL(r); url != "" {
		p.PackageExternalReferences = reference(url)
	}
	return p
}

func osPackage(os bulkhead.OS) *spdx.Package {
	return &spdx.Package{
		PackageName: os.ID, PackageVersion: cmp.Or(os.Version, os.Codename), PackageSPDXIdentifier: "OperatingSystem",
		PackageDownloadLocation: noAssertion, PrimaryPackagePurpose: "OPERATING_SYSTEM",
	}
}

func packageOf(p bulkhead.Package, n int, creator spdx.Creator, created string) *spdx.Package {
	s := &spdx.Package{
		PackageName: p.Name, PackageVersion: p.Version, PackageSPDXIdentifier: spdx.ElementID(fmt.Sprintf("Package-%d", n+1)),
		PackageDownloadLocation: noAssertion, PrimaryPackagePurpose: "LIBRARY",
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
	}
	if len(p.Licenses) > 0 {
		s.PackageLicenseComments = fmt.Sprintf("as the package says: %q", p.Licenses)
	}
	if p.PURL != "" {
		s.PackageExternalReferences = reference(p.PURL)
	}
	if p.Path != "" {
		s.PackageSourceInfo = "found by: " + p.Path
	}
	for _, e := range extras(p) {
		s.Annotations = append(s.Annotations, spdx.Annotation{
			Annotator: spdx.Annotator{AnnotatorType: creator.CreatorType, Annotator: creator.Creator}, AnnotationDate: created,
			AnnotationType: "OTHER", AnnotationComment: e[0] + "=" + e[1],
		})
	}
	return s
}

func reference(url string) []*spdx.PackageExternalReference {
	return []*spdx.PackageExternalReference{{Category: spdx.CategoryPackageManager, RefType: "purl", Locator: url}}
}
