package distro

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// fixture unpacks a database that testdata/README.md says how to make.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "rpm", name+".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// harbour is what `rpm -qa` says of the fixtures.
var harbour = []bulkhead.Package{
	{Name: "ballast", Version: "1.0-1", Type: "rpm", Arch: "noarch", Licenses: []string{"BSD"}},
	{Name: "gpg-pubkey", Version: "b2bb6e4b-6b07563a", Type: "rpm", Licenses: []string{"pubkey"}},
	{
		Name: "harbour", Version: "1:3.0.7-24.el9", Type: "rpm", Arch: "x86_64", Licenses: []string{"Apache-2.0 AND MIT"},
		Source: &bulkhead.Source{Name: "harbour-libs", Version: "1:3.0.7-24.el9"},
	},
	{Name: "harbour-libs", Version: "1:3.0.7-24.el9", Type: "rpm", Arch: "x86_64", Licenses: []string{"Apache-2.0 AND MIT"}},
	{
		Name: "harbour-libs-extra", Version: "1:9.1-24.el9", Type: "rpm", Arch: "x86_64", Licenses: []string{"Apache-2.0 AND MIT"},
		Source: &bulkhead.Source{Name: "harbour-libs", Version: "1:3.0.7-24.el9"},
	},
	{Name: "sextant", Version: "18.1.0-2.module+el8", Type: "rpm", Arch: "noarch", Licenses: []string{"MIT"}, Module: "sextant:18"},
	{Name: "tide-table", Version: "2.0~rc1-0.1^git20240101", Type: "rpm", Arch: "x86_64", Licenses: []string{"GPLv2+"}},
}

func sorted(packages []bulkhead.Package) []bulkhead.Package {
	slices.SortFunc(packages, func(a, b bulkhead.Package) int { return strings.Compare(a.Name, b.Name) })
	return packages
}

