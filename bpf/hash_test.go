package bpf

import (
	"path"
	"strings"
	"testing"
)

func TestHasherPath(t *testing.T) {
	h := Hasher(0x1234567)
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"/", "", true},
		{"/bin/sh", "/bin/sh/", true},
		{"/bin/sh", "//bin///sh", true},
		{"/bin/sh", "/bin/sH", false},
		{"/bin/sh", "/bins/h", false},
		{"/a/b", "/b/a", false},
		{"/a", "/a\x00", false},
		{"/" + strings.Repeat("a", 31), "/" + strings.Repeat("a", 32), false},
		{"/" + strings.Repeat("a", 32), "/" + strings.Repeat("a", 33), false},
		{"/" + strings.Repeat("a", 255), "/" + strings.Repeat("a", 254) + "b", false},
	} {
		if got := h.Path(c.a) == h.Path(c.b); got != c.same {
			t.Errorf("%q and %q: the same hash %v, want %v", c.a, c.b, got, c.same)
		}
	}
}

func TestHasherKinds(t *testing.T) {
	h := Hasher(7)
	seen := map[uint64]string{}
	for name, hash := range map[string]uint64{
		"path": h.Path("/bin/sh"), "applet": h.Applet("/bin/busybox", "sh"), "other applet": h.Applet("/bin/busybox", "ls"), "other program": h.Applet("/bin/toybox", "sh"),
		"read name": h.Name(PolicyRead, ".ssh"), "write name": h.Name(PolicyWrite, ".ssh"), "suffix": h.Suffix("/var/lib", "db"), "other suffix": h.Suffix("/var/lib", "sql"),
		"other seed": Hasher(8).Path("/bin/sh"),
	} {
		if before, ok := seen[hash]; ok {
			t.Errorf("%s and %s have one hash", name, before)
		}
		seen[hash] = name
	}
}

// FuzzHasherPath: a hash is that of the clean path's names from the root down, each continuing the one before; other
// names give another hash.
func FuzzHasherPath(f *testing.F) {
	f.Add(uint64(1), "/etc/passwd")
	f.Add(uint64(99), "//a//"+strings.Repeat("x", 300))
	f.Add(uint64(0), "")
	f.Fuzz(func(t *testing.T, seed uint64, p string) {
		h := Hasher(seed)
		if strings.Contains(p, "/./") || strings.Contains(p, "..") || strings.HasSuffix(p, "/.") || strings.HasPrefix(p, "./") || p == "." {
			return // the kernel has no such names
		}
		clean := path.Clean("/" + p)
		if h.Path(p) != h.Path(clean) {
			t.Errorf("%q and %q differ", p, clean)
		}
		dir, base := path.Split(clean)
		if base != "" && hashName(h.Path(dir), base) != h.Path(clean) {
			t.Errorf("%q does not continue %q", clean, dir)
		}
		if len(base) < 256 && h.Path(clean+"x") == h.Path(clean) && clean != "/" {
			t.Errorf("%q and the same with an x", clean)
		}
	})
}
