package corpus

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v3"
)

// Regression is one request of the Core Rule Set's own tests.
type Regression struct {
	ID     string // rule-test
	Group  string // the file of rules: REQUEST-942-…
	Attack bool   // rules of paranoia level 1 that look at requests must fire, and refuse it by their default threshold
	Part   Part
	Benign bool // a rule must not fire, and none must
	Raw    []byte
}

// Regressions reads the tests that come with the rules, and those of the repository under dir that are newer.
func Regressions(dir string) ([]Regression, error) {
	weights, err := criticality()
	if err != nil {
		return nil, err
	}
	all, err := readRegressions(tests.FS, weights, Train)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, r := range all {
		known[string(r.Raw)] = true
	}
	newer, err := readRegressions(os.DirFS(filepath.Join(dir, "coreruleset+coreruleset", "tests", "regression", "tests")), weights, Held)
	for _, r := range newer {
		if !known[string(r.Raw)] {
			known[string(r.Raw)] = true
			all = append(all, r)
		}
	}
	return all, err
}

func readRegressions(from fs.FS, weights map[int]int, part Part) ([]Regression, error) {
	var all []Regression
	err := fs.WalkDir(from, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		text, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		list, err := regressions(path, text, weights)
		for i := range list {
			list[i].Part = part
		}
		all = append(all, list...)
		return err
	})
	sort.SliceStable(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all, err
}

var (
	ruleID    = regexp.MustCompile(`\bid:'?(\d+)`)
	ruleLevel = regexp.MustCompile(`paranoia-level/(\d)`)
	severity  = regexp.MustCompile(`severity:'?(\w+)`)
)

var severities = map[string]int{"EMERGENCY": 5, "ALERT": 5, "CRITICAL": 5, "ERROR": 4, "WARNING": 3, "NOTICE": 2}

// refusedFrom is the sum of weights from which the rules refuse a request by default.
const refusedFrom = 5

// criticality is what each rule of paranoia level 1 weighs.
func criticality() (map[int]int, error) {
	weights := map[int]int{}
	err := fs.WalkDir(coreruleset.FS, "@owasp_crs", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".conf") {
			return err
		}
		text, err := fs.ReadFile(coreruleset.FS, path)
		if err != nil {
			return err
		}
		for rule := range strings.SplitSeq(string(text), "\nSecRule") {
			id, level := ruleID.FindStringSubmatch(rule), ruleLevel.FindStringSubmatch(rule)
			if s := severity.FindStringSubmatch(rule); id != nil && level != nil && s != nil && level[1] == "1" {
				n, _ := strconv.Atoi(id[1])
				weights[n] = severities[s[1]]
			}
		}
		return nil
	})
	return weights, err
}

// ofSetup are rules about lengths and numbers that are off until somebody sets a limit.
var ofSetup = map[int]bool{920360: true, 920370: true, 920380: true, 920390: true, 920400: true, 920410: true}

type crsFile struct {
	RuleID int `yaml:"rule_id"`
	Tests  []struct {
		ID     int `yaml:"test_id"`
		Stages []struct {
			Input  crsInput `yaml:"input"`
			Output struct {
				Log struct {
					Expect   []int `yaml:"expect_ids"`
					NoExpect []int `yaml:"no_expect_ids"`
				} `yaml:"log"`
			} `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

type crsInput struct {
	Method   *string   `yaml:"method"`
	URI      *string   `yaml:"uri"`
	Version  *string   `yaml:"version"`
	Headers  yaml.Node `yaml:"headers"`
	Data     *string   `yaml:"data"`
	Encoded  string    `yaml:"encoded_request"`
	Complete *bool     `yaml:"autocomplete_headers"`
}

func regressions(path string, text []byte, weights map[int]int) ([]Regression, error) {
	var file crsFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	parts := strings.Split(path, "/")
	var all []Regression
	for _, test := range file.Tests {
		for n, stage := range test.Stages {
			r := Regression{ID: fmt.Sprintf("%d-%d", file.RuleID, test.ID), Group: parts[len(parts)-2], Raw: stage.Input.raw()}
			if n > 0 {
				r.ID += fmt.Sprintf("-%d", n)
			}
			sum := 0
			for _, id := range stage.Output.Log.Expect {
				if id >= 911000 && id < 949000 && !ofSetup[id] {
					sum += weights[id]
				}
			}
			r.Attack = sum >= refusedFrom
			r.Benign = len(stage.Output.Log.Expect) == 0 && len(stage.Output.Log.NoExpect) > 0 && !strings.HasPrefix(r.Group, "RESPONSE")
			all = append(all, r)
		}
	}
	return all, nil
}

// raw writes the request as the tests' runner sends it.
func (in *crsInput) raw() []byte {
	if in.Encoded != "" {
		b, _ := base64.StdEncoding.DecodeString(in.Encoded)
		return b
	}
	or := func(p *string, other string) string {
		if p == nil {
			return other
		}
		return *p
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\n", or(in.Method, "GET"), or(in.URI, "/"), or(in.Version, "HTTP/1.1"))
	has := map[string]bool{}
	for i := 0; i+1 < len(in.Headers.Content); i += 2 {
		name, value := in.Headers.Content[i].Value, in.Headers.Content[i+1].Value
		has[strings.ToLower(name)] = true
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	data := or(in.Data, "")
	if data != "" && (in.Complete == nil || *in.Complete) {
		if !has["content-type"] {
			b.WriteString("Content-Type: application/x-www-form-urlencoded\r\n")
		}
		if !has["content-length"] && !has["transfer-encoding"] {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", len(data))
		}
	}
	b.WriteString("\r\n")
	b.WriteString(data)
	return []byte(b.String())
}
