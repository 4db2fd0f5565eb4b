package linked

import (
	"bytes"
	"compress/zlib"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/image"
	"bulkhead/scan/language/languagetest"
	"bulkhead/scan/look"
)

// TestGo builds a real program and reads it. The other formats are tried in TestFormats, which takes longer.
func TestGo(t *testing.T) {
	dir := source(t)
	check(t, build(t, dir, runtime.GOOS, runtime.GOARCH), "example.com/app (devel)")
	check(t, build(t, dir, runtime.GOOS, runtime.GOARCH, "-ldflags=-s -w -X main.version=1.4.2"), "example.com/app v1.4.2")
}

// source writes a program with two modules that are replaced by folders.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "go.mod", "module example.com/app\n\ngo 1.24\n\nrequire (\n\texample.com/lib v1.2.3\n\texample.com/old v0.9.0\n)\n\nreplace example.com/lib => ./lib\n\nreplace example.com/old => ./lib/old\n")
	write(t, dir, "main.go", "package main\n\nimport (\n\t\"example.com/lib\"\n\t\"example.com/old\"\n)\n\nvar version string\n\nfunc main() { println(lib.Name, old.Name, version) }\n")
	write(t, dir, "lib/go.mod", "module example.com/lib\n")
	write(t, dir, "lib/lib.go", "package lib\n\nvar Name = \"lib\"\n")
	write(t, dir, "lib/old/go.mod", "module example.com/old\n")
	write(t, dir, "lib/old/old.go", "package old\n\nvar Name = \"old\"\n")
	return dir
}

// check reads what was built from source.
func check(t *testing.T, b []byte, main string) {
	t.Helper()
	facts, err := lookAt(t.Context(), image.Memory("app", 0o755, b))
	want := []string{main, "example.com/lib (devel)", "example.com/old (devel)", "stdlib " + goVersion(runtime.Version())}
	if diff := cmp.Diff(want, languagetest.Lines(facts, "")); diff != "" || err != nil {
		t.Errorf("error %v, packages (-want +got):\n%s", err, diff)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, dir, system, machine string, flags ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "app")
	c := exec.Command("go", append(append([]string{"build", "-o", out}, flags...), ".")...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+machine, "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoVersion(t *testing.T) {
	for says, want := range map[string]string{
		"go1.22.1":                       "1.22.1",
		"go1.20":                         "1.20",
		"go1.22rc1":                      "1.22.0-rc.1",
		"go1.21beta2":                    "1.21.0-beta.2",
		"go1.20.5 X:boringcrypto":        "1.20.5",
		"go1.16.7+fips":                  "1.16.7",
		"go1.21.3-google":                "1.21.3",
		"devel go1.23-abc Mon Jan 1":     "(devel)",
		"":                               "(devel)",
		"go1.19.4 (Red Hat 1.19.4-1.el)": "1.19.4",
	} {
		if got := goVersion(says); got != want {
			t.Errorf("%q: %q, want %q", says, got, want)
		}
	}
}

func TestLinkedVersion(t *testing.T) {
	for flags, want := range map[string]string{
		"-s -w -X main.version=1.2.3":                         "v1.2.3",
		`-X "main.Version=v1.2.3-rc.1" -s`:                    "v1.2.3-rc.1",
		"-X=example.com/app/internal.BuildVersion=v2.0.0":     "v2.0.0",
		"-X k8s.io/component-base/version.gitVersion=v1.29.3": "v1.29.3",
		"-X github.com/other/lib.Version=9.9.9":               "(devel)",
		"-X main.commit=1.2.3":                                "(devel)",
		"-X main.version=main":                                "(devel)",
		"-X main.version=7":                                   "(devel)",
		"-X":                                                  "(devel)",
		"":                                                    "(devel)",
	} {
		if got := linkedVersion("example.com/app", flags); got != want {
			t.Errorf("%s: %s, want %s", flags, got, want)
		}
	}
}

func TestPseudoVersion(t *testing.T) {
	settings := map[string]string{"vcs.revision": "0123456789abcdef0123", "vcs.time": "2024-03-01T10:11:12Z", "vcs.modified": "true"}
	if got, want := pseudoVersion(settings), "v0.0.0-20240301101112-0123456789ab+dirty"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := repository("github.com/a/b/v2/cmd", "git", "0123")["vcs_url"]; got != "git+https://github.com/a/b@0123" {
		t.Error(got)
	}
}

// program is a small ELF file with one section of this name and content, as a linker would write it.
func program(section string, content []byte) []byte {
	var b bytes.Buffer
	names := "\x00" + section + "\x00.shstrtab\x00"
	contentAt := uint64(64)
	namesAt := contentAt + uint64(len(content))
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: namesAt + uint64(len(names)),
		Ehsize: 64, Phentsize: 56, Shentsize: 64, Shnum: 3, Shstrndx: 2,
	}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: contentAt, Size: uint64(len(content))},
		{Name: uint32(len(section)) + 2, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	}
	binary.Write(&b, binary.LittleEndian, header)
	b.Write(content)
	b.WriteString(names)
	binary.Write(&b, binary.LittleEndian, sections)
	return b.Bytes()
}

