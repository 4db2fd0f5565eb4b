//go:build integration

package drill_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/drill"
	"bulkhead/test/lab"
)

// few are steps of each layer that protects, in a handful of groups: the whole is `make drill`.
var few = map[string]string{
	"login-key":                drill.Blocked,  // a file
	"account-like-the-system":  drill.Blocked,  // a file
	"cron-drop":                drill.Blocked,  // a file, by a learned tool
	"reverse-shell":            drill.Blocked,  // the network
	"cluster-job-by-hand":      drill.Blocked,  // the network, or the token that is read for it
	"downloaded-and-run":       drill.Blocked,  // the network
	"fileless-program":         drill.Blocked,  // code that is not the image's
	"program-in-system-folder": drill.Blocked,  // code that is not the image's
	"code-in-memory":           drill.Blocked,  // memory
	"privileged-manifest":      drill.Blocked,  // admission
	"malicious-image":          drill.Blocked,  // the scan
	"history-removed":          drill.Detected, // rules: a kernel without BPF-LSM denies no unlink
	"name-of-a-kernel-thread":  drill.Detected, // rules
}

// programs builds what a host has, in one directory.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drill") // a test's own directory has too long a name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, folder := range map[string]string{"bulkhead": "cmd/bulkhead", "bulkhead-agent": "cmd/bulkhead-agent", "bulkhead-drill-target": "drill/target"} {
		c := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), "bulkhead/"+folder)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	return dir
}

// command is `bulkhead drill` in directories of its own, with the lab's engine.
func command(dir string, l *lab.Lab, only ...string) (*exec.Cmd, *bytes.Buffer) {
	c := exec.Command(filepath.Join(dir, "bulkhead"), "--run", filepath.Join(dir, "run"), "--state", filepath.Join(dir, "state"),
		"drill", "--engine", l.Docker(), "--format", "json", "--only", strings.Join(only, ","))
	var said bytes.Buffer
	c.Stderr = &said
	return c, &said
}

// What each layer stops is stopped, and no near-twin alarms or breaks.
func TestDrill(t *testing.T) {
	l, dir := lab.Start(t), programs(t)
	var only []string
	for id := range few {
		only = append(only, id)
	}
	c, said := command(dir, l, only...)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var report drill.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Steps {
		if s.Result != few[s.ID] {
			t.Errorf("%s: %s, want %s: %s; open %+v; guarded %+v", s.ID, s.Result, few[s.ID], s.Reason, s.Open, s.Guarded)
		}
	}
	if len(report.Steps) != len(few) {
		t.Errorf("%d steps were done, want %d", len(report.Steps), len(few))
	}
	for _, text := range append(report.Twins.Alarms, report.Twins.Broken...) {
		t.Errorf("a near-twin: %s", text)
	}
	leavesNothing(t, dir)
}

// A drill that is killed leaves things, and the next one takes them away.
func TestKilledDrillIsCleanedUp(t *testing.T) {
	l, dir := lab.Start(t), programs(t)
	c, said := command(dir, l, "login-key")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(60 * time.Second); len(containers(t)) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no container after a minute\n%s", said)
		}
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if len(containers(t)) == 0 {
		t.Fatal("the killed drill left nothing: there is nothing to show")
	}
	next, said := command(dir, l, "privileged-manifest")
	if _, err := next.Output(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	leavesNothing(t, dir)
}

// containers lists those of drills, in the lab's engine.
func containers(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=bulkhead.drill").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	if left := containers(t); len(left) > 0 {
		t.Errorf("containers are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "state/drill/run-*")); len(left) > 0 {
		t.Errorf("directories are left: %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "state/drill/product")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the drill's own product is left: %v", err)
	}
	for _, pid := range running(dir) {
		t.Errorf("process %s is left", pid)
	}
}

// running lists the processes whose command line names a directory.
func running(dir string) []string {
	var pids []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, _ := os.ReadFile(f)
		if strings.Contains(string(line), dir+"/") {
			pids = append(pids, strings.Split(f, "/")[2]+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return pids
}
