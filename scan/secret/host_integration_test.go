//go:build integration

package secret

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/image"
)

// TestNothingOnThisMachine reads everything below /usr and /etc: a Debian system as it is installed has no secret that
// is worth an alarm, but for what is of this machine alone. BULKHEAD_CLEAN names other directories, unpacked images for
// example.
func TestNothingOnThisMachine(t *testing.T) {
	roots := filepath.SplitList(os.Getenv("BULKHEAD_CLEAN"))
	if len(roots) == 0 {
		roots = []string{"/usr"}
	}
	s := newScanner()
	var files, size int64
	start := time.Now()
	for _, root := range roots {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			info, err := d.Info()
			name := strings.TrimPrefix(path, "/")
			if err != nil || !wants(&image.File{Path: name, Size: info.Size()}) {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			files, size = files+1, size+int64(len(b))
			for _, f := range s.scan(name, b) {
				report := t.Logf
				if f.Severity.Rank() >= bulkhead.High.Rank() {
					report = t.Errorf
				}
				report("%s:%d: %s %s %s", path, f.Line, f.Rule, f.Severity, f.Evidence[0].Text)
			}
			return nil
		})
	}
	took := time.Since(start)
	t.Logf("%d files, %d MB in %v: %.0f MB/s", files, size>>20, took.Round(time.Second), float64(size)/1e6/took.Seconds())
}
