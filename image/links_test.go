package image

import (
	"strings"
	"testing"
)

func TestLinks(t *testing.T) {
	long := strings.Repeat("d/", maxPath/2)
	l := &links{}
	for _, pair := range [][2]string{
		{"lib", "usr/lib"},
		{"abs", "/opt/app"},
		{"usr/lib/up", "../../srv"},
		{"out", "../../../etc"},
		{"a", "b"},
		{"b", "a"},
		{"chain", "lib/up"},
		{"gone", "srv"},
		{"root", "/"},
		{"self", "."},
		{"long", long},
	} {
		l.note(&File{Path: pair[0], Kind: Symlink, Link: pair[1]})
	}
	l.note(&File{Path: "gone", Kind: Directory})
	for name, want := range map[string]string{
		"x": "x", "lib": "lib", "lib/x": "usr/lib/x", "usr/lib/x": "usr/lib/x", "abs/p/x": "opt/app/p/x", "lib/up/x": "srv/x", "chain/x": "srv/x",
		"out/x": "etc/x", "a/x": "a/x", "gone/x": "gone/x", "root/x": "x", "self/self/x": "x", "long/p/x": "long/p/x",
	} {
		for range 2 { // the second time remembered
			if got := l.resolve(name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}
