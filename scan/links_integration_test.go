//go:build integration

package scan

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/image"
	"bulkhead/test/lab"
)

// TestLinksAsContainersSeeThem has layers that put links in the place of directories and the other way round, and asks a
// container of each image which of the files are there.
func TestLinksAsContainersSeeThem(t *testing.T) {
	l := lab.Start(t)
	base, err := l.Image(t.Context(), "busybox")
	if err != nil {
		t.Fatal(err)
	}
	for name, layers := range map[string][][]string{
		"a link in the place of a directory":                          {{"db/", "db/x=a 1\n"}, {"dbs/", "dbs/y=b 1\n", "db->dbs"}},
		"a directory in the place of that link":                       {{"db/", "db/x=a 1\n"}, {"dbs/", "dbs/y=b 1\n", "db->dbs"}, {"db/", "db/z=c 1\n"}},
		"the same, and no entry says that it is one":                  {{"db/", "db/x=a 1\n"}, {"dbs/", "dbs/y=b 1\n", "db->dbs"}, {"db/z=c 1\n"}},
		"a file below a link of a lower layer":                        {{"dbs/", "dbs/y=b 1\n", "db->dbs"}, {"db/y=c 1\n"}},
		"a directory that no entry tells of, in the place of a file":  {{"db=a 1\n"}, {"db/y=b 1\n"}},
		"a file below a link of the same layer":                       {{"dbs/", "dbs/x=a 1\n", "db->dbs", "db/y=b 1\n"}},
		"a file below a link of the same layer, replaced where it is": {{"dbs/", "db->dbs", "db/y=a 1\n"}, {"dbs/y=b 1\n"}},
		"a link to outside of the image":                              {{"db/", "db/x=a 1\n"}, {"db->../../../etc"}},
		"links in a circle":                                           {{"db/", "db/x=a 1\n"}, {"db->dbo", "dbo->db"}},
		"a link that goes, and where it led":                          {{"dbs/", "dbs/y=b 1\n", "db->dbs"}, {"-db"}},
		"a directory that goes and comes as a link":                   {{"db/", "db/x=a 1\n"}, {"-db"}, {"dbs/", "dbs/y=b 1\n", "db->dbs"}},
		"a link deep in a tree":                                       {{"db/", "db/p/", "db/p/x=a 1\n"}, {"dbs/", "dbs/x=b 1\n", "db/p->../dbs"}},
		"a file in the place of a directory of a file":                {{"db/", "db/p/", "db/p/x=a 1\n"}, {"db/p=c 1\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			archive, reference := filepath.Join(t.TempDir(), "i.tar"), "scan-test/links:1"
			pack(t, archive, reference, base, layers)
			docker(t, "load", "-i", archive)
			defer docker(t, "rmi", "-f", reference)
			told := docker(t, "run", "--rm", reference, "find", "/", "-xdev", "-path", "/db*", "-type", "f")
			var want, got []string
			for _, p := range strings.Fields(told) {
				want = append(want, strings.TrimPrefix(p, "/"))
			}
			img, err := image.Open(t.Context(), archive, image.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = img.Close() }()
			r, err := made(lists(new(atomic.Int64))).Scan(t.Context(), img)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Packages {
				got = append(got, p.Path)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files (-container +scan):\n%s", diff)
			}
		})
	}
}

// pack writes what docker load takes: the layers of busybox, and ours on top.
func pack(t *testing.T, archive, reference, base string, layers [][]string) {
	t.Helper()
	dir := t.TempDir()
	saved := filepath.Join(dir, "base.tar")
	docker(t, "save", "-o", saved, base)
	command(t, "tar", "-C", dir, "-xf", saved)
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	readJSON(t, filepath.Join(dir, "manifest.json"), &manifest)
	var config map[string]any
	readJSON(t, filepath.Join(dir, manifest[0].Config), &config)
	delete(config, "history")
	ids := config["rootfs"].(map[string]any)["diff_ids"].([]any)
	for i, entries := range layers {
		packed := layerTar(t, entries)
		name := fmt.Sprintf("ours-%d.tar", i)
		writeFile(t, filepath.Join(dir, name), packed)
		sum := sha256.Sum256(packed)
		ids = append(ids, "sha256:"+hex.EncodeToString(sum[:]))
		manifest[0].Layers = append(manifest[0].Layers, name)
	}
	config["rootfs"].(map[string]any)["diff_ids"] = ids
	manifest[0].Config, manifest[0].RepoTags = "ours.json", []string{reference}
	for name, v := range map[string]any{"ours.json": config, "manifest.json": manifest} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, name), text)
	}
	command(t, "tar", append([]string{"-C", dir, "-cf", archive, "manifest.json", "ours.json"}, manifest[0].Layers...)...)
}

func layerTar(t *testing.T, entries []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e, Mode: 0o755}
		var content string
		switch {
		case strings.HasPrefix(e, "-"):
			h.Name = filepath.Join(filepath.Dir(e[1:]), ".wh."+filepath.Base(e[1:]))
		case strings.HasSuffix(e, "/"):
			h.Typeflag = tar.TypeDir
		case strings.Contains(e, "->"):
			h.Typeflag = tar.TypeSymlink
			h.Name, h.Linkname, _ = strings.Cut(e, "->")
		default:
			h.Name, content, _ = strings.Cut(e, "=")
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
