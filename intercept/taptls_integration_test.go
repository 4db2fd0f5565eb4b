//go:build integration

package intercept

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/test/lab"
)

// TestTapTLS: attacks on real servers that speak TLS through OpenSSL are told of as they are in plain text, with the
// client's address.
func TestTapTLS(t *testing.T) {
	h := newHouse(t)
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "k.pem"), filepath.Join(dir, "c.pem")
	if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=app").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	python := filepath.Join(dir, "app.py")
	if err := os.WriteFile(python, fmt.Appendf(nil, `
import http.server, ssl
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"])); self.do_GET()
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("", 8443), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(%q, %q)
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
`, cert, key), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "tls.conf")
	text := "server { listen 8443 ssl; ssl_certificate /tls/c.pem; ssl_certificate_key /tls/k.pem; location / { return 200 ok; } }\n"
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o644), os.Chmod(dir, 0o755), os.Chmod(key, 0o644)); err != nil { //nolint:gosec // a test's own
		t.Fatal(err)
	}
	for _, s := range []struct {
		name  string
		start func(t *testing.T) (namespace string, connect func() (net.Conn, error))
	}{
		{"SSL_read_ex, Python", func(t *testing.T) (string, func() (net.Conn, error)) {
			server := exec.Command("nsenter", "--net="+h.app, "/usr/bin/python3", python)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
			return h.app, func() (net.Conn, error) { return h.connect("10.97.1.1:8443") }
		}},
		{"SSL_read, nginx", func(t *testing.T) (string, func() (net.Conn, error)) {
			lab.Start(t)
			const name = "bulkhead-tap-tls"
			_ = exec.Command("docker", "rm", "-f", name).Run()
			t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
			run := func(args ...string) string {
				out, err := exec.Command("docker", args...).CombinedOutput()
				if err != nil {
					t.Fatalf("docker %v: %v\n%s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			run("run", "-d", "--name", name, "-v", dir+":/tls:ro", "-v", conf+":/etc/nginx/conf.d/tls.conf:ro", lab.Reference("nginx"))
			address := run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name) + ":8443"
			return "/proc/" + run("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net", func() (net.Conn, error) { return net.DialTimeout("tcp", address, time.Second) }
		}},
	} {
		t.Run(s.name, func(t *testing.T) {
			namespace, connect := s.start(t)
			ask := func(request string) (client, answer string, err error) {
				c, err := connect()
				if err != nil {
					return "", "", err
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(2 * time.Second))
				secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own
				if _, err := io.WriteString(secure, request); err != nil {
					return "", "", err
				}
				b := make([]byte, 100)
				n, err := secure.Read(b)
				return c.LocalAddr().String(), string(b[:n]), err
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				if _, _, err := ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err == nil {
					break
				} else if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			var heard ears
			o := proxyOptions(heard.hear)
			o.Mode = Detect
			tap, err := NewTap(TapOptions{Namespace: namespace, Ports: []uint16{8443}, Proxy: o})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tap.Leave() }()
			if tap.tls == nil {
				t.Fatal("TLS is not looked into")
			}
			for range 20 {
				client, answer, err := ask("GET " + injection + " HTTP/1.1\r\nHost: a\r\n\r\n")
				if err != nil || answer == "" {
					t.Fatal(answer, err)
				}
				for end := time.Now().Add(5 * time.Second); len(heard.of(client)) == 0; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("nothing was told of %s: %v, missed %d", client, heard.told, tap.Missed())
					}
				}
				if got := heard.of(client); len(got) != 1 || got[0].Action != "block" {
					t.Fatalf("%+v", got)
				}
			}
		})
	}
}
