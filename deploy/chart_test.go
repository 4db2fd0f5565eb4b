package deploy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the plain manifests")

// TestManifests keeps the plain manifests what the chart makes of its default values. The templates use only what
// text/template has, and three functions of Helm's: toJson, list, concat.
func TestManifests(t *testing.T) {
	for plain, source := range map[string]string{
		"10-crds.yaml": "chart/crds/bulkhead.yaml", "20-admission.yaml": "chart/templates/admission.yaml", "30-webhooks.yaml": "chart/templates/webhooks.yaml",
		"40-server.yaml": "chart/templates/server.yaml", "50-agent.yaml": "chart/templates/agent.yaml",
	} {
		got := render(t, source)
		file := filepath.Join("kubernetes", plain)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the chart makes; run: go test ./deploy -update\n%s", file, diff)
		}
	}
}

func render(t *testing.T, source string) []byte {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	defaults, err := os.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(defaults, &values); err != nil {
		t.Fatal(err)
	}
	functions := template.FuncMap{
		"toJson": func(v any) (string, error) { out, err := json.Marshal(v); return string(out), err },
		"list":   func(items ...any) []any { return items },
		"concat": func(a, b []any) []any { return append(a, b...) },
	}
	var out bytes.Buffer
	parsed := template.Must(template.New(source).Funcs(functions).Option("missingkey=error").Parse(string(text)))
	if err := parsed.Execute(&out, map[string]any{"Values": values, "Release": map[string]any{"Namespace": "bulkhead-system"}}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestLeastPrivilege: no role of ours may do everything, and none reads every secret.
func TestLeastPrivilege(t *testing.T) {
	roles := 0
	for _, source := range []string{"admission", "server", "agent"} {
		roles += leastPrivilege(t, render(t, "chart/templates/"+source+".yaml"))
	}
	if roles != 4 {
		t.Errorf("%d roles, want 4", roles)
	}
}

func leastPrivilege(t *testing.T, manifest []byte) (roles int) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(manifest))
	for {
		var object struct {
			Kind  string
			Rules []struct {
				Resources     []string
				Verbs         []string
				ResourceNames []string `yaml:"resourceNames"`
			}
		}
		if decoder.Decode(&object) != nil {
			return roles
		}
		if !strings.HasSuffix(object.Kind, "Role") {
			continue
		}
		roles++
		for _, rule := range object.Rules {
			all := strings.Join(append(rule.Resources, rule.Verbs...), " ")
			if strings.Contains(all, "*") {
				t.Errorf("a %s may do everything: %s", object.Kind, all)
			}
			if strings.Contains(all, "secrets") && len(rule.ResourceNames) == 0 && all != "secrets create" {
				t.Errorf("a %s reaches every secret: %s", object.Kind, all)
			}
		}
	}
}
