package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// hostileTree is a directory with everything in it that could lead outside, wait or not end.
func hostileTree(t *testing.T) string {
	t.Helper()
	outside := writeFile(t, filepath.Join(t.TempDir(), "secret"), []byte("secret"))
	dir := writeTree(t, map[string][]byte{"etc/os-release": []byte("ID=x"), "bin/su": []byte("su"), "bin/a": []byte("linked")})
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.Symlink(outside, at("file-outside")), os.Symlink(filepath.Dir(outside), at("dir-outside")), os.Symlink("..", at("up")), os.Symlink("loop", at("loop")),
		os.Symlink("/etc", at("bin/etc")), os.Link(at("bin/a"), at("bin/b")), unix.Mkfifo(at("pipe"), 0o644), os.Chmod(at("bin/su"), 0o755|os.ModeSetuid),
	); err != nil {
		t.Fatal(err)
	}
	deep := at("deep")
	for range 20 {
		deep = filepath.Join(deep, strings.Repeat("d/", 15))
	}
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDir(t *testing.T) {
	dir := hostileTree(t)
	i, err := Open(t.Context(), "dir:"+dir, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	got, err := seen(t, i.Layers[0].Walk)
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(line string) bool {
		return strings.HasPrefix(line, "dir deep") || strings.Contains(line, "-outside ->")
	})
	want := []string{
		"dir bin", `file bin/a "linked"`, "link bin/b -> bin/a", "symlink bin/etc -> /etc", `file bin/su "su"`,
		"dir etc", `file etc/os-release "ID=x"`, "symlink loop -> loop", "other pipe", "symlink up -> ..",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if skipped := fmt.Sprint(i.Skipped()); !strings.Contains(skipped, "directories deep") {
		t.Errorf("what is too deep is not told: %s", skipped)
	}
}

// TestDirSwapped does not follow what a file is replaced with while it is looked at.
func TestDirSwapped(t *testing.T) {
	secret := writeFile(t, filepath.Join(t.TempDir(), "secret"), []byte("secret"))
	for name, swap := range map[string]func(string) error{
		"symlink": func(path string) error { return os.Symlink(secret, path) },
		"pipe":    func(path string) error { return unix.Mkfifo(path, 0o644) },
		"nothing": func(string) error { return nil },
		"shorter": func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) },
	} {
		dir := writeTree(t, map[string][]byte{"a": []byte("honest"), "b": []byte("after")})
		i, err := Open(t.Context(), "dir:"+dir, nowhere)
		if err != nil {
			t.Fatal(err)
		}
		visited := 0
		err = i.Layers[0].Walk(t.Context(), func(f *File) error {
			visited++
			if f.Path != "a" {
				return nil
			}
			if err := errors.Join(os.Remove(filepath.Join(dir, "a")), swap(filepath.Join(dir, "a"))); err != nil {
				return err
			}
			if b, err := f.Bytes(100); err == nil {
				return fmt.Errorf("read %q", b)
			}
			return nil
		})
		if err != nil || visited != 2 {
			t.Errorf("%s: %v after %d files", name, err, visited)
		}
		i.Close()
	}
}

// TestDirLimits ends at the number of entries.
func TestDirLimits(t *testing.T) {
	dir := writeTree(t, map[string][]byte{"a": nil, "b": nil, "c": nil})
	o := nowhere
	o.Limits.Entries = 2
	i, err := Open(t.Context(), "dir:"+dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	var limit *LimitError
	if got, err := seen(t, i.Layers[0].Walk); !errors.As(err, &limit) || len(got) != 2 {
		t.Errorf("%v after %v, want the limit's", err, got)
	}
}

// TestDirMounts does not enter the kernel's file systems, and says so.
func TestDirMounts(t *testing.T) {
	var left []Skip
	w := &tree{dir: "/", within: true, mounted: mountsAt("/"), opt: nowhere.withDefaults(), skip: func(s Skip) { left = append(left, s) }}
	w.prune = func(path string) string { return "only " + path } // the rest of the machine is of no interest
	if _, err := seen(t, func(ctx context.Context, visit func(*File) error) error {
		return w.walk(ctx, func(f *File) error { f.Kind = Directory; return visit(f) })
	}); err != nil {
		t.Fatal(err)
	}
	want := Skip{Path: "proc", Message: "another file system (proc) is mounted there", Expected: true}
	if !slices.Contains(left, want) {
		t.Errorf("left out: %v, want %v among it", left, want)
	}
}

func TestEnginesOf(t *testing.T) {
	for path, want := range map[string]bool{"var/lib/docker": true, "var/lib/containerd": true, "var/lib": false, "home/var/lib/docker": false} {
		if got := enginesOf(path) != ""; got != want {
			t.Errorf("%s is left out: %v, want %v", path, got, want)
		}
	}
}

func TestOverlayOptions(t *testing.T) {
	got := overlayOptions([]string{"index=off", "workdir=/w", "upperdir=/s/9/fs", "lowerdir=/s/3/fs:/s/2/fs:/s/1/fs"})
	want := overlayMount{lower: []string{"/s/1/fs", "/s/2/fs", "/s/3/fs"}, upper: "/s/9/fs"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(overlayMount{})); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
}

func TestChainID(t *testing.T) {
	a, b := digestOf([]byte("a")), digestOf([]byte("b"))
	for want, ids := range map[string][]string{"": nil, a: {a}, digestOf([]byte(a + " " + b)): {a, b}} {
		if got := chainID(ids); got != want {
			t.Errorf("%v: %s, want %s", ids, got, want)
		}
	}
}
