package secret

import (
	"path"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
)

// unread are directories in which distributions put text and pictures for people.
var unread = []string{
	"usr/share/doc/", "usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/zoneinfo/", "usr/share/icons/",
	"usr/share/fonts/", "usr/share/mime/", "usr/share/i18n/", "usr/share/perl/", "usr/share/unicode/", "usr/share/X11/",
	"usr/share/vim/", "usr/share/terminfo/", "usr/share/misc/", "usr/share/common-licenses/", "usr/share/gtk-doc/",
	"usr/include/", "usr/lib/modules/", "usr/lib/firmware/", "lib/modules/", "lib/firmware/", "boot/", "proc/", "sys/",
	"usr/share/licenses/", "usr/share/help/", "usr/share/sounds/", "usr/share/themes/", "usr/share/backgrounds/",
	"var/lib/dpkg/info/", "var/lib/apt/lists/", "var/cache/",
}

// media are names of files in which nobody writes secrets.
var media = map[string]bool{
	".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".webp": true, ".ico": true, ".svg": true, ".mp3": true, ".mp4": true, ".webm": true,
	".ogg": true, ".wav": true, ".woff": true, ".woff2": true, ".ttf": true, ".otf": true, ".eot": true, ".pdf": true, ".mo": true, ".gmo": true,
	".gz": true, ".bz2": true, ".xz": true, ".zst": true, ".zip": true, ".jar": true, ".war": true, ".whl": true, ".tar": true, ".tgz": true, ".deb": true, ".rpm": true,
	".css": true, ".scss": true, ".less": true, ".lock": true, ".sum": true, ".a": true, ".o": true, ".ko": true, ".wasm": true, ".css.map": true, ".po": true,
	".ttc": true, ".pcf": true, ".afm": true, ".pfb": true, ".gir": true, ".typelib": true, ".h": true, ".hpp": true, ".onnx": true, ".pt": true, ".safetensors": true,
}

func wants(f *image.File) bool {
	if f.Kind != image.Regular || f.Size < 8 || f.Size > maxFile || media[strings.ToLower(path.Ext(f.Path))] {
		return false
	}
	return !slices.ContainsFunc(unread, func(dir string) bool { return strings.HasPrefix(f.Path, dir) })
}

// installed are parts of a path under which a package manager has put other people's code.
var installed = []string{
	"/node_modules/", "/site-packages/", "/dist-packages/", "/vendor/", "/gems/", "/pkg/mod/", "/.cargo/registry/", "/.m2/repository/", "/bower_components/",
	"/usr/share/", "/usr/lib/", "/usr/local/lib/python", "/usr/local/lib/ruby", "/usr/local/lib/perl", "/usr/local/go/", "/usr/local/share/", "/opt/conda/", "/usr/lib64/",
}

// fixtures are names of directories and beginnings of names of files for tests and examples.
var fixtures = []string{"test", "spec", "fixture", "example", "sample", "demo", "mock", "doc", "snakeoil", "bench", "tutorial", "__tests__"}

// public are files of well-known packages that carry a key which is public on purpose, so that it is nobody's secret.
var public = []string{"/usr/local/go/", "/usr/lib/go-", "/usr/share/go-", "ssl-cert-snakeoil", "/openssl/test", "/nodejs/", "/mysql-test/", "/node-gyp/", "/google-cloud-sdk/"}

func isInstalled(name string) bool {
	full := "/" + strings.ToLower(name)
	return slices.ContainsFunc(installed, func(part string) bool { return strings.Contains(full, part) })
}

// isFixture reports whether a secret at the path belongs to the tests or examples of an installed package. The
// application's own tests are read: people put real keys there.
func isFixture(name string, r *rule) bool {
	full := "/" + strings.ToLower(name)
	if !isInstalled(name) {
		return false
	}
	if r.severity.Rank() < bulkhead.High.Rank() || r == &generic || r.id == "url-credentials" || r.id == "gcp-api-key" {
		return true // what others publish has no passwords of yours: only shapes that are sure are told
	}
	if slices.ContainsFunc(public, func(part string) bool { return strings.Contains(full, part) }) {
		return true
	}
	for _, part := range strings.Split(full, "/") {
		if slices.ContainsFunc(fixtures, func(f string) bool {
			return strings.HasPrefix(strings.TrimLeft(part, "_."), f) || strings.HasSuffix(part, "_"+f) || strings.Contains(part, "_"+f+".") || strings.HasSuffix(part, f+"s")
		}) {
			return true
		}
	}
	return false
}

// Owned reports whether a finding is to be left out because a distribution's package owns its file: what a
// distribution ships is public, and so no secret of the image's maker. Configuration below etc is not left out, as
// people write into it after the package is installed; neither are tokens with a checksum, which nobody ships.
func Owned(f bulkhead.Finding) bool {
	return f.Kind == bulkhead.FindingSecret && !strings.HasPrefix(f.Path, "etc/") && !slices.Contains(sure, f.Rule)
}

// sure are rules whose shape is proved.
var sure = []string{"github-token", "github-fine-grained-token", "npm-token", "pypi-token", "gcp-service-account"}

// passive reports whether the first bytes are those of a picture, compressed data or a table of translations.
func passive(b []byte) bool {
	return slices.ContainsFunc([]string{"\x89PNG", "\xff\xd8\xff", "GIF8", "\x1f\x8b", "BZh", "\xfd7zXZ", "\x28\xb5\x2f\xfd", "PK\x03\x04", "\xde\x12\x04\x95", "wOFF", "wOF2", "%PDF-", "OggS"},
		func(magic string) bool { return strings.HasPrefix(string(b[:min(len(b), 8)]), magic) })
}
