package distro

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
)

func TestAPK(t *testing.T) {
	const db = `C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:ssl_client
V:1.36.1-r29
A:x86_64
S:4948
I:28672
T:External ssl_client for busybox wget
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Somebody <a@example.org>
D:so:libc.musl-x86_64.so.1
F:usr
F:usr/bin
R:ssl_client
a:0:0:755
Z:Q1thpPK1M1qVjWbBmpIlBpGYqXHuA=

P:musl
V:1.2.5-r0
A:x86_64
L:MIT AND (BSD-2-Clause OR ISC)
o:musl
F:lib
R:ld-musl-x86_64.so.1
F:
R:root-file

P:old
V:1.0-r0
L:MIT BSD MIT
P:.build-deps

V:1

P:.build-deps
V:20240102.030405
`
	for _, path := range []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} {
		facts := mustLook(t, path, strings.ReplaceAll(db, "MIT\nP:.build-deps", "MIT"))
		want := []bulkhead.Package{
			{Name: "ssl_client", Version: "1.36.1-r29", Type: "apk", Arch: "x86_64", Licenses: []string{"GPL-2.0-only"}, Source: &bulkhead.Source{Name: "busybox", Version: "1.36.1-r29"}},
			{Name: "musl", Version: "1.2.5-r0", Type: "apk", Arch: "x86_64", Licenses: []string{"MIT AND (BSD-2-Clause OR ISC)"}},
			{Name: "old", Version: "1.0-r0", Type: "apk", Licenses: []string{"BSD", "MIT"}},
			{Name: ".build-deps", Version: "20240102.030405", Type: "apk"},
		}
		if diff := cmp.Diff(want, facts.Packages); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		owned := map[string][]string{
			"ssl_client": {"usr/bin/ssl_client"},
			"musl":       {"lib/ld-musl-x86_64.so.1", "usr/lib/ld-musl-x86_64.so.1", "root-file"},
		}
		if diff := cmp.Diff(owned, facts.Owned); diff != "" {
			t.Errorf("owned (-want +got):\n%s", diff)
		}
		if len(facts.Incomplete) != 1 {
			t.Errorf("the entry without a name is not told: %v", facts.Incomplete)
		}
	}
}

// TestAPKAmplification has one long directory and many short names: a small database that stands for much memory.
func TestAPKAmplification(t *testing.T) {
	db := "P:a\nV:1\nF:" + strings.Repeat("d", 4000) + "\n" + strings.Repeat("R:x\n", 100_000)
	facts := mustLook(t, "lib/apk/db/installed", db)
	sum := 0
	for _, path := range facts.Owned["a"] {
		sum += len(path)
	}
	if sum > maxOwned || len(facts.Incomplete) != 1 {
		t.Errorf("%d MiB of paths from %d KiB; incomplete: %v", sum>>20, len(db)>>10, facts.Incomplete)
	}
}
