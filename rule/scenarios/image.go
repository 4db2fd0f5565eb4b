package scenarios

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// ImageName is how the image of [WriteImage] is called after `docker load`.
const ImageName = "bulkhead-test/attack:1"

// Tools are the two programs that the image is made of, both static.
type Tools struct {
	Busybox []byte   // the shell and the usual tools
	Applets []string // names that busybox answers to: `busybox --list`
	Attack  []byte   // built from rule/internal/attack
}

// entry is one file of the image: a program, or with To another name of one.
type entry struct {
	name string
	mode int64
	data []byte
	to   string
	kind byte
}

// WriteImage writes the attack image as a docker-archive: busybox with its applets, and the
// helper under its own name and the name of every other program that the scenarios start.
func WriteImage(w io.Writer, tools Tools, all []Scenario) error {
	var layer bytes.Buffer
	if err := writeTar(&layer, entries(tools, all)); err != nil {
		return fmt.Errorf("write the layer of the attack image: %w", err)
	}
	id := fmt.Sprintf("%x", sha256.Sum256(layer.Bytes()))
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin"}, "Cmd": []string{"attack", "--sleep"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + id}},
	})
	if err != nil {
		return fmt.Errorf("write the configuration of the attack image: %w", err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{ImageName}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return fmt.Errorf("write the manifest of the attack image: %w", err)
	}
	err = writeTar(w, []entry{
		{name: "config.json", mode: 0o644, data: config, kind: tar.TypeReg},
		{name: "layer.tar", mode: 0o644, data: layer.Bytes(), kind: tar.TypeReg},
		{name: "manifest.json", mode: 0o644, data: manifest, kind: tar.TypeReg},
	})
	if err != nil {
		return fmt.Errorf("write the attack image: %w", err)
	}
	return nil
}

func entries(tools Tools, all []Scenario) []entry {
	files := []entry{
		{name: "bin/busybox", mode: 0o755, data: tools.Busybox, kind: tar.TypeReg},
		{name: "bin/attack", mode: 0o755, data: tools.Attack, kind: tar.TypeReg},
		{name: "bin/hello.sh", mode: 0o755, data: []byte("#!/bin/sh\necho hello\n"), kind: tar.TypeReg},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"), kind: tar.TypeReg},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nnogroup:x:65534:\n"), kind: tar.TypeReg},
		{name: "etc/shadow", mode: 0o600, data: []byte("root:*:20000:0:99999:7:::\n"), kind: tar.TypeReg},
		{name: "srv/x", mode: 0o644, data: []byte("x\n"), kind: tar.TypeReg},
		{name: "tmpfiles/true", mode: 0o755, data: tools.Attack, kind: tar.TypeReg},
	}
	for _, dir := range []string{"tmp", "root", "srv/site", "mnt", "host", "var/empty", "var/log", "var/lib/mysql", "var/lib/mysql-old", "usr/bin", "usr/sbin", "run"} {
		files = append(files, entry{name: dir + "/", mode: 0o755, kind: tar.TypeDir})
	}
	taken := map[string]bool{"busybox": true, "attack": true, "": true}
	for _, a := range tools.Applets {
		if !taken[a] && !standIn(a) {
			taken[a] = true
			files = append(files, entry{name: "bin/" + a, to: "/bin/busybox", kind: tar.TypeSymlink})
		}
	}
	for _, p := range Programs(all) {
		if !taken[p] && !strings.Contains(p, "/") && !strings.HasPrefix(p, "[") {
			taken[p] = true
			files = append(files, entry{name: "usr/bin/" + p, to: "bin/attack", kind: tar.TypeLink})
		}
	}
	return files
}

// standIn names applets that the helper replaces, because they could do harm.
func standIn(applet string) bool {
	switch applet {
	case "bash", "reboot", "poweroff", "halt", "mkfs.ext2", "mke2fs", "mkfs.vfat", "insmod", "rmmod", "modprobe", "httpd", "dpkg", "rpm":
		return true
	}
	return false
}

func writeTar(w io.Writer, files []entry) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Typeflag: f.kind, Name: f.name, Linkname: f.to, Mode: f.mode, Size: int64(len(f.data))}
		if f.to != "" { // an engine gives the mode of a hard link to the file that it names
			h.Mode = 0o755
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(f.data); err != nil {
			return err
		}
	}
	return t.Close()
}
