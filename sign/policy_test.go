package sign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/rule/document"
)

// public is a key that was made for this test and is used nowhere.
const public = `
        -----BEGIN PUBLIC KEY-----
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
        -----END PUBLIC KEY-----
`

const whole = `apiVersion: bulkhead/v1
kind: TrustPolicy
metadata: {name: shop, labels: {a: b}}
spec:
  images: [registry.example/shop/**]
  exclude: [registry.example/shop/test]
  action: deny
  signers:
    - name: release
      key: |` + public + `  signatures: 1
  attestations:
    - name: scan
      type: scan
      signers: [release]
      conditions:
        - name: recent
          when: age < duration("168h")
          message: too old
        - name: block
          when: |
            predicate.a &&
              image.tag != "latest"
  breakGlass:
    - {images: [registry.example/shop/web], reason: down, by: ops, until: 2026-01-01T00:00:00Z}
`

func TestPolicyErrorsNameThePlace(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(whole, old, new, 1) }
	for name, c := range map[string]struct{ file, want string }{
		"yaml":              {"kind: [", "p.yaml:1:1: "},
		"nothing":           {"# nothing\n", "p.yaml:1:1: there is no policy in it"},
		"kind":              {change("TrustPolicy", "Pod"), "p.yaml:2:7: documents of kind \"Pod\""},
		"no kind":           {change("kind: TrustPolicy\n", ""), "p.yaml:1:1: the document does not say what it is"},
		"version":           {change("bulkhead/v1", "apps/v1"), "p.yaml:1:13: apiVersion \"apps/v1\""},
		"no name":           {change("name: shop, ", ""), "p.yaml:1:1: the policy has no name"},
		"name":              {change("name: shop", "name: Shop"), "p.yaml:3:18: \"Shop\" cannot be a name"},
		"twice":             {whole + "---\n" + whole, ":32:18: the name shop appears twice"},
		"unknown field":     {change("exclude", "excluded"), "p.yaml:6:3: unknown field \"excluded\""},
		"no images":         {change("  images: [registry.example/shop/**]\n", ""), "the policy is about no image"},
		"pattern":           {change("registry.example/shop/**", "shop/**"), "p.yaml:5:12: the pattern \"shop/**\" meets no image: it does not begin with a registry"},
		"tag":               {change("registry.example/shop/**", "registry.example/shop:v1"), "p.yaml:5:12: the pattern \"registry.example/shop:v1\" names a tag"},
		"registry alone":    {change("registry.example/shop/**", "registry.example"), "p.yaml:5:12: the pattern \"registry.example\" meets no image"},
		"action":            {change("action: deny", "action: block"), "p.yaml:7:11: the action \"block\" is unknown"},
		"key":               {change("MCow", "AAAA"), "p.yaml:10:12: the key: "},
		"no key":            {change("      key: |"+public, ""), "a signer has a key or an identity"},
		"file":              {change("key: |"+public, "keyFile: /etc/passwd\n"), "p.yaml:10:16: no file is read"},
		"too many":          {change("signatures: 1", "signatures: 2"), "2 signatures are asked for, of 1 signers"},
		"no signers":        {change("  signers:\n    - name: release\n      key: |"+public+"  signatures: 1\n", ""), "nobody's signature would count"},
		"type":              {change("type: scan", "type: scam"), "the type \"scam\" is unknown; use one of cyclonedx"},
		"signer of":         {change("signers: [release]", "signers: [other]"), "no signer is called \"other\""},
		"condition":         {change("age <", "agee <"), "p.yaml:21:17: undeclared reference to 'agee'"},
		"condition block":   {change("image.tag", "imag.tag"), "p.yaml:26:15: undeclared reference to 'imag'"},
		"no bool":           {change(`age < duration("168h")`, "age"), "p.yaml:21:17: the condition is a google.protobuf.Duration, it must be a bool"},
		"no end":            {change(", until: 2026-01-01T00:00:00Z", ""), "breaking the glass needs"},
		"end":               {change("until: 2026-01-01T00:00:00Z", "until: soon"), "value"},
		"alias":             {"kind: &a TrustPolicy\n", "anchors and aliases"},
		"condition unnamed": {change("        - name: recent\n          when", "        - when"), "a condition needs a name"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePolicy([]byte(c.file), "p.yaml")
			var where *document.Error
			if err == nil || p != nil || !errors.As(err, &where) {
				t.Fatalf("ParsePolicy = %v, %v; want no policy and an *Error", p, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error:\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestPolicyWhole(t *testing.T) {
	p, err := ParsePolicy([]byte(whole), "p.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Notes()) != 0 || !slices.Equal(p.Names(), []string{"shop"}) {
		t.Errorf("notes %q, names %q", p.Notes(), p.Names())
	}
	if idle := p.Idle([]string{"registry.example/shop/web:v1"}); len(idle) != 0 {
		t.Errorf("idle %q", idle)
	}
	if idle := p.Idle([]string{"registry.example/other:v1", "registry.example/shop/test"}); !slices.Equal(idle, []string{"shop"}) {
		t.Errorf("idle %q", idle)
	}
	both, err := Join(p, p)
	if err == nil {
		t.Errorf("joined twice: %v", both)
	}
}

// TestPolicyNotes says what is allowed and seldom meant.
func TestPolicyNotes(t *testing.T) {
	head := "kind: TrustPolicy\nmetadata: {name: p}\nspec:\n"
	signer := "  signers:\n    - name: release\n      key: |" + public
	for text, want := range map[string]string{
		"  images: ['**']\n" + signer:                               "is about every image",
		"  images: [r.example/**]\n  exclude: ['**']\n" + signer:    "is about no image",
		"  images: [r.example/**]\n":                                "asks for nothing",
		"  images: [r.example/**]\n  signatures: 0\n" + signer:      "asks for nothing",
		"  images: ['*/**']\n  exclude: [r.example/x]\n" + signer:   "",
		"  images: [r.example/**, localhost/x, '*.x/y']\n" + signer: "",
	} {
		p, err := ParsePolicy([]byte(head+text), "p.yaml")
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := strings.Join(p.Notes(), "\n"); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: notes %q, want %q", text, got, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for pattern, c := range map[string]struct{ yes, no []string }{
		"**":                       {[]string{"docker.io/library/nginx", "r:5000/x"}, nil},
		"docker.io/library/nginx":  {[]string{"docker.io/library/nginx"}, []string{"docker.io/library/nginx2", "docker.io/library/nginx/x", "docker.io/nginx"}},
		"r.example/*":              {[]string{"r.example/a"}, []string{"r.example/a/b", "r.example.net/a"}},
		"r.example/**":             {[]string{"r.example/a", "r.example/a/b/c"}, []string{"r.exampl/a"}},
		"r.example/**/web":         {[]string{"r.example/web", "r.example/a/b/web"}, []string{"r.example/web/a"}},
		"*.example:5000/shop-*/**": {[]string{"a.example:5000/shop-x/y"}, []string{"a.example/shop-x/y", "a.example:5000/shop/y"}},
	} {
		p, err := parsePattern(pattern)
		if err != nil {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, repository := range c.yes {
			if !(patterns{p}).match(repository) {
				t.Errorf("%s does not meet %s", pattern, repository)
			}
		}
		for _, repository := range c.no {
			if (patterns{p}).match(repository) {
				t.Errorf("%s meets %s", pattern, repository)
			}
		}
	}
}

// TestPolicyFiles reads keys beside a policy that is a file.
func TestPolicyFiles(t *testing.T) {
	dir := t.TempDir()
	key := strings.ReplaceAll(strings.TrimSpace(public), "        ", "")
	text := "kind: TrustPolicy\nmetadata: {name: p}\nspec:\n  images: [r.example/**]\n  signers: [{name: a, keyFile: a.pub}]\n"
	for name, content := range map[string]string{"a.pub": key, "p.yaml": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := LoadPolicy(filepath.Join(dir, "p.yaml")); err != nil {
		t.Error(err)
	}
	if _, err := LoadKey(filepath.Join(dir, "a.pub")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "a.pub")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPolicy(filepath.Join(dir, "p.yaml")); err == nil || !strings.Contains(err.Error(), "p.yaml:5:32: ") {
		t.Errorf("error %v", err)
	}
}

func TestCheckJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"b":[{"a":2},{"a":3}]}`: "",
		`{"a":1,"a":2}`:                 "appears twice",
		`{"a":1,"A":2}`:                 "appears twice",
		`{"x":{"a":1,"A":2}}`:           "", // below the depth where fields are known in any case
		`{"x":{"a":1,"a":2}}`:           "appears twice",
		`{"a":1} {}`:                    "something follows",
		`{"a":`:                         "no JSON",
		``:                              "no JSON",
		`{"\u0061":1,"a":2}`:            "appears twice",
		strings.Repeat("[", 200):        "nested more than",
	} {
		err := checkJSON([]byte(text), 0)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// TestCacheBounds keeps no more than the bounds, and the newest.
func TestCacheBounds(t *testing.T) {
	dir := t.TempDir()
	c, err := OpenCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 20 {
		c.store(fmt.Sprint("sha256:", i), Evidence{Types: []string{"x"}, Bundles: []Bundle{{"d", make([]byte, 1000)}}}, now)
		at := now.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(c.path(fmt.Sprint("sha256:", i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	c.sweep(1<<20, 10)
	has := func(i int) bool { _, _, ok := c.load(fmt.Sprint("sha256:", i), []string{"x"}); return ok }
	if has(9) || !has(10) || !has(19) {
		t.Errorf("kept 9: %v, 10: %v, 19: %v", has(9), has(10), has(19))
	}
	c.sweep(5000, 10)
	if has(15) || !has(19) {
		t.Errorf("by size: kept 15: %v, 19: %v", has(15), has(19))
	}
	if _, _, ok := c.load("sha256:19", []string{"x", "y"}); ok {
		t.Error("what was never looked for is taken as absent")
	}
	// A file that was moved is not another's.
	if err := os.Rename(c.path("sha256:19"), c.path("sha256:1")); err != nil {
		t.Fatal(err)
	}
	if has(1) {
		t.Error("a file that was moved counts")
	}
	if err := os.WriteFile(c.path("sha256:2"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if has(2) {
		t.Error("a damaged file counts")
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("kind: TrustPolicy\nspec: {images: ['**']}\n---\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicy(data, "p.yaml")
		if err == nil && (p == nil || len(p.list) == 0) {
			t.Error("neither a policy nor an error")
		}
	})
}

func FuzzBundle(f *testing.F) {
	image := "sha256:" + strings.Repeat("a", 64)
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbXSwicHJlZGljYXRlVHlwZSI6IngifQ==","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"AAAA"}]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.2","messageSignature":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseBundle(Bundle{"d", data}, image)
		if err == nil && !p.statement.about(image) {
			t.Error("a bundle about another image is taken")
		}
		_, _, _ = bundleLayer(data, image)
	})
}
