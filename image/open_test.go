package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// nowhere are options with which no engine of the machine is asked.
var nowhere = Options{Docker: []string{}, Containerd: []string{}}

func twoLayers(t testing.TB) *testImage {
	t.Helper()
	return newTestImage(t, tarOf(t, entry{name: "a", body: "one"}), tarOf(t, entry{name: ".wh.a"}, entry{name: "b", body: "two"}))
}

// TestOpenFiles opens the same image out of all kinds of files and directories.
func TestOpenFiles(t *testing.T) {
	made := twoLayers(t)
	layout := layoutOf(t, made)
	var members []entry
	for name, b := range layout {
		members = append(members, entry{name: name, body: string(b)})
	}
	dir := writeTree(t, layout)
	docker := made.dockerArchive(t)
	files := t.TempDir()
	for name, b := range map[string][]byte{
		"docker.tar": docker, "docker.tar.gz": zipped(t, docker), "docker.zst": zstandard(t, docker), "oci": tarOf(t, members...),
	} {
		writeFile(t, filepath.Join(files, name), b)
	}
	for target, from := range map[string]string{
		files + "/docker.tar": "docker-archive", files + "/docker.tar.gz": "docker-archive", files + "/docker.zst": "docker-archive",
		"docker-archive:" + files + "/docker.tar:made:1": "docker-archive", files + "/oci": "oci-archive", "oci-archive:" + files + "/oci": "oci-archive",
		"oci:" + dir: "oci", dir: "oci", "oci:" + dir + ":docker.io/library/made:1": "oci",
	} {
		t.Run(strings.ReplaceAll(target, "/", "_"), func(t *testing.T) {
			i, err := Open(t.Context(), target, nowhere)
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			if i.From != from || i.ID != digestOf(made.configuration(t)) || i.Config.User != "nobody" {
				t.Errorf("from %q, id %s, user %q", i.From, i.ID, i.Config.User)
			}
			if from != "docker-archive" && i.Digest != digestOf(made.manifest(t)) {
				t.Errorf("digest %s", i.Digest)
			}
			checkLayers(t, i, made)
		})
	}
}

func checkLayers(t *testing.T, i *Image, made *testImage) {
	t.Helper()
	want := [][]string{{`file a "one"`}, {"whiteout a", `file b "two"`}}
	if len(i.Layers) != len(want) {
		t.Fatalf("%d layers", len(i.Layers))
	}
	for n := range want {
		layer := &i.Layers[n]
		if layer.DiffID != digestOf(made.plain[n]) || layer.CreatedBy != made.history[2*n].CreatedBy {
			t.Errorf("layer %d: %+v", n, layer.LayerInfo)
		}
		for range 2 { // a layer may be walked again
			got, err := seen(t, layer.Walk)
			if diff := cmp.Diff(want[n], got); diff != "" || err != nil {
				t.Errorf("layer %d: %v (-want +got):\n%s", n, err, diff)
			}
		}
	}
}

