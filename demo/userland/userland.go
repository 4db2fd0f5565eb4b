// Package userland makes container images out of what the host has: a small Debian-like userland
// and programs of this product, as a docker-archive. Start with [Write] and [Layer].
//
// It promises that the same input gives the same bytes, so that an image keeps its digest. It is for
// the demo and the drill, and not for reading images: that is package image.
package userland

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Layer writes a tar and keeps the first error, so that a layer reads as a list of files.
type Layer struct {
	tar *tar.Writer
	err error
}

// NewLayer writes to w.
func NewLayer(w io.Writer) *Layer { return &Layer{tar: tar.NewWriter(w)} }

func (l *Layer) header(h tar.Header, content []byte) {
	if l.err != nil {
		return
	}
	h.Size, h.ModTime, h.Format = int64(len(content)), time.Unix(1767225600, 0), tar.FormatPAX
	h.Gid = h.Uid
	if l.err = l.tar.WriteHeader(&h); l.err == nil {
		_, l.err = l.tar.Write(content)
	}
}

// Dir adds a directory.
func (l *Layer) Dir(name string, mode int64, uid int) {
	l.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: uid}, nil)
}

// File adds a file.
func (l *Layer) File(name string, mode int64, uid int, content []byte) {
	l.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Uid: uid}, content)
}

// Link adds a symbolic link.
func (l *Layer) Link(name, to string) {
	l.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, nil)
}

// Hard adds another name of a file that is there already.
func (l *Layer) Hard(name, of string) {
	l.header(tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: of, Mode: 0o755}, nil)
}

// Close ends the tar and returns the first error of all.
func (l *Layer) Close() error {
	if l.err != nil {
		return l.err
	}
	return l.tar.Close()
}

// Write fills a layer with busybox for the tools and dash for /bin/sh, both the host's own, as
// they stand in many Debian-based images.
func Write(l *Layer) error {
	busybox, err := Find("busybox", "busybox-static")
	if err != nil {
		return err
	}
	applets, err := appletNames(busybox.Path)
	if err != nil {
		return err
	}
	dash, err := Find("dash", "dash")
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "etc", "home", "lib", "lib64", "run", "usr", "usr/bin", "usr/local", "usr/local/bin", "var", "var/log", "var/lib"} {
		l.Dir(d, 0o755, 0)
	}
	l.Dir("tmp", 0o1777, 0)
	l.Dir("root", 0o700, 0)
	l.Link("var/run", "/run")
	l.File("bin/busybox", 0o755, 0, busybox.Data)
	l.File("bin/dash", 0o755, 0, dash.Data)
	l.Link("bin/sh", "dash")
	for _, name := range applets {
		l.Link("bin/"+name, "busybox")
	}
	if err := addLibraries(l, busybox, dash); err != nil {
		return err
	}
	l.File("etc/passwd", 0o644, 0, []byte("root:x:0:0:root:/root:/bin/sh\nshop:x:1000:1000:shop:/home/shop:/bin/sh\n"))
	l.File("etc/group", 0o644, 0, []byte("root:x:0:\nshop:x:1000:\n"))
	l.File("etc/shadow", 0o640, 0, []byte("root:*:20000:0:99999:7:::\nshop:!:20000:0:99999:7:::\n"))
	l.File("etc/os-release", 0o644, 0, []byte("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Harbour shop userland\"\n"))
	return l.err
}

// Tool is a program of the host that goes into the image.
type Tool struct {
	Path string
	Data []byte
}

// Find reads a program of the host.
func Find(name, packaged string) (Tool, error) {
	for _, dir := range []string{"/bin", "/usr/bin", "/usr/local/bin"} {
		p := filepath.Join(dir, name)
		if data, err := os.ReadFile(p); err == nil {
			return Tool{p, data}, nil
		}
	}
	return Tool{}, fmt.Errorf("the image needs %s and this host has none: apt-get install %s", name, packaged)
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
func addLibraries(l *Layer, tools ...Tool) error {
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
				return fmt.Errorf("%s needs a library: %w", t.Path, err)
			}
			l.File(strings.TrimPrefix(p, "/"), 0o755, 0, data)
		}
	}
	return nil
}

// needs lists the files that a dynamic program loads; none for a static one. It looks one
// level deep: the C library is all that these tools ask for.
func needs(t Tool) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(t.Data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Path, err)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t.Path, err)
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
			return nil, fmt.Errorf("%s: %w", t.Path, err)
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

// Program finds a program that belongs into an image: beside the running program, on PATH, or, in
// a source tree with a Go toolchain, built into dir from the folder of that tree.
func Program(dir, name, folder string) (string, error) {
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
		return "", fmt.Errorf("find %s: it is neither beside this program nor on PATH: run `make build` in the source tree", name)
	}
	built := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", built, "./"+folder)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, out)
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
