package binary

import (
	"bytes"
	"testing"
	"time"

	"bulkhead/image"
)

// BenchmarkSearch searches 100 MiB in which nothing is found, the most that a file can cost. "reads" is its time in
// units of what counting a byte in the same content takes.
func BenchmarkSearch(b *testing.B) {
	content := bytes.Repeat([]byte("node.js/x v20 OpenSSL 3.x \x00\x01\x02abcdefghijklmnopqrstuvwxyz012345"), 100<<20/64)
	start := time.Now()
	if bytes.Count(content, []byte{'z'}) == 0 {
		b.Fatal("no z")
	}
	read := time.Since(start)
	for _, path := range []string{"usr/bin/node", "usr/lib/libcrypto.so.3", "usr/bin/python3.12", "usr/bin/envoy"} {
		b.Run(path[4:], func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				lookAt(b, path, 0o755, content)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(read), "reads")
		})
	}
}

// BenchmarkWants asks for a file that is none of the table, as nearly all are.
func BenchmarkWants(b *testing.B) {
	f := image.Memory("usr/lib/python3/dist-packages/pip/_vendor/packaging/version.py", 0o644, make([]byte, 1000))
	analyzers := Analyzers()
	for b.Loop() {
		for _, a := range analyzers {
			if a.Wants(f) {
				b.Fatal("wanted")
			}
		}
	}
}
