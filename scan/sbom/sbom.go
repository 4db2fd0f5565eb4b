// Package sbom writes the packages of a report as a software bill of materials and reads those of other tools:
// CycloneDX and SPDX. Start with [Read], [WriteCycloneDX] and [WriteSPDX].
//
// It promises that a report that was written and read again has the same packages, so that the same vulnerabilities are
// found in it; that the same report makes the same document, byte for byte; and that a hostile document costs bounded
// memory and ends in an error. It is not for looking at images: that is package scan.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/package-url/packageurl-go"

	"bulkhead"
)

// fromURL reads what a package URL says, in the names that Bulkhead's own analyzers use. The second value is the
// distribution of its qualifiers, as "debian-12".
func fromURL(s string) (bulkhead.Package, string, error) {
	u, err := packageurl.FromString(s)
	if err != nil {
		return bulkhead.Package{}, "", err
	}
	q := u.Qualifiers.Map()
	p := bulkhead.Package{Type: u.Type, Name: nameOf(u), Version: u.Version, PURL: s, Arch: q["arch"], Module: q["rpmmod"]}
	if epoch := q["epoch"]; epoch != "" && isDistribution(u.Type) && !strings.Contains(u.Version, ":") {
		p.Version = epoch + ":" + u.Version
	}
	p.Source = sourceOf(q["upstream"], p.Version)
	return p, q["distro"], nil
}

// nameOf joins a package URL's namespace and name as its ecosystem does. Of a distribution's package the namespace is
// the distribution.
func nameOf(u packageurl.PackageURL) string {
	switch {
	case u.Namespace == "", isDistribution(u.Type):
		return u.Name
	case u.Type == "maven":
		return u.Namespace + ":" + u.Name
	case u.Type == "generic", u.Type == "bitnami":
		return u.Name
	}
	return u.Namespace + "/" + u.Name
}

func isDistribution(kind string) bool { return kind == "deb" || kind == "apk" || kind == "rpm" }

// sourceOf reads the qualifier "upstream": "name" or "name@version". Syft writes the file name of a source rpm.
func sourceOf(upstream, version string) *bulkhead.Source {
	if upstream == "" {
		return nil
	}
	if nevra, ok := strings.CutSuffix(upstream, ".src.rpm"); ok {
		return sourceRPM(nevra)
	}
	name, own, _ := strings.Cut(upstream, "@")
	return &bulkhead.Source{Name: name, Version: cmp.Or(own, version)}
}

// sourceRPM takes "openssl-3.0.7-24.el9" apart: the last two dashes stand before version and release.
func sourceRPM(nevra string) *bulkhead.Source {
	release := strings.LastIndexByte(nevra, '-')
	if release < 0 {
		return &bulkhead.Source{Name: nevra}
	}
	version := strings.LastIndexByte(nevra[:release], '-')
	if version < 0 {
		return &bulkhead.Source{Name: nevra[:release], Version: nevra[release+1:]}
	}
	return &bulkhead.Source{Name: nevra[:version], Version: nevra[version+1:]}
}

// extras are what no field of the two formats is for, by name.
func extras(p bulkhead.Package) [][2]string {
	var list [][2]string
	add := func(name, value string) {
		if value != "" && value != "false" {
			list = append(list, [2]string{prefix + name, value})
		}
	}
	add("path", p.Path)
	add("layer", p.Layer)
	add("base", strconv.FormatBool(p.Base))
	add("owner", p.Owner)
	add("dev", strconv.FormatBool(p.Dev))
	if p.Source != nil {
		add("source", p.Source.Name)
		add("source-version", p.Source.Version)
	}
	return list
}

const prefix = "bulkhead:"

// setExtra takes one of them back.
func setExtra(p *bulkhead.Package, name, value string) {
	switch strings.TrimPrefix(name, prefix) {
	case "path":
		p.Path = value
	case "layer":
		p.Layer = value
	case "base":
		p.Base = value == "true"
	case "owner":
		p.Owner = value
	case "dev":
		p.Dev = value == "true"
	case "source":
		p.Source = &bulkhead.Source{Name: value, Version: p.Version}
	case "source-version":
		if p.Source != nil {
			p.Source.Version = value
		}
	}
}

