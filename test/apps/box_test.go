//go:build integration

package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// box is one container of the lab's Docker.
type box struct {
	name string
	ip   string
}

// docker runs Docker's own client.
func docker(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("docker %s: %w: %.300s", strings.Join(args[:min(len(args), 4)], " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// run starts the container of an application.
func run(ctx context.Context, a *app, image string) (*box, error) {
	b := &box{name: "bulkhead-apps-" + a.name}
	if err := b.remove(ctx); err != nil { // of a run that was killed
		return nil, err
	}
	if _, err := docker(ctx, "", "run", "-d", "--name", b.name, image); err != nil {
		return nil, err
	}
	return b, b.find(ctx)
}

func (b *box) find(ctx context.Context) error {
	out, err := docker(ctx, "", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", b.name)
	b.ip = strings.TrimSpace(out)
	return err
}

func (b *box) remove(ctx context.Context) error {
	_, err := docker(ctx, "", "rm", "-fv", b.name)
	if err != nil && strings.Contains(err.Error(), "No such container") {
		return nil
	}
	return err
}

// restart stops the container as an operator does and starts it again. It says what the application ended with.
func (b *box) restart(ctx context.Context) (ended string, took time.Duration, err error) {
	began := time.Now()
	if _, err := docker(ctx, "", "stop", "-t", "30", b.name); err != nil {
		return "", 0, err
	}
	took = time.Since(began)
	if ended, err = docker(ctx, "", "inspect", "-f", "{{.State.ExitCode}}", b.name); err != nil {
		return "", took, err
	}
	if _, err := docker(ctx, "", "start", b.name); err != nil {
		return "", took, err
	}
	return strings.TrimSpace(ended), took, b.find(ctx)
}

// exec runs a program in the container, with its standard input.
func (b *box) exec(ctx context.Context, stdin string, args ...string) (string, error) {
	return docker(ctx, stdin, append([]string{"exec", "-i", b.name}, args...)...)
}

// await repeats a question until it is answered.
func (b *box) await(ctx context.Context, ready func(context.Context, *box) error) error {
	ctx, cancel := context.WithTimeout(ctx, 150*time.Second)
	defer cancel()
	for {
		err := ready(ctx, b)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			logs, _ := exec.Command("docker", "logs", "--tail", "20", b.name).CombinedOutput()
			return errors.Join(fmt.Errorf("%s does not serve: %w", b.name, err), errors.New(string(logs)))
		case <-time.After(250 * time.Millisecond):
		}
	}
}
