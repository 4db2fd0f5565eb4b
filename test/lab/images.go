package lab

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed images
var recipes embed.FS

const (
	suite     = "bookworm"
	baseImage = "lab/debian:" + suite

	// BusyboxImage is a static busybox and nothing else: 2 MB, for tests that need many containers.
	BusyboxImage = "lab/busybox:1"
	// PauseImage is the sandbox of pods.
	PauseImage = "localhost/lab/pause:1"

	recipeLabel = "lab.recipe" // the digest of what an image was made from
	parallel    = 3            // on two processors: downloading, unpacking and configuring overlap
)

// Names lists the images that can be built.
func Names() []string {
	entries, err := recipes.ReadDir("images")
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	names := []string{"busybox"}
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names
}

// Reference is how docker calls the image of that name.
func Reference(name string) string {
	if name == "busybox" {
		return BusyboxImage
	}
	return "lab/" + name + ":" + suite
}

// Image returns the reference of the image called name, in the lab's docker, and builds it
// first where it is missing or made from another recipe.
func (l *Lab) Image(ctx context.Context, name string) (string, error) {
	return Reference(name), l.Images(ctx, name)
}

// Images builds the images of names (all without names) that are missing.
func (l *Lab) Images(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		names = Names()
	}
	if err := known(names); err != nil {
		return err
	}
	if err := l.Up(ctx); err != nil {
		return err
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return l.build(ctx, names)
}

func known(names []string) error {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("no image %q; there are: %s", name, strings.Join(Names(), " "))
		}
	}
	return nil
}

func (l *Lab) build(ctx context.Context, names []string) error {
	have := l.recipes(ctx)
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return have[Reference(name)] == recipe(name) })
	if len(missing) == 0 {
		return nil
	}
	if err := Install(ctx, l.say, imagePackages...); err != nil {
		return err
	}
	if err := l.buildBase(ctx, missing); err != nil {
		return err
	}
	return inParallel(missing, func(name string) error { return l.buildOne(ctx, name) })
}

func inParallel(names []string, work func(string) error) error {
	var (
		group sync.WaitGroup
		slots = make(chan struct{}, parallel)
		errs  = make(chan error, len(names))
	)
	for _, name := range names {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs <- work(name)
		})
	}
	group.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = cmp.Or(failed, err)
	}
	return failed
}

// recipes says what each image in the lab's docker was made from.
func (l *Lab) recipes(ctx context.Context) map[string]string {
	have := map[string]string{}
	for _, reference := range l.list(ctx, "docker", "-H", "unix://"+l.Docker(), "images", "--filter", "label="+recipeLabel, "--format", "{{.Repository}}:{{.Tag}}") {
		out, err := l.docker(ctx, nil, "image", "inspect", "-f", `{{index .Config.Labels "`+recipeLabel+`"}}`, reference)
		if err == nil {
			have[reference] = strings.TrimSpace(string(out))
		}
	}
	return have
}

