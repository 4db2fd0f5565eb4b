package demo

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"

	"bulkhead/demo/userland"
)

const (
	customer = 1000 // uid and gid that the shop runs as
)

// buildImage writes a docker-archive: one layer of a small Debian-like userland, one of the
// shop. The same input gives the same bytes, so the image keeps its digest.
func buildImage(w io.Writer, ref, shop string) error {
	base, err := userlandLayer()
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
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(base), digest(goods)}},
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
	archive := userland.NewLayer(w)
	archive.File("config.json", 0o644, 0, config)
	archive.File("userland.tar", 0o644, 0, base)
	archive.File("shop.tar", 0o644, 0, goods)
	archive.File("manifest.json", 0o644, 0, manifest)
	return archive.Close()
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
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
	l := userland.NewLayer(&out)
	for _, d := range []string{"srv", "srv/app", "srv/plugins", "srv/static", "srv/static/img"} {
		l.Dir(d, 0o755, 0)
	}
	for _, d := range []string{"srv/data", "srv/data/orders", "srv/data/exports", "srv/data/sessions", "srv/uploads", "srv/templates", "var/log/shop", "home/shop"} {
		l.Dir(d, 0o755, customer)
	}
	l.Dir("home/shop/.ssh", 0o700, customer)
	l.File("srv/app/shop", 0o755, 0, program)
	l.File("srv/data/catalogue.json", 0o644, 0, goods)
	l.File("srv/data/customers.csv", 0o644, customer, []byte("order,name,email\n"))
	for _, p := range catalogue() {
		l.File("srv/static/img/"+p.Picture, 0o644, 0, picture(p))
	}
	if err := addTree(l, "files/templates", "srv/templates", 0o644, customer); err != nil {
		return nil, err
	}
	if err := addTree(l, "files/plugins", "srv/plugins", 0o755, 0); err != nil {
		return nil, err
	}
	return out.Bytes(), l.Close()
}

// addTree copies one of the embedded folders.
func addTree(l *userland.Layer, from, to string, mode int64, uid int) error {
	entries, err := fs.ReadDir(files, from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(files, path.Join(from, e.Name()))
		if err != nil {
			return err
		}
		l.File(path.Join(to, e.Name()), mode, uid, data)
	}
	return nil
}

// Shop finds the shop's program, or builds it into dir.
func Shop(dir string) (string, error) { return userland.Program(dir, "bulkhead-shop", "demo/shop") }

func userlandLayer() ([]byte, error) {
	var out bytes.Buffer
	l := userland.NewLayer(&out)
	if err := userland.Write(l); err != nil {
		return nil, err
	}
	return out.Bytes(), l.Close()
}
