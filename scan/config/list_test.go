package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// TestList keeps the list of checks in the documentation what the tables are.
func TestList(t *testing.T) {
	const golden = "../../docs/rules/misconfig.md"
	var b strings.Builder
	b.WriteString("# Checks for misconfiguration\n\nWritten by `go test ./scan/config -run TestList -update`. BH-I: an image's configuration; BH-F: its files; BH-D: Dockerfiles; BH-K: Kubernetes manifests.\n\n| check | severity | what is wrong | what to do |\n|---|---|---|---|\n")
	for _, c := range Checks() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.ID, c.Severity, strings.ReplaceAll(c.Title, "|", `\|`), strings.ReplaceAll(c.Fix, "|", `\|`))
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("docs/rules/misconfig.md is old; write it with -update (-want +got):\n%s", diff)
	}
}
