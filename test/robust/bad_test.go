//go:build integration

package robust

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// oneLine runs an agent that cannot work and wants one line of it, with a next step.
func oneLine(t *testing.T, cmd *exec.Cmd, want ...string) {
	t.Helper()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	text := strings.TrimSpace(string(out))
	lines := strings.Split(text, "\n")
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || len(lines) != 1 {
		t.Errorf("%v, %d lines: %s", err, len(lines), text)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
	t.Logf("after %v: %s", time.Since(began).Round(time.Millisecond), text)
}

func TestNoPrivileges(t *testing.T) {
	p := prepare(t)
	for _, dir := range []string{p.Dir, p.Path("run")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(p.Agent.Args[0], p.Agent.Args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	oneLine(t, cmd, "CAP_SYS_ADMIN", "run the agent as root")
}

func TestSecondAgent(t *testing.T) {
	p := start(t)
	oneLine(t, exec.Command(p.Agent.Args[0], p.Agent.Args[1:]...), "another agent runs", p.Pin, "stop that one first")
	if n, err := p.Node(); err != nil || !n.Connected {
		t.Errorf("the first one: %+v, %v", n, err)
	}
}

// TestBadInput starts without an engine, names one later, fills the disk, and corrupts what was decided.
func TestBadInput(t *testing.T) {
	p := prepare(t)
	disk := p.Path("state", "agent")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1M"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	p.Server.Start()
	p.Agent.Start()
	p.Await() // without an engine
	b := p.box(t, "bad", p.actorImage(t))
	p.Engines(p.engine)
	b.learn(p)
	p.mode(b.workload(), "protect")
	blocked := func(when string) {
		t.Helper()
		if a := b.do("exec", ""); a.Done || a.NoCall {
			t.Errorf("%s: %+v", when, a)
		}
		if a := b.do("call", ""); a.Done || a.NoCall {
			t.Errorf("%s: %+v", when, a)
		}
		if a := b.do("learned", ""); !a.Done {
			t.Errorf("%s: %+v", when, a)
		}
	}
	blocked("at first")
	t.Run("full disk", func(t *testing.T) {
		filler := filepath.Join(disk, "filler")
		_ = os.WriteFile(filler, make([]byte, 2<<20), 0o600) // as much as there is room for
		p.Agent.Kill()
		p.Agent.Start() // on a disk that is full already
		time.Sleep(3 * time.Second)
		blocked("with a full disk")
		p.Eventually(20*time.Second, func() error { return p.wantProblem(t, "free room in") })
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		p.Eventually(30*time.Second, func() error {
			_ = b.do("connect", "192.0.2.1:1")
			return p.wantAlert(t, b, "tcp 192.0.2.1:1")
		})
	})
	t.Run("corrupt state", func(t *testing.T) {
		p.Agent.Stop()
		files, _ := filepath.Glob(filepath.Join(disk, "workloads", "*.json"))
		if len(files) == 0 {
			t.Fatal("no state")
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(f, append([]byte("{\n  \"workload\": oops\n"), text...), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		blocked("while no agent runs")
		p.Agent.Start()
		p.Await()
		p.Eventually(20*time.Second, func() error { return p.wantProblem(t, ".json:2:15: ", "its last good copy is in force") })
		blocked("after the state was corrupt")
	})
	if took := b.do("ping", "").Took; took > hang {
		t.Errorf("an answer took %v", took)
	}
}

func (p *hull) wantProblem(t *testing.T, parts ...string) error {
	n, err := p.Node()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(n.Problems, func(text string) bool {
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
	}) {
		return fmt.Errorf("no problem says %q: %q", parts, n.Problems)
	}
	return nil
}
