package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	longestCommand = 64 << 10 // a step is a line or two
	longestOutput  = 64 << 10 // what of a command's output is kept
	commandLimit   = 8 * time.Second
)

// answer is what a command came to.
type answer struct {
	Output string `json:"output"`
	Exit   int    `json:"exit"` // -1: it was killed
	Error  string `json:"error,omitempty"`
}

// serve is the application with a hole: it gives what it is asked to a shell. With a second argument
// in the question, the program of that name stands between it and the shell.
func serve(args []string) error {
	if len(args) != 1 {
		return errors.New("--serve SOCKET")
	}
	_ = os.Remove(args[0])
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	go reap()
	server := &http.Server{Handler: http.HandlerFunc(handleCommand), ReadTimeout: 30 * time.Second}
	return server.Serve(listener)
}

func handleCommand(w http.ResponseWriter, r *http.Request) {
	command, err := io.ReadAll(io.LimitReader(r.Body, longestCommand))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	arguments := []string{"/bin/sh", "-c", string(command)}
	if parent := r.URL.Query().Get("by"); parent != "" {
		arguments = append([]string{parent, "--run"}, arguments...)
	}
	_ = json.NewEncoder(w).Encode(execute(r.Context(), arguments, r.URL.Query().Get("linger") != ""))
}

// execute runs a command with all that it leaves behind, for commandLimit at most. What lingers is
// left running until the container ends.
func execute(ctx context.Context, arguments []string, linger bool) answer {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, arguments[0], arguments[1:]...)
	c.Stdout, c.Stderr = &limited{out: &out}, &limited{out: &out}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = 200 * time.Millisecond
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	if c.Process != nil && !linger {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
	}
	a := answer{Output: out.String(), Exit: -1}
	if c.ProcessState != nil {
		a.Exit = c.ProcessState.ExitCode()
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// limited keeps the first bytes of what is written to it.
type limited struct{ out *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.out.Write(p[:min(len(p), max(0, longestOutput-l.out.Len()))])
	return len(p), nil
}

// reap is what the first process of a container has to do for processes that lost their parent. It
// leaves those alone that a command is waited for: they are in a process group of their own name.
func reap() {
	for {
		time.Sleep(500 * time.Millisecond)
		for _, pid := range orphans() {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}
