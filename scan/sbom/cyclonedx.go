package sbom

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"bulkhead"
)

// Tool is who writes the documents.
type Tool struct{ Name, Version string }

// WriteCycloneDX writes the report as CycloneDX 1.6, JSON, with its vulnerabilities. The time is that of the scan.
func WriteCycloneDX(w io.Writer, r bulkhead.Report, tool Tool, when time.Time) error {
	refs := refsOf(r.Packages)
	bom := cdx.NewBOM()
	bom.SerialNumber = "urn:uuid:" + identity(r)
	bom.Metadata = &cdx.Metadata{
		Timestamp: when.UTC().Format(time.RFC3339),
		Tools:     &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: tool.Name, Version: tool.Version}}},
		Component: subject(r),
	}
	components := make([]cdx.Component, 0, len(r.Packages)+1)
	if r.OS.ID != "" {
		components = append(components, cdx.Component{BOMRef: "os:" + r.OS.ID, Type: cdx.ComponentTypeOS, Name: r.OS.ID, Version: cmp.Or(r.OS.Version, r.OS.Codename), Description: r.OS.Name})
	}
	for i, p := range r.Packages {
		components = append(components, component(p, refs[i]))
	}
	bom.Components = &components
	bom.Dependencies = dependencies(bom.Metadata.Component.BOMRef, components)
	found := vulnerabilities(r, refs)
	bom.Vulnerabilities = &found
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// subject is what was scanned.
func subject(r bulkhead.Report) *cdx.Component {
	c := &cdx.Component{BOMRef: "target", Type: cdx.ComponentTypeContainer, Name: cmp.Or(r.Target, "unnamed"), PackageURL: imageURL(r)}
	if r.Digest == "" {
		c.Type = cdx.ComponentTypeApplication
		return c
	}
	c.Version = r.Digest
	properties := []cdx.Property{{Name: prefix + "digest", Value: r.Digest}}
	for i, l := range r.Layers {
		properties = append(properties, cdx.Property{Name: fmt.Sprintf("%slayer:%d", prefix, i), Value: l.DiffID})
	}
	c.Properties = &properties
	return c
}

// refsOf names each package within the document: by its package URL, and by its path where others have the same.
func refsOf(packages []bulkhead.Package) []string {
	refs := make([]string, len(packages))
	seen := make(map[string]bool, len(packages))
	for i, p := range packages {
		ref := cmp.Or(p.PURL, p.Type+":"+p.Name+"@"+p.Version)
		if seen[ref] {
			ref += "#" + p.Path
		}
		for n := 2; seen[ref]; n++ {
			ref += "#" + strconv.Itoa(n)
		}
		seen[ref] = true
		refs[i] = ref
	}
	return refs
}

func component(p bulkhead.Package, ref string) cdx.Component {
	c := cdx.Component{BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: p.PURL}
	if p.Type == "generic" || p.Type == "bitnami" {
		c.Type = cdx.ComponentTypeApplication
	}
	if p.Dev {
		c.Scope = cdx.ScopeExcluded
	}
	if len(p.Licenses) > 0 {
		licenses := cdx.Licenses{}
		for _, l := range p.Licenses {
			licenses = append(licenses, cdx.LicenseChoice{License: &cdx.License{Name: l}})
		}
		c.Licenses = &licenses
	}
	if p.Path != "" {
		c.Evidence = &cdx.Evidence{Occurrences: &[]cdx.EvidenceOccurrence{{Location: p.Path}}}
	}
	var properties []cdx.Property
	for _, e := range extras(p) {
		properties = append(properties, cdx.Property{Name: e[0], Value: e[1]})
	}
	if properties != nil {
		c.Properties = &properties
	}
	return c
}

func dependencies(subject string, components []cdx.Component) *[]cdx.Dependency {
	all := make([]string, len(components))
	for i, c := range components {
		all[i] = c.BOMRef
	}
	return &[]cdx.Dependency{{Ref: subject, Dependencies: &all}}
}

// vulnerabilities lists each once, with all the packages that have it.
func vulnerabilities(r bulkhead.Report, refs []string) []cdx.Vulnerability {
	where := map[[4]string]string{}
	for i, p := range r.Packages {
		where[[4]string{p.PURL, p.Name, p.Version, p.Path}] = refs[i]
	}
	index := map[string]int{}
	list := []cdx.Vulnerability{}
	for _, v := range r.Vulnerabilities {
		key := fmt.Sprint(v.ID, v.Severity, v.CVSS, v.Status, v.Fixed, v.VEX != nil)
		i, known := index[key]
		if !known {
			i = len(list)
			index[key] = i
			list = append(list, vulnerability(v, i))
		}
		if ref := where[[4]string{v.PURL, v.Package, v.Version, v.Path}]; ref != "" {
			*list[i].Affects = append(*list[i].Affects, cdx.Affects{Ref: ref})
		}
	}
	return list
}

func vulnerability(v bulkhead.Vulnerability, n int) cdx.Vulnerability {
	c := cdx.Vulnerability{
		BOMRef: fmt.Sprintf("vulnerability-%d", n+1), ID: v.ID, Description: cmp.Or(v.Details, v.Title), Published: v.Published,
		Affects: &[]cdx.Affects{}, Ratings: &[]cdx.VulnerabilityRating{rating(v)},
		Properties: &[]cdx.Property{
			{Name: prefix + "kev", Value: strconv.FormatBool(v.KEV)},
			{Name: prefix + "epss", Value: strconv.FormatFloat(v.EPSS, 'g', -1, 64)},
			{Name: prefix + "status", Value: v.Status},
		},
	}
	if v.Source != "" {
		c.Source = &cdx.Source{Name: v.Source}
	}
	if v.Fixed != "" {
		c.Recommendation = "Update " + v.Package + " to " + v.Fixed + " or later."
	}
	if len(v.URLs) > 0 {
		advisories := make([]cdx.Advisory, len(v.URLs))
		for i, u := range v.URLs {
			advisories[i] = cdx.Advisory{URL: u}
		}
		c.Advisories = &advisories
	}
	if v.VEX != nil {
		c.Analysis = &cdx.VulnerabilityAnalysis{State: stateOf(v.VEX.Status), Detail: cmp.Or(v.VEX.Reason, v.VEX.Justification)}
	}
	return c
}

func stateOf(status string) cdx.ImpactAnalysisState {
	switch status {
	case "fixed":
		return cdx.IASResolved
	case "affected":
		return cdx.IASExploitable
	case "under_investigation":
		return cdx.IASInTriage
	}
	return cdx.IASNotAffected
}

func rating(v bulkhead.Vulnerability) cdx.VulnerabilityRating {
	r := cdx.VulnerabilityRating{Severity: cdx.SeverityUnknown, Vector: v.Vector}
	if v.Severity.Rank() > 0 {
		r.Severity = cdx.Severity(v.Severity)
	}
	if v.CVSS > 0 {
		score := v.CVSS
		r.Score = &score
	}
	if v.Vector != "" {
		r.Method = methodOf(v.Vector)
	}
	return r
}

func methodOf(vector string) cdx.ScoringMethod {
	for start, method := range map[string]cdx.ScoringMethod{"CVSS:3.0": cdx.ScoringMethodCVSSv3, "CVSS:3.1": cdx.ScoringMethodCVSSv31, "CVSS:4.0": cdx.ScoringMethodCVSSv4} {
		if len(vector) > len(start) && vector[:len(start)] == start {
			return method
		}
	}
	return cdx.ScoringMethodCVSSv2
}
