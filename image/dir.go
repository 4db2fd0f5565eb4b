package image

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// openDir takes a directory for the one layer of an image without a configuration. It stays in the directory's file
// system.
func openDir(target, dir string, opt Options) (*Image, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open the directory: %s is a file: leave dir: out", dir)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	if absolute, err = filepath.EvalSymlinks(absolute); err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	i := &Image{Target: target, From: "dir"}
	t := &tree{dir: absolute, within: true, prune: none, mounted: mountsAt(absolute), opt: opt, skip: i.skip}
	if absolute == "/" {
		t.prune = enginesOf
	}
	i.Layers = []Layer{{walk: t.walk}}
	return i, nil
}

func none(string) string { return "" }

// engineStores are the directories in which engines keep images. What is in them is no part of the host, and is
// scanned image by image.
var engineStores = []string{
	"var/lib/docker", "var/lib/containerd", "var/lib/containers/storage", "var/lib/rancher/k3s/agent/containerd",
	"var/lib/kubelet/pods", "var/snap/microk8s/common/var/lib/containerd",
}

func enginesOf(path string) string {
	for _, store := range engineStores {
		if path == store {
			return "a container engine keeps images and containers there: scan those by their names"
		}
	}
	return ""
}

// kernelMade are file systems that no package is installed in: the kernel makes their files up.
var kernelMade = map[string]bool{
	"autofs": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true, "configfs": true, "debugfs": true,
	"devpts": true, "devtmpfs": true, "efivarfs": true, "fusectl": true, "hugetlbfs": true, "mqueue": true, "nsfs": true,
	"proc": true, "pstore": true, "ramfs": true, "rpc_pipefs": true, "securityfs": true, "selinuxfs": true, "sysfs": true,
	"tracefs": true,
}

// mountsAt says what is mounted at a path below dir.
func mountsAt(dir string) func(path string) (kind string, kernel bool) {
	return func(path string) (string, bool) {
		kind, err := mountKind(filepath.Join(dir, path))
		if err != nil {
			return "of unknown kind", false
		}
		return kind, kernelMade[kind]
	}
}

// maxMounts bounds what is read of the table of mounts: 100,000 mounts have some 10 MiB.
const maxMounts = 32 << 20

func mountKind(at string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	kind := ""
	lines := bufio.NewScanner(io.LimitReader(f, maxMounts))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if separator := slices.Index(fields, "-"); len(fields) > 4 && fields[4] == at && separator > 0 && separator+1 < len(fields) {
			kind = fields[separator+1] // the last one is on top
		}
	}
	if kind == "" {
		return "", errors.New("not in the table of mounts")
	}
	return kind, lines.Err()
}
