//go:build integration

package respond

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/test/lab"
)

// docker runs one command of the lab's engine.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// cgroupOf finds a process's cgroup in the v2 hierarchy.
func cgroupOf(t *testing.T, pid int) (root, path string) {
	t.Helper()
	root = "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified/cgroup.controllers"); err == nil {
		root += "/unified"
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			path = rest
		}
	}
	return root, path
}

// Each action does in a real container what it says, and can be taken back.
func TestInARealContainer(t *testing.T) {
	lab.Start(t)
	id := docker(t, "run", "-d", "--rm", "lab/nginx:bookworm", "sleep", "300")
	defer func() { _ = exec.Command("docker", "rm", "-f", id).Run() }()
	pid, err := strconv.Atoi(docker(t, "inspect", "-f", "{{.State.Pid}}", id))
	if err != nil {
		t.Fatal(err)
	}
	root, cgroup := cgroupOf(t, pid)
	c := bulkhead.Container{ID: id, Name: "held", PID: pid, Cgroup: cgroup}
	r, err := New(Options{CgroupRoot: root, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}

	if said := r.Do("kill", c, bulkhead.Process{PID: pid}, bulkhead.Alert{}); !strings.Contains(said, "first process") {
		t.Errorf("of the first process it says %q", said)
	}
	docker(t, "exec", "-d", id, "sleep", "299")
	other := 0
	for end := time.Now().Add(5 * time.Second); other == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, p := range r.pidsOf(cgroup) {
			if line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p)); p != pid && strings.Contains(string(line), "299") {
				other = p
			}
		}
	}
	if said := r.Do("kill", c, bulkhead.Process{PID: other}, bulkhead.Alert{}); said != "the process was ended" {
		t.Errorf("of another process it says %q", said)
	}
	if !eventually(func() bool { return !inCgroup(other, cgroup) }) {
		t.Error("the process is there still")
	}

	frozen := func() bool {
		text, _ := os.ReadFile(filepath.Join(root, cgroup, "cgroup.events"))
		return strings.Contains(string(text), "frozen 1")
	}
	if said := r.Do("pause", c, bulkhead.Process{}, bulkhead.Alert{}); said != "the container is held" || !eventually(frozen) {
		t.Errorf("%q, and it is not held", said)
	}
	if err := Resume(root, r.Dir); err != nil || !eventually(func() bool { return !frozen() }) {
		t.Errorf("it is held still: %v", err)
	}

	docker(t, "exec", id, "sh", "-c", "echo changed > /etc/changed-by-an-intruder")
	if err := r.snapshot(t.Context(), job{c, bulkhead.Alert{ID: "a"}}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(r.Dir, "snapshots/*.tar.gz"))
	if len(files) != 1 {
		t.Fatalf("snapshots: %v", files)
	}
	have := contents(t, files[0])
	if !strings.Contains(have["changed.txt"], `"etc/changed-by-an-intruder"`) {
		t.Errorf("changed.txt: %s", have["changed.txt"])
	}
	if !strings.Contains(have["processes.json"], `"300"`) || len(have["maps/"+strconv.Itoa(pid)]) == 0 {
		t.Errorf("processes.json: %s", have["processes.json"])
	}
}

func eventually(done func() bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
}
