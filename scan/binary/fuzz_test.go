package binary

import (
	"context"
	"testing"

	"bulkhead/image"
)

// FuzzLook reads any bytes as each file of the table. A version is always a short part of what was read.
func FuzzLook(f *testing.F) {
	paths := []string{
		"bin/nginx", "bin/mysqld", "bin/redis-server", "lib/libpython3.12.so.1", "bin/envoy", "bin/mongod", "bin/haproxy",
		"lib/libcrypto.so", "lib/libjvm.so", "j/release", "go/VERSION", "version.php", "bin/vault", "opt/bitnami/a/.spdx-a.spdx",
	}
	for i, seed := range []string{
		"nginx version: nginx/1.2.3", "\x0010.11.6-MariaDB", "\x007.2.4host-1705312345000000000\x00", "\x003.12.1rc1\x00", "\x001.28.0\x00", "\x005.0.32\x00tcmalloc\x00mozjs",
		" version 2.9.1-a, released", "OpenSSL 1.1.1w  11 Sep 2023", " JRE (1.8.0_392", `JAVA_VERSION="21`, "go1.21.5", "$OC_VersionString = '1.2.3'", "\xff Go buildinf:\x08\x02",
		`{"packages":[{"externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:bitnami/a@1-0"}]}]}`,
	} {
		f.Add(uint8(i), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		padded := append(b[:len(b):len(b)], make([]byte, minProgram)...)
		for _, content := range [][]byte{b, padded} {
			file := image.Memory(paths[int(which)%len(paths)], 0o755, content)
			for _, a := range Analyzers() {
				if !a.Wants(file) {
					continue
				}
				facts, _ := a.Look(context.Background(), file)
				for _, p := range facts.Packages {
					if p.Name == "" || p.Version == "" || len(p.Version) > len(content)+4 {
						t.Errorf("package %+v", p)
					}
				}
			}
		}
	})
}
