package manifest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
)

func TestFields(t *testing.T) {
	tests := []struct {
		name, text string
		want       map[string]string
		damaged    bool
	}{
		{"empty", `{}`, map[string]string{}, false},
		{"all kinds", ` {"a":1,"b":"x","c":[1,{"d":"]"}],"e":{"f":"}"},"g":null,"h":-1.5e3}`, map[string]string{"a": "1", "b": `"x"`, "c": `[1,{"d":"]"}]`, "e": `{"f":"}"}`, "g": "null", "h": "-1.5e3"}, false},
		{"escaped quote", `{"a\"b":"\\","c":"\\\""}`, map[string]string{`a"b`: `"\\"`, "c": `"\\\""`}, false},
		{"last of duplicates", `{"a":1,"a":2}`, map[string]string{"a": "2"}, false},
		{"comma too many", `{"a":1,}`, map[string]string{"a": "1"}, false},
		{"deep", `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, map[string]string{"a": strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)}, false},
		{"an array", `[1]`, map[string]string{}, true},
		{"cut in a string", `{"a":"b`, map[string]string{}, true},
		{"cut in an object", `{"a":{"b":1}`, map[string]string{"a": `{"b":1}`}, true},
		{"cut after a key", `{"a"`, map[string]string{}, true},
		{"no comma", `{"a":1 "b":2}`, map[string]string{"a": "1"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := map[string]string{}
			err := Fields([]byte(test.text), func(key string, value []byte) bool {
				got[key] = string(value)
				return true
			})
			if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != test.damaged {
				t.Errorf("error %v, fields (-want +got):\n%s", err, diff)
			}
		})
	}
}

// FuzzFields: what encoding/json takes is read the same.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{`{"name":"a","version":"1","x":[1,{"y":null}]}`, `{"a\u0041":"\ud800"}`, `{"a":{}}`, `{`, `{"":""}`, "{\"a\":\"\xff\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got := map[string]string{}
		err := Fields(b, func(key string, value []byte) bool {
			got[key] = Text(value)
			return true
		})
		_ = Elements(b, func(value []byte) bool { return len(value) > 0 })
		var want map[string]any
		if json.Unmarshal(b, &want) != nil || want == nil {
			return
		}
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
			t.Fatalf("%q: keys (-want +got):\n%s", b, diff)
		}
		for key, value := range want {
			if text, ok := value.(string); ok && text != got[key] && json.Valid(b) && !strings.Contains(text, "\uFFFD") {
				t.Fatalf("%q: %q is %q, want %q", b, key, got[key], text)
			}
		}
	})
}

