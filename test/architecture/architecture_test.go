// Package architecture keeps the plan of the house: which room may import which, which room
// alone opens a door to the outside, what every package comment says. Start with [rooms] and
// [doors].
//
// It promises to read the sources itself, so that an answer is never one from before a
// change. It is not for style inside a function: that is what the linters are for.
package architecture

import (
	"flag"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rooms says for each folder at the root which other rooms it may import; a folder inside one
// belongs to it, unless it has a line of its own. Arrows go down only: node and control plane
// meet in api and bus alone.
var rooms = map[string][]string{
	// words: the standard library only
	".": {},

	// engines: each has one job and knows the words
	"profile":  {"."},
	"rule":     {".", "rule/document"},
	"image":    {"."},
	"malware":  {".", "image", "scan/keyword", "scan/look"},
	"vuln":     {"."},
	"scan":     {".", "image", "malware", "scan/keyword", "scan/look", "vuln"},
	"baseline": {".", "rule/condition", "rule/document", "scan"},
	"topology": {".", "rule/document"},
	"incident": {"."},
	"sign":     {".", "image", "profile", "rule/condition", "rule/document"},

	// waf/corpus and waf/train are not part of any program that runs in production
	"waf": {"."},

	// the words of analyzers, which live in several rooms
	"scan/look": {".", "image"},

	// documents that people write, and conditions in them: rules and policies share both
	"rule/document":  {},
	"rule/condition": {"rule/document"},

	// a search that secrets and malware share
	"scan/keyword": {},

	// wire
	"api": {"."},
	"bus": {".", "api"},

	// node
	"bpf":       {"."},
	"container": {"."},
	"sensor":    {".", "bpf", "container", "profile"},
	"enforce":   {".", "bpf", "container", "profile", "topology"},
	"intercept": {".", "bpf", "waf"},
	"agent":     {".", "api", "baseline", "bpf", "bus", "container", "enforce", "image", "intercept", "profile", "rule", "sensor", "sign", "topology", "waf"},

	// control plane
	"auth":       {".", "api", "store"},
	"store":      {".", "api"},
	"bus/broker": {".", "api", "bus"},
	"console":    {},
	"kube":       {".", "rule"},
	"server":     {".", "api", "auth", "baseline", "bus", "bus/broker", "image", "incident", "malware", "profile", "rule", "scan", "sign", "store", "topology", "vuln"},

	"deploy": {}, // the chart and plain manifests, and a test of both

	// programs
	"demo":               {".", "demo/engine", "demo/userland"},
	"demo/engine":        {},
	"demo/userland":      {},
	"drill":              {".", "demo/engine", "demo/userland"},
	"cmd/bulkhead":       {".", "api", "auth", "baseline", "console", "demo", "drill", "image", "incident", "kube", "profile", "rule", "scan", "server", "sign", "topology", "vuln", "waf", "cmd/resident"},
	"cmd/bulkhead-agent": {".", "agent", "bpf", "enforce", "intercept", "profile", "waf", "cmd/resident"},
	"cmd/resident":       {}, // both programs' own pages

	// tests of the whole
	"test": {".", "api", "container", "image", "malware", "profile", "scan", "server", "sign", "topology", "vuln"},
}

// doors are the libraries that only some rooms import, their tests included.
var doors = map[string][]string{
	"github.com/cilium/ebpf":                 {"bpf"},
	"github.com/nats-io":                     {"bus", "bus/broker", "agent"},
	"github.com/nats-io/nats-server":         {"bus/broker"},
	"k8s.io":                                 {"kube"},
	"sigs.k8s.io":                            {"kube"},
	"database/sql":                           {"store"},
	"modernc.org/sqlite":                     {"store"},
	"github.com/jackc/pgx":                   {"store"},
	"github.com/pressly/goose":               {"store"},
	"github.com/containerd":                  {"container", "image", "agent"},
	"google.golang.org/grpc":                 {"container", "image"},
	"github.com/google/go-containerregistry": {"image", "sign", "server", "cmd/bulkhead", "test"}, // of server and cmd/bulkhead only tests: a registry
	"github.com/hillu/go-yara":               {"malware"},
	"github.com/sigstore":                    {"sign"},
	"github.com/secure-systems-lab":          {"sign"},
	"github.com/in-toto":                     {"sign"},
	"github.com/theupdateframework":          {"sign"},
	"github.com/corazawaf":                   {"waf"},
	"github.com/google/cel-go":               {"rule", "rule/condition"},
	"codeberg.org/go-pdf":                    {"baseline"},
	"github.com/spf13/cobra":                 {"cmd/bulkhead", "cmd/bulkhead-agent"},
	"github.com/prometheus":                  {"server", "agent"},
	"github.com/rogpeppe/go-internal":        {"cmd/bulkhead", "cmd/bulkhead-agent"},
}

// apart are rooms that must not be part of a program, however long the way to them.
var apart = map[string][]string{
	"cmd/bulkhead-agent": {"store", "server", "console", "auth", "kube", "bus/broker"},
	"cmd/bulkhead":       {"agent", "bpf", "enforce", "sensor"},
}

// Names that say nothing about what is in a folder.
var emptyNames = []string{"util", "utils", "common", "pkg", "misc", "helpers", "lib", "shared"}

var update = flag.Bool("update", false, "write the golden files")

func TestHouse(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range check(t, root) {
		t.Error(problem)
	}
}

// TestFixture proves that each rule finds what it is there for.
func TestFixture(t *testing.T) {
	const golden = "testdata/problems.txt"
	got := check(t, "testdata/house")
	if *update {
		if err := os.WriteFile(golden, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(want)), "\n"), got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// check returns the problems of the house at root, in order.
func check(t *testing.T, root string) []string {
	t.Helper()
	folders, err := read(root)
	if err != nil {
		t.Fatalf("reading the sources: %v", err)
	}
	var problems []string
	for _, f := range folders {
		problems = append(problems, checkName(f)...)
		problems = append(problems, checkArrows(f)...)
		problems = append(problems, checkDoors(f)...)
		problems = append(problems, checkComment(f)...)
		for _, file := range f.inits {
			problems = append(problems, file+": has an init function: call what it does from where it is needed")
		}
	}
	problems = append(problems, checkApart(folders)...)
	slices.Sort(problems)
	return slices.Compact(problems)
}

const module = "bulkhead"

func checkName(f folder) []string {
	if slices.Contains(emptyNames, path.Base(f.path)) {
		return []string{f.path + ": the name says nothing: name the folder after what it does"}
	}
	return nil
}

// room is the longest line of the plan that the folder at path is inside of.
func room(inside string) (string, bool) {
	for p := inside; p != "."; p = path.Dir(p) {
		if _, ok := rooms[p]; ok {
			return p, true
		}
	}
	return ".", inside == "."
}

// local is the folder that an import of this module names.
func local(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

func checkArrows(f folder) []string {
	if len(f.imports)+len(f.tests)+len(f.declared) == 0 {
		return nil // no Go
	}
	from, ok := room(f.path)
	if !ok {
		return []string{f.path + ": has no line in the plan of the house (test/architecture): add one with what it may import"}
	}
	var problems []string
	for _, use := range f.imports {
		target, ok := local(use.path)
		if !ok {
			continue
		}
		to, _ := room(target)
		if to != from && !slices.Contains(rooms[from], to) {
			problems = append(problems, use.file+": "+from+" must not import "+to)
		}
	}
	return problems
}

func checkDoors(f folder) []string {
	from, _ := room(f.path)
	if from == "test" {
		return nil
	}
	var problems []string
	for _, use := range slices.Concat(f.imports, f.tests) {
		door, allowed := doorOf(use.path)
		if door != "" && !slices.Contains(allowed, from) {
			problems = append(problems, use.file+": only "+strings.Join(allowed, " and ")+" may import "+door)
		}
	}
	return problems
}

// doorOf is the longest line of the doors that an import is behind.
func doorOf(imported string) (door string, allowed []string) {
	for prefix, rooms := range doors {
		inside := imported == prefix || strings.HasPrefix(imported, prefix+"/")
		if inside && len(prefix) > len(door) {
			door, allowed = prefix, rooms
		}
	}
	return door, allowed
}

var (
	startWith = regexp.MustCompile(`Start\s+with\s+([^.]|\.\w)+`)
	promises  = regexp.MustCompile(`\b[Pp]romise[sd]?\b`)
	notFor    = regexp.MustCompile(`\b(is|are|does|do)\s+not\b|\b[Nn]ot\s+for\b|\bno\s+place\b|\bmust\s+never\b`)
	link      = regexp.MustCompile(`\[\*?([A-Za-z]\w*)(\.\w+)?\]`)
)

// checkComment asks for the four parts: what the package does, what to start reading with,
// what it promises, what it is not for.
func checkComment(f folder) []string {
	if f.generated {
		return nil
	}
	var problems []string
	complain := func(text string) { problems = append(problems, f.path+": the package comment "+text) }
	if !strings.HasPrefix(f.comment, "Package ") && !strings.HasPrefix(f.comment, "Command ") {
		complain("is missing, or does not begin with what the package does")
		return problems
	}
	start := startWith.FindString(f.comment)
	if start == "" {
		complain(`does not say what to start with: "Start with [X] and [Y]"`)
	}
	if !promises.MatchString(f.comment) {
		complain("does not say what the package promises")
	}
	if !notFor.MatchString(f.comment) {
		complain("does not say what the package is not for")
	}
	for _, name := range link.FindAllStringSubmatch(start, -1) {
		if !slices.Contains(f.declared, name[1]) {
			complain("names " + name[1] + ", which is not there")
		}
	}
	return problems
}

// checkApart follows the imports of each program.
func checkApart(folders []folder) []string {
	byPath := map[string]folder{}
	for _, f := range folders {
		byPath[f.path] = f
	}
	var problems []string
	for program, forbidden := range apart {
		reached := map[string]string{program: program}
		follow(byPath, program, reached)
		for target, way := range reached {
			if r, _ := room(target); slices.Contains(forbidden, r) {
				problems = append(problems, program+": must not contain "+r+", and does by way of "+way)
			}
		}
	}
	return problems
}

// follow notes every folder that path imports, with the way to it.
func follow(byPath map[string]folder, inside string, reached map[string]string) {
	for _, use := range byPath[inside].imports {
		target, ok := local(use.path)
		if !ok || reached[target] != "" {
			continue
		}
		reached[target] = reached[inside] + " → " + target
		follow(byPath, target, reached)
	}
}
