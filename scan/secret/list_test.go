package secret

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// TestList keeps the list of rules in the documentation what the tables are.
func TestList(t *testing.T) {
	const golden = "../../docs/rules/secret.md"
	var b strings.Builder
	b.WriteString("# Rules for secrets\n\nWritten by `go test ./scan/secret -run TestList -update`.\n\n| rule | severity | what it finds |\n|---|---|---|\n")
	seen := map[string]bool{}
	for _, r := range Rules() {
		if r.ID == "" || r.Title == "" || r.Severity.Rank() == 0 || seen[r.ID] {
			t.Errorf("rule %+v is not whole, or its id is not its own", r)
		}
		seen[r.ID] = true
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.ID, r.Severity, r.Title)
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
		t.Errorf("docs/rules/secret.md is old; write it with -update (-want +got):\n%s", diff)
	}
}
