package binary

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"bulkhead/image"
	"bulkhead/scan/look"
)

const (
	// maxSearch is how much of a program is searched: the largest of the table (envoy, mongod) have some 150 MB.
	maxSearch = 256 << 20
	// chunk is what is read at a time: large for the search, small for the memory.
	chunk = 1 << 20
)

func lookNative(ctx context.Context, x index, f *image.File) (look.Facts, error) {
	var texts []search
	base := path.Base(f.Path)
	for _, p := range x.find(f) {
		switch {
		case p.path != nil:
			if version := p.path(f.Path); version != "" {
				return facts(p, version), nil
			}
		case p.search != nil:
			return lookWhole(f, p)
		}
		for _, pattern := range p.texts {
			if t, ok := compile(pattern, base); ok {
				texts = append(texts, search{program: p, text: t})
			}
		}
	}
	if len(texts) == 0 {
		return look.Facts{}, nil
	}
	r, err := f.Reader()
	if err != nil {
		return look.Facts{}, err
	}
	p, version, err := run(ctx, io.LimitReader(r, maxSearch), texts)
	if err != nil || version == "" {
		return look.Facts{}, err
	}
	return facts(p, p.written(version)), nil
}

func (p program) written(version string) string {
	if p.tidy != nil {
		return p.tidy(version)
	}
	return version
}

// search is one text of one program while a file is read.
type search struct {
	program
	text
	versions []string // of a lone text: the different ones, two at most because two decide
	later    bool     // the start of the file has passed
}

// run reads the file once and looks for all texts in it. The first match ends it, but for lone texts, which need the
// whole file.
func run(ctx context.Context, r io.Reader, texts []search) (program, string, error) {
	b := make([]byte, 0, chunk+window)
	for {
		if err := context.Cause(ctx); err != nil {
			return program{}, "", err
		}
		n, err := io.ReadFull(r, b[len(b):cap(b)])
		b = b[:len(b)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return program{}, "", err
		}
		for i := range texts {
			if version := texts[i].step(b, last); version != "" {
				return texts[i].program, version, nil
			}
		}
		if last {
			p, version := alone(texts)
			return p, version, nil
		}
		b = b[:copy(b, b[len(b)-window:])]
		for i := range texts {
			texts[i].later = true
		}
	}
}

// step searches one chunk. A match at its end waits for the next chunk, where more of the version may stand.
func (s *search) step(b []byte, last bool) string {
	if s.text.start && s.later {
		return ""
	}
	end := len(b)
	if !last {
		end -= window / 2
	}
	for version, at := s.find(b, 0); version != "" && at < end; version, at = s.find(b, at+1) {
		if !s.lone {
			return version
		}
		if len(s.versions) == 0 || len(s.versions) == 1 && s.versions[0] != version {
			s.versions = append(s.versions, version)
		}
	}
	return ""
}

// alone returns the version of a lone text that no other version of the file contradicts.
func alone(texts []search) (program, string) {
	for _, s := range texts {
		if len(s.versions) == 1 {
			return s.program, s.versions[0]
		}
	}
	return program{}, ""
}

// maxWhole is the size of a program that is taken into memory: redis-server with all its symbols has 20 MB.
const maxWhole = 64 << 20

func lookWhole(f *image.File, p program) (look.Facts, error) {
	if f.Size > maxWhole {
		return look.Facts{}, nil
	}
	b, err := f.Bytes(maxWhole)
	if err != nil {
		return look.Facts{}, err
	}
	if version := p.search(b); version != "" {
		return facts(p, p.written(version)), nil
	}
	return look.Facts{}, nil
}

// redis glues its build's name together: version, host, "-", time in seconds, number of changed files, eight digits of
// the commit. The host may be missing, or begin with a digit as a container's does.
var (
	redisBuild = regexp.MustCompile(`(\d{1,2}\.\d{1,3}\.)\d[\w.-]{0,80}?\d{10}\d{1,4}[0-9a-f]{8}$`)
	// redisInContainer has the host of a container: the first twelve digits of its number.
	redisInContainer = regexp.MustCompile(`(\d{1,2}\.\d{1,3}\.\d{1,3})[0-9a-f]{12}-\d{10}\d{1,4}[0-9a-f]{8}$`)
)

// maxBuild is the longest build's name that is looked at.
const maxBuild = 128

// buildID finds the version in front of the build's name.
func buildID(b []byte) string {
	for at := 0; ; at++ {
		n := bytes.IndexByte(b[at:], 0)
		if n < 0 {
			return ""
		}
		at += n
		if !endsBuild(b[:at]) {
			continue
		}
		name := b[max(0, at-maxBuild):at]
		if m := redisInContainer.FindSubmatch(name); m != nil {
			return string(m[1])
		}
		if m := redisBuild.FindSubmatchIndex(name); m != nil {
			if version := patch(b, string(name[m[0]:m[1]]), m[3]-m[2]); version != "" {
				return version
			}
		}
	}
}

// endsBuild reports whether b ends with a time, a number and a commit; nearly every string of a program does not.
func endsBuild(b []byte) bool {
	if len(b) < 24 {
		return false
	}
	for _, c := range b[len(b)-8:] {
		if !digit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	for _, c := range b[len(b)-19 : len(b)-8] {
		if !digit(c) {
			return false
		}
	}
	return true
}

// patch returns the version at the start of a build's name: the first head bytes and as many of the digits that follow
// as belong to it. A version that also stands alone in the program is sure, the longest first; else the digits end where
// something else begins.
func patch(b []byte, name string, head int) string {
	end := head
	for end < head+3 && digit(name[end]) {
		end++
	}
	for n := end; n > head; n-- {
		if bytes.Contains(b, []byte("\x00"+name[:n]+"\x00")) {
			return name[:n]
		}
	}
	if digit(name[end]) {
		return ""
	}
	return name[:end]
}

// javaVersion writes versions as Bitnami's feed does: "8.0.392" for "1.8.0_392", three numbers of "17.0.9.1".
func javaVersion(version string) string {
	parts := strings.FieldsFunc(strings.TrimPrefix(version, "1."), func(r rune) bool { return r == '.' || r == '_' })
	for len(parts) < 3 {
		parts = append(parts, "0")
	}
	return strings.Join(parts[:3], ".")
}

// versionAfter returns the part of the path that follows a directory, where it is a version.
func versionAfter(dir string) func(string) string {
	return func(file string) string {
		_, rest, ok := strings.Cut("/"+file, dir)
		version, _, more := strings.Cut(rest, "/")
		if !ok || !more || number([]byte(version)) == 0 {
			return ""
		}
		return version
	}
}
