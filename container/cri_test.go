package container

import (
	"strings"
	"testing"
)

func TestPulledAs(t *testing.T) {
	one, two := "sha256:"+strings.Repeat("1", 64), "sha256:"+strings.Repeat("2", 64)
	for reference, want := range map[string]string{
		"registry.example:5000/shop/web:v1": two,
		"registry.example:5000/shop/web":    two,
		"registry.example:5000/shop/webber": one, // of any repository, where none is its own
	} {
		if got := pulledAs(reference, []string{"other.example/web@" + one, "odd", "registry.example:5000/shop/web@" + two}); got != want {
			t.Errorf("%s: %s, want %s", reference, got, want)
		}
	}
	if got := pulledAs("web", []string{"web@nothing"}); got != "" {
		t.Errorf("a digest that is none: %s", got)
	}
}
