package distro

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
)

func TestDpkgStatus(t *testing.T) {
	facts := mustLook(t, "var/lib/dpkg/status", `Package: harbour
Status: install ok installed
Priority: optional
Maintainer: Somebody <a@example.org>
Architecture: amd64
Source: harbour-src (1.2-3)
Version: 1:1.2-3+b1
Description: lines
 Version: 9 of the description is no field
 .
Conffiles:
 /etc/harbour 0123

Package: heard-of

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: never
Status: install ok not-installed

Package: half
Status: install reinstreq half-configured
Architecture: all
source: half
VERSION: 2.0~rc1-1

Package: libc6
Status: install ok triggers-pending
Architecture: i386
Version: 2.36
Source: glibc

Package: libc6
Status: install ok unpacked
Architecture: amd64
Version: 2.36
Source: glibc

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.37
Source: glibc

Package: no version
Status: install ok installed
Version: 1

Package: no-version
Status: install ok installed
`)
	want := []bulkhead.Package{
		{Name: "harbour", Version: "1:1.2-3+b1", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "harbour-src", Version: "1.2-3"}},
		{Name: "half", Version: "2.0~rc1-1", Type: "deb", Arch: "all"},
		{Name: "libc6", Version: "2.36", Type: "deb", Arch: "i386", Source: &bulkhead.Source{Name: "glibc", Version: "2.36"}},
		{Name: "libc6", Version: "2.37", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "glibc", Version: "2.37"}},
	}
	if diff := cmp.Diff(want, facts.Packages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	omitted := []bulkhead.Omission{{Path: "var/lib/dpkg/status", Message: "read the package database: 2 entries have no valid Package or Version and were left out"}}
	if diff := cmp.Diff(omitted, facts.Incomplete); diff != "" {
		t.Errorf("incomplete (-want +got):\n%s", diff)
	}
}

func TestDistroless(t *testing.T) {
	facts := mustLook(t, "var/lib/dpkg/status.d/libssl3", "Package: libssl3\nSource: openssl\nVersion: 3.0.11-1~deb12u2\nArchitecture: amd64\n")
	want := []bulkhead.Package{{Name: "libssl3", Version: "3.0.11-1~deb12u2", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "openssl", Version: "3.0.11-1~deb12u2"}}}
	if diff := cmp.Diff(want, facts.Packages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDpkgOwned(t *testing.T) {
	tests := map[string]struct {
		path, content string
		want          map[string][]string
	}{
		"list": {
			"var/lib/dpkg/info/libssl3:amd64.list", "/.\n/bin\n/bin/x\n/usr\n/usr/lib\n/usr/lib/libssl.so.3\n/usr/lib/engines-3\n/usr/lib/engines-3/afalg.so\n",
			map[string][]string{"libssl3": {"bin/x", "usr/bin/x", "usr/lib/libssl.so.3", "usr/lib/engines-3/afalg.so"}},
		},
		"directories alone": {"var/lib/dpkg/info/empty.list", "/.\n", map[string][]string{}},
		"md5sums": {
			"var/lib/dpkg/status.d/base-files.md5sums", "0123456789abcdef0123456789abcdef  ./usr/lib/os-release\n0123456789abcdef0123456789abcdef  etc/motd x\n",
			map[string][]string{"base-files": {"usr/lib/os-release", "etc/motd x"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			facts := mustLook(t, tt.path, tt.content)
			if diff := cmp.Diff(tt.want, facts.Owned); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCopyright(t *testing.T) {
	tests := map[string]struct {
		content string
		want    []string
	}{
		"machine-readable": {"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: Expat\n\nFiles: x\nLicense: GPL-2+ or Artistic\n text\n\nLicense: Expat\n", []string{"Expat", "GPL-2+ or Artistic"}},
		"prose":            {"On Debian systems see /usr/share/common-licenses/LGPL-2.1. And\n`/usr/share/common-licenses/GPL-3'.", []string{"GPL-3", "LGPL-2.1"}},
		"nothing":          {"All rights reserved.", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			facts := mustLook(t, "usr/share/doc/harbour/copyright", tt.content)
			var got []string
			if len(facts.Packages) > 0 {
				got = facts.Packages[0].Licenses
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWants(t *testing.T) {
	tests := map[string]string{ // path → the analyzer
		"etc/os-release":                           "os",
		"usr/lib/os-release":                       "os",
		"usr/lib/x/os-release":                     "",
		"var/lib/dpkg/status":                      "dpkg",
		"var/lib/dpkg/status-old":                  "",
		"var/lib/dpkg/status.d/base":               "dpkg",
		"var/lib/dpkg/status.d/base.postinst":      "",
		"var/lib/dpkg/status.d/base.md5sums":       "dpkg",
		"var/lib/dpkg/info/base-files.list":        "dpkg",
		"var/lib/dpkg/info/base-files.md5sums":     "",
		"home/me/var/lib/dpkg/status":              "",
		"usr/share/doc/bash/copyright":             "dpkg",
		"usr/share/doc/bash/examples/copyright":    "",
		"lib/apk/db/installed":                     "apk",
		"usr/lib/apk/db/installed":                 "apk",
		"lib/apk/db/scripts.tar":                   "",
		"var/lib/rpm/Packages":                     "rpm",
		"usr/lib/sysimage/rpm/rpmdb.sqlite":        "rpm",
		"usr/share/rpm/Packages.db":                "rpm",
		"var/lib/rpm/Index.db":                     "",
		"var/lib/rpmmanifest/container-manifest-2": "rpm",
		"var/lib/rpmmanifest/container-manifest-1": "",
	}
	for path, want := range tests {
		got := ""
		for _, a := range Analyzers() {
			if a.Wants(image.Memory(path, 0o644, []byte("x"))) {
				got += a.Name
			}
		}
		if got != want {
			t.Errorf("%s: wanted by %q, want %q", path, got, want)
		}
	}
}
