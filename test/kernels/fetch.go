package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"bulkhead/test/lab"
)

// modules that tests use and Debian's cloud kernels do not have built in.
var modules = []string{"overlay", "veth", "dummy", "tcp_diag", "udp_diag"}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// installTools gets the emulator and what unpacks a kernel. QEMU below 10 sometimes hangs or
// panics a newer kernel under emulation, so on Debian 12 the one of its backports is taken.
func installTools(ctx context.Context, dir string) error {
	say := func(format string, args ...any) { fmt.Printf("          "+format+"\n", args...) }
	err := lab.Install(ctx, say,
		lab.Package{Name: "busybox-static", File: "/bin/busybox"},
		lab.Package{Name: "xz-utils", File: "xz"},
		lab.Package{Name: "debian-archive-keyring", File: keyring})
	if err != nil || emulatorVersion(ctx) >= 10 {
		return err
	}
	say("installing QEMU")
	if err := installBackport(ctx, dir); err == nil {
		return nil
	}
	if err := lab.Install(ctx, say, lab.Package{Name: "qemu-system-x86", File: "qemu-system-x86_64"}); err != nil {
		return err
	}
	say("QEMU %d: below 10, a machine may hang now and then", emulatorVersion(ctx))
	return nil
}

func emulatorVersion(ctx context.Context) int {
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return 0
	}
	found := regexp.MustCompile(`version (\d+)`).FindSubmatch(out)
	if found == nil {
		return 0
	}
	version, _ := strconv.Atoi(string(found[1]))
	return version
}

// installBackport asks apt with a list of its own: the machine's configuration stays as it is.
func installBackport(ctx context.Context, dir string) error {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return err
	}
	if !bytes.Contains(release, []byte("VERSION_CODENAME=bookworm")) || !bytes.Contains(release, []byte("ID=debian")) {
		return errors.New("only Debian 12 needs a backport")
	}
	a, err := newApt(filepath.Join(dir, "apt", "backports"), "bookworm-backports", "bookworm", "bookworm-updates")
	if err != nil {
		return err
	}
	if err := a.run(ctx, "apt-get", "update"); err != nil {
		return err
	}
	return a.run(ctx, "apt-get", "install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300", "-t", "bookworm-backports", "qemu-system-x86")
}

// apt is Debian's package manager with lists of its own.
type apt struct{ options []string }

func newApt(dir string, suites ...string) (*apt, error) {
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("making a folder for apt: %w", err)
		}
	}
	mirror, _ := lab.Mirrors(context.Background())
	var text strings.Builder
	for _, suite := range suites {
		fmt.Fprintf(&text, "deb [signed-by=%s] %s %s main\n", keyring, mirror, suite)
	}
	list := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(list, []byte(text.String()), 0o644); err != nil {
		return nil, fmt.Errorf("writing apt's list: %w", err)
	}
	return &apt{[]string{
		"-qq", "-o", "Acquire::Languages=none", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=root",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", "-o", "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
	}}, nil
}

func (a *apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, append(a.options, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	return cmd
}

func (a *apt) run(ctx context.Context, name string, args ...string) error {
	return command(a.command(ctx, name, args...))
}

// fetcher unpacks each kernel once, below its folder.
type fetcher struct {
	dir  string
	lock sync.Map // suite → *sync.Mutex
}

// kernel is an unpacked kernel.
type kernel struct {
	image   string
	modules []file // in the order in which they are loaded
}

func (f *fetcher) kernel(ctx context.Context, suite string) (kernel, error) {
	lock, _ := f.lock.LoadOrStore(suite, &sync.Mutex{})
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	root := filepath.Join(f.dir, suite)
	if _, err := os.Stat(root); err != nil {
		if err := f.fetch(ctx, suite, root); err != nil {
			return kernel{}, fmt.Errorf("fetching the kernel of Debian %s: %w", suite, err)
		}
	}
	return openKernel(ctx, root)
}

func (f *fetcher) fetch(ctx context.Context, suite, root string) error {
	a, err := newApt(filepath.Join(f.dir, "apt", suite), suite)
	if err != nil {
		return err
	}
	if err := a.run(ctx, "apt-get", "update"); err != nil {
		return err
	}
	names, err := a.kernelPackages(ctx)
	if err != nil {
		return err
	}
	part := root + ".part"
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(part, 0o755)); err != nil {
		return err
	}
	download := a.command(ctx, "apt-get", append([]string{"download"}, names...)...)
	download.Dir = part
	if err := command(download); err != nil {
		return err
	}
	if err := unpack(ctx, part); err != nil {
		return err
	}
	return os.Rename(part, root)
}

// kernelPackages are the package that linux-image-cloud-amd64 stands for and, from 7.0 on,
// those that its image and its modules were split into.
func (a *apt) kernelPackages(ctx context.Context) ([]string, error) {
	out, err := a.command(ctx, "apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return nil, fmt.Errorf("asking apt for the kernel: %w", err)
	}
	found := regexp.MustCompile(`Depends: (linux-image-\S+)`).FindSubmatch(out)
	if found == nil {
		return nil, errors.New("linux-image-cloud-amd64 names no kernel")
	}
	image := string(found[1])
	names := []string{image}
	for _, part := range []string{"linux-binary", "linux-modules"} {
		name := strings.Replace(image, "linux-image", part, 1)
		if a.run(ctx, "apt-cache", "show", name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func unpack(ctx context.Context, dir string) error {
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, p := range packages {
		if err := command(exec.CommandContext(ctx, "dpkg-deb", "-x", p, dir)); err != nil {
			return err
		}
		os.Remove(p)
	}
	return nil
}

func openKernel(ctx context.Context, root string) (kernel, error) {
	var k kernel
	files := map[string]string{} // module → path
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, isModule, _ := strings.Cut(entry.Name(), ".ko")
		switch {
		case err != nil || entry.IsDir():
		case strings.HasPrefix(entry.Name(), "vmlinuz"):
			k.image = path
		case isModule == "" || strings.HasPrefix(isModule, "."):
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil || k.image == "" {
		return k, fmt.Errorf("no kernel in %s (%w): remove the folder, and it is fetched again", root, err)
	}
	err = k.load(ctx, files, modules, map[string]bool{})
	return k, err
}

// load puts the modules in order, each after those it depends on. One that is not there is
// built into this kernel.
func (k *kernel) load(ctx context.Context, files map[string]string, names []string, done map[string]bool) error {
	for _, name := range names {
		path, ok := files[name]
		if !ok || done[name] {
			continue
		}
		done[name] = true
		data, needs, err := readModule(ctx, path)
		if err != nil {
			return fmt.Errorf("reading module %s: %w", name, err)
		}
		if err := k.load(ctx, files, needs, done); err != nil {
			return err
		}
		k.modules = append(k.modules, file{name + ".ko", 0o644, data})
	}
	return nil
}

// readModule returns the bytes of a module and what it says it depends on.
func readModule(ctx context.Context, path string) (data []byte, needs []string, err error) {
	if strings.HasSuffix(path, ".xz") {
		data, err = exec.CommandContext(ctx, "xz", "-dc", path).Output()
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, nil, err
	}
	object, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	section := object.Section(".modinfo")
	if section == nil {
		return data, nil, nil
	}
	info, err := section.Data()
	for _, field := range bytes.Split(info, []byte{0}) {
		if list, ok := strings.CutPrefix(string(field), "depends="); ok && list != "" {
			needs = strings.Split(strings.ReplaceAll(list, "-", "_"), ",")
		}
	}
	return data, needs, err
}