// TestOpenRootTar takes the tar of a root file system for one layer, as docker import does.
func TestOpenRootTar(t *testing.T) {
	name := writeFile(t, filepath.Join(t.TempDir(), "root.tgz"), zipped(t, tarOf(t, entry{name: "etc/os-release", body: "ID=x"})))
	i, err := Open(t.Context(), name, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	got, err := seen(t, i.Layers[0].Walk)
	if diff := cmp.Diff([]string{`file etc/os-release "ID=x"`}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// TestOpenLies refuses archives and layouts that contradict themselves.
func TestOpenLies(t *testing.T) {
	made := twoLayers(t)
	config := made.configuration(t)
	change := func(name string, b []byte) map[string][]byte {
		files := layoutOf(t, made)
		files[name] = b
		return files
	}
	several := newTestImage(t, tarOf(t))
	several.tag = "docker.io/library/other:2"
	artifact := marshal(t, map[string]any{"schemaVersion": 2, "config": descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json", Digest: digestOf(nil)}, "layers": []descriptor{}})
	both := []byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`)
	for _, test := range []struct {
		name  string
		files map[string][]byte
		says  string
	}{
		{"no index", map[string][]byte{"oci-layout": nil}, "no index"},
		{"manifest of another digest", change(blobPath(digestOf(made.manifest(t))), artifact), "size is"},
		{"configuration changed", change(blobPath(digestOf(config)), []byte(strings.ToUpper(string(config)))), "digest is"},
		{"configuration is no JSON", func() map[string][]byte {
			broken := twoLayers(t)
			broken.config = []byte("{")
			return layoutOf(t, broken)
		}(), "configuration"},
		{"fewer DiffIDs", func() map[string][]byte {
			broken := twoLayers(t)
			broken.plain = broken.plain[:1]
			return layoutOf(t, broken)
		}(), "contradicts itself"},
		{"DiffID is none", func() map[string][]byte {
			broken := twoLayers(t)
			broken.config = []byte(`{"rootfs":{"diff_ids":["sha256:../../etc","x"]}}`)
			return layoutOf(t, broken)
		}(), "no digest"},
		{"several images", layoutOf(t, made, several), "2 images"},
		{"artifact", pointTo(t, artifact), "artifact"},
		{"manifest and index", pointTo(t, both), "manifest and index in one"},
		{"schema 1", pointTo(t, []byte(`{"schemaVersion":1,"fsLayers":[]}`)), "schema 1"},
		{"index of itself", pointTo(t, []byte(`{"schemaVersion":2,"manifests":[]}`)), "nothing for linux"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Open(t.Context(), "oci:"+writeTree(t, test.files), nowhere)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
		})
	}
}

// pointTo is a layout whose one image is this document.
func pointTo(t testing.TB, document []byte) map[string][]byte {
	t.Helper()
	index := marshal(t, map[string]any{"schemaVersion": 2, "manifests": []descriptor{describe(typeManifest, document)}})
	return map[string][]byte{"oci-layout": []byte("{}"), "index.json": index, blobPath(digestOf(document)): document}
}

// TestLayoutOutside does not follow links out of a layout.
func TestLayoutOutside(t *testing.T) {
	made := twoLayers(t)
	files := layoutOf(t, made)
	secret := writeFile(t, filepath.Join(t.TempDir(), "secret"), files[blobPath(digestOf(made.layers[0]))])
	dir := writeTree(t, files)
	layer := filepath.Join(dir, blobPath(digestOf(made.layers[0])))
	if err := errors.Join(os.Remove(layer), os.Symlink(secret, layer)); err != nil {
		t.Fatal(err)
	}
	i, err := Open(t.Context(), "oci:"+dir, nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if _, err := seen(t, i.Layers[0].Walk); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("error %v, want one that says that the link leads outside", err)
	}
}

// TestDockerArchiveLies looks at what docker save does not write.
func TestDockerArchiveLies(t *testing.T) {
	made := twoLayers(t)
	config := made.configuration(t)
	name := strings.TrimPrefix(digestOf(config), "sha256:") + ".json"
	item := func(i dockerItem) entry {
		return entry{name: "manifest.json", body: string(marshal(t, []dockerItem{i}))}
	}
	for _, test := range []struct {
		name    string
		members []entry
		says    string
	}{
		{"no configuration", []entry{item(dockerItem{Config: name})}, "configuration"},
		{"another configuration", []entry{{name: name, body: "{}"}, item(dockerItem{Config: name})}, "digest is"},
		{"fewer layers", []entry{{name: name, body: string(config)}, item(dockerItem{Config: name, Layers: []string{"a"}})}, "contradicts itself"},
		{"layers that are not there", []entry{{name: name, body: string(config)}, item(dockerItem{Config: name, Layers: []string{"../../../etc/passwd", "/etc/shadow"}})}, "not there"},
		{"links in a circle", []entry{
			{name: name, body: string(config)},
			{name: "a", kind: '2', link: "b"},
			{name: "b", kind: '2', link: "a"},
			item(dockerItem{Config: name, Layers: []string{"a", "b"}}),
		}, "from link to link"},
		{"no JSON", []entry{{name: "manifest.json", body: "["}}, "manifest.json"},
		{"no image", []entry{{name: "manifest.json", body: "[]"}}, "0 images"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := writeFile(t, filepath.Join(t.TempDir(), "x.tar"), tarOf(t, test.members...))
			_, err := Open(t.Context(), file, nowhere)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
		})
	}
}

// TestOpenSBOM knows package lists by their name and by their content.
func TestOpenSBOM(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cdx.json": `{"bomFormat": "CycloneDX"}`, "spdx.json": `{ "spdxVersion" : "SPDX-2.3"}`, "cdx.xml": `<bom xmlns="http://cyclonedx.org/schema/bom/1.6">`, "tag.spdx": "SPDXVersion: SPDX-2.3",
	} {
		file := writeFile(t, filepath.Join(dir, name), []byte(text))
		for _, target := range []string{file, "sbom:" + file} {
			var sbom *SBOMError
			if _, err := Open(t.Context(), target, nowhere); !errors.As(err, &sbom) || sbom.Path != file {
				t.Errorf("%s: error %v, want an SBOMError", target, err)
			}
		}
	}
}

// TestOpenNothing says what was tried.
func TestOpenNothing(t *testing.T) {
	dir := t.TempDir()
	text := writeFile(t, filepath.Join(dir, "text"), []byte("hello"))
	empty := writeFile(t, filepath.Join(dir, "empty.tar"), nil)
	for target, says := range map[string]string{
		"/nonexistent/x.tar": "no such file", "./nonexistent": "no such file", text: "neither an archive", empty: "neither an archive", "dir:" + text: "is a file",
		"dir:/nonexistent": "no such file", "oci:/nonexistent": "no such file", "docker-archive:/nonexistent": "no such file", "UPPER/Case": "neither a file nor a reference",
		"docker:nginx": "no engine", "containerd:nginx": "not on this machine", "container:web": "no engine", "": "neither a file",
	} {
		_, err := Open(t.Context(), target, nowhere)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", target, err, says)
		}
	}
}

func TestNamesakes(t *testing.T) {
	for target, want := range map[string]bool{
		"docker:27": true, "docker:27.3-dind": true, "docker:dind": true, "docker:dind-rootless": true, "registry:2": true, "registry:2.8.3": true,
		"docker:nginx": false, "docker:nginx:1.27": false, "docker:3b07fad3195a": false, "registry:ghcr.io/x/y": false, "registry:alpine": false, "containerd:1": false,
	} {
		prefix, rest, _ := strings.Cut(target, ":")
		if got := namesakeTag(prefix+":", rest); got != want {
			t.Errorf("%s is an image: %v, want %v", target, got, want)
		}
	}
}

func TestFamiliar(t *testing.T) {
	for reference, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "nginx:1.27": "docker.io/library/nginx:1.27", "user/app": "docker.io/user/app:latest", "ghcr.io/a/b:c": "ghcr.io/a/b:c",
		"docker.io/nginx": "docker.io/library/nginx:latest", "localhost:5000/x": "localhost:5000/x:latest", "nginx@" + digestOf(nil): "docker.io/library/nginx@" + digestOf(nil),
	} {
		r, err := parseReference(reference)
		if err != nil || familiar(r) != want {
			t.Errorf("%s: %v, %v, want %s", reference, r, err, want)
		}
	}
}

func TestPlatform(t *testing.T) {
	all := []v1.Descriptor{
		{Digest: v1.Hash{Hex: "amd64"}, Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}},
		{Digest: v1.Hash{Hex: "armv5"}, Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v5"}},
		{Digest: v1.Hash{Hex: "armv6"}, Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}},
		{Digest: v1.Hash{Hex: "armv7"}, Platform: &v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}},
		{Digest: v1.Hash{Hex: "arm64"}, Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}},
		{Digest: v1.Hash{Hex: "none"}, Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}},
		{Digest: v1.Hash{Hex: "windows"}, Platform: &v1.Platform{OS: "windows", Architecture: "amd64", OSVersion: "10.0"}},
	}
	for platform, want := range map[string]string{
		"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm64/v8": "arm64", "linux/arm": "armv7", "linux/arm/v6": "armv6", "linux/arm/v7": "armv7", "windows/amd64": "windows",
		"linux/s390x": "", "linux/arm/v4": "",
	} {
		got, err := Options{Platform: platform}.chooseFrom(all)
		if got.Digest.Hex != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v, want %q", platform, got.Digest.Hex, err, want)
		}
	}
	if got, err := (Options{}).chooseFrom(all[5:]); err != nil || got.Digest.Hex != "windows" {
		t.Errorf("the only image is not taken: %v, %v", got, err)
	}
}

// TestBase draws the line between the base image and what was built on it.
func TestBase(t *testing.T) {
	nop := "/bin/sh -c #(nop) "
	debian := []History{{CreatedBy: nop + " ADD file:x in / "}, {CreatedBy: nop + ` CMD ["bash"]`, Empty: true}}
	nginx := append(append([]History{}, debian...), History{CreatedBy: "LABEL a=b", Empty: true}, History{CreatedBy: "RUN apt-get # buildkit"},
		History{CreatedBy: "COPY x / # buildkit"}, History{CreatedBy: `ENTRYPOINT ["/x"]`, Empty: true}, History{CreatedBy: `CMD ["nginx"]`, Empty: true})
	app := append(append([]History{}, nginx...), History{CreatedBy: "COPY app / # buildkit"}, History{CreatedBy: `CMD ["app"]`, Empty: true})
	for _, test := range []struct {
		name    string
		history []History
		want    int
	}{
		{"scratch", []History{{CreatedBy: "COPY x / # buildkit"}, {CreatedBy: `ENTRYPOINT ["/x"]`, Empty: true}}, 0},
		{"a base itself", debian, 0},
		{"on a base", nginx, 1},
		{"on something on a base", app, 3},
		{"only other words", append(append([]History{}, nginx...), History{CreatedBy: "ENV A=1", Empty: true}), 1},
		{"a command called CMD", append(append([]History{}, debian...), History{CreatedBy: "/bin/sh -c CMD x"}, History{CreatedBy: "RUN y"}), 1},
		{"nothing", nil, 0},
	} {
		if got := guessBase(test.history); got != test.want {
			t.Errorf("%s: %d layers are the base's, want %d", test.name, got, test.want)
		}
	}
}

func TestBaseBuildpacks(t *testing.T) {
	made := twoLayers(t)
	made.labels = map[string]string{labelBuildpacks: `{"runImage":{"topLayer":"` + digestOf(made.plain[0]) + `"}}`}
	i, err := Open(t.Context(), "oci:"+writeTree(t, layoutOf(t, made)), nowhere)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if !i.Layers[0].Base || i.Layers[1].Base {
		t.Errorf("layers %+v", i.Layers)
	}
}

func TestStepsOf(t *testing.T) {
	steps := []dockerStep{
		{CreatedBy: "/bin/sh -c #(nop) ADD file:x in / ", Size: 100},
		{CreatedBy: `/bin/sh -c #(nop)  CMD ["bash"]`},
		{CreatedBy: "RUN true # buildkit"},
		{CreatedBy: "WORKDIR /x"},
	}
	for layers, want := range map[int]int{3: 1, 1: 3, 2: 0} {
		empty := 0
		got := stepsOf(steps, layers)
		for _, h := range got {
			if h.EmptyLayer {
				empty++
			}
		}
		if empty != want {
			t.Errorf("%d layers: %d steps made none, want %d", layers, empty, want)
		}
	}
}
