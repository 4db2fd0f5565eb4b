package product

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Program is one that a test starts, stops and kills.
type Program struct {
	Args []string

	t     *testing.T
	log   string
	cmd   *exec.Cmd
	done  chan struct{}
	began time.Time
	ended bool // by this test
}

// Program prepares a program. Its log lies in the product's folder.
func (p *Product) Program(path string, args ...string) *Program {
	return &Program{t: p.T, log: p.Path(filepath.Base(path) + ".log"), Args: append([]string{path}, args...)}
}

// Start starts it, again after it ended.
func (p *Program) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.began, p.ended = time.Now(), false
	p.cmd, p.done = exec.Command(p.Args[0], p.Args[1:]...), make(chan struct{})
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(p.cmd, p.done)
}

// PID is that of the running program.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Kill ends it as a fault does.
func (p *Program) Kill() {
	p.ended = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends it as an operator does. One that ended by itself is an error.
func (p *Program) Stop() {
	p.t.Helper()
	if p.cmd == nil || p.cmd.Process == nil || p.ended {
		return
	}
	select {
	case <-p.done:
		p.t.Errorf("%s ended by itself: %v\n%s", p.name(), p.cmd.ProcessState, p.Tail())
	default:
	}
	p.ended = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("%s did not end within 20 s", p.name())
		p.Kill()
	}
}

func (p *Program) name() string { return filepath.Base(p.Args[0]) }

// Tail is the end of its log.
func (p *Program) Tail() string {
	log, _ := os.ReadFile(p.log)
	return string(log[max(0, len(log)-5000):])
}
