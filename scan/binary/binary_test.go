package binary

import (
	"bytes"
	"context"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// lookAt hands a file to the analyzers that want it and returns the purls.
func lookAt(t testing.TB, path string, mode fs.FileMode, content []byte) []string {
	t.Helper()
	f := image.Memory(path, mode, content)
	var purls []string
	for _, a := range Analyzers() {
		if !a.Wants(f) {
			continue
		}
		facts, err := a.Look(context.Background(), f)
		if err != nil {
			t.Fatalf("%s: %v", a.Name, err)
		}
		for _, p := range facts.Packages {
			purls = append(purls, p.PURL)
		}
	}
	return purls
}

// program returns bytes as of a program that has these texts in it.
func made(texts ...string) []byte {
	b := bytes.Repeat([]byte("\x7fELF\x00\x01\x000.\x00"), 1000)
	for _, text := range texts {
		b = append(append(append(b, 0), text...), 0)
		b = append(b, bytes.Repeat([]byte{0, 'x', '1'}, 500)...)
	}
	return b
}

// TestTexts has the texts of real programs, as their makers or distributions built them.
func TestTexts(t *testing.T) {
	tests := []struct {
		path  string
		texts []string
		want  string // purl; empty: nothing
	}{
		{"usr/sbin/nginx", []string{"nginx version: nginx/1.25.3\n"}, "pkg:bitnami/nginx@1.25.3"},
		{"usr/local/openresty/nginx/sbin/nginx", []string{"nginx version: openresty/1.21.4.3\n"}, "pkg:bitnami/openresty@1.21.4.3"},
		{"usr/local/apache2/bin/httpd", []string{"Apache/2.4", "Apache/2", "Apache/2.4.58 (Unix)"}, "pkg:bitnami/apache@2.4.58"},
		{"usr/local/sbin/haproxy", []string{" version 2.9.1-86e043a, released 2023/12/15"}, "pkg:bitnami/haproxy@2.9.1"},
		{"usr/local/sbin/haproxy", []string{"HA-Proxy version 1.8.22 2019/10/25"}, "pkg:bitnami/haproxy@1.8.22"},
		{"usr/local/bin/envoy", []string{"1.28.0", "127.0.0.1", "1.28.0"}, "pkg:bitnami/envoy@1.28.0"},
		{"usr/local/bin/envoy", []string{"1.28.0", "1.3.1"}, ""},
		{"usr/sbin/varnishd", []string{"varnish-7.4.2 revision 0123"}, "pkg:bitnami/varnish@7.4.2"},
		{"usr/sbin/squid", []string{"squid/5.7"}, "pkg:generic/squid@5.7"},
		{"usr/local/bin/redis-server", []string{"2.6.0", "7.2.4buildkitsandbox-1705312345000000000"}, "pkg:bitnami/redis@7.2.4"},
		{"usr/local/bin/redis-server", []string{"5.0.05ca5019de136-1539906480000000000"}, "pkg:bitnami/redis@5.0.0"},
		{"usr/local/bin/redis-server", []string{"6.0.16964eac4733d9-1673428630000000000"}, "pkg:bitnami/redis@6.0.16"},
		{"usr/bin/redis-server", []string{"7.0.15", "7.0.1", "A7.0.151790282056000000000"}, "pkg:bitnami/redis@7.0.15"},
		{"usr/local/bin/valkey-server", []string{"7.2.4", "valkey8.0.1buildkitsandbox-1764887574000000000"}, "pkg:bitnami/valkey@8.0.1"},
		{"usr/local/bin/memcached", []string{"memcached 1.6.22"}, "pkg:bitnami/memcached@1.6.22"},
		{"usr/lib/postgresql/15/bin/postgres", []string{"PostgreSQL 9.1.", "postgres (PostgreSQL) 15.5\n"}, "pkg:bitnami/postgresql@15.5"},
		{"usr/local/bin/postgres", []string{"postgres (PostgreSQL) 9.6.24\n"}, "pkg:bitnami/postgresql@9.6.24"},
		{"usr/sbin/mariadbd", []string{"5.5.5-", "10.11.6-MariaDB"}, "pkg:bitnami/mariadb@10.11.6"},
		{"usr/sbin/mysqld", []string{"10.3.39-MariaDB-log"}, "pkg:bitnami/mariadb@10.3.39"},
		{"usr/sbin/mysqld", []string{"../../mysql-8.0.35/sql/log.cc"}, "pkg:generic/mysql@8.0.35"},
		{"usr/bin/mongod", []string{"5.0.32\x00tcmalloc\x00mozjs"}, "pkg:bitnami/mongodb@5.0.32"},
		{"usr/bin/mongod", []string{"8.0.17\x00cppdefines"}, "pkg:bitnami/mongodb@8.0.17"},
		{"usr/local/bin/node", []string{"node.js/v20.10.0"}, "pkg:bitnami/node@20.10.0"},
		{"usr/local/bin/python3.12", []string{"3.12.1"}, "pkg:bitnami/python@3.12.1"},
		{"usr/local/bin/python3.12", []string{"3.13.1"}, ""},
		{"usr/local/lib/libpython3.13.so.1.0", []string{"/build/Python-3.13.0rc2"}, "pkg:bitnami/python@3.13.0rc2"},
		{"usr/local/lib/libpython3.so", []string{"3.12.1"}, ""},
		{"usr/local/sbin/php-fpm", []string{"X-Powered-By: PHP/8.3.1"}, "pkg:bitnami/php@8.3.1"},
		{"usr/local/lib/libruby.so.3.2.2", []string{"ruby 3.2.2 (2023-03-30 revision e51014f9c0) [x86_64-linux]"}, "pkg:bitnami/ruby@3.2.2"},
		{"usr/local/bin/ruby", []string{"ruby 1.9.3p551 (2014-11-13 revision 48407)"}, "pkg:bitnami/ruby@1.9.3"},
		{"usr/local/bin/perl5.38.2", []string{"v5.38.2"}, "pkg:generic/perl@5.38.2"},
		{"opt/java/lib/server/libjvm.so", []string{"OpenJDK 64-Bit Server VM (17.0.9+9) for linux-amd64 JRE (17.0.9+9), built on"}, "pkg:bitnami/java@17.0.9"},
		{"opt/java/lib/amd64/server/libjvm.so", []string{"OpenJDK 64-Bit Server VM (25.392-b08) for linux-amd64 JRE (1.8.0_392-b08), built on"}, "pkg:bitnami/java@8.0.392"},
		{"usr/local/cargo/bin/rustc", []string{"rustc version 1.75.0 (82e1608df 2023-12-21)"}, "pkg:generic/rust@1.75.0"},
		{"usr/local/bin/openssl", []string{"OpenSSL 1.1.1w  11 Sep 2023"}, "pkg:generic/openssl@1.1.1w"},
		{"usr/local/bin/openssl", []string{"OpenSSL 1.1.1 (compatible; AWS-LC 1.69.0)"}, ""},
		{"app/libs/libcrypto-0123abcd.so.3", []string{"OpenSSL 3.0.12 24 Oct 2023"}, "pkg:generic/openssl@3.0.12"},
		{"usr/local/lib/libcurl.so.4.8.0", []string{"libcurl/8.5.0"}, "pkg:generic/curl@8.5.0"},
		{"bin/busybox", []string{"BusyBox v1.36.1 (2023-12-01 00:00:00 UTC)"}, "pkg:generic/busybox@1.36.1"},
		{"usr/local/bin/bash", []string{"@(#)Bash version 5.2.15(1) release GNU"}, "pkg:generic/bash@5.2.15"},
		{"usr/sbin/sshd", []string{"OpenSSH_9.2", "OpenSSH_9.2p1 x", "OpenSSH_7.0*"}, "pkg:generic/openssh@9.2p1"},
		{"usr/local/lib/libsqlite3.so.0.8.6", []string{"3.44.2"}, "pkg:bitnami/sqlite@3.44.2"},
		{"usr/sbin/nginx", []string{"nothing here"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			got := strings.Join(lookAt(t, tt.path, 0o755, made(tt.texts...)), " ")
			if got != tt.want {
				t.Errorf("%q: got %q, want %q", tt.texts, got, tt.want)
			}
		})
	}
}

func TestTextFiles(t *testing.T) {
	tests := map[string]struct{ path, content, want string }{
		"java 17":     {"opt/java/release", "IMPLEMENTOR=\"Eclipse Adoptium\"\nJAVA_VERSION=\"17.0.9\"\n", "pkg:bitnami/java@17.0.9"},
		"java 8":      {"opt/java/release", "JAVA_VERSION=\"1.8.0_392\"\n", "pkg:bitnami/java@8.0.392"},
		"java 21":     {"opt/java/release", "JAVA_VERSION=\"21\"\n", "pkg:bitnami/java@21.0.0"},
		"not java":    {"srv/app/release", "v1.2.3\n", ""},
		"go":          {"usr/local/go/VERSION", "go1.21.5\ntime 2023-11-29T21:21:46Z\n", "pkg:bitnami/golang@1.21.5"},
		"not go":      {"srv/app/VERSION", "argo1.21.5\n", ""},
		"erlang":      {"usr/local/lib/erlang/releases/26/OTP_VERSION", "26.1.2\n", "pkg:generic/erlang@26.1.2"},
		"wordpress":   {"var/www/html/wp-includes/version.php", "<?php\n$wp_version = '6.4';\n", "pkg:bitnami/wordpress@6.4"},
		"elsewhere":   {"var/www/html/version.php", "<?php\n$wp_version = '6.4';\n", ""},
		"nextcloud":   {"var/www/html/version.php", "<?php\n$OC_VersionString = '28.0.1';\n", "pkg:bitnami/nextcloud@28.0.1"},
		"drupal":      {"opt/drupal/web/core/lib/Drupal.php", "<?php class Drupal {\n  const VERSION = '10.1.6';\n", "pkg:bitnami/drupal@10.1.6"},
		"dotnet":      {"usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/System.Private.CoreLib.dll", "MZ", "pkg:bitnami/dotnet@8.0.1"},
		"dotnet copy": {"app/System.Private.CoreLib.dll", "MZ", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(lookAt(t, tt.path, 0o644, []byte(tt.content)), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestChunks moves a text over the place where one chunk ends and the next begins.
func TestChunks(t *testing.T) {
	const text = "\x00nginx version: nginx/1.25.31\x00"
	for at := chunk - window; at <= chunk+window+len(text); at++ {
		b := make([]byte, at, at+len(text)+5000)
		b = append(append(b, text...), make([]byte, 5000)...)
		if got := lookAt(t, "usr/sbin/nginx", 0o755, b); !slices.Equal(got, []string{"pkg:bitnami/nginx@1.25.31"}) {
			t.Fatalf("with the text at %d: %q", at, got)
		}
	}
}

func TestWants(t *testing.T) {
	large := make([]byte, minProgram)
	tests := map[string]struct {
		f    *image.File
		want bool
	}{
		"program":             {image.Memory("usr/sbin/nginx", 0o755, large), true},
		"not executable":      {image.Memory("etc/init.d/nginx", 0o644, large), false},
		"a starter":           {image.Memory("usr/bin/node", 0o755, []byte("#!/bin/sh")), false},
		"library":             {image.Memory("usr/lib/libcrypto.so.3", 0o644, large), true},
		"another library":     {image.Memory("usr/lib/libcryptography.a", 0o644, large), false},
		"a name that goes on": {image.Memory("usr/bin/nginxtop", 0o755, large), false},
		"directory":           {&image.File{Path: "usr/sbin/nginx", Kind: image.Directory, Mode: 0o755, Size: minProgram}, false},
		"no name":             {image.Memory("", 0o755, large), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := slices.ContainsFunc(Analyzers()[:2], func(a look.Analyzer) bool { return a.Wants(tt.f) })
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBitnami(t *testing.T) {
	const document = `{"spdxVersion":"SPDX-2.3","packages":[
{"name":"redis","versionInfo":"7.2.4","licenseDeclared":"BSD-3-Clause","externalRefs":[
  {"referenceCategory":"SECURITY","referenceType":"cpe23Type","referenceLocator":"cpe:2.3:a:redis:redis:7.2.4:*"},
  {"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:bitnami/redis@7.2.4-0?arch=amd64&distro=debian-11"}]},
{"name":"wait-for-port","licenseDeclared":"NOASSERTION","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:bitnami/wait-for-port@1.0.7-10?arch=amd64"}]},
{"name":"x","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:golang/example.org/x@v1.0.0"}]}]}`
	f := image.Memory("opt/bitnami/redis/.spdx-redis.spdx", 0o644, []byte(document))
	if !wantsBitnami(f) {
		t.Fatal("not wanted")
	}
	facts, err := lookBitnami(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	want := []bulkhead.Package{
		{Name: "redis", Version: "7.2.4", Type: "bitnami", Arch: "amd64", Licenses: []string{"BSD-3-Clause"}, PURL: "pkg:bitnami/redis@7.2.4?arch=amd64&distro=debian-11"},
		{Name: "wait-for-port", Version: "1.0.7", Type: "bitnami", Arch: "amd64", PURL: "pkg:bitnami/wait-for-port@1.0.7?arch=amd64"},
	}
	if diff := cmp.Diff(want, facts.Packages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBitnamiTagValue(t *testing.T) {
	got := lookAt(t, "opt/bitnami/redis/.spdx-redis.spdx", 0o644, []byte("SPDXVersion: SPDX-2.3\nDocumentName: Redis\n\nPackageName: redis\nPackageLicenseDeclared: RSALv2\n"+
		"ExternalRef: SECURITY cpe23Type cpe:2.3:*:redis:redis:7.4.1:*\nExternalRef: PACKAGE-MANAGER purl pkg:bitnami/redis@7.4.1-0?arch=arm64\n"))
	if !slices.Equal(got, []string{"pkg:bitnami/redis@7.4.1?arch=arm64"}) {
		t.Errorf("got %q", got)
	}
}

func TestDistinct(t *testing.T) {
	at := func(purl, path string) bulkhead.Package {
		return bulkhead.Package{PURL: purl, Path: path, Type: purl[4:11]}
	}
	const python, java = "pkg:bitnami/python@3.12.1", "pkg:bitnami/java@17.0.9"
	npm := bulkhead.Package{PURL: "pkg:npm/x@1", Path: "a/lib/x", Type: "npm"}
	got := Distinct([]bulkhead.Package{
		at(python, "usr/local/lib/libpython3.12.so.1.0"),
		at(python, "usr/local/bin/python3.12"),
		at(python, "opt/other/bin/python3.12"),
		at(java, "opt/java/release"),
		at(java, "opt/java/lib/server/libjvm.so"),
		npm, npm,
	})
	want := []bulkhead.Package{
		at(python, "usr/local/bin/python3.12"),
		at(python, "opt/other/bin/python3.12"),
		at(java, "opt/java/lib/server/libjvm.so"),
		npm, npm,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTable keeps the lines of the table whole.
func TestTable(t *testing.T) {
	for _, p := range slices.Concat(programs, goPrograms) {
		ways := 0
		for _, way := range []bool{len(p.texts) > 0, p.search != nil, p.path != nil, p.module != ""} {
			if way {
				ways++
			}
		}
		if p.name == "" || len(p.files) == 0 || ways != 1 {
			t.Errorf("%q has %d ways to its version, want one, and files", p.name, ways)
		}
		for _, text := range p.texts {
			if strings.Count(text, "#")+strings.Count(text, "%") == 0 || strings.Count(text, "*") > 1 {
				t.Errorf("%s: %q has no number, or more than one star", p.name, text)
			}
		}
	}
}
