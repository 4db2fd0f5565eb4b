package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The modules that name the versions of everything in the cluster: each has a go.mod of its
// own, which go:embed would leave out, so they are stored under another name.
//
//go:embed cluster/modules
var modules embed.FS

// program is one that is built from Go modules.
type program struct {
	module, output, pkg string
	flags               []string
	cgo                 bool
}

var kubernetesVersion = regexp.MustCompile(`k8s.io/kubernetes (v1\.(\d+)\.\d+)`)

// Build makes the programs that are missing: Kubernetes and etcd, and for nri also containerd 2,
// runc and the network plug-ins. The first time takes a quarter of an hour on two processors.
func (c *Cluster) Build(ctx context.Context, nri bool) error {
	unlock, err := c.lab.lock()
	if err != nil {
		return err
	}
	defer unlock()
	programs := kubernetes()
	if nri {
		programs = append(programs, engine()...)
	}
	for _, p := range programs {
		if err := c.build(ctx, p); err != nil {
			return fmt.Errorf("building %s: %w", p.output, err)
		}
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		os.Remove(c.Binary(name))
		if err := os.Symlink("hyper", c.Binary(name)); err != nil {
			return fmt.Errorf("naming %s: %w", name, err)
		}
	}
	return nil
}

// kubernetes needs its version stamped in: without it, a kubelet does not register.
func kubernetes() []program {
	text, err := modules.ReadFile("cluster/modules/kubernetes/go.mod.txt")
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	version := kubernetesVersion.FindSubmatch(text)
	flags := "-s -w"
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=%[3]s -X %[1]s.gitTreeState=clean -X %[1]s.buildDate=2026-01-01T00:00:00Z", pkg, version[1], version[2])
	}
	return []program{
		{module: "kubernetes", output: "bin/hyper", pkg: ".", flags: []string{"-ldflags", flags}},
		{module: "etcd", output: "bin/etcd", pkg: "go.etcd.io/etcd/server/v3", flags: []string{"-ldflags", "-s -w"}},
	}
}

func engine() []program {
	var all []program
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		all = append(all, program{
			module: "containerd", output: "engine/" + name, pkg: "github.com/containerd/containerd/v2/cmd/" + name,
			flags: []string{"-tags", "no_btrfs no_devmapper no_zfs urfave_cli_no_docs", "-ldflags", "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2"},
		})
	}
	for _, name := range []string{"main/bridge", "main/loopback", "main/ptp", "ipam/host-local", "meta/portmap", "meta/firewall"} {
		all = append(all, program{module: "cni", output: "engine/cni/" + filepath.Base(name), pkg: "github.com/containernetworking/plugins/plugins/" + name, flags: []string{"-ldflags", "-s -w"}})
	}
	// runc is partly C, and a runc without libseccomp starts no sandbox.
	return append(all, program{
		module: "runc", output: "engine/runc", pkg: "github.com/opencontainers/runc", cgo: true,
		flags: []string{"-tags", "seccomp urfave_cli_no_docs", "-ldflags", "-s -w -X main.version=1.5.2"},
	})
}

var enginePackagesToBuild = []Package{{"gcc", "gcc"}, {"libc6-dev", "/usr/include/stdio.h"}, {"pkg-config", "pkg-config"}, {"libseccomp-dev", "/usr/include/seccomp.h"}}

// build makes p unless it is there, made from the same module.
func (c *Cluster) build(ctx context.Context, p program) error {
	output := c.lab.path("kubernetes", p.output)
	recipe := p.recipe()
	if have, err := os.ReadFile(output + ".recipe"); err == nil && string(have) == recipe {
		return nil
	}
	if p.cgo {
		if err := Install(ctx, c.lab.say, enginePackagesToBuild...); err != nil {
			return err
		}
	}
	start := time.Now()
	c.lab.say("building %s", filepath.Base(output))
	if err := c.compile(ctx, p, output); err != nil {
		return err
	}
	c.lab.say("%s built in %.0f s", filepath.Base(output), time.Since(start).Seconds())
	return os.WriteFile(output+".recipe", []byte(recipe), 0o644)
}

func (c *Cluster) compile(ctx context.Context, p program, output string) error {
	source, err := os.MkdirTemp(c.lab.dir, "module-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	if err := p.unpack(source); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", output}, p.flags...), p.pkg)...)
	cmd.Dir = source
	cgo := "0"
	if p.cgo {
		cgo = "1"
	}
	// readonly: go.mod and go.sum decide. GOGC: memory for a seventh of the compiler's time.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly -trimpath -buildvcs=false", "GOTOOLCHAIN=local", "GOWORK=off", "GOGC=400", "CGO_ENABLED="+cgo)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, lastLines(out, 12))
	}
	return nil
}

// unpack writes the module's files under their real names.
func (p program) unpack(dir string) error {
	return p.each(func(name string, text []byte) error {
		return os.WriteFile(filepath.Join(dir, strings.TrimSuffix(name, ".txt")), text, 0o644)
	})
}

func (p program) recipe() string {
	h := sha256.New()
	fmt.Fprint(h, p.pkg, p.flags, p.cgo)
	p.each(func(name string, text []byte) error {
		fmt.Fprintf(h, "%s %d\n%s", name, len(text), text)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))
}

func (p program) each(do func(name string, text []byte) error) error {
	dir := "cluster/modules/" + p.module
	entries, err := fs.ReadDir(modules, dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		text, err := modules.ReadFile(dir + "/" + entry.Name())
		if err != nil {
			return err
		}
		if err := do(entry.Name(), text); err != nil {
			return err
		}
	}
	return nil
}