// recipe is a digest over everything that an image is made from.
func recipe(name string) string {
	h := sha256.New()
	switch name {
	case "busybox":
		binary, _ := os.ReadFile(busyboxPath) // missing: an own digest, until it is installed
		h.Write(binary)
	case "debian":
		hashFile(h, "images/install-packages")
		fmt.Fprint(h, baseOptions)
	default:
		fmt.Fprint(h, recipe("debian"))
		fs.WalkDir(recipes, "images/"+name, func(file string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				hashFile(h, file)
			}
			return err
		})
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashFile(h io.Writer, file string) {
	text, err := recipes.ReadFile(file)
	if err != nil {
		panic(err) // embedded: cannot happen
	}
	fmt.Fprintf(h, "%s %d\n%s", file, len(text), text)
}

func (l *Lab) buildOne(ctx context.Context, name string) error {
	start := time.Now()
	build := l.buildFromRecipe
	if name == "busybox" {
		build = l.buildBusybox
	}
	if err := build(ctx, name); err != nil {
		return fmt.Errorf("building image %s: %w", name, err)
	}
	l.say("image %s built in %.0f s", Reference(name), time.Since(start).Seconds())
	return nil
}

// buildFromRecipe sends the recipe's folder to docker, which then needs no copy of it on disk.
func (l *Lab) buildFromRecipe(ctx context.Context, name string) error {
	folder, err := archive(path.Join("images", name))
	if err != nil {
		return err
	}
	// The host's network: the lab's bridge may have no way out to a package mirror.
	args := append([]string{"build", "--network", "host", "--label", recipeLabel + "=" + recipe(name), "-t", Reference(name)}, proxies()...)
	out, err := l.docker(ctx, folder, append(args, "-")...)
	os.WriteFile(l.logFile("image-"+name), out, 0o644)
	return err
}

// baseOptions makes a base like Debian's slim images: no manuals, licences kept. The package
// lists stay, so that the images on top need not fetch them one by one.
var baseOptions = []string{
	"--variant=apt", "--mode=root", "--skip=cleanup/apt/lists", "--format=tar", "--quiet",
	"--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
	"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
	`--aptopt=APT::Install-Recommends "false"`,
	`--customize-hook=upload images/install-packages /usr/local/sbin/install-packages`,
	`--customize-hook=chmod 755 "$1/usr/local/sbin/install-packages"`,
	`--customize-hook=printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"`,
	`--customize-hook=rm -f "$1/etc/hostname"`,
}

func (l *Lab) buildBase(ctx context.Context, wanted []string) error {
	if slices.Equal(wanted, []string{"busybox"}) || l.recipes(ctx)[baseImage] == recipe("debian") {
		return nil
	}
	start := time.Now()
	l.say("making the base of the images: Debian %s", suite)
	root := l.path("base.tar")
	defer os.Remove(root)
	if err := l.bootstrap(ctx, root); err != nil {
		return err
	}
	_, err := l.docker(ctx, nil, "import", "--change", "LABEL "+recipeLabel+"="+recipe("debian"), root, baseImage)
	if err != nil {
		return err
	}
	l.say("image %s built in %.0f s", baseImage, time.Since(start).Seconds())
	return nil
}

// bootstrap runs mmdebstrap in a folder that holds what it uploads.
func (l *Lab) bootstrap(ctx context.Context, root string) error {
	dir, err := os.MkdirTemp(l.dir, "base-")
	if err != nil {
		return fmt.Errorf("making the base: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, recipes); err != nil {
		return fmt.Errorf("making the base: %w", err)
	}
	debian, security := Mirrors(ctx)
	if debian == "" {
		return errors.New("making the base: apt's configuration names no Debian mirror; run apt-get update, or set DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR")
	}
	args := append(slices.Clone(baseOptions), suite, root, "deb "+debian+" "+suite+" main", "deb "+debian+" "+suite+"-updates main")
	if security != "" {
		args = append(args, "deb "+security+" "+suite+"-security main")
	}
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	os.WriteFile(l.logFile("image-debian"), out, 0o644)
	if err != nil {
		return fmt.Errorf("mmdebstrap: %w; see %s\n%s", err, l.logFile("image-debian"), lastLines(out, 8))
	}
	return nil
}

// Mirrors are the ones that this machine's apt uses where it is a Debian; on another distribution DEBIAN_MIRROR
// and DEBIAN_SECURITY_MIRROR name them.
func Mirrors(ctx context.Context) (debian, security string) {
	debian, security = os.Getenv("DEBIAN_MIRROR"), os.Getenv("DEBIAN_SECURITY_MIRROR")
	if debian != "" {
		return debian, security
	}
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return debian, security
	}
	for line := range strings.Lines(string(out)) {
		switch f := strings.Fields(line); {
		case len(f) == 2 && f[0] == "Debian":
			debian = f[1]
		case len(f) == 2 && f[0] == "Debian-Security":
			security = f[1]
		}
	}
	return debian, security
}

// proxies hands the machine's proxy to a build.
func proxies() []string {
	var args []string
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if os.Getenv(name) != "" {
			args = append(args, "--build-arg", name)
		}
	}
	return args
}

const busyboxPath = "/bin/busybox"

// buildBusybox makes the two images that need no Debian: busybox, and the sandbox of pods,
// which also goes into the folder of containerd's CRI.
func (l *Lab) buildBusybox(ctx context.Context, name string) error {
	root, err := busyboxRoot()
	if err != nil {
		return err
	}
	label := "LABEL " + recipeLabel + "=" + recipe(name)
	if _, err := l.docker(ctx, bytes.NewReader(root), "import", "--change", label, "--change", `CMD ["sh"]`, "--change", "ENV PATH=/bin", "-", BusyboxImage); err != nil {
		return err
	}
	if _, err := l.docker(ctx, bytes.NewReader(root), "import", "--change", `ENTRYPOINT ["/bin/sleep","infinity"]`, "-", PauseImage); err != nil {
		return err
	}
	return l.ToContainerd(ctx, "k8s.io", PauseImage)
}

// ToContainerd copies an image of the lab's docker into a namespace of the lab's containerd.
func (l *Lab) ToContainerd(ctx context.Context, namespace, reference string) error {
	file := l.path("to-containerd.tar")
	defer os.Remove(file)
	if _, err := l.docker(ctx, nil, "save", "-o", file, reference); err != nil {
		return err
	}
	_, err := run(ctx, "ctr", "-a", l.Containerd(), "-n", namespace, "images", "import", file)
	return err
}

func busyboxRoot() ([]byte, error) {
	binary, err := os.ReadFile(busyboxPath)
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command(busyboxPath, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking busybox for its applets: %w", err)
	}
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root", "www"} {
		w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	put(w, "bin/busybox", 0o755, binary)
	put(w, "etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"))
	put(w, "www/index.html", 0o644, []byte("hello from busybox\n"))
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
		}
	}
	return buffer.Bytes(), w.Close()
}

func put(w *tar.Writer, name string, mode int64, text []byte) {
	w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))})
	w.Write(text)
}

// archive packs a folder of the recipes for docker build.
func archive(folder string) (*bytes.Buffer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	entries, err := recipes.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		text, err := recipes.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return nil, err
		}
		put(w, entry.Name(), 0o644, text)
	}
	return &buffer, w.Close()
}

// docker runs the client against the lab's dockerd. The classic builder: BuildKit would need
// a plug-in that Debian 12 does not have.
func (l *Lab) docker(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+l.Docker(), "DOCKER_BUILDKIT=0")
	if stdin != nil {
		cmd.Stdin = stdin
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("docker %s: %w\n%s", args[0], err, lastLines(out, 12))
	}
	return out, nil
}
