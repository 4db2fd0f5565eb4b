package golang

import (
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "module", Path: "go.mod", Text: "module example.com/app\n\ngo 1.22\n\nrequire (\n\tgithub.com/BurntSushi/toml v1.3.2\n\tgolang.org/x/mod v0.1.0 // indirect\n\texample.com/local v1.0.0\n\texample.com/fork v1.0.0\n)\n\nreplace (\n\texample.com/local => ../local\n\texample.com/fork v1.0.0 => example.com/ours v2.0.0\n)\n", Want: "github.com/BurntSushi/toml v1.3.2\ngolang.org/x/mod v0.1.0\nexample.com/ours v2.0.0"},
	{Name: "damaged", Path: "go.mod", Text: "module (", Err: "module file"},
	{Name: "other", Path: "go.sum", Text: "x", Want: languagetest.Unwanted},
}

func TestAnalyzers(t *testing.T) { languagetest.Run(t, Declared(), cases) }

func FuzzAnalyzers(f *testing.F) { languagetest.Fuzz(f, Declared(), cases) }