// reader collects what a document says.
type reader struct {
	report  bulkhead.Report
	distros map[string]int
	named   bool // the document names the distribution itself
	unnamed int  // things without a package URL
	broken  []string
}

func (r *reader) add(url string, more func(*bulkhead.Package)) {
	if url == "" {
		r.unnamed++
		return
	}
	p, distro, err := fromURL(url)
	if err != nil {
		r.broken = append(r.broken, fmt.Sprintf("%q is no package URL: %v", url, err))
		return
	}
	if distro != "" && isDistribution(p.Type) {
		r.distros[distro]++
	}
	more(&p)
	r.report.Packages = append(r.report.Packages, p)
}

func (r *reader) system(name, version string) {
	if name == "" || r.named {
		return
	}
	r.named = true
	r.report.OS = bulkhead.OS{ID: strings.ToLower(name), Version: version}
}

// most is how many of one kind of problem are told.
const most = 20

func (r *reader) finish() bulkhead.Report {
	if !r.named {
		r.report.OS = systemOf(r.distros)
	}
	for i, problem := range r.broken {
		if i == most {
			problem = fmt.Sprintf("%d more of the same", len(r.broken)-most)
		}
		r.report.Incomplete = append(r.report.Incomplete, bulkhead.Omission{Message: problem})
		if i == most {
			break
		}
	}
	if r.unnamed > 0 {
		r.report.Incomplete = append(r.report.Incomplete, bulkhead.Omission{Message: fmt.Sprintf("%d packages have no package URL: nobody can say what they are", r.unnamed)})
	}
	return r.report
}

// systemOf is the distribution that most packages name: "debian-12", "opensuse-leap-15.5", "debian-sid".
func systemOf(distros map[string]int) bulkhead.OS {
	names := slices.SortedFunc(maps.Keys(distros), func(a, b string) int {
		return cmp.Or(cmp.Compare(distros[b], distros[a]), cmp.Compare(a, b))
	})
	if len(names) == 0 {
		return bulkhead.OS{}
	}
	i := strings.LastIndexByte(names[0], '-')
	switch {
	case i < 0:
		return bulkhead.OS{ID: names[0]}
	case strings.ContainsAny(names[0][i+1:], "0123456789"):
		return bulkhead.OS{ID: names[0][:i], Version: names[0][i+1:]}
	}
	return bulkhead.OS{ID: names[0][:i], Codename: names[0][i+1:]}
}

// identity is a number made of what a document is about, so that the same report makes the same document.
func identity(r bulkhead.Report) string {
	h := sha256.New()
	fmt.Fprintln(h, r.Target, r.Digest)
	for _, p := range r.Packages {
		fmt.Fprintln(h, p.PURL, p.Path, p.Layer)
	}
	for _, v := range r.Vulnerabilities {
		fmt.Fprintln(h, v.ID, v.PURL, v.Path)
	}
	sum := h.Sum(nil)
	sum[6] = sum[6]&0x0f | 0x80 // version 8 of RFC 9562: made in an own way
	sum[8] = sum[8]&0x3f | 0x80
	s := hex.EncodeToString(sum[:16])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// imageURL is the package URL of the image itself.
func imageURL(r bulkhead.Report) string {
	if r.Digest == "" {
		return ""
	}
	name, _, _ := strings.Cut(r.Target, "@")
	base := name[strings.LastIndexByte(name, '/')+1:]
	base, tag, _ := strings.Cut(base, ":")
	q := map[string]string{"tag": tag}
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		q["repository_url"] = name[:i] + "/" + base
	}
	maps.DeleteFunc(q, func(_, value string) bool { return value == "" })
	return packageurl.NewPackageURL("oci", "", strings.ToLower(base), r.Digest, packageurl.QualifiersFromMap(q), "").ToString()
}

// maxDocument bounds what is read: a document with 100,000 packages has some 100 MB.
const maxDocument = 512 << 20

func whole(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("it has more than %d MiB", maxDocument>>20)
	}
	return b, nil
}
