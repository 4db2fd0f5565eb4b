//go:build integration

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/test/lab"
)

// TestSameEverywhere opens one real image in all the ways there are: it has the same files.
func TestSameEverywhere(t *testing.T) {
	l := lab.Start(t)
	reference, err := l.Image(t.Context(), "nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	opt := Options{PlainHTTP: []string{l.Registry()}, Temp: dir}
	want := merged(t, "docker:"+reference, opt)
	if len(want) < 3000 || want["usr/sbin/nginx"] == "" {
		t.Fatalf("the image in Docker's store has %d files, and nginx is %q", len(want), want["usr/sbin/nginx"])
	}
	pushed := l.Registry() + "/image-test/nginx:1"
	saved, layout := filepath.Join(dir, "nginx.tar"), filepath.Join(dir, "layout")
	command(t, "docker", "tag", reference, pushed)
	command(t, "docker", "push", pushed)
	t.Cleanup(func() {
		exec.Command("ctr", "images", "rm", pushed).Run()
		exec.Command("docker", "rmi", pushed).Run()
	})
	command(t, "docker", "save", "-o", saved, reference)
	command(t, "gzip", "-1", "-k", saved)
	command(t, "ctr", "images", "pull", "--plain-http", pushed)
	exported := filepath.Join(dir, "oci.tar")
	command(t, "ctr", "images", "export", exported, pushed)
	command(t, "mkdir", layout)
	command(t, "tar", "-C", layout, "-xf", exported)
	container := strings.TrimSpace(command(t, "docker", "run", "-d", reference, "sleep", "infinity"))
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", container).Run() })
	for _, target := range []string{
		reference, "registry:" + pushed, "containerd:" + pushed, saved, saved + ".gz", exported, "oci:" + layout, layout, "docker-archive:" + saved + ":" + reference,
		"container:" + container,
	} {
		t.Run(target, func(t *testing.T) {
			if diff := cmp.Diff(want, merged(t, target, opt)); diff != "" {
				t.Errorf("files (-Docker's store +here):\n%.4000s", diff)
			}
		})
	}
	t.Run("docker save", func(t *testing.T) {
		if diff := cmp.Diff(want, mergedOf(t, savedImage(t, reference, opt))); diff != "" {
			t.Errorf("files (-Docker's store +here):\n%.4000s", diff)
		}
	})
}

// TestUnpacked opens an image whose packed layers containerd has thrown away, and a container of it.
func TestUnpacked(t *testing.T) {
	l := lab.Start(t)
	reference, err := l.Image(t.Context(), "redis")
	if err != nil {
		t.Fatal(err)
	}
	pushed := l.Registry() + "/image-test/redis:1"
	command(t, "docker", "tag", reference, pushed)
	command(t, "docker", "push", pushed)
	command(t, "ctr", "-n", "image-test", "images", "pull", "--plain-http", pushed)
	t.Cleanup(func() {
		exec.Command("ctr", "-n", "image-test", "containers", "rm", "redis-test").Run()
		exec.Command("ctr", "-n", "image-test", "images", "rm", "--sync", pushed).Run()
		exec.Command("docker", "rmi", pushed).Run()
	})
	want := merged(t, "docker:"+reference, Options{})
	i, err := Open(t.Context(), "containerd:"+pushed, Options{Namespace: "image-test"})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, layer := range i.Layers {
		command(t, "ctr", "-n", "image-test", "content", "rm", layer.Digest)
	}
	command(t, "ctr", "-n", "image-test", "containers", "create", pushed, "redis-test")
	for _, target := range []string{"containerd:" + pushed, "container:redis-test"} {
		if diff := cmp.Diff(want, merged(t, target, Options{Namespace: "image-test"})); diff != "" {
			t.Errorf("%s: files (-Docker's store +here):\n%.4000s", target, diff)
		}
	}
	if views := command(t, "ctr", "-n", "image-test", "snapshots", "ls"); strings.Contains(views, "bulkhead-") {
		t.Errorf("a view is left: %s", views)
	}
}

// savedImage opens an image as somebody who cannot read the engine's directories must.
func savedImage(t *testing.T, reference string, opt Options) *Image {
	t.Helper()
	d, err := dialDocker(os.Getenv("DOCKER_HOST"), opt.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	var said dockerImage
	if err := d.read(t.Context(), "/images/"+escape(reference)+"/json", &said); err != nil {
		t.Fatal(err)
	}
	said.GraphDriver = graph{}
	c, err := d.config(t.Context(), said)
	if err != nil {
		t.Fatal(err)
	}
	i := &Image{ID: said.ID, Config: c.config()}
	d.layers(i, said, c)
	i.attribute(base{})
	t.Cleanup(func() { i.Close() })
	return i
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func merged(t *testing.T, target string, opt Options) map[string]string {
	t.Helper()
	i, err := Open(t.Context(), target, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	if i.ID == "" || i.Config.Labels["lab.recipe"] == "" {
		t.Errorf("id %q, labels %v", i.ID, i.Config.Labels)
	}
	return mergedOf(t, i)
}

// mergedOf is what a container of the image would see: each file with its mode, size and content. What every container
// gets of its engine is left out.
func mergedOf(t *testing.T, i *Image) map[string]string {
	t.Helper()
	files := map[string]string{}
	for n := range i.Layers {
		if n > 0 && i.Layers[n].CreatedBy == "" {
			t.Errorf("layer %d has no step of the history", n)
		}
		err := i.Layers[n].Walk(context.Background(), func(f *File) error {
			if strings.HasPrefix(f.Path, "etc/hosts") || strings.HasPrefix(f.Path, "etc/resolv") || strings.HasPrefix(f.Path, "etc/hostname") || strings.HasPrefix(f.Path, "dev/") {
				return nil
			}
			switch f.Kind {
			case Whiteout, Opaque:
				for path := range files {
					if strings.HasPrefix(path, f.Path+"/") || path == f.Path && f.Kind == Whiteout {
						delete(files, path)
					}
				}
				return nil
			case Regular:
				r, err := f.Reader()
				if err != nil {
					return err
				}
				h := sha256.New()
				if _, err := io.Copy(h, r); err != nil {
					return err
				}
				files[f.Path] = fmt.Sprintln(f.Mode, f.UID, f.GID, f.Size, hex.EncodeToString(h.Sum(nil)))
			case HardLink:
				files[f.Path] = "hard link"
			default:
				files[f.Path] = fmt.Sprintln(f.Kind, f.Mode, f.UID, f.GID, f.Link)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestContainer looks at what a running container wrote and deleted, with the engine's directories and without.
func TestContainer(t *testing.T) {
	l := lab.Start(t)
	reference, err := l.Image(t.Context(), "busybox")
	if err != nil {
		t.Fatal(err)
	}
	container := strings.TrimSpace(command(t, "docker", "run", "-d", "-v", "/data", reference, "sleep", "infinity"))
	t.Cleanup(func() { exec.Command("docker", "rm", "-f", "-v", container).Run() })
	command(t, "docker", "exec", container, "sh", "-c", "echo dropped > /tmp/x && chmod 4755 /tmp/x && rm /www/index.html && ln -s /etc/passwd /tmp/link")
	i, err := Open(t.Context(), "container:"+container[:12], Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	d, err := dialDocker(os.Getenv("DOCKER_HOST"), Options{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	e := exported{docker: d, id: container, opt: d.opt, skip: i.skip}
	for name, layer := range map[string]Layer{"directory": i.Layers[len(i.Layers)-1], "export": {walk: e.walk}} {
		seen := map[string]string{}
		if err := layer.Walk(t.Context(), func(f *File) error {
			seen[f.Path] = fmt.Sprint(f.Kind, f.Mode, f.Link)
			if f.Path == "tmp/x" {
				b, err := f.Bytes(100)
				if !bytes.Equal(b, []byte("dropped\n")) {
					t.Errorf("%s: tmp/x is %q, %v", name, b, err)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{
			"tmp/x": fmt.Sprint(Regular, os.ModeSetuid|0o755), "tmp/link": fmt.Sprint(Symlink, os.FileMode(0o777), "/etc/passwd"), "www/index.html": fmt.Sprint(Whiteout, os.FileMode(0), ""),
		} {
			if !strings.HasPrefix(seen[path], want) {
				t.Errorf("%s: %s is %q, want %q", name, path, seen[path], want)
			}
		}
	}
	if skipped := fmt.Sprint(i.Skipped()); !strings.Contains(skipped, "data") {
		t.Errorf("the volume is not among what was left out: %s", skipped)
	}
}
