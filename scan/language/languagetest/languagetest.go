// Package languagetest checks analyzers against tables of files. Start with [Run] and [Fuzz].
//
// It promises to call analyzers as a walk does: Wants first, then Look. It is not for programs.
package languagetest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/image"
	"bulkhead/scan/look"
)

// Case is one file and the packages that it tells of, one a line:
// "name version", then " dev", " purl pkg:…" where the test asks for it, " license …", " in …".
type Case struct {
	Name string
	Path string
	Text string
	Want string // [Unwanted] when no analyzer is to look at the file
	Show string // what else is shown of a package: any of "purl", "license"
	Err  string // a part of the error
}

// Unwanted is in place of packages.
const Unwanted = "unwanted"

// Run checks all cases.
func Run(t *testing.T, analyzers []look.Analyzer, cases []Case) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			facts, wanted, err := Look(t, analyzers, image.Memory(c.Path, 0o644, []byte(c.Text)))
			if (c.Err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.Err) {
				t.Fatalf("error %v, want one with %q", err, c.Err)
			}
			got := Lines(facts, c.Show)
			if !wanted {
				got = []string{Unwanted}
			}
			want := strings.Split(c.Want, "\n")
			if c.Want == "" {
				want = nil
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
}

// Look calls the one analyzer that wants a file; two are a mistake.
func Look(t *testing.T, analyzers []look.Analyzer, f *image.File) (facts look.Facts, wanted bool, err error) {
	t.Helper()
	for _, a := range analyzers {
		if !a.Wants(f) {
			continue
		}
		if wanted {
			t.Errorf("%s: more than one analyzer wants it", f.Path)
		}
		wanted = true
		facts, err = a.Look(t.Context(), f)
	}
	return facts, wanted, err
}

// Lines writes facts as cases do.
func Lines(facts look.Facts, show string) []string {
	var lines []string
	for _, p := range facts.Packages {
		line := p.Name + " " + p.Version
		if p.Dev {
			line += " dev"
		}
		if strings.Contains(show, "purl") {
			line += " purl " + p.PURL
		}
		if strings.Contains(show, "license") && len(p.Licenses) > 0 {
			line += " license " + strings.Join(p.Licenses, ", ")
		}
		if p.Path != "" {
			line += " in " + p.Path
		}
		lines = append(lines, line)
	}
	for _, o := range facts.Incomplete {
		lines = append(lines, "incomplete "+o.Path+": "+o.Message)
	}
	return lines
}

// Fuzz feeds the content of files with these paths, which all must be wanted: whatever is in them, nothing panics and
// each package has a name. Seeds begin with the texts of the cases.
func Fuzz(f *testing.F, analyzers []look.Analyzer, cases []Case) {
	f.Helper()
	for _, c := range cases {
		if c.Want != Unwanted {
			f.Add(c.Path, []byte(c.Text))
		}
	}
	f.Fuzz(func(t *testing.T, path string, b []byte) {
		file := image.Memory(path, 0o755, b)
		for _, a := range analyzers {
			if !a.Wants(file) {
				continue
			}
			facts, err := a.Look(t.Context(), file)
			if err != nil {
				continue
			}
			for _, p := range facts.Packages {
				if p.Name == "" || p.Type == "" {
					t.Errorf("%s: %+v", path, p)
				}
			}
		}
	})
}
