//go:build integration

package language

import (
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/scan/language/languagetest"
	"bulkhead/scan/look"
)

// run runs a real package manager and returns what it writes.
func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil && len(out) == 0 {
		t.Fatalf("%s %s: %v; it has to be installed for this test", name, strings.Join(args, " "), err)
	}
	return out
}

// names writes packages as "name version", each once.
func names(packages []bulkhead.Package, keep func(bulkhead.Package) bool) []string {
	var all []string
	for _, p := range packages {
		if keep(p) {
			all = append(all, p.Name+" "+p.Version)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func same(t *testing.T, want, got []string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("nothing to compare with")
	}
	t.Logf("%d packages", len(want))
	if d := diff.Diff(want, got); d != "" {
		t.Errorf("packages (-tool +ours):\n%s", d)
	}
}

const packageJSON = `{"name":"app","version":"1.0.0","private":true,
	"dependencies":{"express":"4.18.2","resolve":"1.22.8","@babel/core":"7.24.0"},"devDependencies":{"webpack":"5.90.0"}}`

// TestNPM installs a real project and compares with what npm lists: from node_modules, and from the lock file with what
// is for development.
func TestNPM(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(packageJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund")
	npm := func(p bulkhead.Package) bool { return p.Type == "npm" }
	installed := languagetest.Walk(t, Installed(), dir)
	declared := languagetest.Walk(t, Declared(), dir)
	t.Run("installed", func(t *testing.T) { same(t, npmList(t, dir), names(installed, npm)) })
	t.Run("production", func(t *testing.T) {
		same(t, npmList(t, dir, "--omit=dev"), names(declared, func(p bulkhead.Package) bool { return npm(p) && !p.Dev }))
	})
	t.Run("settled", func(t *testing.T) {
		all := languagetest.Walk(t, Analyzers(), dir)
		settled := Settle(all)
		same(t, names(installed, npm), names(settled, npm))
		same(t, npmList(t, dir, "--omit=dev"), names(settled, func(p bulkhead.Package) bool { return npm(p) && !p.Dev }))
	})
}

type npmTree struct {
	Version      string
	Dependencies map[string]npmTree
}

func npmList(t *testing.T, dir string, flags ...string) []string {
	t.Helper()
	var tree npmTree
	if err := json.Unmarshal(run(t, dir, "npm", append([]string{"ls", "--all", "--json"}, flags...)...), &tree); err != nil {
		t.Fatal(err)
	}
	var all []string
	var add func(npmTree)
	add = func(tree npmTree) {
		for name, below := range tree.Dependencies {
			if below.Version != "" { // else it is optional and not there
				all = append(all, name+" "+below.Version)
			}
			add(below)
		}
	}
	add(tree)
	slices.Sort(all)
	return slices.Compact(all)
}

// TestPip compares with what pip lists of the Python that is here.
func TestPip(t *testing.T) {
	var list []struct{ Name, Version string }
	if err := json.Unmarshal(run(t, "", "python3", "-m", "pip", "list", "--format=json", "--disable-pip-version-check"), &list); err != nil {
		t.Fatal(err)
	}
	separators := regexp.MustCompile(`[-_.]+`)
	var want []string
	for _, p := range list {
		want = append(want, strings.ToLower(separators.ReplaceAllString(p.Name, "-"))+" "+p.Version)
	}
	slices.Sort(want)
	var packages []bulkhead.Package
	for _, dir := range strings.Fields(string(run(t, "", "python3", "-c", `import sys, os; print(*[p for p in sys.path if os.path.isdir(p) and p.endswith("-packages")])`))) {
		packages = append(packages, languagetest.Walk(t, slices.DeleteFunc(Installed(), func(a look.Analyzer) bool { return a.Name != "pypi" }), dir)...)
	}
	// Deeper ones are copies that packages have inside them: they are there, but pip does not list them.
	same(t, slices.Compact(want), names(packages, func(p bulkhead.Package) bool { return strings.Count(p.Path, "/") <= 1 }))
}

// TestGoVersion compares with what the go command says about Go programs: two of its own and this test.
func TestGoVersion(t *testing.T) {
	root := strings.TrimSpace(string(run(t, "", "go", "env", "GOROOT")))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{filepath.Join(root, "bin", "go"), filepath.Join(root, "bin", "gofmt"), self} {
		t.Run(filepath.Base(program), func(t *testing.T) {
			dir := t.TempDir()
			b, err := os.ReadFile(program)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "program"), b, 0o755); err != nil {
				t.Fatal(err)
			}
			packages := languagetest.Walk(t, Installed(), dir)
			same(t, goList(string(run(t, "", "go", "version", "-m", program))), names(packages, func(bulkhead.Package) bool { return true }))
		})
	}
}

// goList reads the lines "mod" and "dep", and the Go version.
func goList(text string) []string {
	var all []string
	for i, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case i == 0:
			all = append(all, "stdlib "+strings.TrimPrefix(fields[len(fields)-1], "go"))
		case len(fields) >= 2 && (fields[0] == "mod" || fields[0] == "dep"):
			version := ""
			if len(fields) > 2 {
				version = fields[2]
			}
			all = append(all, fields[1]+" "+cmp.Or(version, "(devel)"))
		}
	}
	slices.Sort(all)
	return all
}

// TestCargo compares with what cargo resolves. Its crates are folders that stand in for the registry, as cargo vendor
// makes them, so that no registry is needed.
func TestCargo(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	crate := func(folder, name, version, dependencies string) {
		t.Helper()
		write(folder+"/Cargo.toml", "[package]\nname = \""+name+"\"\nversion = \""+version+"\"\nedition = \"2021\"\n[dependencies]\n"+dependencies)
		write(folder+"/src/lib.rs", "")
		write(folder+"/.cargo-checksum.json", `{"files":{},"package":"`+strings.Repeat("0", 64)+`"}`)
	}
	crate("vendor/one", "one", "1.2.3", "two = \"2\"\n")
	crate("vendor/two", "two", "2.0.1", "")
	crate("vendor/two-old", "two", "1.9.0", "")
	crate("app", "app", "0.1.0", "one = \"1\"\ntwo = \"1\"\n")
	write("app/.cargo/config.toml", "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \""+filepath.Join(dir, "vendor")+"\"\n")
	app := filepath.Join(dir, "app")
	var metadata struct {
		Packages []struct{ Name, Version, Source string }
	}
	if err := json.Unmarshal(run(t, app, "cargo", "metadata", "--format-version=1", "--offline"), &metadata); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range metadata.Packages {
		if p.Source != "" { // the project itself
			want = append(want, p.Name+" "+p.Version)
		}
	}
	slices.Sort(want)
	same(t, want, names(languagetest.Walk(t, Declared(), app), func(p bulkhead.Package) bool { return p.Type == "cargo" }))
}
