package locks

import (
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "Dart", Path: "pubspec.lock", Text: "packages:\n  a:\n    dependency: transitive\n    source: hosted\n    version: \"1.0.0\"\n  b:\n    dependency: \"direct dev\"\n    source: hosted\n    version: \"2.0.0\"\n  flutter:\n    dependency: \"direct main\"\n    source: sdk\n    version: \"0.0.0\"\n", Show: "purl", Want: "a 1.0.0 purl pkg:pub/a@1.0.0\nb 2.0.0 dev purl pkg:pub/b@2.0.0"},
	{Name: "Elixir", Path: "mix.lock", Text: "%{\n  \"jason\": {:hex, :jason, \"1.4.1\", \"0\", [:mix], [{:decimal, \"~> 1.0\", [hex: :decimal]}], \"hexpm\", \"0\"},\n  \"own\": {:git, \"https://x/own.git\", \"0\", []},\n}\n", Show: "purl", Want: "jason 1.4.1 purl pkg:hex/jason@1.4.1"},
	{Name: "Conan 1", Path: "conan.lock", Text: `{"graph_lock":{"nodes":{"0":{"ref":"app/1.0","context":"host"},"1":{"ref":"zlib/1.2.13@user/stable#abc","context":"host"},"2":{"ref":"cmake/3.25#x","context":"build"}}},"version":"0.4"}`, Want: "app 1.0\nzlib 1.2.13\ncmake 3.25 dev"},
	{Name: "Conan 2", Path: "conan.lock", Text: `{"version":"0.5","requires":["zlib/1.3.1#abc%1700000000"],"build_requires":["cmake/3.25#x"],"python_requires":[]}`, Show: "purl", Want: "zlib 1.3.1 purl pkg:conan/zlib@1.3.1\ncmake 3.25 dev purl pkg:conan/cmake@3.25"},
	{Name: "Swift 1", Path: "Package.resolved", Text: `{"object":{"pins":[{"package":"x","repositoryURL":"https://github.com/apple/swift-nio.git","state":{"branch":null,"revision":"0","version":"2.60.0"}}]},"version":1}`, Show: "purl", Want: "github.com/apple/swift-nio 2.60.0 purl pkg:swift/github.com/apple/swift-nio@2.60.0"},
	{Name: "Swift 2", Path: "Package.resolved", Text: `{"pins":[{"identity":"x","kind":"remoteSourceControl","location":"https://github.com/apple/swift-log","state":{"revision":"0","version":"1.5.0"}}],"version":2}`, Want: "github.com/apple/swift-log 1.5.0"},
}

func TestAnalyzers(t *testing.T) { languagetest.Run(t, Declared(), cases) }

func FuzzAnalyzers(f *testing.F) { languagetest.Fuzz(f, Declared(), cases) }
