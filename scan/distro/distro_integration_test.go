//go:build integration

package distro

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// layered is the facts of an image whose layers lie over one another, by the file that told them.
type layered map[string]look.Facts

func (w layered) look(ctx context.Context, f *image.File) error {
	if f.Kind == image.Whiteout {
		delete(w, f.Path)
		return nil
	}
	for _, a := range Analyzers() {
		if !a.Wants(f) {
			continue
		}
		facts, err := a.Look(ctx, f)
		if err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		w[f.Path] = facts
	}
	return nil
}

func (w layered) merge() (os bulkhead.OS, packages []bulkhead.Package, owned map[string][]string, incomplete []bulkhead.Omission) {
	found := map[string]bulkhead.OS{}
	owned = map[string][]string{}
	for path, facts := range w {
		if facts.OS != nil {
			found[path] = *facts.OS
		}
		packages = append(packages, facts.Packages...)
		for name, paths := range facts.Owned {
			owned[name] = append(owned[name], paths...)
		}
		incomplete = append(incomplete, facts.Incomplete...)
	}
	os = Choose(found)
	return os, Complete(os, packages), owned, incomplete
}

// theQuery asks dpkg for what Package has: installed ones only.
var theQuery = []string{"-W", "-f", "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"}

// asked is what dpkg-query answered, one line a package.
func asked(answer string) []string {
	var all []string
	for line := range strings.SplitSeq(answer, "\n") {
		state, rest, ok := strings.Cut(line, "\t")
		if ok && state != "not-installed" && state != "config-files" {
			all = append(all, rest)
		}
	}
	slices.Sort(all)
	return all
}

func told(packages []bulkhead.Package) []string {
	var all []string
	for _, p := range packages {
		source := bulkhead.Source{Name: p.Name, Version: p.Version}
		if p.Source != nil {
			source = *p.Source
		}
		all = append(all, strings.Join([]string{p.Name, p.Version, p.Arch, source.Name, source.Version}, "\t"))
	}
	slices.Sort(all)
	return all
}

// TestHost compares with dpkg of this machine, its files with dpkg's lists.
func TestHost(t *testing.T) {
	answer, err := exec.Command("dpkg-query", theQuery...).Output()
	if err != nil {
		t.Fatal(err)
	}
	w := layered{}
	for _, dir := range []string{"etc", "usr/lib", "usr/share/doc", "var/lib/dpkg"} {
		walkHost(t, w, dir)
	}
	os, packages, owned, incomplete := w.merge()
	if diff := cmp.Diff(asked(string(answer)), told(packages)); diff != "" {
		t.Errorf("packages (-dpkg +ours):\n%s", diff)
	}
	if os.ID == "" || len(incomplete) > 0 {
		t.Errorf("os %+v, incomplete %v", os, incomplete)
	}
	licensed := 0
	for _, p := range packages {
		if len(p.Licenses) > 0 {
			licensed++
		}
	}
	t.Logf("%d packages, %d with a licence", len(packages), licensed)
	checkFiles(t, packages, owned)
}

