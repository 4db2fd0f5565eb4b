package binary

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/package-url/packageurl-go"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxSPDX is far more than the package lists in Bitnami's images have, some 100 KB.
const maxSPDX = 16 << 20

// wantsBitnami knows the lists that Bitnami's images have, one in each component's directory:
// opt/bitnami/redis/.spdx-redis.spdx.
func wantsBitnami(f *image.File) bool {
	base := path.Base(f.Path)
	return f.Kind == image.Regular && strings.HasPrefix(f.Path, "opt/bitnami/") &&
		strings.HasPrefix(base, ".spdx-") && strings.HasSuffix(base, ".spdx")
}

// spdx is the part of an SPDX document that is used, in the names of its JSON.
type spdx struct {
	Packages []spdxPackage `json:"packages"`
}

type spdxPackage struct {
	Licence      string    `json:"licenseDeclared"`
	ExternalRefs []spdxRef `json:"externalRefs"`
}

type spdxRef struct {
	Type    string `json:"referenceType"`
	Locator string `json:"referenceLocator"`
}

func lookBitnami(_ context.Context, f *image.File) (look.Facts, error) {
	b, err := f.Bytes(maxSPDX)
	if err != nil {
		return look.Facts{}, err
	}
	var document spdx
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		err = json.Unmarshal(b, &document)
	} else {
		document = tagValue(b)
	}
	if err != nil {
		return look.Facts{}, fmt.Errorf("read the package list %s as SPDX: %w", f.Path, err)
	}
	var facts look.Facts
	for _, p := range document.Packages {
		if found, ok := p.bitnami(); ok {
			facts.Packages = append(facts.Packages, found)
		}
	}
	return facts, nil
}

// tagValue reads SPDX's older form, lines of "Tag: value".
func tagValue(b []byte) spdx {
	var document spdx
	var p *spdxPackage
	for line := range strings.SplitSeq(string(b), "\n") {
		tag, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case tag == "PackageName":
			document.Packages = append(document.Packages, spdxPackage{})
			p = &document.Packages[len(document.Packages)-1]
		case p == nil:
		case tag == "PackageLicenseDeclared":
			p.Licence = value
		case tag == "ExternalRef":
			if words := strings.Fields(value); len(words) == 3 {
				p.ExternalRefs = append(p.ExternalRefs, spdxRef{Type: words[1], Locator: words[2]})
			}
		}
	}
	return document
}

func (p spdxPackage) bitnami() (bulkhead.Package, bool) {
	for _, ref := range p.ExternalRefs {
		if ref.Type != "purl" {
			continue
		}
		if found, ok := bitnamiPackage(ref.Locator); ok {
			found.Licenses = licence(p.Licence)
			return found, true
		}
	}
	return bulkhead.Package{}, false
}

// bitnamiPackage reads a purl of Bitnami's. What is of another type in the list (Go modules, Python packages) is found
// where it lies, with the path that matters.
func bitnamiPackage(locator string) (bulkhead.Package, bool) {
	purl, err := packageurl.FromString(locator)
	if err != nil || purl.Type != typeBitnami || purl.Version == "" {
		return bulkhead.Package{}, false
	}
	// "1.25.3-0" is the first build of 1.25.3. The feed's order is that of semantic versions, in which it would come
	// before 1.25.3, so that the build's number is left out.
	if version, build, has := cutLast(purl.Version, "-"); has && number([]byte(build)) == len(build) {
		purl.Version = version
	}
	return bulkhead.Package{
		Name: purl.Name, Version: purl.Version, Type: typeBitnami,
		PURL: purl.ToString(), Arch: purl.Qualifiers.Map()["arch"],
	}, true
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// licence leaves out SPDX's words for not knowing.
func licence(declared string) []string {
	if declared == "" || declared == "NOASSERTION" || declared == "NONE" {
		return nil
	}
	return []string{declared}
}
