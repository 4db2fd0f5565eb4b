package sign

import (
	"slices"
	"strings"
	"time"
)

// The kinds of attestations, by the URI of their predicate.
const (
	TypeSignature  = "https://sigstore.dev/cosign/sign/v1" // of the image itself; its predicate is empty
	TypeCycloneDX  = "https://cyclonedx.org/bom"
	TypeSPDX       = "https://spdx.dev/Document"
	TypeScan       = "https://cosign.sigstore.dev/attestation/vuln/v1" // its scanner.result is Bulkhead's report
	TypeProvenance = "https://slsa.dev/provenance/v1"
	TypeVEX        = "https://openvex.dev/ns/v0.2.0"
	TypeProfile    = "urn:bulkhead:profile:v1" // its predicate is a profile, see docs/profile.md
)

// kind is a short name for some predicates.
type kind struct {
	name  string
	types []string
	times []string // where such a document says when it was made
}

var kinds = []kind{
	{"cyclonedx", []string{TypeCycloneDX}, []string{"metadata.timestamp"}},
	{"spdx", []string{TypeSPDX}, []string{"creationInfo.created"}},
	{"sbom", []string{TypeCycloneDX, TypeSPDX}, []string{"metadata.timestamp", "creationInfo.created"}},
	{"scan", []string{TypeScan}, []string{"metadata.scanFinishedOn"}},
	{"provenance", []string{TypeProvenance, "https://slsa.dev/provenance/v0.2"}, []string{"runDetails.metadata.finishedOn", "metadata.buildFinishedOn"}},
	{"vex", []string{TypeVEX, "https://openvex.dev/ns"}, []string{"timestamp"}},
	{"profile", []string{TypeProfile}, []string{"updated"}},
}

// Types are the predicates that a word stands for: one of the short names, or a URI.
func Types(word string) []string {
	for _, k := range kinds {
		if k.name == word {
			return k.types
		}
	}
	if strings.Contains(word, ":") {
		return []string{word}
	}
	return nil
}

// Kinds are the short names.
func Kinds() []string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// KindOf is the short name of a predicate, or its URI.
func KindOf(predicateType string) string {
	for _, k := range kinds {
		if slices.Contains(k.types, predicateType) {
			return k.name
		}
	}
	return predicateType
}

// timeOf is when a document says that it was made.
func timeOf(predicateType string, predicate any) (time.Time, bool) {
	for _, k := range kinds {
		if !slices.Contains(k.types, predicateType) {
			continue
		}
		for _, path := range k.times {
			if at, ok := timeAt(predicate, strings.Split(path, ".")); ok {
				return at, true
			}
		}
	}
	return time.Time{}, false
}

func timeAt(value any, path []string) (time.Time, bool) {
	for _, key := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return time.Time{}, false
		}
		value = object[key]
	}
	text, _ := value.(string)
	at, err := time.Parse(time.RFC3339, text)
	return at, err == nil && !at.IsZero()
}
