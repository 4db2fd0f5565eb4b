//go:build integration

package vuln_test

import (
	"archive/zip"
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/vuln"
)

// The oracle reads the feeds a second time, in the plainest way: every record as JSON, every event of it, versions
// compared by dpkg and pip themselves. It shares nothing with the matcher, and says what pairs of package and CVE to expect.

// publicFeeds is where the public feeds lie, or nothing.
func publicFeeds() string {
	path := os.Getenv("BULKHEAD_FEEDS")
	if path == "" {
		path = filepath.Join("..", "..", "shared", "feeds")
	}
	if _, err := os.Stat(filepath.Join(path, "osv")); err != nil {
		return ""
	}
	return path
}

// tool is a program that answers a line "a b" with -1, 0 or 1.
type tool struct {
	in    io.WriteCloser
	out   *bufio.Reader
	known map[[2]string]int
}

func startTool(t *testing.T, name string, args ...string) *tool {
	t.Helper()
	cmd := exec.Command(name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &tool{in, bufio.NewReader(out), map[[2]string]int{}}
}

func (x *tool) compare(a, b string) int {
	key := [2]string{a, b}
	if c, ok := x.known[key]; ok {
		return c
	}
	fmt.Fprintf(x.in, "%s %s\n", a, b)
	line, err := x.out.ReadString('\n')
	if err != nil {
		panic(fmt.Sprintf("compare %q and %q: %v", a, b, err))
	}
	c, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		panic(line)
	}
	x.known[key] = c
	return c
}

const dpkgLoop = `while read -r a b; do
if dpkg --compare-versions "$a" lt "$b" 2>/dev/null; then echo -1; elif dpkg --compare-versions "$a" eq "$b" 2>/dev/null; then echo 0; else echo 1; fi
done`

// rpm itself compares whole versions with rpm.ver from 4.17 on.
const rpmLoop = `while read -r a b; do
rpm --eval "%{lua: local a, b = rpm.ver('$a'), rpm.ver('$b'); print(a < b and -1 or (a == b and 0 or 1))}"
done`

const pipLoop = `
import sys
from pip._vendor.packaging.version import Version, InvalidVersion
def read(s):
    try: return Version(s)
    except InvalidVersion: return None
while True:
    line = sys.stdin.readline()
    if not line: break
    a, b = map(read, line.split())
    if a is None or b is None:
        print((a is not None) - (b is not None), flush=True)
    else:
        print((a > b) - (a < b), flush=True)
`

var (
	alpineShape = regexp.MustCompile(`^(\d+(?:\.\d+)*)([a-z]?)((?:_[a-z]+\d*)*)(?:-r(\d+))?$`)
	alpineWord  = regexp.MustCompile(`_([a-z]+)(\d*)`)
	semverShape = regexp.MustCompile(`^v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$`)
	alpineWords = []string{"alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p"}
)

func numbers(t string) (list []int) {
	for _, s := range strings.Split(t, ".") {
		n, _ := strconv.Atoi(s)
		list = append(list, n)
	}
	return list
}

// alpine takes a version apart by its grammar and compares the parts as lists of numbers.
func alpine(a, b string) int {
	x, y := alpineKey(a), alpineKey(b)
	for i := range x {
		if c := slices.Compare(x[i], y[i]); c != 0 {
			return c
		}
	}
	return 0
}

func alpineKey(v string) (key [4][]int) {
	m := alpineShape.FindStringSubmatch(v)
	if m == nil {
		return key
	}
	key[0] = numbers(m[1])
	if m[2] != "" {
		key[1] = []int{int(m[2][0])}
	}
	for _, w := range alpineWord.FindAllStringSubmatch(m[3], -1) {
		n, _ := strconv.Atoi(w[2])
		key[2] = append(key[2], slices.Index(alpineWords, w[1]), n)
	}
	key[2] = append(key[2], 4) // the release itself
	r, _ := strconv.Atoi(m[4])
	key[3] = []int{r}
	return key
}

