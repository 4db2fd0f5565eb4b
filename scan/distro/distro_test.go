package distro

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// lookAt hands a file to the analyzer that wants it.
func lookAt(t *testing.T, path string, content []byte) (look.Facts, error) {
	t.Helper()
	f := image.Memory(path, 0o644, content)
	for _, a := range Analyzers() {
		if a.Wants(f) {
			return a.Look(context.Background(), f)
		}
	}
	t.Fatalf("no analyzer wants %s", path)
	return look.Facts{}, nil
}

func mustLook(t *testing.T, path, content string) look.Facts {
	t.Helper()
	facts, err := lookAt(t, path, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func TestComplete(t *testing.T) {
	tests := map[string]struct {
		os   bulkhead.OS
		p    bulkhead.Package
		want string
	}{
		"debian": {
			bulkhead.OS{ID: "debian", Version: "12"},
			bulkhead.Package{Name: "libstdc++6", Version: "1:12.2.0-14+deb12u1", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "gcc-12", Version: "12.2.0-14"}},
			"pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=gcc-12%4012.2.0-14",
		},
		"testing has no number": {
			bulkhead.OS{ID: "debian", Codename: "trixie"},
			bulkhead.Package{Name: "bash", Version: "5.2", Type: "deb", Arch: "all"},
			"pkg:deb/debian/bash@5.2?arch=all&distro=debian-trixie",
		},
		"alpine": {
			bulkhead.OS{ID: "alpine", Version: "3.20.1"},
			bulkhead.Package{Name: "ssl_client", Version: "1.36.1-r29", Type: "apk", Arch: "x86_64", Source: &bulkhead.Source{Name: "busybox", Version: "1.36.1-r29"}},
			"pkg:apk/alpine/ssl_client@1.36.1-r29?arch=x86_64&distro=alpine-3.20.1&upstream=busybox",
		},
		"red hat, epoch, module": {
			bulkhead.OS{ID: "rhel", Version: "8.9"},
			bulkhead.Package{Name: "nodejs", Version: "1:18.1.0-2", Type: "rpm", Arch: "x86_64", Module: "nodejs:18"},
			"pkg:rpm/redhat/nodejs@18.1.0-2?arch=x86_64&distro=rhel-8.9&epoch=1&rpmmod=nodejs:18",
		},
		"no release file": {
			bulkhead.OS{},
			bulkhead.Package{Name: "musl", Version: "1-r0", Type: "apk"},
			"pkg:apk/alpine/musl@1-r0",
		},
		"another type stays": {
			bulkhead.OS{ID: "debian", Version: "12"},
			bulkhead.Package{Name: "left-pad", Version: "1.0.0", Type: "npm", PURL: "pkg:npm/left-pad@1.0.0"},
			"pkg:npm/left-pad@1.0.0",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Complete(tt.os, []bulkhead.Package{tt.p})
			if len(got) != 1 || got[0].PURL != tt.want {
				t.Errorf("got %+v, want the purl %s", got, tt.want)
			}
			if again := Complete(tt.os, got); !cmp.Equal(got, again) {
				t.Errorf("a second time (-first +second):\n%s", cmp.Diff(got, again))
			}
		})
	}
}

func TestCompleteLicencesAndDoubles(t *testing.T) {
	zlib := bulkhead.Package{Name: "zlib1g", Version: "1", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "zlib", Version: "1"}}
	dev := bulkhead.Package{Name: "zlib1g-dev", Version: "1", Type: "deb", Arch: "amd64", Source: &bulkhead.Source{Name: "zlib", Version: "1"}}
	note := mustLook(t, "usr/share/doc/zlib1g/copyright", "see /usr/share/common-licenses/GPL-2.\n").Packages
	got := Complete(bulkhead.OS{ID: "debian"}, append(note, zlib, dev, zlib))
	if len(got) != 2 {
		t.Fatalf("got %d packages, want 2: %+v", len(got), got)
	}
	for _, p := range got {
		if diff := cmp.Diff([]string{"GPL-2"}, p.Licenses); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
	}
}

