package demo

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	customer = 1000 // uid and gid that the shop runs as
)

// buildImage writes a docker-archive: one layer of a small Debian-like userland, one of the
// shop. The same input gives the same bytes, so the image keeps its digest.
func buildImage(w io.Writer, ref, shop string) error {
	userland, err := userlandLayer()
	if err != nil {
		return fmt.Errorf("pack the userland layer: %w", err)
	}
	goods, err := shopLayer(shop)
	if err != nil {
		return fmt.Errorf("pack the shop layer: %w", err)
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-01T00:00:00Z",
		"config": map[string]any{
			"User": "1000:1000", "WorkingDir": "/srv", "Entrypoint": []string{"/srv/app/shop"},
			"Env":          []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/shop"},
			"ExposedPorts": map[string]any{"8080/tcp": map[string]any{}},
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(userland), digest(goods)}},
		"history": []map[string]string{
			{"created": "2026-01-01T00:00:00Z", "created_by": "userland"},
			{"created": "2026-01-01T00:00:00Z", "created_by": "harbour shop"},
		},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{ref}, "Layers": []string{"userland.tar", "shop.tar"},
	}})
	if err != nil {
		return err
	}
	archive := newLayer(w)
	archive.file("config.json", 0o644, 0, config)
	archive.file("userland.tar", 0o644, 0, userland)
	archive.file("shop.tar", 0o644, 0, goods)
	archive.file("manifest.json", 0o644, 0, manifest)
	return archive.close()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// layer writes a tar and keeps the first error, so that a layer reads as a list of files.
type layer struct {
	tar *tar.Writer
	err error
}

func newLayer(w io.Writer) *layer { return &layer{tar: tar.NewWriter(w)} }

func (l *layer) header(h tar.Header, content []byte) {
	if l.err != nil {
		return
	}
	h.Size, h.ModTime, h.Format = int64(len(content)), time.Unix(1767225600, 0), tar.FormatPAX
	h.Gid = h.Uid
	if l.err = l.tar.WriteHeader(&h); l.err == nil {
		_, l.err = l.tar.Write(content)
	}
}

func (l *layer) dir(name string, mode int64, uid int) {
	l.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: uid}, nil)
}

func (l *layer) file(name string, mode int64, uid int, content []byte) {
	l.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: uid}, content)
}

func (l *layer) link(name, to string) {
	l.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, nil)
}

func (l *layer) close() error {
	if l.err != nil {
		return l.err
	}
	return l.tar.Close()
}

// userlandLayer holds busybox for the tools and dash for /bin/sh, both the host's own, as
// they stand in many Debian-based images.
func userlandLayer() ([]byte, error) {
	busybox, err := readTool("busybox", "busybox-static")
	if err != nil {
		return nil, err
	}
	applets, err := appletNames(busybox.path)
	if err != nil {
		return nil, err
	}
	dash, err := readTool("dash", "dash")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	l := newLayer(&out)
	for _, d := range []string{"bin", "etc", "home", "lib", "lib64", "run", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/log", "var/lib"} {
		l.dir(d, 0o755, 0)
	}
	l.dir("tmp", 0o1777, 0)
	l.dir("root", 0o700, 0)
	l.link("var/run", "/run")
	l.file("bin/busybox", 0o755, 0, busybox.data)
	l.file("bin/dash", 0o755, 0, dash.data)
	l.link("bin/sh", "dash")
	for _, name := range applets {
		l.link("bin/"+name, "busybox")
	}
	if err := addLibraries(l, busybox, dash); err != nil {
		return nil, err
	}
	l.file("etc/passwd", 0o644, 0, []byte("root:x:0:0:root:/root:/bin/sh\nshop:x:1000:1000:shop:/home/shop:/bin/sh\n"))
	l.file("etc/group", 0o644, 0, []byte("root:x:0:\nshop:x:1000:\n"))
	l.file("etc/shadow", 0o640, 0, []byte("root:*:20000:0:99999:7:::\nshop:!:20000:0:99999:7:::\n"))
	l.file("etc/os-release", 0o644, 0, []byte("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Harbour shop userland\"\n"))
	return out.Bytes(), l.close()
}

// tool is a program of the host that goes into the image.
type tool struct {
	path string
	data []byte
}

