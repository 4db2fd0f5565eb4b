package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/profile"
)

func TestWriteSeccompFile(t *testing.T) {
	var raw bytes.Buffer
	p := bulkhead.Profile{Version: bulkhead.ProfileVersion, Workload: "docker/shop", Image: bulkhead.Image{Digest: "sha256:1"}, Syscalls: []string{"ptrace"}}
	if err := profile.Write(&raw, p); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeSeccompFile(dir, raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "bulkhead", "*.json"))
	if len(files) != 1 || len(filepath.Base(files[0])) != len("0123456789abcdef0123456789abcdef.json") {
		t.Fatalf("the files are %v", files)
	}
	text, _ := os.ReadFile(files[0])
	if !strings.Contains(string(text), `"ptrace"`) || !strings.Contains(string(text), "SCMP_ACT_ERRNO") {
		t.Errorf("it is no seccomp profile: %s", text)
	}
	if err := writeSeccompFile(dir, []byte("{}")); err != nil {
		t.Error("what is no profile is written, or an error:", err)
	}
}