func TestList(t *testing.T) {
	l := NewList("npm")
	l.Add(Item{Name: "@babel/core", Version: "7.24.0", Dev: true, Licenses: []string{"MIT", " ", "a\nb"}})
	l.Add(Item{Name: "@babel/core", Version: "7.24.0"}) // is needed after all
	l.Add(Item{Name: "left pad", Version: "1"})         // spaces
	l.Add(Item{Name: "", Version: "1"})
	l.Add(Item{Name: "x\x00", Version: "1"})
	l.Add(Item{Name: strings.Repeat("x", 600), Version: "1"})
	l.Add(Item{Name: "\xff", Version: "1"})
	want := []bulkhead.Package{{Name: "@babel/core", Version: "7.24.0", Type: "npm", PURL: "pkg:npm/%40babel/core@7.24.0", Licenses: []string{"MIT"}}}
	if diff := cmp.Diff(want, l.Facts().Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

func TestPURL(t *testing.T) {
	tests := []struct {
		kind, name, version string
		qualifiers          map[string]string
		want                string
	}{
		{"golang", "github.com/BurntSushi/toml", "v1.3.2", nil, "pkg:golang/github.com/burntsushi/toml@v1.3.2"},
		{"golang", "github.com/docker/docker", "v24.0.7+incompatible", nil, "pkg:golang/github.com/docker/docker@v24.0.7%2Bincompatible"},
		{"golang", "stdlib", "1.22.1", nil, "pkg:golang/stdlib@1.22.1"},
		{"golang", "example.com/x", "(devel)", nil, "pkg:golang/example.com/x"},
		{"npm", "lodash", "4.17.21", nil, "pkg:npm/lodash@4.17.21"},
		{"pypi", "zope-interface", "6.0", nil, "pkg:pypi/zope-interface@6.0"},
		{"maven", "org.springframework:spring-core", "5.3.1", nil, "pkg:maven/org.springframework/spring-core@5.3.1"},
		{"maven", "spring-core", "5.3.1", nil, "pkg:maven/spring-core@5.3.1"},
		{"gem", "nokogiri", "1.16.0", map[string]string{"platform": "x86_64-linux"}, "pkg:gem/nokogiri@1.16.0?platform=x86_64-linux"},
		{"composer", "symfony/console", "v5.4.0", nil, "pkg:composer/symfony/console@v5.4.0"},
		{"cargo", "serde", "1.0.200", nil, "pkg:cargo/serde@1.0.200"},
		{"nuget", "Newtonsoft.Json", "13.0.1", nil, "pkg:nuget/Newtonsoft.Json@13.0.1"},
	}
	for _, test := range tests {
		if got := PURL(test.kind, test.name, test.version, test.qualifiers); got != test.want {
			t.Errorf("%s %s: %s, want %s", test.kind, test.name, got, test.want)
		}
	}
}

func TestReach(t *testing.T) {
	edges := map[string][]string{"a": {"b"}, "b": {"c", "a"}, "d": {"e"}}
	got := slices.Sorted(maps.Keys(Reach([]string{"a"}, edges)))
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Errorf("reached (-want +got):\n%s", diff)
	}
}

func TestAliasBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := range 12 {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i, i, i, i, i, i)
	}
	var into map[string]any
	if err := YAML(image.Memory("x.yaml", 0o644, []byte(b.String())), &into); err == nil {
		t.Error("a file that becomes ten million times as large was read")
	}
}

// TestManyKeys: what would take the decoder hours is refused.
func TestManyKeys(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "k%d: 1\n", i)
	}
	var into map[string]int
	if err := YAML(image.Memory("x.yaml", 0o644, []byte(b.String())), &into); err == nil {
		t.Error("was read")
	}
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte("a: &x {b: [c, *x]}\n? d\n: e\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var into map[string]any
		_ = YAML(image.Memory("x.yaml", 0o644, b), &into)
	})
}

func TestByteOrderMark(t *testing.T) {
	var into struct{ Name string }
	if err := JSON(image.Memory("x.json", 0o644, []byte("\xef\xbb\xbf{\"name\":\"a\"}")), &into); err != nil || into.Name != "a" {
		t.Errorf("%v, %v", into, err)
	}
}

// TestDeepTOML: what would take the decoder minutes is refused.
func TestDeepTOML(t *testing.T) {
	const n = 20_000
	for _, text := range []string{
		strings.Repeat("a.", n) + "a=1",
		strings.Repeat("\"a\" . ", n) + "a = 1",
		"[" + strings.Repeat("a.", n) + "a]",
		"a=" + strings.Repeat("{a=", n) + "1" + strings.Repeat("}", n),
		"a={b=1," + strings.Repeat("a.", n) + "a=1}",
	} {
		var into map[string]any
		if err := TOML(image.Memory("x.lock", 0o644, []byte(text)), &into); err == nil {
			t.Errorf("%s… was read", text[:20])
		}
	}
}

func FuzzTOML(f *testing.F) {
	f.Add([]byte("[[package]]\nname = \"a\"\n"))
	f.Add([]byte("a = [[[[[[{b={c=1}}]]]]]]"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var into map[string]any
		_ = TOML(image.Memory("x.toml", 0o644, b), &into)
	})
}

// BenchmarkFields reads a package.json of the usual size, beside the decoder of the standard library.
func BenchmarkFields(b *testing.B) {
	text := []byte(`{"name":"x","version":"1.0.0","license":"MIT","scripts":{` + strings.TrimSuffix(strings.Repeat(`"test":"node a.js && node b.js",`, 40), ",") +
		`},"dependencies":{` + strings.TrimSuffix(strings.Repeat(`"lodash":"^4.17.0",`, 40), ",") + `}}`)
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var into struct{ Name, Version string }
			_ = json.Unmarshal(text, &into)
		}
	})
	b.Run("fields", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_ = Fields(text, func(string, []byte) bool { return true })
		}
	})
}