func TestReleases(t *testing.T) {
	tests := map[string]struct {
		path, content string
		want          bulkhead.OS
	}{
		"debian 12": {
			"usr/lib/os-release", "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
			bulkhead.OS{ID: "debian", Version: "12", Name: "Debian GNU/Linux 12 (bookworm)", Codename: "bookworm"},
		},
		"wolfi": {
			"etc/os-release", "ID=wolfi\r\nNAME='Wolfi'\r\n# VERSION_ID=no\r\nVERSION_ID=\"20230201\"\r\n",
			bulkhead.OS{ID: "wolfi", Version: "20230201"},
		},
		"quotes": {
			"etc/os-release", `ID="SLES"` + "\n" + `PRETTY_NAME="A \"B\" \$C"`,
			bulkhead.OS{ID: "sles", Name: `A "B" $C`},
		},
		"alpine":      {"etc/alpine-release", "3.20.1\n", bulkhead.OS{ID: "alpine", Version: "3.20.1"}},
		"debian old":  {"etc/debian_version", "7.11\n", bulkhead.OS{ID: "debian", Version: "7"}},
		"debian sid":  {"etc/debian_version", "trixie/sid\n", bulkhead.OS{ID: "debian", Codename: "trixie"}},
		"centos 6":    {"etc/redhat-release", "CentOS release 6.10 (Final)\n", bulkhead.OS{ID: "centos", Version: "6.10", Codename: "Final", Name: "CentOS release 6.10 (Final)"}},
		"centos 7":    {"etc/centos-release", "CentOS Linux release 7.9.2009 (Core)\n", bulkhead.OS{ID: "centos", Version: "7.9.2009", Codename: "Core", Name: "CentOS Linux release 7.9.2009 (Core)"}},
		"rhel 6":      {"etc/redhat-release", "Red Hat Enterprise Linux Server release 6.10 (Santiago)\n", bulkhead.OS{ID: "rhel", Version: "6.10", Codename: "Santiago", Name: "Red Hat Enterprise Linux Server release 6.10 (Santiago)"}},
		"amazon 1":    {"etc/system-release", "Amazon Linux AMI release 2018.03\n", bulkhead.OS{ID: "amzn", Version: "2018.03", Name: "Amazon Linux AMI release 2018.03"}},
		"amazon 2":    {"etc/system-release", "Amazon Linux release 2 (Karoo)\n", bulkhead.OS{ID: "amzn", Version: "2", Codename: "Karoo", Name: "Amazon Linux release 2 (Karoo)"}},
		"oracle":      {"etc/oracle-release", "Oracle Linux Server release 8.9\n", bulkhead.OS{ID: "ol", Version: "8.9", Name: "Oracle Linux Server release 8.9"}},
		"rocky":       {"etc/rocky-release", "Rocky Linux release 9.2 (Blue Onyx)\n", bulkhead.OS{ID: "rocky", Version: "9.2", Codename: "Blue Onyx", Name: "Rocky Linux release 9.2 (Blue Onyx)"}},
		"fedora":      {"etc/fedora-release", "Fedora release 20 (Heisenbug)\n", bulkhead.OS{ID: "fedora", Version: "20", Codename: "Heisenbug", Name: "Fedora release 20 (Heisenbug)"}},
		"photon":      {"etc/photon-release", "VMware Photon OS 3.0\nPHOTON_BUILD_NUMBER=a\n", bulkhead.OS{ID: "photon", Version: "3.0", Name: "VMware Photon OS 3.0"}},
		"mariner":     {"etc/mariner-release", "CBL-Mariner 2.0.20240123\nMARINER_BUILD_NUMBER=a\n", bulkhead.OS{ID: "mariner", Version: "2.0.20240123", Name: "CBL-Mariner 2.0.20240123"}},
		"sles 11":     {"etc/SuSE-release", "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n", bulkhead.OS{ID: "sles", Version: "11.4", Name: "SUSE Linux Enterprise Server 11 (x86_64)"}},
		"opensuse 13": {"etc/SuSE-release", "openSUSE 13.2 (x86_64)\nVERSION = 13.2\nCODENAME = Harlequin\n", bulkhead.OS{ID: "opensuse", Version: "13.2", Name: "openSUSE 13.2 (x86_64)"}},
		"ubuntu":      {"etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=14.04\nDISTRIB_CODENAME=trusty\nDISTRIB_DESCRIPTION=\"Ubuntu 14.04.6 LTS\"\n", bulkhead.OS{ID: "ubuntu", Version: "14.04", Codename: "trusty", Name: "Ubuntu 14.04.6 LTS"}},
		"arch":        {"etc/arch-release", "x", bulkhead.OS{ID: "arch"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			facts := mustLook(t, tt.path, tt.content)
			if diff := cmp.Diff(&tt.want, facts.OS); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReleaseWithoutName(t *testing.T) {
	for _, path := range []string{"etc/system-release", "etc/os-release"} {
		if facts := mustLook(t, path, "welcome\n"); facts.OS != nil {
			t.Errorf("%s: got %+v", path, facts.OS)
		}
	}
}

func TestChoose(t *testing.T) {
	tests := map[string]struct {
		found map[string]bulkhead.OS
		want  bulkhead.OS
	}{
		"nothing": {nil, bulkhead.OS{}},
		"ubuntu has debian_version": {
			map[string]bulkhead.OS{"etc/debian_version": {ID: "debian", Codename: "bookworm"}, "etc/lsb-release": {ID: "ubuntu", Version: "22.04"}},
			bulkhead.OS{ID: "ubuntu", Version: "22.04"},
		},
		"os-release before all": {
			map[string]bulkhead.OS{"usr/lib/os-release": {ID: "centos", Version: "7"}, "etc/centos-release": {ID: "centos", Version: "7.9.2009", Name: "CentOS"}},
			bulkhead.OS{ID: "centos", Version: "7", Name: "CentOS"},
		},
		"sid": {
			map[string]bulkhead.OS{"usr/lib/os-release": {ID: "debian", Name: "Debian sid"}, "etc/debian_version": {ID: "debian", Codename: "forky"}},
			bulkhead.OS{ID: "debian", Name: "Debian sid", Codename: "forky"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Choose(tt.found)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