func semver(a, b string) int {
	x, y := semverShape.FindStringSubmatch(a), semverShape.FindStringSubmatch(b)
	if x == nil || y == nil {
		return strings.Compare(a, b)
	}
	n, m := numbers(x[1]), numbers(y[1])
	for len(n) < len(m) {
		n = append(n, 0)
	}
	for len(m) < len(n) {
		m = append(m, 0)
	}
	if c := slices.Compare(n, m); c != 0 {
		return c
	}
	switch {
	case x[2] == y[2]:
		return 0
	case x[2] == "":
		return 1
	case y[2] == "":
		return -1
	}
	return slices.CompareFunc(strings.Split(x[2], "."), strings.Split(y[2], "."), func(s, t string) int {
		a, aErr := strconv.Atoi(s)
		b, bErr := strconv.Atoi(t)
		switch {
		case aErr == nil && bErr == nil:
			return a - b
		case aErr == nil:
			return -1
		case bErr == nil:
			return 1
		}
		return strings.Compare(s, t)
	})
}

// naive is one record of a feed.
type naive struct {
	ID        string   `json:"id"`
	Withdrawn string   `json:"withdrawn"`
	Aliases   []string `json:"aliases"`
	Upstream  []string `json:"upstream"`
	Related   []string `json:"related"`
	Affected  []struct {
		Package  struct{ Ecosystem, Name string } `json:"package"`
		Versions []string                         `json:"versions"`
		Ranges   []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

func readFeed(t *testing.T, root, ecosystem string) (records []naive) {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join(root, "osv", ecosystem, "all.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for _, f := range z.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		var r naive
		if err := json.NewDecoder(in).Decode(&r); err != nil {
			t.Fatal(f.Name, err)
		}
		in.Close()
		records = append(records, r)
	}
	return records
}

// cves are the record's CVEs in the field that the feed has them in.
func (r *naive) cves(field string) (list []string) {
	var names []string
	switch field {
	case "upstream":
		names = r.Upstream
	case "related":
		names = r.Related
	case "aliases":
		names = append([]string{r.ID}, r.Aliases...)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "CVE-") {
			list = append(list, n)
		}
	}
	return list
}

// vulnerable follows OSV's own algorithm: a version is vulnerable when it is listed, or when of all events that are not
// after it the last one is an introduction.
func vulnerable(versions []string, ranges []rangeOf, v string, compare func(a, b string) int) bool {
	for _, listed := range versions {
		if listed == v {
			return true
		}
	}
	for _, r := range ranges {
		if r.kind == "GIT" {
			continue
		}
		in := false
		events := slices.Clone(r.events)
		slices.SortStableFunc(events, func(a, b [2]string) int {
			switch { // "0" is before everything
			case a[1] == b[1]:
				return 0
			case a[1] == "0":
				return -1
			case b[1] == "0":
				return 1
			}
			return compare(a[1], b[1])
		})
		for _, e := range events {
			at := 1
			if e[1] != "0" {
				at = compare(v, e[1])
			}
			switch e[0] {
			case "introduced":
				in = in || at >= 0
			case "fixed":
				in = in && at < 0
			case "last_affected":
				in = in && at <= 0
			}
		}
		if in {
			return true
		}
	}
	return false
}

type rangeOf struct {
	kind   string
	events [][2]string
}

// bed is one list of packages to judge.
type bed struct {
	name      string
	feed      string
	ecosystem string
	field     string
	os        bulkhead.OS
	kind      string
	compare   func(a, b string) int
	names     int // how many packages of the feed
}

func oracleBeds(t *testing.T) []bed {
	dpkg, pip := startTool(t, "sh", "-c", dpkgLoop), startTool(t, "python3", "-c", pipLoop)
	rpm := startTool(t, "sh", "-c", rpmLoop)
	debian := func(v string) bulkhead.OS { return bulkhead.OS{ID: "debian", Version: v} }
	ubuntu := func(v string) bulkhead.OS { return bulkhead.OS{ID: "ubuntu", Version: v} }
	return []bed{
		{"this host", "Debian", "Debian:12", "upstream", debian("12"), "deb", dpkg.compare, 0},
		{"Debian 11", "Debian", "Debian:11", "upstream", debian("11"), "deb", dpkg.compare, 250},
		{"Debian 12", "Debian", "Debian:12", "upstream", debian("12"), "deb", dpkg.compare, 250},
		{"Debian 13", "Debian", "Debian:13", "upstream", debian("13"), "deb", dpkg.compare, 100},
		{"Ubuntu 22.04", "Ubuntu", "Ubuntu:22.04:LTS", "upstream", ubuntu("22.04"), "deb", dpkg.compare, 150},
		{"Ubuntu 24.04", "Ubuntu", "Ubuntu:24.04:LTS", "upstream", ubuntu("24.04"), "deb", dpkg.compare, 100},
		{"Ubuntu 23.10", "Ubuntu", "Ubuntu:23.10", "upstream", ubuntu("23.10"), "deb", dpkg.compare, 50},
		{"Alpine 3.18", "Alpine", "Alpine:v3.18", "upstream", bulkhead.OS{ID: "alpine", Version: "3.18.4"}, "apk", alpine, 1000},
		{"Alpine 3.20", "Alpine", "Alpine:v3.20", "upstream", bulkhead.OS{ID: "alpine", Version: "3.20.0"}, "apk", alpine, 1000},
		{"Go", "Go", "Go", "aliases", bulkhead.OS{}, "golang", semver, 1500},
		{"npm", "npm", "npm", "aliases", bulkhead.OS{}, "npm", semver, 1000},
		{"crates.io", "crates.io", "crates.io", "aliases", bulkhead.OS{}, "cargo", semver, 1000},
		{"Bitnami", "Bitnami", "Bitnami", "aliases", bulkhead.OS{}, "bitnami", semver, 200},
		{"Rocky Linux 9", "Rocky Linux", "Rocky Linux:9", "upstream", bulkhead.OS{ID: "rocky", Version: "9.2"}, "rpm", rpm.compare, 100},
		{"RHEL 9", "Red Hat", "Red Hat:enterprise_linux:9", "upstream", bulkhead.OS{ID: "rhel", Version: "9.1"}, "rpm", rpm.compare, 100},
		{"AlmaLinux 9", "AlmaLinux", "AlmaLinux:9", "related", bulkhead.OS{ID: "almalinux", Version: "9.4"}, "rpm", rpm.compare, 150},
		{"PyPI", "PyPI", "PyPI", "aliases", bulkhead.OS{}, "pypi", pip.compare, 300},
	}
}

// TestAgainstOracle takes the public feeds where they are, and feeds of our own making elsewhere.
func TestAgainstOracle(t *testing.T) {
	beds := oracleBeds(t)
	root := publicFeeds()
	if root == "" {
		root = ownFeeds(t, beds)
	}
	dst := filepath.Join(t.TempDir(), "vuln.db")
	if _, err := vuln.Import(t.Context(), dst, []string{root}, vuln.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	db, err := vuln.Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, b := range beds {
		t.Run(b.name, func(t *testing.T) { b.run(t, db, readFeed(t, root, b.feed)) })
	}
}

func (b *bed) run(t *testing.T, db *vuln.DB, records []naive) {
	packages := hostPackages(t)
	if b.names > 0 {
		packages = b.invent(records)
	}
	got, err := db.Match(b.os, packages, vuln.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found, doubles := map[string]bool{}, 0
	for _, v := range got {
		if !strings.HasPrefix(v.ID, "CVE-") {
			continue
		}
		pair := v.Package + " " + v.Version + " " + v.ID
		if found[pair] {
			doubles++
		}
		found[pair] = true
	}
	want := b.expect(records, packages)
	missed, extra := 0, 0
	for pair := range want {
		if !found[pair] {
			if missed++; missed <= 5 {
				t.Log("missed", pair)
			}
		}
	}
	for pair := range found {
		if !want[pair] {
			if extra++; extra <= 5 {
				t.Log("extra", pair)
			}
		}
	}
	recall, precision := 1-float64(missed)/float64(max(1, len(want))), 1-float64(extra)/float64(max(1, len(found)))
	t.Logf("%d packages, %d pairs: recall %.4f, precision %.4f", len(packages), len(want), recall, precision)
	if len(want) == 0 || recall < 0.995 || precision < 0.995 || doubles > 0 {
		t.Errorf("recall or precision is below 0.995, or there are doubles (%d)", doubles)
	}
}

func (b *bed) expect(records []naive, packages []bulkhead.Package) map[string]bool {
	byName := map[string][]int{}
	for i, p := range packages {
		name := p.Name
		if p.Source != nil {
			name = p.Source.Name
		}
		byName[b.key(name)] = append(byName[b.key(name)], i)
	}
	want := map[string]bool{}
	for i := range records {
		r := &records[i]
		if r.Withdrawn != "" {
			continue
		}
		for _, a := range r.Affected {
			if a.Package.Ecosystem != b.ecosystem {
				continue
			}
			var ranges []rangeOf
			for _, x := range a.Ranges {
				made := rangeOf{kind: x.Type}
				for _, e := range x.Events {
					for kind, v := range e {
						made.events = append(made.events, [2]string{kind, v})
					}
				}
				ranges = append(ranges, made)
			}
			for _, n := range byName[b.key(a.Package.Name)] {
				p := packages[n]
				v := p.Version
				if p.Source != nil {
					v = p.Source.Version
				}
				if b.kind == "rpm" && strings.Contains(v, ".module") != modular(ranges) {
					continue // a build of a module and one outside are different software
				}
				if vulnerable(a.Versions, ranges, strings.TrimPrefix(v, "v"), b.compare) {
					for _, cve := range r.cves(b.field) {
						want[p.Name+" "+p.Version+" "+cve] = true
					}
				}
			}
		}
	}
	return want
}

func modular(ranges []rangeOf) bool {
	return slices.ContainsFunc(ranges, func(r rangeOf) bool {
		return slices.ContainsFunc(r.events, func(e [2]string) bool { return strings.Contains(e[1], ".module") })
	})
}

func (b *bed) key(name string) string {
	if b.kind == "pypi" {
		return strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(name))
	}
	return name
}

// invent makes packages of the feed's names, with versions at, just below and just above its bounds.
func (b *bed) invent(records []naive) (packages []bulkhead.Package) {
	bounds := map[string][]string{}
	for _, r := range records {
		for _, a := range r.Affected {
			if a.Package.Ecosystem != b.ecosystem {
				continue
			}
			bounds[a.Package.Name] = append(bounds[a.Package.Name], a.Versions...)
			for _, x := range a.Ranges {
				for _, e := range x.Events {
					for _, v := range e {
						if x.Type != "GIT" && v != "0" {
							bounds[a.Package.Name] = append(bounds[a.Package.Name], v)
						}
					}
				}
			}
		}
	}
	var names []string
	for name, list := range bounds {
		if len(list) > 0 && len(list) < 2000 { // not the kernel: dpkg would be asked for an hour
			names = append(names, name)
		}
	}
	slices.Sort(names)
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:min(len(names), b.names)] {
		list, taken := bounds[name], map[string]bool{}
		slices.Sort(list)
		for range 2 {
			v := b.near(r, list[r.IntN(len(list))])
			if taken[v] {
				continue
			}
			taken[v] = true
			p := bulkhead.Package{Name: name, Version: v, Type: b.kind}
			if b.kind == "deb" || b.kind == "apk" {
				p.Name, p.Source = "lib"+name, &bulkhead.Source{Name: name, Version: v}
			}
			packages = append(packages, p)
		}
	}
	return packages
}

func (b *bed) near(r *rand.Rand, v string) string {
	more := map[string][]string{
		"deb": {"", "", "~1", "+b1", "+deb12u1", ".1"}, "apk": {"", "", ""}, "pypi": {"", "", ".post1", ".dev1"},
		"golang": {"", "", "-rc.1"}, "npm": {"", "", "-beta.1"}, "cargo": {"", "-alpha"}, "rpm": {"", "", ".1", "~1"}, "bitnami": {"", ""},
	}[b.kind]
	i := strings.LastIndexAny(v, "123456789")
	if i >= 0 && r.IntN(3) == 0 { // one less somewhere
		v = v[:i] + string(v[i]-1) + v[i+1:]
	}
	if b.kind != "deb" && b.kind != "apk" && b.kind != "rpm" && strings.ContainsAny(v, "-+abcdefghijklmnopqrstuvwxyz") {
		return v
	}
	return v + more[r.IntN(len(more))]
}

func hostPackages(t *testing.T) (packages []bulkhead.Package) {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package}|${Version}|${source:Package}|${source:Version}\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		packages = append(packages, bulkhead.Package{Name: f[0], Version: f[1], Type: "deb", Source: &bulkhead.Source{Name: f[2], Version: f[3]}})
	}
	return packages
}
