package rust

import (
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "lock", Path: "Cargo.lock", Text: "version = 3\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\"serde\"]\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.200\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"0\"\n", Show: "purl", Want: "serde 1.0.200 purl pkg:cargo/serde@1.0.200"},
	{Name: "damaged", Path: "Cargo.lock", Text: "[[", Err: "TOML"},
	{Name: "other", Path: "cargo.toml", Text: "x", Want: languagetest.Unwanted},
}

func TestAnalyzers(t *testing.T) { languagetest.Run(t, Declared(), cases) }

func FuzzAnalyzers(f *testing.F) { languagetest.Fuzz(f, Declared(), cases) }
