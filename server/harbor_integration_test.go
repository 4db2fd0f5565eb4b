//go:build integration

package server_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/server"
	"bulkhead/test/lab"
)

// TestHarborOnARegistry scans a real image in a real registry for Harbor. The database says that everything built of two
// sources is vulnerable; dpkg in the image says what that is.
func TestHarborOnARegistry(t *testing.T) {
	l := lab.Start(t)
	reference, err := l.Image(t.Context(), "nginx")
	if err != nil {
		t.Fatal(err)
	}
	pushed := l.Registry() + "/server-test/nginx:1"
	run(t, "docker", "tag", reference, pushed)
	run(t, "docker", "push", pushed)
	t.Cleanup(func() { _ = exec.Command("docker", "rmi", pushed).Run() })
	_, digest, _ := strings.Cut(strings.TrimSpace(run(t, "docker", "inspect", "-f", `{{range .RepoDigests}}{{println .}}{{end}}`, pushed)), "server-test/nginx@")

	records := map[string]string{}
	for n, source := range []string{"nginx", "openssl"} {
		id := fmt.Sprintf("CVE-2026-100%d", n)
		records[id] = fmt.Sprintf(`{"id":"DEBIAN-%[1]s","modified":"2026-05-01T00:00:00Z","upstream":[%[1]q],"affected":[{"package":{"ecosystem":"Debian:12","name":%[2]q},
			"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`, id, source)
	}
	dir := t.TempDir()
	databaseOf(t, filepath.Join(dir, "v.db"), records)
	p := startWith(t, server.Options{Dir: dir, Images: server.ImageOptions{Database: filepath.Join(dir, "v.db")}})
	h := newHarbor(t, p)
	id := h.scan(wantScan(l.Registry(), "", "server-test/nginx", strings.TrimSpace(digest), "1"))

	var want []string
	for line := range strings.Lines(run(t, "docker", "run", "--rm", "--entrypoint", "dpkg-query", reference, "-W", "-f", `${source:Package} ${Package} ${Version}\n`)) {
		f := strings.Fields(line)
		switch f[0] {
		case "nginx":
			want = append(want, "CVE-2026-1000 "+f[1]+" "+f[2])
		case "openssl":
			want = append(want, "CVE-2026-1001 "+f[1]+" "+f[2])
		}
	}
	for _, kind := range []string{asReport, asReport10} {
		var r harborReport
		h.read(id, "", kind, &r)
		var got []string
		for _, v := range r.Vulnerabilities {
			got = append(got, v.ID+" "+v.Package+" "+v.Version)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" || len(want) < 3 {
			t.Errorf("%s (-dpkg +report):\n%s", kind, diff)
		}
	}
	for kind, list := range map[string]string{"application/spdx+json": "packages", "application/vnd.cyclonedx+json": "components"} {
		var r sbomReport
		h.read(id, "?sbom_media_type="+kind, asSBOM, &r)
		if found, _ := r.SBOM[list].([]any); len(found) < 80 {
			t.Errorf("%s: %d packages", kind, len(found))
		}
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	var problems strings.Builder
	c.Stderr = &problems
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, problems.String())
	}
	return string(out)
}
