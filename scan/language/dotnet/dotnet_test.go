package dotnet

import (
	"slices"
	"testing"

	"bulkhead/scan/language/languagetest"
)

var cases = []languagetest.Case{
	{Name: "program", Path: "app/app.deps.json", Text: `{"runtimeTarget":{},"libraries":{"app/1.0.0":{"type":"project"},"Newtonsoft.Json/13.0.1":{"type":"package","serviceable":true},"runtimepack.Microsoft.NETCore.App.Runtime.linux-x64/8.0.1":{"type":"runtimepack"}}}`, Show: "purl", Want: "Newtonsoft.Json 13.0.1 purl pkg:nuget/Newtonsoft.Json@13.0.1\nMicrosoft.NETCore.App.Runtime.linux-x64 8.0.1 purl pkg:nuget/Microsoft.NETCore.App.Runtime.linux-x64@8.0.1"},
	{Name: "another list", Path: "editor.deps.json", Text: ` ["a"]`},
	{Name: "lock", Path: "packages.lock.json", Text: `{"version":1,"dependencies":{"net6.0":{"A":{"type":"Direct","resolved":"1.0.0"},"own":{"type":"Project"}},"net8.0":{"A":{"type":"Direct","resolved":"1.0.0"},"B":{"type":"Transitive","resolved":"2.0.0"}}}}`, Want: "A 1.0.0\nB 2.0.0"},
	{Name: "list", Path: "packages.config", Text: `<?xml version="1.0" encoding="utf-8"?><packages><package id="A" version="1.0" targetFramework="net45"/><package id="B" version="2.0" developmentDependency="true"/></packages>`, Want: "A 1.0\nB 2.0 dev"},
	{Name: "damaged", Path: "packages.config", Text: "<packages>", Err: "package list"},
	{Name: "other JSON", Path: "deps.json", Text: "{}", Want: languagetest.Unwanted},
}

func TestAnalyzers(t *testing.T) {
	languagetest.Run(t, slices.Concat(Installed(), Declared()), cases)
}

func FuzzAnalyzers(f *testing.F) {
	languagetest.Fuzz(f, slices.Concat(Installed(), Declared()), cases)
}