func TestRPM(t *testing.T) {
	tests := map[string]string{
		"rpmdb.sqlite":            "var/lib/rpm/rpmdb.sqlite",
		"Packages":                "usr/lib/sysimage/rpm/Packages",
		"Packages-512-big-endian": "var/lib/rpm/Packages",
		"Packages.db":             "usr/lib/sysimage/rpm/Packages.db",
	}
	for name, path := range tests {
		t.Run(name, func(t *testing.T) {
			facts, err := lookAt(t, path, fixture(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(harbour, sorted(facts.Packages)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if len(facts.Incomplete) > 0 {
				t.Errorf("incomplete: %v", facts.Incomplete)
			}
			checkOwned(t, facts.Owned)
		})
	}
}

func checkOwned(t *testing.T, owned map[string][]string) {
	t.Helper()
	if n := len(owned["ballast"]); n != 60 {
		t.Errorf("ballast owns %d files, want 60", n)
	}
	got := map[string][]string{}
	for _, name := range []string{"harbour", "harbour-libs", "sextant", "tide-table"} {
		if files := owned[name]; files != nil {
			got[name] = slices.Sorted(slices.Values(files))
		}
	}
	want := map[string][]string{
		"harbour":      {"bin/quay", "usr/bin/harbour", "usr/bin/quay"},
		"harbour-libs": {"usr/lib64/harbour/libharbour.so", "usr/lib64/harbour/libharbour.so.3"},
		"sextant":      {"usr/share/sextant/a~b^c.txt"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
}

// TestTiny has what the fuzz tests begin with.
func TestTiny(t *testing.T) {
	for name, read := range map[string]blobs{"tiny.sqlite": sqliteBlobs, "tiny.bdb": bdbBlobs, "tiny.ndb": ndbBlobs} {
		b := fixture(t, name)
		facts := readDamaged(t, name, b, read)
		if len(facts.Packages) != 3 || len(facts.Owned["c"]) != 40 || len(facts.Incomplete) > 0 {
			t.Errorf("%s: %+v", name, facts)
		}
	}
}

// TestSQLiteTree has interior pages, chains of many pages and rows that were deleted.
func TestSQLiteTree(t *testing.T) {
	facts, err := lookAt(t, "var/lib/rpm/rpmdb.sqlite", fixture(t, "rpmdb-512.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if len(facts.Packages) != 125 {
		t.Errorf("got %d rows, want 125 as `select count(*) from Packages` says", len(facts.Packages))
	}
}

func TestRPMJournal(t *testing.T) {
	_, err := lookAt(t, "var/lib/rpm/rpmdb.sqlite-wal", []byte("x"))
	if err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("got %v", err)
	}
	if wantsRPM(image.Memory("var/lib/rpm/rpmdb.sqlite-wal", 0o644, nil)) {
		t.Error("an empty journal is looked at")
	}
}

func TestRPMManifest(t *testing.T) {
	facts := mustLook(t, "var/lib/rpmmanifest/container-manifest-2",
		"openssl\t1.1.1k-17.cm2\t1\t2\tMicrosoft Corporation\t(none)\t3\tx86_64\t0\topenssl-1.1.1k-17.cm2.src.rpm\n"+
			"openssl-libs\t1.1.1k-17.cm2\t1\t2\tMicrosoft Corporation\t2\t3\tx86_64\t2\topenssl-1.1.1k-17.cm2.src.rpm\n"+
			"short\t1\n")
	want := []bulkhead.Package{
		{Name: "openssl", Version: "1.1.1k-17.cm2", Type: "rpm", Arch: "x86_64"},
		{Name: "openssl-libs", Version: "2:1.1.1k-17.cm2", Type: "rpm", Arch: "x86_64", Source: &bulkhead.Source{Name: "openssl", Version: "2:1.1.1k-17.cm2"}},
	}
	if diff := cmp.Diff(want, facts.Packages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(facts.Incomplete) != 1 {
		t.Errorf("the short line is not told: %v", facts.Incomplete)
	}
}

// TestRPMDamage breaks each database in every kind of place: what was read before stands, nothing hangs or panics.
func TestRPMDamage(t *testing.T) {
	for name, read := range map[string]blobs{"rpmdb.sqlite": sqliteBlobs, "rpmdb-512.sqlite": sqliteBlobs, "Packages": bdbBlobs, "Packages.db": ndbBlobs} {
		t.Run(name, func(t *testing.T) {
			whole := fixture(t, name)
			for _, size := range []int{0, 1, 50, 100, 600, 4095, 4096, 5000, len(whole) / 2, len(whole) - 1} {
				readDamaged(t, name, whole[:size], read)
			}
			for at := 0; at < len(whole); at += 1 + at/64 {
				b := bytes.Clone(whole)
				binary.BigEndian.PutUint16(b[at : min(at+2, len(b)-2)+2][:2], 0xffff)
				readDamaged(t, name, b, read)
			}
		})
	}
}

func readDamaged(t *testing.T, name string, b []byte, read blobs) look.Facts {
	t.Helper()
	facts, err := rpms(context.Background(), name, bytes.NewReader(b), int64(len(b)), read)
	if err != nil && len(facts.Packages) > 0 {
		t.Errorf("%s: both packages and %v", name, err)
	}
	return facts
}

// TestSQLiteCircle has a page that is below itself.
func TestSQLiteCircle(t *testing.T) {
	b := fixture(t, "rpmdb-512.sqlite")
	for page := 512; page < len(b); page += 512 {
		if b[page] == 5 {
			binary.BigEndian.PutUint32(b[page+8:], uint32(page/512+1))
		}
	}
	err := sqliteBlobs(context.Background(), newPages(bytes.NewReader(b), int64(len(b))), func([]byte) {})
	if !errors.Is(err, errCircle) {
		t.Errorf("got %v, want %v", err, errCircle)
	}
}

func TestRPMCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := fixture(t, "rpmdb.sqlite")
	if _, err := rpms(ctx, "x", bytes.NewReader(b), int64(len(b)), sqliteBlobs); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
