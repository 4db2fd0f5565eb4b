package manifest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// read returns a line for each object: where it begins and what it is, or what is wrong.
func read(t *testing.T, text string) []string {
	t.Helper()
	var got []string
	err := Read(strings.NewReader(text), "a.yaml", func(o Object, err error) error {
		if err != nil {
			got = append(got, err.Error())
			return nil
		}
		got = append(got, fmt.Sprintf("%d %s", o.Line, o.JSON))
		return nil
	})
	if err != nil && !errors.Is(err, errTooMany) {
		t.Fatal(err)
	}
	return got
}

func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"nothing":      {"# only a comment\n---\n\n---\n", nil},
		"two":          {"kind: A\n---\nkind: B\n", []string{`1 {"kind":"A"}`, `2 {"kind":"B"}`}},
		"comment":      {"--- # first\nkind: A\n--- \nkind: B\n", []string{`1 {"kind":"A"}`, `3 {"kind":"B"}`}},
		"on the line":  {"--- {kind: A}\n", []string{`1 {"kind":"A"}`}},
		"json":         {"{\"kind\": \"A\",\n\t\"x\": \"\\ud83d\\ude00\"}\n", []string{"1 {\"kind\": \"A\",\n\t\"x\": \"\\ud83d\\ude00\"}"}},
		"windows":      {"\xef\xbb\xbfkind: A\r\n---\r\nkind: B\r\n", []string{`1 {"kind":"A"}`, `2 {"kind":"B"}`}},
		"list":         {"kind: List\nitems:\n- kind: A\n- kind: PodList\n  items: [{kind: B}]\n", []string{`1 {"kind":"A"}`, `1 {"kind":"B"}`}},
		"old booleans": {"a: yes\nb: off\nc: \"yes\"\nd: 0644\n", []string{`1 {"a":true,"b":false,"c":"yes","d":420}`}},
		"alias":        {"a: &x {b: 1}\nc: *x\n", []string{`1 {"a":{"b":1},"c":{"b":1}}`}},

		"twice":       {"kind: A\n---\nkind: B\nspec:\n  a: 1\n  b: 2\n  a: 3\n", []string{`1 {"kind":"A"}`, `a.yaml:7: key "a" appears twice, first on the line 4 of the document`}},
		"twice, json": {"{\"kind\": \"A\",\n \"kind\": \"B\"}", []string{`a.yaml:2: key "kind" appears twice`}},
		"not yaml":    {"kind: A\n---\nkind: B\n  x: [\n", []string{`1 {"kind":"A"}`, "a.yaml:4: not YAML: mapping values are not allowed in this context"}},
		"template":    {"kind: A\nname: {{ .Values.x }}\n", []string{"a.yaml:2: a key must be a text; templates"}},
		"scalar":      {"hello\n", []string{"a.yaml:1: a manifest is an object"}},
		"sequence":    {"- a\n", []string{"a.yaml:1: a manifest is an object"}},
		"two in one":  {"kind: A\n...\nkind: B\n", []string{"a.yaml:1: a second document begins"}},
		"own alias":   {"a: &x\n  b: *x\n", []string{"a.yaml:1: an alias stands for itself"}},
		"deep":        {strings.Repeat("{a: ", 300) + "1" + strings.Repeat("}", 300), []string{"a.yaml:1: nested more than 200 deep"}},
		"deep, json":  {strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300), []string{"a.yaml:1: nested more than 200 deep"}},
		"bomb":        {bomb(), []string{"more than 500000 values"}},
		"list broken": {"kind: List\nitems: 3\n", []string{"a.yaml:1: the items of the List are no list"}},
		"large":       {"{\"a\": \"" + strings.Repeat("x", maxObject) + "\"}", []string{"a.yaml:1: the object is larger than 3 MiB"}},
		"kind twice":  {"{\"kind\": {}}", []string{"a.yaml:1: no object of Kubernetes"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := read(t, c.text)
			for i := range min(len(got), len(c.want)) {
				if strings.Contains(got[i], c.want[i]) {
					got[i] = c.want[i]
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// bomb is a document of a few hundred bytes that stands for a billion values.
func bomb() string {
	text := "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := 1; i < 10; i++ {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10), ","))
	}
	return text
}

func TestReadManyObjects(t *testing.T) {
	got := read(t, strings.Repeat("---\na: 1\n", maxObjects+2))
	if last := got[len(got)-1]; len(got) != maxObjects+1 || !strings.Contains(last, "more than 20000 objects") {
		t.Errorf("%d answers, the last %q", len(got), last)
	}
}

func TestReadLargeFile(t *testing.T) {
	if got := read(t, strings.Repeat("#", maxFile+1)); len(got) != 1 || !strings.Contains(got[0], "a.yaml:1: the file is larger than 32 MiB") {
		t.Errorf("got %.100q", got)
	}
}

func TestWalk(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b/x.yml": "kind: X\n", "a.json": `{"kind":"A"}`, "README.md": "no", "c.yaml": "kind: C\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	collect := func(o Object, err error) error { got = append(got, string(o.JSON)); return err }
	if err := Walk(dir, nil, collect); err != nil {
		t.Fatal(err)
	}
	if err := Walk("-", strings.NewReader("kind: S\n"), collect); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"kind":"A"}`, `{"kind":"X"}`, `{"kind":"C"}`, `{"kind":"S"}`}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := Walk(filepath.Join(dir, "none"), nil, collect); err == nil {
		t.Error("no error for a file that is not there")
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{"kind: A\n---\nkind: B\n", `{"kind":"List","items":[{"a":1}]}`, bomb(), "a: &x {b: 1}\n<<: *x\n", "--- \t#\n...\n", "a: !!binary x\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Count(text, "\n") + 1
		Read(strings.NewReader(text), "f", func(o Object, err error) error {
			if err == nil && (len(o.JSON) == 0 || len(o.JSON) > maxObject) {
				t.Errorf("an object of %d bytes", len(o.JSON))
			}
			if o.Line < 1 || o.Line > lines+1 {
				t.Errorf("line %d of %d", o.Line, lines)
			}
			return nil
		})
	})
}
