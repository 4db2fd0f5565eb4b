//go:build integration

package intercept

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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
	for _, s := range []struct {
		name, port string
		run        []string
	}{
		{"SSL_read_ex", "8443", []string{"/usr/bin/python3", python}},
		{"SSL_read", "8444", []string{"openssl", "s_server", "-accept", "8444", "-cert", cert, "-key", key, "-www", "-quiet"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			server := exec.Command("nsenter", append([]string{"--net=" + h.app}, s.run...)...)
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
			ask := func(request string) (client, answer string, err error) {
				c, err := h.connect("10.97.1.1:" + s.port)
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
			tap, err := NewTap(TapOptions{Namespace: h.app, Ports: []uint16{8443, 8444}, Proxy: o})
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
