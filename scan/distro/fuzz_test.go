package distro

import (
	"bytes"
	"context"
	"testing"

	"bulkhead"
	"bulkhead/image"
)

// FuzzLook reads any bytes as each kind of file. What comes out is bounded by what went in.
func FuzzLook(f *testing.F) {
	paths := []string{
		"etc/os-release", "etc/redhat-release", "etc/lsb-release", "etc/SuSE-release", "etc/debian_version",
		"var/lib/dpkg/status", "var/lib/dpkg/info/a:amd64.list", "var/lib/dpkg/status.d/a.md5sums", "usr/share/doc/a/copyright",
		"lib/apk/db/installed", "var/lib/rpmmanifest/container-manifest-2",
	}
	for i, seed := range []string{
		"ID=\"debian\"\nVERSION_ID='12'\n", "CentOS release 6.10 (Final)\n", "DISTRIB_ID=Ubuntu\n", "openSUSE 13.2\nVERSION = 13.2\nPATCHLEVEL = 1\n", "trixie/sid\n",
		"Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\n\n", "/.\n/usr\n/usr/a\n", "00  usr/a\n", "/copyright-format/\nLicense: MIT\n/usr/share/common-licenses/GPL-2",
		"P:a\nV:1\nF:usr\nR:b\n\n", "a\t1-2\t\t\t\t\t\tx86_64\t1\ta-1-2.src.rpm\n",
	} {
		f.Add(uint8(i), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		file := image.Memory(paths[int(which)%len(paths)], 0o644, b)
		for _, a := range Analyzers() {
			if !a.Wants(file) {
				continue
			}
			facts, err := a.Look(context.Background(), file)
			if err == nil {
				Complete(bulkhead.OS{ID: "debian"}, facts.Packages)
			}
			if len(facts.Packages) > len(b) {
				t.Errorf("%d packages of %d bytes", len(facts.Packages), len(b))
			}
		}
	})
}

func fuzzDatabase(f *testing.F, read blobs, names ...string) {
	for _, name := range names {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, err := rpms(context.Background(), "x", bytes.NewReader(b), int64(len(b)), read)
		if err != nil && len(facts.Packages) > 0 {
			t.Errorf("both packages and %v", err)
		}
		for _, p := range facts.Packages {
			if !word(p.Name) || !word(p.Version) {
				t.Errorf("package %+v", p)
			}
		}
	})
}

func FuzzSQLite(f *testing.F) { fuzzDatabase(f, sqliteBlobs, "tiny.sqlite") }
func FuzzBDB(f *testing.F)    { fuzzDatabase(f, bdbBlobs, "tiny.bdb") }
func FuzzNDB(f *testing.F)    { fuzzDatabase(f, ndbBlobs, "tiny.ndb") }

func FuzzHeader(f *testing.F) {
	b := fixture(f, "tiny.sqlite")
	if err := sqliteBlobs(context.Background(), newPages(bytes.NewReader(b), int64(len(b))), func(blob []byte) { f.Add(bytes.Clone(blob)) }); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			return
		}
		_, _ = h.rpm()
		if files := h.paths(len(b)); len(files) > len(b) {
			t.Errorf("%d files of %d bytes", len(files), len(b))
		}
	})
}
