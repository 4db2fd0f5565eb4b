package corpus

import (
	"encoding/base64"
	"fmt"
	"io/fs"
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
	Attack bool   // a rule of paranoia level 1 that looks at requests must fire
	Benign bool   // a rule must not fire, and none must
	Raw    []byte
}

// Regressions reads the tests that come with the rules.
func Regressions() ([]Regression, error) {
	levels, err := paranoia()
	if err != nil {
		return nil, err
	}
	var all []Regression
	err = fs.WalkDir(tests.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		text, err := fs.ReadFile(tests.FS, path)
		if err != nil {
			return err
		}
		list, err := regressions(path, text, levels)
		all = append(all, list...)
		return err
	})
	sort.SliceStable(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all, err
}

var (
	ruleID    = regexp.MustCompile(`\bid:'?(\d+)`)
	ruleLevel = regexp.MustCompile(`paranoia-level/(\d)`)
)

// paranoia says for each rule at which level it begins to look.
func paranoia() (map[int]int, error) {
	levels := map[int]int{}
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
			if id != nil && level != nil {
				n, _ := strconv.Atoi(id[1])
				levels[n], _ = strconv.Atoi(level[1])
			}
		}
		return nil
	})
	return levels, err
}

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

func regressions(path string, text []byte, levels map[int]int) ([]Regression, error) {
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
			for _, id := range stage.Output.Log.Expect {
				r.Attack = r.Attack || levels[id] == 1 && id >= 911000 && id < 949000
			}
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