// walkHost looks at the files below a directory of this machine.
func walkHost(t *testing.T, w layered, dir string) {
	t.Helper()
	err := filepath.WalkDir("/"+dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return nil
		}
		f := image.Memory(strings.TrimPrefix(path, "/"), 0o644, nil)
		f.Size = info.Size()
		if !slices.ContainsFunc(Analyzers(), func(a look.Analyzer) bool { return a.Wants(f) }) {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return w.look(t.Context(), image.Memory(f.Path, 0o644, b))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkFiles asks dpkg for the files of every package at once.
func checkFiles(t *testing.T, packages []bulkhead.Package, owned map[string][]string) {
	t.Helper()
	missing, seen := 0, 0
	for name, files := range dpkgFiles(t) {
		have := map[string]bool{}
		for _, path := range owned[name] {
			have["/"+path] = true
		}
		for _, path := range files {
			info, err := os.Stat(path) // /bin is a link to a directory
			if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
				continue
			}
			seen++
			if !have[path] {
				missing++
				t.Logf("%s: %s is not owned", name, path)
			}
		}
	}
	if missing > 0 || seen < len(packages) {
		t.Errorf("%d of %d files are missing", missing, seen)
	}
	t.Logf("%d files", seen)
}

// dpkgFiles returns what `dpkg-query -L` says of all packages.
func dpkgFiles(t *testing.T) map[string][]string {
	t.Helper()
	names, err := exec.Command("dpkg-query", "-W", "-f", "${db:Status-Status} ${binary:Package}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	for line := range strings.SplitSeq(string(names), "\n") {
		state, name, _ := strings.Cut(line, " ")
		if state != "installed" {
			continue
		}
		list, err := exec.Command("dpkg-query", "-L", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		base, _, _ := strings.Cut(name, ":")
		files[base] = append(files[base], strings.Fields(strings.ReplaceAll(string(list), " ", "?"))...)
	}
	return files
}

// TestImages compares with dpkg inside of each of the lab's images.
func TestImages(t *testing.T) {
	l := lab.Start(t)
	names := slices.DeleteFunc(lab.Names(), func(name string) bool { return name == "busybox" })
	if err := l.Images(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			reference := lab.Reference(name)
			answer, err := exec.Command("docker", append([]string{"run", "--rm", "--entrypoint", "dpkg-query", reference}, theQuery...)...).Output()
			if err != nil {
				t.Fatalf("asking dpkg: %v", err)
			}
			w := scanImage(t, l, reference)
			os, packages, _, incomplete := w.merge()
			if diff := cmp.Diff(asked(string(answer)), told(packages)); diff != "" {
				t.Errorf("packages (-dpkg +ours):\n%s", diff)
			}
			if os.ID != "debian" || os.Version == "" || len(incomplete) > 0 {
				t.Errorf("os %+v, incomplete %v", os, incomplete)
			}
			t.Logf("%s: %d packages", os.Name, len(packages))
		})
	}
}

func scanImage(t *testing.T, l *lab.Lab, reference string) layered {
	t.Helper()
	img, err := image.Open(t.Context(), reference, image.Options{Docker: []string{l.Docker()}})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	w := layered{}
	for _, layer := range img.Layers {
		err := layer.Walk(t.Context(), func(f *image.File) error { return w.look(t.Context(), f) })
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// TestRealRPM builds packages, installs them into a database of rpm's default kind, and compares with rpm -qa.
func TestRealRPM(t *testing.T) {
	dir := t.TempDir()
	spec := filepath.Join(dir, "many.spec")
	if err := os.WriteFile(spec, []byte(manySpec(60)), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir, "--define", "_build_id_links none", spec)
	built, err := filepath.Glob(filepath.Join(dir, "RPMS/*/*.rpm"))
	if err != nil || len(built) == 0 {
		t.Fatalf("no packages were built: %v", err)
	}
	database := filepath.Join(dir, "db")
	run(t, "rpm", append([]string{"--dbpath", database, "-i", "--nodeps", "--justdb", "--noscripts"}, built...)...)
	answer := run(t, "rpm", "--dbpath", database, "-qa", "--qf", `%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\n`)
	b, err := os.ReadFile(filepath.Join(database, "rpmdb.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	facts, err := lookAt(t, "var/lib/rpm/rpmdb.sqlite", b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range facts.Packages {
		if !strings.Contains(p.Version, ":") {
			p.Version = "0:" + p.Version
		}
		got = append(got, strings.Join([]string{p.Name, p.Version, p.Arch, "many-1.0-1.src.rpm"}, "\t"))
	}
	want := strings.Split(strings.TrimSpace(answer), "\n")
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-rpm +ours):\n%s", diff)
	}
	files := strings.Fields(run(t, "rpm", "--dbpath", database, "-ql", "many-7"))
	if diff := cmp.Diff(files, rooted(facts.Owned["many-7"])); diff != "" {
		t.Errorf("files of many-7 (-rpm +ours):\n%s", diff)
	}
}

func rooted(paths []string) []string {
	all := slices.Clone(paths)
	for i := range all {
		all[i] = "/" + all[i]
	}
	return all
}

// manySpec has n packages with 20 files each.
func manySpec(n int) string {
	var b strings.Builder
	b.WriteString("Name: many\nVersion: 1.0\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%description\nx\n")
	b.WriteString("%install\n")
	for i := range n {
		fmt.Fprintf(&b, "mkdir -p %%{buildroot}/opt/many/%d\nfor f in $(seq 20); do echo > %%{buildroot}/opt/many/%d/file-$f; done\n", i, i)
	}
	for i := range n {
		fmt.Fprintf(&b, "%%package %d\nSummary: x\nEpoch: %d\nVersion: %d.1~rc2\n%%description %d\nx\n%%files %d\n/opt/many/%d/*\n", i, i%3, i, i, i, i)
	}
	return b.String()
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.Command(name, args...)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}
