package python

import (
	"archive/zip"
	"bytes"
	"io"
	"slices"
	"testing"

	"bulkhead/scan/language/languagetest"
)

func eggFile() string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, _ := w.Create("EGG-INFO/PKG-INFO")
	io.WriteString(f, "Metadata-Version: 1.0\nName: Zipped.Egg\nVersion: 1.0\n")
	w.Close()
	return b.String()
}

const wheel = "Metadata-Version: 2.1\r\nName: Zope.Interface\r\nVersion: 6.0\r\nLicense: ZPL 2.1\r\nClassifier: License :: OSI Approved :: MIT License\r\n\r\nName: not this\r\nVersion: 9\r\n"

var cases = []languagetest.Case{
	{Name: "wheel", Path: "usr/lib/python3/site-packages/zope.interface-6.0.dist-info/METADATA", Text: wheel, Show: "purl license", Want: "zope-interface 6.0 purl pkg:pypi/zope-interface@6.0 license ZPL 2.1"},
	{Name: "licence from a classifier", Path: "a.dist-info/METADATA", Text: "Name: a\nVersion: 1\nLicense: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n", Show: "license", Want: "a 1 license MIT License"},
	{Name: "egg-info folder", Path: "a.egg-info/PKG-INFO", Text: "Name: a_b\nVersion: 1\n", Want: "a-b 1"},
	{Name: "egg-info file", Path: "usr/lib/python2.7/dist-packages/argparse.egg-info", Text: "Name: argparse\nVersion: 1.2.1\n", Want: "argparse 1.2.1"},
	{Name: "unpacked egg", Path: "a.egg/EGG-INFO/PKG-INFO", Text: "Name: a\nVersion: 1\n", Want: "a 1"},
	{Name: "zipped egg", Path: "lib/a.egg", Text: eggFile(), Want: "zipped-egg 1.0"},
	{Name: "no egg", Path: "lib/a.egg", Text: "text"},
	{Name: "no version", Path: "a.dist-info/METADATA", Text: "Name: a\n"},
	{Name: "elsewhere", Path: "src/PKG-INFO", Text: "Name: a\nVersion: 1\n", Want: languagetest.Unwanted},
	{Name: "conda", Path: "opt/conda/conda-meta/numpy-1.26.4-py312_0.json", Text: `{"build":"py312_0","files":["a"],"license":"BSD-3-Clause","name":"numpy","subdir":"linux-64","version":"1.26.4"}`, Show: "purl license", Want: "numpy 1.26.4 purl pkg:conda/numpy@1.26.4?build=py312_0&subdir=linux-64 license BSD-3-Clause"},
	{Name: "requirements", Path: "requirements.txt", Text: "# comment\n-r base.txt\nDjango==4.2.1\nrequests[socks]==2.31.0 ; python_version >= '3.8' # why\nPyYAML==6.0 --hash=sha256:0 \\\n    --hash=sha256:1\na>=1\nb==1.*\nc==1,<2\nd===1.0-x\ne @ https://x/e-1.0.tar.gz\n--index-url https://x/==y\n", Want: "django 4.2.1\nrequests 2.31.0\npyyaml 6.0\nd 1.0-x"},
	{Name: "requirements for development", Path: "a/requirements-dev.txt", Text: "pytest==7.0\n", Want: "pytest 7.0 dev"},
	{Name: "requirements of Windows", Path: "requirements.txt", Text: "\xef\xbb\xbfa==1 \\\r\n    --hash=sha256:0\r\nb==2\r\n", Want: "a 1\nb 2"},
	{Name: "requirements in a folder", Path: "requirements/base.txt", Text: "a==1\n", Want: "a 1"},
	{Name: "other text", Path: "notes.txt", Text: "a==1\n", Want: languagetest.Unwanted},
	{Name: "Pipfile.lock", Path: "Pipfile.lock", Text: `{"_meta":{},"default":{"Django":{"version":"==4.2.1"},"local":{"path":"."}},"develop":{"pytest":{"version":"==7.0"},"django":{"version":"==4.2.1"}}}`, Want: "django 4.2.1\npytest 7.0 dev"},
	{Name: "Poetry 1", Path: "poetry.lock", Text: "[[package]]\nname = \"Django\"\nversion = \"4.2.1\"\ncategory = \"main\"\n\n[[package]]\nname = \"pytest\"\nversion = \"7.0\"\ncategory = \"dev\"\n\n[[package]]\nname = \"own\"\nversion = \"1\"\n[package.source]\ntype = \"directory\"\nurl = \"../own\"\n", Want: "django 4.2.1\npytest 7.0 dev"},
	{Name: "Poetry 2", Path: "poetry.lock", Text: "[[package]]\nname = \"a\"\nversion = \"1\"\ngroups = [\"main\", \"dev\"]\n\n[[package]]\nname = \"b\"\nversion = \"2\"\ngroups = [\"dev\"]\n", Want: "a 1\nb 2 dev"},
	{Name: "PDM", Path: "pdm.lock", Text: "[[package]]\nname = \"a\"\nversion = \"1\"\ngroups = [\"default\"]\n\n[[package]]\nname = \"b\"\nversion = \"2\"\ngroups = [\"test\"]\n\n[[package]]\nname = \"own\"\nversion = \"1\"\npath = \".\"\n", Want: "a 1\nb 2 dev"},
	{Name: "uv", Path: "uv.lock", Text: `version = 1

[[package]]
name = "app"
version = "0.1.0"
source = { editable = "." }
dependencies = [{ name = "a" }]

[package.optional-dependencies]
extra = [{ name = "c" }]

[package.dev-dependencies]
dev = [{ name = "d" }]

[[package]]
name = "a"
version = "1.0"
source = { registry = "https://x/simple" }
dependencies = [{ name = "b", marker = "x" }]

[[package]]
name = "b"
version = "2.0"
source = { registry = "https://x/simple" }

[[package]]
name = "c"
version = "3.0"
source = { registry = "https://x/simple" }

[[package]]
name = "d"
version = "4.0"
source = { registry = "https://x/simple" }
`, Want: "a 1.0\nb 2.0\nc 3.0\nd 4.0 dev"},
	{Name: "pylock", Path: "pylock.dev.toml", Text: "lock-version = \"1.0\"\n[[packages]]\nname = \"a\"\nversion = \"1\"\n[[packages]]\nname = \"own\"\nversion = \"1\"\ndirectory = { path = \".\" }\n", Want: "a 1"},
	{Name: "damaged", Path: "poetry.lock", Text: "[[package]", Err: "TOML"},
}

func TestAnalyzers(t *testing.T) {
	languagetest.Run(t, slices.Concat(Installed(), Declared()), cases)
}

func FuzzAnalyzers(f *testing.F) {
	languagetest.Fuzz(f, slices.Concat(Installed(), Declared()), cases)
}

func TestName(t *testing.T) {
	for name, want := range map[string]string{"A.b_-c": "a-b-c", "x": "x", "": "", "--": "-", "Zope.Interface": "zope-interface"} {
		if got := Name(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
