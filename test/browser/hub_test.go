//go:build integration

package browser

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"bulkhead/test/lab"
	"bulkhead/vuln"
)

// hub is a registry in memory.
type hub struct {
	t    *testing.T
	host string
}

func openHub(t *testing.T) hub {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // nobody's credentials
	s := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(s.Close)
	return hub{t, strings.TrimPrefix(s.URL, "http://")}
}

// push puts an image under a name, and returns the name with its registry, and the digest.
func (h hub) push(path string, img v1.Image) (reference, digest string) {
	h.t.Helper()
	reference = h.host + "/" + path
	tag, err := name.NewTag(reference, name.Insecure)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		h.t.Fatal("push ", path, ": ", err)
	}
	d, err := img.Digest()
	if err != nil {
		h.t.Fatal(err)
	}
	return reference, d.String()
}

// fromLab is an image of the lab: Debian with what apt installed.
func fromLab(t *testing.T, what string) v1.Image {
	t.Helper()
	reference, err := lab.Start(t).Image(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "image.tar")
	if out, err := exec.Command("docker", "save", "-o", archive, reference).CombinedOutput(); err != nil {
		t.Fatalf("docker save: %v\n%s", err, out)
	}
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		t.Fatal(err)
	}
	return quick(t, img)
}

// quick is the same image with layers that take less time to compress.
func quick(t *testing.T, img v1.Image) v1.Image {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		if layers[i], err = tarball.LayerFromOpener(layer.Uncompressed, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching); err != nil {
			t.Fatal(err)
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		out, err = mutate.ConfigFile(out, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// file is one file of a layer.
type file struct{ path, content string }

// with is an image with one more layer, which this step of a Dockerfile made.
func with(t *testing.T, img v1.Image, step string, files ...file) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.path, Mode: 0o644, Size: int64(len(f.content)), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: step}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// content is a file of an image.
func content(t *testing.T, img v1.Image, path string) string {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err != nil {
			t.Fatal("look for ", path, ": ", err)
		}
		if strings.TrimPrefix(h.Name, "/") != path {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// modules are what npm installs.
func modules(packages ...string) (out []file) {
	for _, p := range packages {
		name, version, _ := strings.Cut(p, "@")
		out = append(out, file{"srv/shop/node_modules/" + name + "/package.json", fmt.Sprintf(`{"name":%q,"version":%q,"license":"MIT"}`, name, version)})
	}
	return out
}

// Put together here, so that no scanner of sources takes them for what they are made to look like.
var (
	webShell  = "<?php\n// theme helper\n@ev" + "al(base64_decode($_PO" + "ST['c']));\n"
	cloudKey  = "aws_access_key_id = AKIA" + "Q3EGRIQ7LPXK5TCV\naws_secret_access_key = Jx9fVh2TqLm4Zr8Nw1Yc6Bs0Dk3Gp7Ae5Ui2Oo9X\n"
	deployKey = "-----BEGIN RSA PRIV" + "ATE KEY-----\n" + strings.Repeat("MIIEowIBAAKCAQEAx3Vb9kQmZpL2tRw8yNfGhJ5sDcXe1oUi7aKqTnBzWvYlMr4P\n", 8) + "-----END RSA PRIV" + "ATE KEY-----\n"
)

// shops are two versions of a web application on Debian: the second has another web server, fewer faults, and one new.
func shops(t *testing.T) (one, two v1.Image) {
	t.Helper()
	base := fromLab(t, "php-apache")
	one = with(t, base, "COPY --chown=www-data shop /var/www/html # buildkit",
		file{"var/www/html/index.php", "<?php echo 'shop';\n"},
		file{"var/www/html/app.php", "<?php echo 'no application of the lab';\n"}, // which is taken for a web shell: docs/webshell.md
		file{"var/www/html/uploads/thumb.php", webShell},
		file{"srv/shop/.aws/credentials", "[default]\n" + cloudKey})
	one = with(t, one, "RUN /bin/sh -c npm ci --omit=dev # buildkit",
		modules("lodash@4.17.11", "minimist@1.2.5", "axios@0.21.1", "express@4.17.1", "follow-redirects@1.14.0")...)
	two = with(t, base, "RUN /bin/sh -c apt-get update && apt-get upgrade -y # buildkit",
		file{"var/lib/dpkg/status", upgraded(content(t, base, "var/lib/dpkg/status"))})
	two = with(t, two, "COPY --chown=www-data shop /var/www/html # buildkit",
		file{"var/www/html/index.php", "<?php echo 'shop';\n"},
		file{"var/www/html/app.php", "<?php echo 'no application of the lab';\n"}, // which is taken for a web shell: docs/webshell.md
		file{"srv/shop/deploy.pem", deployKey})
	two = with(t, two, "RUN /bin/sh -c npm ci --omit=dev # buildkit",
		modules("lodash@4.17.21", "minimist@1.2.8", "axios@1.6.0", "express@4.18.2", "jsonwebtoken@8.5.1")...)
	return one, two
}

// upgraded raises the versions of some packages.
func upgraded(status string) string {
	var out strings.Builder
	for paragraph := range strings.SplitSeq(status, "\n\n") {
		for _, prefix := range []string{"Package: apache2", "Package: libc6\n", "Package: libc-bin\n", "Package: php8.2", "Package: libssl3\n"} {
			if strings.HasPrefix(paragraph, prefix) {
				paragraph = strings.Replace(paragraph, "\nVersion: ", "\nVersion: 9:", 1)
			}
		}
		out.WriteString(paragraph + "\n\n")
	}
	return out.String()
}

// advisory is one entry of a feed.
type advisory struct {
	id, ecosystem, pkg, fixed, vector, summary string
	kev                                        bool
	epss                                       float64
}

const (
	remoteCode = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
	denial     = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"
	local      = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"
	leak       = "CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:L/I:N/A:N"
	harmless   = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
)

const bookworm = "Debian:12"

// advisories are about what is in the images. Debian's names are those of source packages.
var advisories = []advisory{
	{"CVE-2023-4911", bookworm, "glibc", "9:1", local, "A buffer overflow in the dynamic loader gives a local user root", true, 0.83},
	{"CVE-2024-2961", bookworm, "glibc", "9:1", remoteCode, "iconv() writes past its buffer for ISO-2022-CN-EXT", false, 0.91},
	{"CVE-2024-4577", bookworm, "php8.2", "9:1", remoteCode, "Argument injection in PHP-CGI", true, 0.96},
	{"CVE-2024-8932", bookworm, "php8.2", "9:1", remoteCode, "ldap_escape() writes past its buffer", false, 0.02},
	{"CVE-2024-38475", bookworm, "apache2", "9:1", remoteCode, "mod_rewrite maps addresses to files that should not be reachable", true, 0.94},
	{"CVE-2024-40725", bookworm, "apache2", "9:1", leak, "Source of local content is disclosed with handlers configured by AddType", false, 0.31},
	{"CVE-2023-44487", bookworm, "nghttp2", "", denial, "HTTP/2 streams that are reset at once use up the server", true, 0.94},
	{"CVE-2023-5678", bookworm, "openssl", "9:1", denial, "Checking an excessively long X9.42 DH key is slow", false, 0.004},
	{"CVE-2025-6020", bookworm, "pam", "", local, "pam_namespace follows symbolic links of a user", false, 0.001},
	{"CVE-2023-45853", bookworm, "zlib", "", remoteCode, "MiniZip overflows an integer in zipOpenNewFileInZip4_64", false, 0.01},
	{"CVE-2022-3219", bookworm, "gnupg2", "", harmless, "A compressed packet keeps GnuPG busy", false, 0.0002},
	{"CVE-2019-10744", "npm", "lodash", "4.17.12", remoteCode, "defaultsDeep lets a request change Object.prototype", false, 0.14},
	{"CVE-2021-23337", "npm", "lodash", "4.17.21", local, "Command injection through template", false, 0.05},
	{"CVE-2021-44906", "npm", "minimist", "1.2.6", remoteCode, "Prototype pollution in minimist", false, 0.03},
	{"CVE-2021-3749", "npm", "axios", "0.21.2", denial, "A long string keeps trim() busy", false, 0.08},
	{"CVE-2023-45857", "npm", "axios", "1.6.0", leak, "The XSRF token is sent to any host", false, 0.01},
	{"CVE-2022-24999", "npm", "express", "4.17.3", denial, "qs in express is kept busy by a crafted query", false, 0.12},
	{"CVE-2022-23529", "npm", "jsonwebtoken", "9.0.0", remoteCode, "A poisoned key runs code in jwt.verify", false, 0.02},
}

// many are one advisory for each source package of an image, so that the tables are long.
func many(t *testing.T, img v1.Image) (out []advisory) {
	t.Helper()
	sources := []string{}
	for paragraph := range strings.SplitSeq(content(t, img, "var/lib/dpkg/status"), "\n\n") {
		pkg, source := "", ""
		for line := range strings.Lines(paragraph) {
			if rest, ok := strings.CutPrefix(line, "Package: "); ok {
				pkg = strings.TrimSpace(rest)
			}
			if rest, ok := strings.CutPrefix(line, "Source: "); ok {
				source, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
			}
		}
		if source == "" {
			source = pkg
		}
		if source != "" && !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
	}
	for i, source := range sources {
		for n := range 3 {
			fixed, vector := "", []string{denial, leak, harmless}[(i+n)%3]
			if (i+n)%4 == 0 {
				fixed = "9:1"
			}
			out = append(out, advisory{fmt.Sprintf("CVE-2026-%05d", 10_000+10*i+n), bookworm, source, fixed, vector, fmt.Sprintf("Test advisory %d of %s", n+1, source), false, float64(i%40) / 2000})
		}
	}
	return out
}

// database builds a vulnerability database of feeds, as their publishers lay them out.
func database(t *testing.T, path string, list []advisory) {
	t.Helper()
	feeds := t.TempDir()
	records := map[string]map[string]string{}
	var kev []map[string]string
	epss := "#model_version:v2025.03.14,score_date:" + time.Now().UTC().Format("2006-01-02T15:04:05+0000") + "\ncve,epss,percentile\n"
	for _, a := range list {
		folder, _, _ := strings.Cut(a.ecosystem, ":")
		events := []map[string]string{{"introduced": "0"}}
		if a.fixed != "" {
			events = append(events, map[string]string{"fixed": a.fixed})
		}
		record, err := json.Marshal(map[string]any{
			"id": strings.ToUpper(folder) + "-" + a.id, "modified": "2026-05-01T00:00:00Z", "published": "2024-05-01T00:00:00Z", "upstream": []string{a.id}, "aliases": []string{a.id},
			"summary": a.summary, "severity": []map[string]string{{"type": "CVSS_V3", "score": a.vector}},
			"affected":   []any{map[string]any{"package": map[string]string{"ecosystem": a.ecosystem, "name": a.pkg}, "ranges": []any{map[string]any{"type": "ECOSYSTEM", "events": events}}}},
			"references": []map[string]string{{"type": "ADVISORY", "url": "https://nvd.nist.gov/vuln/detail/" + a.id}, {"type": "WEB", "url": "javascript:window.hit=1"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if records[folder] == nil {
			records[folder] = map[string]string{}
		}
		records[folder][fmt.Sprintf("%s-%s.json", strings.ToUpper(folder), a.id)] = string(record)
		if a.kev {
			kev = append(kev, map[string]string{"cveID": a.id})
		}
		epss += fmt.Sprintf("%s,%.5f,0.5\n", a.id, a.epss)
	}
	for folder, files := range records {
		put(t, filepath.Join(feeds, "osv", folder, "all.zip"), zipped(t, files))
	}
	catalog, err := json.Marshal(map[string]any{"title": "catalog", "catalogVersion": "2026.11.01", "dateReleased": "2026-11-01T00:00:00Z", "vulnerabilities": kev})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(feeds, "kev", "known_exploited_vulnerabilities.json"), catalog)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, epss)
	w.Close()
	put(t, filepath.Join(feeds, "epss", "epss_scores-current.csv.gz"), b.Bytes())
	if _, err := vuln.Import(t.Context(), path, []string{feeds}, vuln.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// hostileFeed is of a publisher whose words are payloads too: each is the name of a package of [hostileImage], and what is said of it.
func hostileFeed() (out []advisory) {
	out = append(out, advisory{"CVE-2026-1", bookworm, "curl", "2", remoteCode, payloads[0], true, .5}, advisory{"CVE-2026-2", bookworm, "curl", "", denial, payloads[2], false, .2})
	for i, p := range payloads {
		out = append(out, advisory{fmt.Sprintf("CVE-2026-%d", 100+i), "npm", oneLine(p), "2", remoteCode, p, i%2 == 0, .3})
	}
	return out
}

func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\r", " ", "\x00", "").Replace(s)
}

func quoted(t *testing.T, s string) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// hostileImage has every payload wherever an image has words of its own: names of files and packages, versions, labels,
// steps, a distribution, secrets.
func hostileImage(t *testing.T) v1.Image {
	t.Helper()
	status, releases := "", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\""+strings.ReplaceAll(payloads[0], `"`, `\"`)+"\"\n"
	var files []file
	for i, p := range payloads {
		one := oneLine(p)
		status += fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: %[1]s\nSource: curl\nVersion: 1.%d%[1]s\n\n", one, i)
		path := fmt.Sprintf("srv/%d/%s", i, strings.NewReplacer("/", "_", "\x00", "").Replace(p[:min(len(p), 120)]))
		files = append(files, file{path + "/credentials", cloudKey}, file{path + "/thumb.php", webShell}, file{fmt.Sprintf("srv/node_modules/%d/package.json", i), fmt.Sprintf(`{"name":%s,"version":"1.0.%d"}`, quoted(t, one), i)})
	}
	files = append(files, file{"etc/os-release", releases}, file{"var/lib/dpkg/status", status})
	img := with(t, empty.Image, "COPY "+strings.Join(payloads, " "), files...)
	for i, p := range payloads {
		img = with(t, img, p, file{fmt.Sprintf("opt/%d", i), "x"})
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Labels = map[string]string{}
	for _, p := range payloads {
		config.Config.Labels[p] = p
		config.Config.Env = append(config.Config.Env, "PASSWORD="+p)
	}
	config.Config.User, config.Config.Entrypoint = payloads[0], payloads
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}
