//go:build integration

package scan

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
	"bulkhead/test/lab"
)

// TestSameFromEverywhere scans one image from a store, a registry, a file and a container that runs: it is one image.
func TestSameFromEverywhere(t *testing.T) {
	l := lab.Start(t)
	for _, name := range []string{"nginx", "tomcat"} {
		reference, err := l.Image(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		archive := filepath.Join(t.TempDir(), "image.tar")
		docker(t, "save", "-o", archive, reference)
		pushed := l.Registry() + "/scan-test/" + name + ":1"
		docker(t, "tag", reference, pushed)
		docker(t, "push", pushed)
		container := strings.TrimSpace(docker(t, "run", "-d", "--entrypoint", "sleep", reference, "600"))
		t.Cleanup(func() { docker(t, "rm", "-f", container) })

		want := scanned(t, l, archive)
		if n := len(want.Packages); n < 80 {
			t.Fatalf("%s: %d packages", name, n)
		}
		for _, target := range []string{"docker:" + reference, "registry:" + pushed, "container:" + container} {
			got := scanned(t, l, target)
			if diff := cmp.Diff(want.Packages, got.Packages); diff != "" {
				t.Errorf("%s: packages (-file +%s):\n%s", name, target, diff)
			}
			if diff := cmp.Diff(want.Findings, got.Findings); diff != "" {
				t.Errorf("%s: findings (-file +%s):\n%s", name, target, diff)
			}
		}
		checkPackages(t, reference, want.Packages)
	}
}

func scanned(t *testing.T, l *lab.Lab, target string) bulkhead.Report {
	t.Helper()
	s, err := New(Options{Only: []look.Kind{look.Packages, look.WebShell, look.Secret, look.Misconfig}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := image.Open(t.Context(), target, image.Options{PlainHTTP: []string{l.Registry()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	r, err := s.Scan(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Incomplete {
		if o.Message != NoDatabase {
			t.Errorf("%s is incomplete: %+v", target, o)
		}
	}
	return r
}

// checkPackages asks dpkg itself.
func checkPackages(t *testing.T, reference string, packages []bulkhead.Package) {
	t.Helper()
	told := docker(t, "run", "--rm", "--entrypoint", "dpkg-query", reference, "-W", "-f", `${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\n`)
	var want, got []string
	for line := range strings.Lines(told) {
		if rest, ok := strings.CutPrefix(line, "ii  "); ok {
			want = append(want, strings.TrimSpace(rest))
		}
	}
	for _, p := range packages {
		if p.Type == "deb" {
			got = append(got, p.Name+" "+p.Version+" "+p.Arch)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages of %s (-dpkg-query +ours):\n%s", reference, diff)
	}
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	c := exec.Command("docker", args...)
	var problems strings.Builder
	c.Stderr = &problems
	out, err := c.Output()
	if err != nil {
		t.Fatalf("docker %s: %v: %s", strings.Join(args, " "), err, problems.String())
	}
	return string(out)
}
