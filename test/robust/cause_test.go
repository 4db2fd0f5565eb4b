//go:build integration

package robust

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
)

// holed are real servers of each kind, with a page whose parameter goes into a shell.
var holed = []struct {
	kind, image, port, path, file, page string
	args                                []string
}{
	{"prefork", "lab/php-apache:bookworm", "80", "/hole.php", "/var/www/html/hole.php", `<?php echo shell_exec("echo hello " . $_GET["name"]);`, nil},
	{"eventloop", "lab/nodejs:bookworm", "3000", "/hole", "/srv/app.js", `
const http = require("http"), run = require("child_process").exec;
http.createServer((q, s) => {
  const name = new URL(q.url, "http://a").searchParams.get("name");
  setTimeout(() => run("echo hello " + name, (e, out) => s.end(out)), 20);
}).listen(3000);`, nil},
	{
		"threads", "lab/tomcat:bookworm", "8080", "/hole.jsp", "/var/lib/tomcat10/webapps/ROOT/hole.jsp",
		`<%= new String(Runtime.getRuntime().exec(new String[]{"sh", "-c", "echo hello " + request.getParameter("name")}).getInputStream().readAllBytes()) %>`, nil,
	},
}

// TestCause: among customers of the same page who are served at the same time, an injected command's alert names the
// attacker's request, the parameter and a patch; with the patch in force the attack is refused and customers are served.
func TestCause(t *testing.T) {
	p := start(t)
	for _, s := range holed {
		t.Run(s.kind, func(t *testing.T) {
			file := p.Path(s.kind)
			p.Check(os.WriteFile(file, []byte(s.page), 0o644))
			b := p.box(t, "cause-"+s.kind, s.image, append([]string{"-v", file + ":" + s.file + ":ro"}, s.args...)...)
			ask := func(name string) (int, string, error) {
				c := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
				answer, err := c.Get("http://" + b.ip + ":" + s.port + s.path + "?name=" + url.QueryEscape(name))
				if err != nil {
					return 0, "", err
				}
				defer answer.Body.Close()
				text, err := io.ReadAll(answer.Body)
				return answer.StatusCode, string(text), err
			}
			p.Eventually(60*time.Second, func() error {
				if code, text, err := ask("ada"); err != nil || code != 200 || !strings.Contains(text, "hello ada") {
					return fmt.Errorf("%d %q %v", code, text, err)
				}
				return nil
			})
			p.Eventually(20*time.Second, func() error {
				_, err := p.Decide("waf", "mode", b.workload(), "detect", "--port", s.port)
				return err
			})
			time.Sleep(1500 * time.Millisecond) // until the kernel's set of calls was read
			p.mode(b.workload(), "monitor")
			var customers sync.WaitGroup
			stop := make(chan struct{})
			for n := range 6 {
				customers.Go(func() {
					for round := 0; ; round++ {
						select {
						case <-stop:
							return
						default:
							_, _, _ = ask(fmt.Sprintf("customer%d%d", n, round))
						}
					}
				})
			}
			const attack = "x; cksum /etc/os-release #"
			for range 5 {
				if code, text, err := ask(attack); err != nil || code != 200 || !strings.Contains(text, "os-release") {
					t.Fatalf("the hole is none: %d %q %v", code, text, err)
				}
				time.Sleep(200 * time.Millisecond)
			}
			close(stop)
			customers.Wait()
			var found bulkhead.Alert
			p.Eventually(20*time.Second, func() error {
				list, err := p.Alerts("--workload", b.workload())
				for _, a := range list {
					if a.Web == nil && strings.HasSuffix(a.Cause.Object, "/cksum") {
						found = a
						return nil
					}
				}
				return fmt.Errorf("no alert about cksum among %d, %v", len(list), err)
			})
			cause := found.Cause.Request
			if cause == nil {
				t.Fatalf("no cause: %+v", found)
			}
			t.Logf("%s: %s", cause.Sure, cause.Why)
			if cause.Parameter != "name" || cause.Method != "GET" || cause.Path != s.path || cause.Sure == bulkhead.Possible || cause.Patch == nil {
				t.Fatalf("%+v", cause)
			}
			p.waf(t, nil, "patch", found.ID)
			_, err := p.Decide("waf", "mode", b.workload(), "block")
			p.Check(err)
			p.Eventually(10*time.Second, func() error {
				if code, _, err := ask(attack); err != nil || code != 403 {
					return fmt.Errorf("%d %v", code, err)
				}
				return nil
			})
			if code, text, err := ask("ada"); err != nil || code != 200 || !strings.Contains(text, "hello ada") {
				t.Errorf("a customer: %d %q %v", code, text, err)
			}
		})
	}
}
