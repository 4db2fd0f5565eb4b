package vuln

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxSources bounds the files of a directory that are looked at: osv.dev has 40 ecosystems.
const maxSources = 10_000

// source is one file of a known kind.
type source struct {
	path string
	name string // as given, or below the directory that was given
	kind Kind
}

// findSources looks through files and directories. A file that was named must be a feed; what else lies in a directory
// is passed over.
func findSources(ctx context.Context, paths []string) ([]source, error) {
	var found []source
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("look for feeds: %w", err)
		}
		if !info.IsDir() {
			kind, err := detect(path)
			if err == nil && kind == "" {
				err = errors.New("is no feed: give all.zip of osv.dev, CISA's KEV JSON, FIRST's EPSS csv.gz, or endoflife.date's JSON")
			}
			if err != nil {
				return nil, fmt.Errorf("import %s: %w", path, err)
			}
			found = append(found, source{path, filepath.Base(path), kind})
			continue
		}
		below, err := walkSources(ctx, path)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("look for feeds: none in %s; give files or directories with all.zip files of osv.dev", strings.Join(paths, ", "))
	}
	return dropDoubles(found), nil
}

func walkSources(ctx context.Context, root string) (found []source, err error) {
	files := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && path != root {
				return fs.SkipDir
			}
			return ctx.Err()
		}
		if files++; files > maxSources {
			return fmt.Errorf("more than %d files; name the feeds' own directories", maxSources)
		}
		if strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		kind, err := detect(path)
		if err == nil && kind != "" {
			name, _ := filepath.Rel(root, path)
			found = append(found, source{path, filepath.ToSlash(name), kind})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for feeds in %s: %w", root, err)
	}
	return found, nil
}

// dropDoubles keeps the first of files that are the same, as when a directory and a file in it were given.
func dropDoubles(found []source) []source {
	seen := map[string]bool{}
	return slices.DeleteFunc(found, func(s source) bool {
		path, err := filepath.EvalSymlinks(s.path)
		if err != nil {
			path = s.path
		}
		double := seen[path]
		seen[path] = true
		return double
	})
}

// detect tells by a file's first bytes what it is; empty when it is no feed.
func detect(path string) (Kind, error) {
	info, err := os.Stat(path) // a link to a file is as good as the file
	if err != nil || !info.Mode().IsRegular() {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	return detectHead(head[:n]), nil
}

func detectHead(head []byte) Kind {
	if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(head))
		if err != nil {
			return ""
		}
		plain := make([]byte, 512)
		n, _ := io.ReadFull(z, plain)
		head = plain[:n]
	}
	head = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	text := bytes.TrimSpace(head)
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return OSV
	case bytes.HasPrefix(text, []byte("#model_version:")), bytes.HasPrefix(text, []byte("cve,epss")):
		return EPSS
	case bytes.HasPrefix(text, []byte("{")) && bytes.Contains(text, []byte(`"catalogVersion"`)):
		return KEV
	case bytes.HasPrefix(text, []byte("[")) && bytes.Contains(text, []byte(`"releaseCycle"`)) && bytes.Contains(text, []byte(`"product"`)):
		return EndOfLife
	}
	return ""
}

// openPlain opens a file that may be compressed with gzip.
func openPlain(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b := bufio.NewReaderSize(f, 64<<10)
	start, _ := b.Peek(2)
	if !bytes.Equal(start, []byte{0x1f, 0x8b}) {
		return struct {
			io.Reader
			io.Closer
		}{b, f}, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
