package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// suite is what every machine runs: static test programs and the files beside them.
type suite struct {
	names []string
	files []file
}

// file is one entry of a machine's first file system.
type file struct {
	path string
	mode fs.FileMode
	data []byte // of a link: where it points to
}

// buildTests compiles the tests of PACKAGE[:REGEXP]... and the init that runs them.
func buildTests(ctx context.Context, work string, packages []string) (*suite, error) {
	if len(packages) == 0 {
		return nil, fmt.Errorf("no package to test is named, e.g. ./bpf")
	}
	s := &suite{}
	init := filepath.Join(work, "init")
	if err := goTool(ctx, "build", "-trimpath", "-ldflags", "-s -w", "-o", init, "bulkhead/test/kernels/init"); err != nil {
		return nil, err
	}
	if err := s.add("init", init); err != nil {
		return nil, err
	}
	var list strings.Builder
	for _, p := range packages {
		folder, pattern, _ := strings.Cut(p, ":")
		name := strings.ReplaceAll(filepath.Clean(folder), "/", "-")
		if err := s.addTest(ctx, work, folder, name); err != nil {
			return nil, err
		}
		if pattern == "" {
			pattern = "."
		}
		fmt.Fprintf(&list, "%s -test.v -test.run=%s -test.timeout=%s\n", name, pattern, *limit)
		s.names = append(s.names, name)
	}
	s.files = append(s.files, file{"tests/list", 0o644, []byte(list.String())})
	return s, s.addTools()
}

func (s *suite) addTest(ctx context.Context, work, folder, name string) error {
	binary := filepath.Join(work, name)
	if err := goTool(ctx, "test", "-c", "-tags", "integration,kernels", "-trimpath", "-ldflags", "-s -w", "-o", binary, folder); err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%s has no tests", folder)
	}
	if err := s.add(filepath.Join("tests", name, "test"), binary); err != nil {
		return err
	}
	if err := s.addBuilt(ctx, work, folder, name); err != nil {
		return err
	}
	data := filepath.Join(folder, "testdata")
	return filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if path == data && err != nil {
			return nil // most have none
		}
		if err != nil || entry.IsDir() {
			return err
		}
		inside, _ := filepath.Rel(folder, path)
		return s.add(filepath.Join("tests", name, inside), path)
	})
}

// addBuilt runs testdata/build of a package, if it has one, and puts what it makes into the folder "built" beside
// the test: a machine has no compiler.
func (s *suite) addBuilt(ctx context.Context, work, folder, name string) error {
	script := filepath.Join(folder, "testdata", "build")
	if _, err := os.Stat(script); err != nil {
		return nil
	}
	out := filepath.Join(work, name+"-built")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	if err := command(exec.CommandContext(ctx, "sh", script, out)); err != nil {
		return err
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := s.add(filepath.Join("tests", name, "built", entry.Name()), filepath.Join(out, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// addTools puts a busybox with all its names into /bin, and what -with names.
func (s *suite) addTools() error {
	if err := s.add("bin/busybox", "/bin/busybox"); err != nil {
		return err
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return fmt.Errorf("asking busybox for its applets: %w", err)
	}
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			s.files = append(s.files, file{"bin/" + applet, fs.ModeSymlink | 0o777, []byte("busybox")})
		}
	}
	s.files = append(s.files, file{"etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")})
	for _, path := range strings.FieldsFunc(*extra, func(r rune) bool { return r == ',' }) {
		if err := s.add("bin/"+filepath.Base(path), path); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) add(path, source string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	s.files = append(s.files, file{path, info.Mode().Perm(), data})
	return nil
}

func goTool(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return command(cmd)
}

// command runs cmd and puts what it said into the error.
func command(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
