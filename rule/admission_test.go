package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"bulkhead/rule/scenarios"

	"github.com/google/go-cmp/cmp"
)

// TestAdmissionScenarios proves for every default rule that its wish meets it and the near miss
// does not, and that a rule is met by no near miss of another in a way that cannot be evaluated.
func TestAdmissionScenarios(t *testing.T) {
	all, err := scenarios.LoadAdmission()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, s := range all {
		count[s.Rule]++
		t.Run(s.Rule, func(t *testing.T) {
			set := withLists(t, s.Lists)
			if !admissionMeets(t, set, s.Rule, s.Deny) {
				t.Error("the wish does not meet the rule")
			}
			if admissionMeets(t, set, s.Rule, s.Allow) {
				t.Error("the near miss meets the rule")
			}
		})
	}
	for _, r := range withLists(t, nil).Rules() {
		if count[r.ID] != 1 {
			t.Errorf("rule %s has %d pairs in scenarios/admission, want 1", r.ID, count[r.ID])
		}
		delete(count, r.ID)
	}
	for id := range count {
		t.Errorf("a pair of the rule %s, which does not exist", id)
	}
}

func withLists(t *testing.T, lists map[string][]string) *Admission {
	t.Helper()
	text, err := json.Marshal(map[string]any{"lists": lists})
	if err != nil {
		t.Fatal(err)
	}
	set, err := LoadAdmission(files("lists.yaml", string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func admissionMeets(t *testing.T, set *Admission, id string, w scenarios.Wish) bool {
	t.Helper()
	met := false
	for _, m := range set.Eval(admissionRequest(t, w)) {
		if m.Failed {
			t.Errorf("rule %s cannot be evaluated on %s: %s", m.Rule.ID, m.Subject, m.Message)
		}
		if m.Rule.ID == id {
			met = true
			if m.Message == "" || m.Message == m.Rule.Title {
				t.Errorf("the message of %s cannot be evaluated", id)
			}
		}
	}
	return met
}

func admissionRequest(t *testing.T, w scenarios.Wish) AdmissionRequest {
	t.Helper()
	var manifest map[string]any // as JSON decodes it
	recode(t, w.Manifest(), &manifest)
	metadata := objectIn(manifest, "metadata")
	r := AdmissionRequest{Object: manifest, Kind: textIn(manifest, "kind"), Pod: manifest, Namespace: Namespace{Name: textIn(metadata, "namespace")}}
	if w.Object != nil {
		r.Pod = nil
	}
	if w.Scan != nil {
		r.Scan = func(string) (Scan, error) { return scanOf(w.Scan), nil }
	}
	return r
}

func recode(t *testing.T, from, into any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func scanOf(m map[string]any) Scan {
	n := func(key string) int { v, _ := m[key].(int); return v }
	return Scan{Known: m["known"] == true, AgeHours: float64(n("ageHours")), Critical: n("critical"), Fixable: n("fixable"), KEV: n("kev"), Malware: n("malware"), Secrets: n("secrets")}
}

// TestAdmissionPod is the whole of what a harmless pod meets: nothing.
func TestAdmissionPod(t *testing.T) {
	if got := withLists(t, nil).Eval(admissionRequest(t, scenarios.Wish{})); len(got) > 0 {
		t.Errorf("a harmless pod meets %s: %s", got[0].Rule.ID, got[0].Message)
	}
}

func TestAdmissionRulesAreWhole(t *testing.T) {
	for _, r := range withLists(t, nil).Rules() {
		known, ok := techniques[r.Technique]
		if !ok || !slices.Contains(known.tactics, r.Tactic) {
			t.Errorf("%s: rule %s: technique %s with tactic %s is not in technique.go", r.Source, r.ID, r.Technique, r.Tactic)
		}
		if len(r.Description) < 80 || strings.HasSuffix(r.Title, ".") {
			t.Errorf("rule %s: a description has two or three sentences, a title none", r.ID)
		}
	}
}

const ownAdmissionRule = `rules:
  - id: own
    title: T
    description: D
    severity: high
    technique: T1611
    tactic: privilege-escalation
    each: container
    when: |
      image.registry == "bad.example"
    message: image.reference
`

func TestAdmissionErrorsNameThePlace(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(ownAdmissionRule, old, new, 1) }
	for name, c := range map[string]struct{ file, want string }{
		"unknown field":  {change("title: T", "titel: T"), `a.yaml:3:5: unknown field "titel"; use one of action`},
		"each":           {change("each: container", "each: node"), `a.yaml:8:11: rule own is for each "node", which is unknown`},
		"action":         {change("each: container", "action: kill"), `a.yaml:8:13: action "kill" of rule own is unknown; use deny, warn or audit`},
		"undeclared":     {change("image.registry", "imag.registry"), "a.yaml:10:7: undeclared reference to 'imag'"},
		"field":          {change("image.registry", "image.registri"), "a.yaml:10:12: undefined field 'registri'"},
		"no condition":   {change(`image.registry == "bad.example"`, "image.registry"), "a.yaml:9:11: the condition is a string, it must be a bool"},
		"list's name":    {"lists: {security: [a]}\n", `a.yaml:1:8: "security" cannot be the name of a list`},
		"failure":        {change("each: container", "failure: close"), `failure "close" of rule own is unknown`},
		"exception":      {ownAdmissionRule + "    exceptions: [{name: x, when: nope}]\n", "a.yaml:12:34: undeclared reference to 'nope'"},
		"alias":          {"lists: {a: &x [b]}\n", "anchors and aliases are not allowed"},
		"event language": {change("image.registry", "process.exe"), "undeclared reference to 'process'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadAdmission(files("a.yaml", c.file))
			var place *Error
			if !errors.As(err, &place) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("LoadAdmission = %v, want %s", err, c.want)
			}
		})
	}
}

// TestAdmissionFailure: a condition that cannot be evaluated does what its rule says, and says so.
func TestAdmissionFailure(t *testing.T) {
	for _, failure := range []AdmissionAction{Deny, Warn, Audit} {
		own := strings.Replace(ownAdmissionRule, `image.registry == "bad.example"`, `container.nothing == 1`, 1) + "    failure: " + string(failure) + "\n"
		set, err := LoadAdmission(files("a.yaml", own))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range set.Eval(admissionRequest(t, scenarios.Wish{})) {
			got = append(got, fmt.Sprint(m.Rule.ID, m.Subject, m.Action, m.Failed))
		}
		if diff := cmp.Diff([]string{fmt.Sprint("own", "container app", failure, true)}, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestAdmissionCostIsBounded: a condition that walks for ever fails instead.
func TestAdmissionCostIsBounded(t *testing.T) {
	costly := `container.env.all(a, container.env.all(b, container.env.all(c, a.name + b.name != c.name)))`
	set, err := LoadAdmission(files("a.yaml", strings.Replace(ownAdmissionRule, `image.registry == "bad.example"`, costly, 1)))
	if err != nil {
		t.Fatal(err)
	}
	env := make([]any, 500)
	for i := range env {
		env[i] = map[string]any{"name": fmt.Sprint("v", i)}
	}
	matches := set.Eval(admissionRequest(t, scenarios.Wish{Container: map[string]any{"env": env}}))
	if !slices.ContainsFunc(matches, func(m AdmissionMatch) bool { return m.Rule.ID == "own" && m.Failed }) {
		t.Error("the rule was evaluated to its end")
	}
}

func TestParseImage(t *testing.T) {
	for reference, want := range map[string]Image{
		"nginx":                            {"nginx", "docker.io", "library/nginx", "", ""},
		"bitnami/nginx:1":                  {"bitnami/nginx:1", "docker.io", "bitnami/nginx", "1", ""},
		"docker.io/nginx":                  {"docker.io/nginx", "docker.io", "library/nginx", "", ""},
		"localhost/x":                      {"localhost/x", "localhost", "x", "", ""},
		"r.example:5000/a/b":               {"r.example:5000/a/b", "r.example:5000", "a/b", "", ""},
		"r.example:5000/a/b:v1@sha256:abc": {"r.example:5000/a/b:v1@sha256:abc", "r.example:5000", "a/b", "v1", "sha256:abc"},
		"":                                 {"", "docker.io", "", "", ""},
	} {
		if diff := cmp.Diff(want, ParseImage(reference)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", reference, diff)
		}
	}
}

func BenchmarkAdmission(b *testing.B) {
	set, err := DefaultAdmission()
	if err != nil {
		b.Fatal(err)
	}
	var manifest map[string]any
	text, _ := json.Marshal(scenarios.Wish{}.Manifest())
	if err := json.Unmarshal(text, &manifest); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		set.Eval(AdmissionRequest{Object: manifest, Kind: "Pod", Pod: manifest, Namespace: Namespace{Name: "shop"}})
	}
}
