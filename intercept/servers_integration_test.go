//go:build integration

package intercept

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/test/lab"
)

// behind are real servers, and where they say what they were asked for.
var behind = []struct {
	image string
	port  uint16
	log   string // a shell's way to their access log
	args  func(dir string) []string
	wait  time.Duration // until it is written
}{
	{"nginx", 80, "cat /var/log/nginx/access.log", nil, time.Second},
	{"php-apache", 80, "cat /var/log/apache2/access.log", nil, time.Second},
	{"nodejs", 3000, "cat /tmp/access.log", func(dir string) []string { return []string{"-v", dir + "/app.js:/srv/app.js:ro"} }, time.Second},
	{"tomcat", 8080, "cat /var/log/tomcat10/localhost_access_log.*.txt /var/lib/tomcat10/logs/localhost_access_log.*.txt | sort -u", nil, 12 * time.Second},
}

const nodeApp = `
const http = require("http"), fs = require("fs");
http.createServer((q, s) => {
  fs.appendFileSync("/tmp/access.log", '"' + q.method + " " + q.url + ' HTTP/' + q.httpVersion + '"\n');
  q.on("data", () => {}); q.on("end", () => s.end("ok"));
}).listen(3000);
`

// smuggled is what is hidden in another request.
func smuggled(n int) string {
	return fmt.Sprintf("GET /smuggled-%d HTTP/1.1\r\nHost: a\r\n\r\n", n)
}

// doubtful are requests whose end, or whose number, servers have disagreed about. %[1]d is the number, %[2]s a hidden
// request, %[3]d its length.
var doubtful = []string{
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: %[4]d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: %[3]d\r\nContent-Length: 0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: 0, %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: +%[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: 0x%[3]x\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: 0%[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length : %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length\t: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length:\x0b%[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent_Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nX: y\r\n Content-Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\n Content-Length: %[3]d\r\nHost: a\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nX: y\x00\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunk\r\n ed\r\n\r\n%[3]x\r\n%[2]s\r\n0\r\n\r\n",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a=b\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\n\r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5_0\r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabcde\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n%[2]s",
	"POST /case-%[1]d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 99\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"GET http://a/case-%[1]d HTTP/1.1\r\nHost: b\r\n\r\n%[2]s",
	"GET /case-%[1]d\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\r\nHost: a\r\n\r\n%[2]s",
	"\r\n\r\nGET /case-%[1]d HTTP/1.1\r\nHost: a\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.2\r\nHost: a\r\n\r\n%[2]s",
	"GET\t/case-%[1]d\tHTTP/1.1\r\nHost: a\r\n\r\n%[2]s",
	"GET /case-%[1]d x HTTP/1.1\r\nHost: a\r\n\r\n%[2]s",
	"GET /case-%[1]d HTTP/1.1\nHost: a\n\n%[2]s",
	"HEAD /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"OPTIONS /case-%[1]d HTTP/1.1\r\nHost: a\r\nContent-Length: %[3]d\r\n\r\n%[2]s",
	"DELETE /case-%[1]d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\nContent-Length: 5\r\n\r\n%[2]s",
}

var askedFor = regexp.MustCompile(`"([A-Z]+) [^" ]*?(/(?:case|smuggled)-\d+)`)

// TestServersBehind: of requests that servers have disagreed about, each real server behind the firewall is asked for
// exactly those that the firewall judged, or the request was refused.
func TestServersBehind(t *testing.T) {
	lab.Start(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "app.js"), []byte(nodeApp), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, s := range behind {
		t.Run(s.image, func(t *testing.T) {
			name := "bulkhead-behind-" + s.image
			run := func(args ...string) string {
				out, err := exec.Command("docker", args...).CombinedOutput()
				if err != nil {
					t.Fatalf("docker %v: %v\n%s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			_ = exec.Command("docker", "rm", "-f", name).Run()
			t.Cleanup(func() { _ = exec.Command("docker", "rm", "-f", name).Run() })
			args := []string{"run", "-d", "--name", name}
			if s.args != nil {
				args = append(args, s.args(dir)...)
			}
			run(append(args, lab.Reference(s.image))...)
			address := net.JoinHostPort(run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name), strconv.Itoa(int(s.port)))
			answers := func() bool {
				c, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					return false
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				b, _ := io.ReadAll(c)
				return strings.HasPrefix(string(b), "HTTP/1.1 ")
			}
			for end := time.Now().Add(time.Minute); !answers(); time.Sleep(200 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it does not serve")
				}
			}
			i, err := NewInline(InlineOptions{Namespace: "/proc/" + run("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net", Ports: []uint16{s.port}, Proxy: proxyOptions(func(Event) {})})
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			i.Change(Policy{Mode: Detect}) // what is refused in every mode is all that is refused
			for n, text := range doubtful {
				hidden := smuggled(n)
				c, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				_ = c.SetDeadline(time.Now().Add(2 * time.Second))
				fmt.Fprintf(c, text+"%[5]s", n, hidden, len(hidden), len(hidden)+5, "")
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
			time.Sleep(s.wait)
			var judged, asked []string
			for _, f := range i.Flights(time.Now(), time.Hour) {
				if m := askedFor.FindStringSubmatch(`"` + f.Method + " " + f.Path); m != nil {
					judged = append(judged, m[1]+" "+m[2])
				}
			}
			for _, m := range askedFor.FindAllStringSubmatch(run("exec", name, "sh", "-c", s.log+" 2>/dev/null; true"), -1) {
				asked = append(asked, m[1]+" "+m[2])
			}
			sort.Strings(judged)
			sort.Strings(asked)
			t.Logf("%d cases; %d requests judged and sent on, %d refused at least in part", len(doubtful), len(judged), 2*len(doubtful)-len(judged))
			if len(judged) == 0 || len(asked) == 0 {
				t.Fatal("nothing came through")
			}
			if diff := cmp.Diff(judged, asked); diff != "" {
				t.Errorf("judged (-), and what the server was asked for (+):\n%s", diff)
			}
		})
	}
}
