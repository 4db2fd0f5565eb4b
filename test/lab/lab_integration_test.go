//go:build integration

package lab

import (
	"bytes"
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestImages runs every image until it serves.
func TestImages(t *testing.T) {
	l := Start(t)
	if err := l.Images(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		image string
		exec  []string // in the container; the host may have no client
		want  string
	}{
		{"busybox", []string{"cat", "/www/index.html"}, "hello from busybox"},
		{"tools", []string{"python3", "-c", "print(6*7)"}, "42"},
		{"nginx", []string{"bash", "-c", get(80)}, "Welcome to nginx"},
		{"redis", []string{"redis-cli", "ping"}, "PONG"},
		{"postgresql", []string{"psql", "-Atc", "select 6*7"}, "42"},
		{"php-apache", []string{"bash", "-c", get(80)}, "hello world from php"},
		{"nodejs", []string{"bash", "-c", get(3000)}, "hello from node"},
		{"tomcat", []string{"bash", "-c", get(8080)}, "hello from tomcat 42"},
		{"mariadb", []string{"mariadb", "-Nse", "select 6*7"}, "42"},
	} {
		t.Run(test.image, func(t *testing.T) {
			id := l.run(t, test.image)
			l.answer(t, id, test.exec, test.want)
		})
	}
}

func get(port int) string {
	return "exec 3<>/dev/tcp/127.0.0.1/" + strconv.Itoa(port) + "; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
}

func (l *Lab) run(t *testing.T, image string) string {
	t.Helper()
	args := []string{"run", "-d", Reference(image)}
	if image == "busybox" {
		args = append(args, "sleep", "infinity")
	}
	out, err := l.docker(t.Context(), nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(string(out))
	t.Cleanup(func() { l.docker(context.Background(), nil, "rm", "-f", id) })
	return id
}

func (l *Lab) answer(t *testing.T, id string, command []string, want string) {
	t.Helper()
	var out []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		out, _ = l.docker(t.Context(), nil, append([]string{"exec", id}, command...)...)
		if bytes.Contains(out, []byte(want)) {
			return
		}
	}
	t.Errorf("no %q within a minute; the last answer: %s", want, out)
}

// TestUpDown brings a second lab up beside the first, and looks for what it leaves.
func TestUpDown(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir, t.Logf)
	t.Cleanup(func() { l.Down(context.Background()) })
	for range 2 { // the second time over the state of the first
		if err := l.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.Images(t.Context(), "busybox"); err != nil {
			t.Fatal(err)
		}
		if _, err := l.docker(t.Context(), nil, "run", "-d", BusyboxImage, "sleep", "infinity"); err != nil {
			t.Fatal(err)
		}
		if err := l.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.nothingLeft(t)
	}
}

func (l *Lab) nothingLeft(t *testing.T) {
	t.Helper()
	if _, err := net.InterfaceByName(l.bridge()); err == nil {
		t.Errorf("bridge %s is left", l.bridge())
	}
	if dir, err := l.cgroup(); err != nil {
		t.Error(err)
	} else if _, err := os.Stat(dir); err == nil {
		t.Errorf("cgroup %s is left", dir)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+l.dir+"/") {
			t.Errorf("left mounted: %s", line)
		}
	}
	for _, rule := range l.list(t.Context(), "iptables-save") {
		if rule == l.bridge() || rule == l.subnet() {
			t.Errorf("a rule for %s is left", rule)
		}
	}
}
