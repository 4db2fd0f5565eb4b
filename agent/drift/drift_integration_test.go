//go:build integration

package drift

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain is also the child: this program with the argument that the agent starts itself with.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "audit" {
		if err := Audit(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// host makes the files of a small host.
func host(t *testing.T) string {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/os-release": "ID=debian\nVERSION_ID=12\n",
		"etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n", "etc/login.defs": "UMASK 027\n", "usr/sbin/sshd": "#!",
		"etc/sysctl.conf": "kernel.kptr_restrict = 2\n", "etc/ssh/sshd_config.d/.keep": "", "etc/shadow": "",
	} {
		write(t, filepath.Join(root, name), text)
	}
	return root
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// follow runs the watch, and returns what audits found.
func follow(t *testing.T, o Options) <-chan Result {
	t.Helper()
	results := make(chan Result, 64)
	o.Program = "/proc/self/exe"
	o.Docker, o.Tell, o.Log = func() string { return "" }, func(r Result) { results <- r }, slog.New(slog.DiscardHandler)
	o.Problem = func(about, text string) {
		if text != "" {
			t.Logf("problem: %s: %s", about, text)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return results
}

func next(t *testing.T, results <-chan Result) Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(time.Minute):
		t.Fatal("no audit within a minute")
		return Result{}
	}
}

// TestWays changes hosts in the ways in which files change, each time by a real process.
func TestWays(t *testing.T) {
	const sshd, yes, no = "/etc/ssh/sshd_config", "PermitRootLogin yes\n", "PermitRootLogin no\n"
	for _, way := range []struct {
		name, before string // the file's text; empty: it is not there
		command      func(root string) []string
		path         string
		lasts        bool // until somebody has looked at it
	}{
		{"written in place", no, func(root string) []string { return shell("echo PermitRootLogin yes > " + root + sshd) }, sshd, true},
		{"replaced", no, func(root string) []string { return []string{"sed", "-i", "s/no/yes/", root + sshd} }, sshd, false},
		{"removed", no, func(root string) []string { return []string{"rm", root + sshd} }, sshd, false},
		{"made", "", func(root string) []string { return []string{"cp", "/dev/stdin", root + sshd} }, sshd, false},
		{"drop-in made", "Include /etc/ssh/sshd_config.d/*.conf\n" + no, func(root string) []string {
			return shell("echo PermitRootLogin yes > " + root + sshd + ".d/50-x.conf")
		}, sshd + ".d/50-x.conf", true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			root := host(t)
			if write(t, root+sshd, way.before); way.before == "" {
				check(t, os.Remove(root+sshd))
			}
			results := follow(t, Options{Root: root, State: t.TempDir(), Soonest: 100 * time.Millisecond})
			if first := next(t, results); first.Cause != "start" || first.Score == 0 || len(first.Report) == 0 {
				t.Fatalf("the first audit: %+v", first)
			}
			command := way.command(root)
			exe, err := exec.LookPath(command[0])
			check(t, err)
			exe, err = filepath.EvalSymlinks(exe)
			check(t, err)
			c := exec.Command(command[0], command[1:]...)
			c.Stdin = strings.NewReader(yes)
			began := time.Now()
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for {
				for _, d := range next(t, results).Drift {
					if !slices.Contains(d.Paths, way.path) {
						t.Logf("%s %s, was %s: %v", d.Check, d.After, d.Before, d.Paths)
						continue
					}
					t.Logf("after %v: %s %s, was %s, by %s, seen %v", time.Since(began).Round(time.Millisecond), d.Check, d.After, d.Before, d.By.Exe, d.Seen)
					if d.Seen && d.By.Exe != exe || way.lasts && !d.Seen {
						t.Errorf("%s did it: %+v", exe, d.By)
					}
					return
				}
			}
		})
	}
}

// shell keeps the shell for a moment after what it does.
func shell(text string) []string { return []string{"sh", "-c", text + "; sleep 0.2"} }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNamed: each change is told of; how many of the processes are named which end some microseconds later is counted.
func TestNamed(t *testing.T) {
	root := host(t)
	config := filepath.Join(root, "etc/ssh/sshd_config")
	w, err := newWatch(root, func() { t.Error("events were lost") })
	if err != nil {
		t.Fatal(err)
	}
	go w.run()
	w.follow([]string{"/etc", "/etc/ssh/", "/etc/ssh/sshd_config", "/etc/none"})
	if problem := w.problem(); problem != "" {
		t.Fatal(problem)
	}
	ways := map[string][]string{
		"written": {"sh", "-c", "echo x >> " + config}, "replaced": {"sed", "-i", "s/x/y/", config}, "mode": {"chmod", "g+r", config}, "removed": {"rm", config},
	}
	const times = 50
	for _, name := range []string{"written", "replaced", "mode", "removed"} {
		named, said := 0, 0
		for range times {
			write(t, config, "x\n")
			time.Sleep(20 * time.Millisecond)
			for len(w.touches) > 0 {
				<-w.touches
			}
			c := exec.Command(ways[name][0], ways[name][1:]...)
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			time.Sleep(20 * time.Millisecond)
			seen := false
			told := len(w.touches) > 0
			for len(w.touches) > 0 {
				touch := <-w.touches
				if touch.Path == "/etc/ssh/sshd_config" && touch.Seen && touch.By.PID == c.Process.Pid {
					seen = true
				}
			}
			if told {
				said++
			}
			if seen {
				named++
			}
		}
		t.Logf("%s: %d of %d told, %d named", name, said, times, named)
		if said < times { // who ended before anybody could look is told of as not seen
			t.Errorf("%s: %d of %d told", name, said, times)
		}
	}
	w.close()
}

// TestSetting: a setting of the kernel is watched through one mount of /proc, and who set it is named.
func TestSetting(t *testing.T) {
	const name = "/proc/sys/kernel/printk_ratelimit_burst" // nothing here depends on it
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWatch("", func() { t.Error("events were lost") })
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	go w.run()
	w.follow([]string{name})
	c := exec.Command("sh", "-c", "echo "+strings.TrimSpace(string(before))+" > "+name+"; sleep 0.1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("settings cannot be written here: %s", out)
	}
	select {
	case touch := <-w.touches:
		if touch.Path != name || !touch.Seen || touch.By.PID != c.Process.Pid || !strings.Contains(strings.Join(touch.By.Args, " "), "printk") {
			t.Errorf("%+v", touch)
		}
	case <-time.After(5 * time.Second):
		t.Error("nobody told of it")
	}
}