func deflate(text string) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.Bytes()
}

const crates = `{"packages":[{"name":"app","version":"0.1.0","source":"local","root":true},{"name":"serde","version":"1.0.200","source":"crates.io","dependencies":[2]},{"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"}]}`

func TestRust(t *testing.T) {
	facts, err := lookAt(t.Context(), image.Memory("app", 0o755, program(".dep-v0", deflate(crates))))
	want := []string{"app 0.1.0 purl pkg:cargo/app@0.1.0", "serde 1.0.200 purl pkg:cargo/serde@1.0.200", "cc 1.0.0 dev purl pkg:cargo/cc@1.0.0"}
	if diff := cmp.Diff(want, languagetest.Lines(facts, "purl")); diff != "" || err != nil {
		t.Errorf("error %v, packages (-want +got):\n%s", err, diff)
	}
}

// TestHostile: programs that lie are errors, or nothing.
func TestHostile(t *testing.T) {
	bomb := deflate(strings.Repeat(" ", maxCrates+1))
	many := program(".dep-v0", nil)
	binary.LittleEndian.PutUint16(many[60:], 0xfff0)
	far := program(".dep-v0", nil)
	binary.LittleEndian.PutUint64(far[40:], 1<<62)
	upx := append(program("x", nil)[:64], "....UPX!...."...)
	upx = append(upx, make([]byte, 4096)...)
	binary.LittleEndian.PutUint16(upx[60:], 0)
	tests := []struct {
		name string
		b    []byte
		err  string
		want []string
	}{
		{"list that becomes large", program(".dep-v0", bomb), "more than", nil},
		{"list that is none", program(".dep-v0", []byte("x")), "unpack the list", nil},
		{"list cut", program(".dep-v0", deflate(crates)[:20]), "unpack the list", nil},
		{"many sections", many, "", nil},
		{"sections beyond the end", far, "", nil},
		{"not Go", program(".text", make([]byte, 100)), "", nil},
		{"Go in name only", program(".go.buildinfo", make([]byte, 100)), "", nil},
		{"script", []byte("#!/bin/sh\n" + strings.Repeat(" ", 100)), "", nil},
		{"Java class", append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x34"), make([]byte, 100)...), "", nil},
		{"packed", upx, "", []string{"incomplete : " + packed.Message}},
		{"nothing", nil, "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			facts, err := lookAt(t.Context(), image.Memory("x", 0o755, test.b))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want one with %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, languagetest.Lines(facts, "")); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBudget(t *testing.T) {
	b := &budget{r: bytes.NewReader(make([]byte, 100)), left: 60}
	if _, err := b.ReadAt(make([]byte, 50), 0); err != nil {
		t.Error(err)
	}
	if _, err := b.ReadAt(make([]byte, 50), 0); !errors.Is(err, errBudget) {
		t.Error(err)
	}
}

func TestWants(t *testing.T) {
	large := make([]byte, minSize)
	for _, test := range []struct {
		f    *image.File
		want bool
	}{
		{image.Memory("usr/bin/app", 0o755, large), true},
		{image.Memory("usr/bin/app", 0o755, large[:100]), false},
		{image.Memory("usr/bin/app", 0o644, large), false},
		{image.Memory("app.exe", 0o644, large), true},
		{image.Memory("lib/libx.so.6", 0o644, large), true},
		{&image.File{Path: "x", Kind: image.Symlink, Mode: 0o777, Size: minSize}, false},
		{&image.File{Path: "x", Mode: 0o755, Size: maxSize + 1}, false},
	} {
		if got := wants(test.f); got != test.want {
			t.Errorf("%s %o: %v", test.f.Path, test.f.Mode, got)
		}
	}
}

func FuzzPrograms(f *testing.F) {
	f.Add(program(".dep-v0", deflate(crates)))
	f.Add(program(".go.buildinfo", []byte("\xff Go buildinf:\x08\x02")))
	f.Add(append([]byte("MZ"), make([]byte, 100)...))
	f.Add(append([]byte("\xcf\xfa\xed\xfe"), make([]byte, 100)...))
	f.Add(append([]byte("\xca\xfe\xba\xbe\x00\x00\x00\x02"), make([]byte, 100)...))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = lookAt(context.Background(), image.Memory("x", 0o755, b))
	})
}

// BenchmarkRead reads this test's own program: a Go program of some 10 MB.
func BenchmarkRead(b *testing.B) {
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var facts look.Facts
	b.ReportAllocs()
	for b.Loop() {
		if facts, err = read(bytes.NewReader(content), int64(len(content))); err != nil || len(facts.Packages) == 0 {
			b.Fatal(facts, err)
		}
	}
}
