package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// step makes one file or directory of what is needed, where it is not there yet.
type step struct {
	makes string
	dir   string // to run in
	env   []string
	args  []string
}

// prepare builds the others, and the three databases from the same feeds.
func prepare() error {
	if err := os.MkdirAll(filepath.Join(*dir, "images"), 0o755); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(*dir, name) }
	osv := filepath.Join(*feeds, "osv")
	build := []string{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o"}
	trivy, grype := []string{"CGO_ENABLED=0", "GOEXPERIMENT=jsonv2"}, []string{"CGO_ENABLED=0"}
	for _, s := range []step{
		{in("trivy"), "test/bench/peers/trivy", trivy, append(build, in("trivy"), "github.com/aquasecurity/trivy/cmd/trivy")},
		{in("grype"), "test/bench/peers/grype", grype, append(build, in("grype"), "github.com/anchore/grype/cmd/grype")},
		{in("trivydb"), "test/bench/peers/trivy", trivy, append(build, in("trivydb"), ".")},
		{in("grypedb"), "test/bench/peers/grype", grype, append(build, in("grypedb"), ".")},
		{in("trivy-cache"), ".", nil, []string{in("trivydb"), osv, in("trivy-cache")}},
		{in("grype-cache"), ".", nil, []string{in("grypedb"), osv, in("grype-cache")}},
		{in("bulkhead.db"), ".", nil, []string{"bin/bulkhead", "db", "import", "--db", in("bulkhead.db"), *feeds}},
	} {
		if err := s.run(); err != nil {
			return err
		}
	}
	return nil
}

func (s step) run() error {
	if _, err := os.Stat(s.makes); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "making", s.makes)
	c := exec.Command(s.args[0], s.args[1:]...)
	c.Dir, c.Env = s.dir, append(os.Environ(), s.env...)
	if out, err := c.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("make %s: %w: %s", s.makes, err, out), os.RemoveAll(s.makes))
	}
	return nil
}

// labImages are those of the lab that are scanned.
var labImages = []string{"nginx", "nodejs", "php-apache", "tomcat", "mariadb", "postgresql"}

// images are the archives that are scanned.
func images() []string {
	var list []string
	for _, n := range append(labImages, "large") {
		list = append(list, filepath.Join(*dir, "images", n+".tar"))
	}
	return list
}

// makeImages saves the lab's images, and makes a large one.
func makeImages() error {
	list := images()
	for i, n := range labImages {
		if err := (step{list[i], ".", nil, []string{"docker", "save", "-o", list[i], "lab/" + n + ":bookworm"}}).run(); err != nil {
			return fmt.Errorf("%w (run it with the lab's engine: make images, then eval \"$(bin/lab env)\")", err)
		}
	}
	file := list[len(labImages)]
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := large(file, list[0]); err != nil {
		return errors.Join(fmt.Errorf("make a large image: %w", err), os.Remove(file))
	}
	return nil
}

// large writes an image of the layers of another one and a layer that brings it to its size: half of it programs, a
// quarter pages and scripts of a few kilobytes, a quarter data.
func large(file, base string) error {
	layers, err := layersOf(base)
	if err != nil {
		return err
	}
	top, err := os.CreateTemp(filepath.Dir(file), "layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(top.Name())
	defer top.Close()
	diffID := sha256.New()
	if err := fill(io.MultiWriter(top, diffID), *big); err != nil {
		return err
	}
	return assemble(file, layers, top, diffID)
}

// layersOf reads the layers of what docker save wrote, in order.
func layersOf(file string) ([][]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string][]byte{}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if found[h.Name], err = io.ReadAll(t); err != nil {
			return nil, err
		}
	}
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal(found["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return nil, fmt.Errorf("%s is not of docker save: %w", file, err)
	}
	var layers [][]byte
	for _, name := range manifest[0].Layers {
		layers = append(layers, found[name])
	}
	return layers, nil
}

func fill(w io.Writer, size int64) error {
	t := tar.NewWriter(w)
	random := rand.New(rand.NewPCG(1, 2))
	program := append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00\x01\x00\x00\x00"), noise(random, 4<<20)...)
	data := noise(random, 16<<20)
	page := []byte(strings.Repeat("<?php\n/* A page that greets. */\nfunction greet($name) {\n    return \"Hello, \" . htmlspecialchars($name);\n}\necho greet($user->name);\n", 30))
	var written int64
	for i := 0; written < size; i++ {
		name, mode, content := fmt.Sprintf("opt/app/pages/%d/%d.php", i%100, i), int64(0o644), page
		switch {
		case written < size/2:
			name, mode, content = fmt.Sprintf("opt/app/bin/tool%d", i), 0o755, program
		case written < size/4*3:
			name, content = fmt.Sprintf("opt/app/data/%d.bin", i), data
		}
		content[len(content)-2] = byte(i) // no two are the same
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		if _, err := t.Write(content); err != nil {
			return err
		}
		written += int64(len(content))
	}
	return t.Close()
}

func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// assemble writes an archive as docker save does.
func assemble(file string, layers [][]byte, top *os.File, topSum hash.Hash) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	t := tar.NewWriter(f)
	var names, ids []string
	add := func(name string, size int64, content io.Reader) {
		err = errors.Join(err, t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size}))
		_, copied := io.Copy(t, content)
		err = errors.Join(err, copied)
	}
	for i, l := range layers {
		sum := sha256.Sum256(l)
		names, ids = append(names, fmt.Sprintf("%d/layer.tar", i)), append(ids, "sha256:"+hex.EncodeToString(sum[:]))
		add(names[i], int64(len(l)), bytes.NewReader(l))
	}
	size, seeked := top.Seek(0, io.SeekCurrent)
	_, again := top.Seek(0, io.SeekStart)
	err = errors.Join(err, seeked, again)
	names, ids = append(names, "top/layer.tar"), append(ids, "sha256:"+hex.EncodeToString(topSum.Sum(nil)))
	add("top/layer.tar", size, top)
	config, failed := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{}, "rootfs": map[string]any{"type": "layers", "diff_ids": ids}})
	sum := sha256.Sum256(config)
	configName := hex.EncodeToString(sum[:]) + ".json"
	add(configName, int64(len(config)), bytes.NewReader(config))
	manifest, failedToo := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{"bench/large:1"}, "Layers": names}})
	add("manifest.json", int64(len(manifest)), bytes.NewReader(manifest))
	return errors.Join(err, failed, failedToo, t.Close(), f.Close())
}