func readTool(name, packaged string) (tool, error) {
	for _, dir := range []string{"/bin", "/usr/bin", "/usr/local/bin"} {
		p := filepath.Join(dir, name)
		if data, err := os.ReadFile(p); err == nil {
			return tool{p, data}, nil
		}
	}
	return tool{}, fmt.Errorf("the shop's image needs %s and this host has none: apt-get install %s", name, packaged)
}

// notLinked are applets whose names other files have.
var notLinked = []string{"busybox", "sh", "ash", "[", "[["}

func appletNames(busybox string) ([]string, error) {
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(n string) bool {
		return slices.Contains(notLinked, n) || strings.ContainsAny(n, "/\x00")
	})
	slices.Sort(names)
	return slices.Compact(names), nil
}

// addLibraries copies the program interpreter and the libraries that the tools name.
func addLibraries(l *layer, tools ...tool) error {
	added := map[string]bool{}
	for _, t := range tools {
		wanted, err := needs(t)
		if err != nil {
			return err
		}
		for _, p := range wanted {
			if added[p] {
				continue
			}
			added[p] = true
			data, err := os.ReadFile(p)
			if err != nil {
				return fmt.Errorf("%s needs a library: %w", t.path, err)
			}
			l.file(strings.TrimPrefix(p, "/"), 0o755, 0, data)
		}
	}
	return nil
}

// needs lists the files that a dynamic program loads; none for a static one. It looks one
// level deep: the C library is all that these tools ask for.
func needs(t tool) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(t.data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.path, err)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.path, err)
	}
	var paths []string
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			name, err := io.ReadAll(io.LimitReader(p.Open(), 256))
			if err != nil {
				return nil, err
			}
			paths = append(paths, strings.TrimRight(string(name), "\x00"))
		}
	}
	for _, name := range libraries {
		p, err := findLibrary(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.path, err)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func findLibrary(name string) (string, error) {
	for _, pattern := range []string{"/lib/*-linux-gnu/", "/usr/lib/*-linux-gnu/", "/lib64/", "/usr/lib64/", "/lib/", "/usr/lib/"} {
		found, err := filepath.Glob(pattern + name)
		if err == nil && len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("library %s not found", name)
}

// shopLayer holds the shop, its pages, its data and the folders it writes to.
func shopLayer(shop string) ([]byte, error) {
	program, err := os.ReadFile(shop)
	if err != nil {
		return nil, err
	}
	goods, err := json.MarshalIndent(catalogue(), "", " ")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	l := newLayer(&out)
	for _, d := range []string{"srv", "srv/app", "srv/plugins", "srv/static", "srv/static/img"} {
		l.dir(d, 0o755, 0)
	}
	for _, d := range []string{"srv/data", "srv/data/orders", "srv/data/exports", "srv/data/sessions", "srv/uploads", "srv/templates", "var/log/shop", "home/shop"} {
		l.dir(d, 0o755, customer)
	}
	l.dir("home/shop/.ssh", 0o700, customer)
	l.file("srv/app/shop", 0o755, 0, program)
	l.file("srv/data/catalogue.json", 0o644, 0, goods)
	l.file("srv/data/customers.csv", 0o644, customer, []byte("order,name,email\n"))
	for _, p := range catalogue() {
		l.file("srv/static/img/"+p.Picture, 0o644, 0, picture(p))
	}
	if err := addTree(l, "files/templates", "srv/templates", 0o644, customer); err != nil {
		return nil, err
	}
	if err := addTree(l, "files/plugins", "srv/plugins", 0o755, 0); err != nil {
		return nil, err
	}
	return out.Bytes(), l.close()
}

// addTree copies one of the embedded folders.
func addTree(l *layer, from, to string, mode int64, uid int) error {
	entries, err := fs.ReadDir(files, from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, path.Join(from, e.Name()))
		if err != nil {
			return err
		}
		l.file(path.Join(to, e.Name()), mode, uid, data)
	}
	return nil
}

// Shop finds the shop's program: beside the running program, on PATH, or, in a source tree
// with a Go toolchain, built into dir.
func Shop(dir string) (string, error) {
	const name = "bulkhead-shop"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return found, nil
	}
	root, err := sourceTree()
	if err != nil {
		return "", fmt.Errorf("find the demo's shop: no %s beside this program or on PATH: run `make build` in the source tree", name)
	}
	built := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", built, "./demo/shop")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the demo's shop: %w: %s", err, out)
	}
	return built, nil
}

// sourceTree looks upwards from the working directory for this module.
func sourceTree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(data, []byte("module bulkhead\n")) {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("not inside the source tree")
		}
	}
}
