package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Package is a Debian package and a file of it that tells whether it is there: somebody
// may have the file from elsewhere (a Docker of Docker's own), and a release may have it in
// another package (the client is one of its own from Debian 13 on).
type Package struct{ Name, File string }

var (
	enginePackages = []Package{
		{"containerd", "containerd"},
		{"runc", "runc"},
		{"docker.io", "dockerd"},
		{"docker-cli", "docker"},
		{"docker-registry", "docker-registry"},
		{"containernetworking-plugins", "/usr/lib/cni/bridge"},
		{"iptables", "iptables"},
		{"iproute2", "ip"},
	}
	imagePackages = []Package{
		{"mmdebstrap", "mmdebstrap"},
		{"debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"},
		{"busybox-static", "/bin/busybox"},
	}
)

const policyFile = "/usr/sbin/policy-rc.d"

// Install installs the packages that are missing, and starts none of the services in them.
func Install(ctx context.Context, say func(string, ...any), packages ...Package) error {
	missing := Missing(packages...)
	if len(missing) == 0 {
		return nil
	}
	say("installing Debian packages: %s", strings.Join(missing, " "))
	restore, err := forbidServices()
	if err != nil {
		return err
	}
	defer restore()
	if _, err := apt(ctx, "update", "-q"); err != nil {
		return err
	}
	known := available(ctx, missing)
	if _, err := apt(ctx, append([]string{"install", "-yq", "--no-install-recommends"}, known...)...); err != nil {
		return err
	}
	if missing = Missing(packages...); len(missing) > 0 {
		return fmt.Errorf("this release has no package for %s: install what they stand for by hand", strings.Join(missing, " "))
	}
	return nil
}

// Missing names the packages whose file is not there.
func Missing(packages ...Package) []string {
	var missing []string
	for _, p := range packages {
		if !present(p.File) {
			missing = append(missing, p.Name)
		}
	}
	return missing
}

func present(file string) bool {
	if strings.HasPrefix(file, "/") {
		_, err := os.Stat(file)
		return err == nil
	}
	// sbin is in root's path only.
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if info, err := os.Stat(filepath.Join(dir, file)); err == nil && !info.IsDir() {
			return true
		}
	}
	return false
}

func available(ctx context.Context, names []string) []string {
	var known []string
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "apt-cache", "policy", name).Output()
		if err == nil && strings.Contains(string(out), "Candidate:") && !strings.Contains(string(out), "Candidate: (none)") {
			known = append(known, name)
		}
	}
	return known
}

// forbidServices keeps packages from starting their daemons, as they would with the
// machine's own state, until restore is called.
func forbidServices() (restore func(), err error) {
	if _, err := os.Lstat(policyFile); err == nil {
		return func() {}, nil
	}
	if err := os.WriteFile(policyFile, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return nil, fmt.Errorf("forbidding services to start: %w", err)
	}
	return func() { os.Remove(policyFile) }, nil
}

func apt(ctx context.Context, args ...string) ([]byte, error) {
	// Another apt may be running, on a fresh cloud machine always: wait for it.
	args = append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)
	return run(ctx, "apt-get", args...)
}

// run runs a program to its end and puts the last lines of what it said into the error.
func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, lastLines(out, 12))
	}
	return out, nil
}

func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
