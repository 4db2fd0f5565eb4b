//go:build integration

package linked

import (
	"testing"

	"bulkhead/image"
	"bulkhead/scan/language/languagetest"
)

// TestFormats builds the same program for other systems and in other ways.
func TestFormats(t *testing.T) {
	dir := source(t)
	tests := []struct {
		name, system, machine string
		flags                 []string
	}{
		{"without a build id", "linux", "amd64", []string{"-ldflags=-buildid="}},
		{"position independent", "linux", "amd64", []string{"-buildmode=pie"}},
		{"32 bits", "linux", "386", nil},
		{"big-endian", "linux", "s390x", nil},
		{"ARM", "linux", "arm64", []string{"-ldflags=-s -w"}},
		{"Windows", "windows", "amd64", nil},
		{"Windows, stripped", "windows", "amd64", []string{"-ldflags=-s -w"}},
		{"macOS", "darwin", "arm64", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			check(t, build(t, dir, test.system, test.machine, test.flags...), "example.com/app (devel)")
		})
	}
	b := build(t, dir, "linux", "amd64")
	copy(b[40:48], make([]byte, 8)) // e_shoff
	copy(b[60:64], make([]byte, 4)) // e_shnum, e_shstrndx
	t.Run("without sections", func(t *testing.T) { check(t, b, "example.com/app (devel)") })
	t.Run("cut off", func(t *testing.T) {
		facts, err := lookAt(t.Context(), image.Memory("app", 0o755, b[:len(b)/2]))
		if len(facts.Packages) > 4 {
			t.Errorf("%v, %v", languagetest.Lines(facts, ""), err)
		}
	})
}
