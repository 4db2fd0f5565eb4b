//go:build integration

package server_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "bulkhead/api/bulkhead/v1"
	"bulkhead/api/bulkhead/v1/bulkheadv1connect"
	"bulkhead/server"
)

// TestRealRegistry goes the whole way with Docker's own registry: it is set up as docs/howto/registry-scanning.md says and
// tells of a push by itself, a watch finds what it has not told of, and with it gone a new database is news of what was
// scanned.
func TestRealRegistry(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	host := freePort(t)
	dir := t.TempDir()
	db := filepath.Join(dir, "v.db")
	database(t, db, "CVE-2026-0001")
	p := startWith(t, server.Options{Dir: dir, Images: server.ImageOptions{Database: db, PlainHTTP: []string{host}, Look: 20 * time.Millisecond}})
	images := bulkheadv1connect.NewImageServiceClient(p.Client(), p.URL)
	hook, err := images.AddHook(t.Context(), connect.NewRequest(&pb.AddHookRequest{Registry: host}))
	if err != nil {
		t.Fatal(err)
	}
	stop := distribution(t, host, p.Certificate, fmt.Sprintf(`
notifications:
  endpoints:
    - {name: bulkhead, url: "%s/hooks/push", headers: {Authorization: ["Bearer %s"]}, timeout: 2s, threshold: 3, backoff: 1s}
`, p.URL, hook.Msg.Token))
	hub := &hub{host: host}
	get := func(tag string) *pb.ScannedImage {
		r, err := images.GetImage(t.Context(), connect.NewRequest(&pb.GetImageRequest{Reference: host + "/team/shop:" + tag}))
		if err != nil {
			return nil
		}
		return r.Msg.Image
	}
	digest := hub.push(t, "v1", shop(t, "1"))
	eventually(t, "the pushed image is scanned", func() bool { return get("v1") != nil })
	if got := get("v1"); got.Digest != digest || got.Vulnerabilities.Unknown != 1 {
		t.Error(got)
	}

	stop() // and starts again as one that tells nobody
	stop = distribution(t, host, "", "")
	hub.push(t, "v2", shop(t, "2"))
	if _, err := images.WatchRepository(t.Context(), connect.NewRequest(&pb.WatchRepositoryRequest{Repository: host + "/team/shop", EverySeconds: 6 * 60 * 60})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch finds v2", func() bool { return get("v2") != nil })

	stop()
	database(t, db, "CVE-2026-0001", "CVE-2026-0002")
	eventually(t, "v1 has news without its registry", func() bool { return get("v1").Fresh == 1 && len(get("v1").Trend) > 1 })
	if got := get("v2"); got.Vulnerabilities.Unknown != 0 || got.Fresh != 0 {
		t.Error(got)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// distribution starts Docker's registry, which trusts the certificate. Each has its own storage.
func distribution(t *testing.T, host, certificate, more string) (stop func()) {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: warn, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n%s", filepath.Join(dir, "storage"), host, more)
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("docker-registry", "serve", file)
	c.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if certificate != "" {
		c.Env = append(c.Env, "SSL_CERT_FILE="+certificate)
	}
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
			if t.Failed() {
				t.Logf("the registry said:\n%.4000s", said.String())
			}
		}
	}
	t.Cleanup(stop)
	eventually(t, "the registry answers", func() bool {
		r, err := http.Get("http://" + host + "/v2/")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	return stop
}
