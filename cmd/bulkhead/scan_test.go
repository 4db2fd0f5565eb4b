package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// feedsCommand makes feeds in the layout of their publishers: feeds DIR. Records are the files of record/ECOSYSTEM/.
func feedsCommand(ts *testscript.TestScript, _ bool, args []string) {
	ecosystems, err := os.ReadDir(ts.MkAbs("record"))
	ts.Check(err)
	for _, e := range ecosystems {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		records, err := filepath.Glob(ts.MkAbs(filepath.Join("record", e.Name(), "*.json")))
		ts.Check(err)
		for _, name := range records {
			content, err := os.ReadFile(name)
			ts.Check(err)
			w, err := z.Create(filepath.Base(name))
			ts.Check(err)
			_, err = w.Write(content)
			ts.Check(err)
		}
		ts.Check(z.Close())
		dir := filepath.Join(ts.MkAbs(args[0]), "osv", e.Name())
		ts.Check(os.MkdirAll(dir, 0o755))
		ts.Check(os.WriteFile(filepath.Join(dir, "all.zip"), b.Bytes(), 0o644))
	}
}

// imageCommand makes what docker save writes: image FILE NAME CONFIG DIR…, with each DIR a layer. A file called
// x.deleted is a whiteout of x.
func imageCommand(ts *testscript.TestScript, _ bool, args []string) {
	type config struct {
		Architecture string         `json:"architecture"`
		OS           string         `json:"os"`
		Config       map[string]any `json:"config"`
		RootFS       struct {
			Type    string   `json:"type"`
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	var c config
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2])), &c.Config))
	c.Architecture, c.OS, c.RootFS.Type = "amd64", "linux", "layers"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, content []byte) {
		ts.Check(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := w.Write(content)
		ts.Check(err)
	}
	var layers []string
	for i, dir := range args[3:] {
		layer := layerOf(ts, ts.MkAbs(dir))
		sum := sha256.Sum256(layer)
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:"+hex.EncodeToString(sum[:]))
		layers = append(layers, fmt.Sprintf("%d/layer.tar", i))
		add(layers[i], layer)
	}
	text, err := json.Marshal(c)
	ts.Check(err)
	sum := sha256.Sum256(text)
	name := hex.EncodeToString(sum[:]) + ".json"
	add(name, text)
	manifest, err := json.Marshal([]map[string]any{{"Config": name, "RepoTags": []string{args[1]}, "Layers": layers}})
	ts.Check(err)
	add("manifest.json", manifest)
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o644))
}

func layerOf(ts *testscript.TestScript, dir string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	ts.Check(filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if gone, ok := strings.CutSuffix(name, ".deleted"); ok {
			name, content = filepath.Join(filepath.Dir(gone), ".wh."+filepath.Base(gone)), nil
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}))
	ts.Check(w.Close())
	return b.Bytes()
}
