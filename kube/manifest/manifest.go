// Package manifest reads files of Kubernetes objects: YAML of several documents, JSON, lists,
// directories. Start with [Walk] and [Read].
//
// It promises what `kubectl apply` would send, and bounds on everything that a stranger could
// make large: files, documents, nesting, aliases. What cannot be read is an error with file and
// line, beside the objects that can. It does not know what an object means: that is for
// package kube.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The limits. A manifest comes from whoever opens a pull request.
const (
	maxFile    = 32 << 20 // all of a large chart is 5 MB
	maxObject  = 3 << 20  // the API server takes no request that is larger
	maxObjects = 20_000   // in one file, lists taken apart
	maxFiles   = 20_000   // in one directory
	maxNodes   = 500_000  // of one document, aliases followed
	maxDepth   = 200      // of one document; the API server's own types are 20 deep
)

// Object is one object of a file.
type Object struct {
	File string
	Line int    // where it begins
	JSON []byte // as kubectl would send it
}

// Error is something that cannot be read.
type Error struct {
	File    string
	Line    int
	Problem string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Problem) }

// Walk reads a file, every *.yaml, *.yml and *.json below a directory in order, or standard input
// for "-", and calls do with each object, or with the reason why one cannot be read. An error of
// do ends it.
func Walk(name string, stdin io.Reader, do func(Object, error) error) error {
	if name == "-" {
		return Read(stdin, "-", do)
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("reading manifests: %w", err)
	}
	if !info.IsDir() {
		return readFile(name, do)
	}
	files, err := list(name)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := readFile(file, do); err != nil {
			return err
		}
	}
	return nil
}

func list(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Type().IsRegular() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			files = append(files, name)
		}
		if len(files) > maxFiles {
			return fmt.Errorf("%s has more than %d files; name the ones you mean", dir, maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing manifests: %w", err)
	}
	return files, nil
}

func readFile(name string, do func(Object, error) error) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("reading manifests: %w", err)
	}
	defer f.Close()
	return Read(f, name, do)
}

// Read reads one stream; file is its name in errors.
func Read(r io.Reader, file string, do func(Object, error) error) error {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if len(data) > maxFile {
		return do(Object{File: file, Line: 1}, &Error{file, 1, fmt.Sprintf("the file is larger than %d MiB: split it", maxFile>>20)})
	}
	s := &stream{file: file, do: do}
	for _, d := range split(data) {
		if err := s.document(d); err != nil {
			return err
		}
	}
	return nil
}

// document is a part of a file between two lines of three hyphens.
type document struct {
	line int
	text []byte
}

// split keeps what follows the hyphens on their line: it belongs to the next document.
func split(data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var documents []document
	current := document{line: 1}
	line := 1
	for text := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(text, []byte("---")); ok && (len(bytes.TrimSpace(rest)) == 0 || strings.ContainsRune(" \t#", rune(rest[0]))) {
			documents = append(documents, current)
			current = document{line: line}
			text = append([]byte("   "), rest...) // columns stay
		}
		current.text = append(current.text, text...)
		line++
	}
	return append(documents, current)
}

// stream counts the objects of one file.
type stream struct {
	file  string
	do    func(Object, error) error
	count int
}

var errTooMany = errors.New("too many objects")

func (s *stream) document(d document) error {
	json, err := convert(d.text)
	if err != nil {
		return s.refuse(d.line, err)
	}
	if json == nil {
		return nil // empty, or nothing but comments
	}
	return s.object(d.line, json)
}

func (s *stream) refuse(line int, err error) error {
	var at *Error
	if errors.As(err, &at) {
		return s.do(Object{File: s.file, Line: line + at.Line - 1}, &Error{s.file, line + at.Line - 1, at.Problem})
	}
	return s.do(Object{File: s.file, Line: line}, &Error{s.file, line, err.Error()})
}

// object hands an object on; a list is taken apart.
func (s *stream) object(line int, json []byte) error {
	items, isList, err := listItems(json)
	if err != nil {
		return s.refuse(line, err)
	}
	if isList {
		for _, item := range items {
			if err := s.object(line, item); err != nil {
				return err
			}
		}
		return nil
	}
	if s.count++; s.count > maxObjects {
		s.refuse(line, fmt.Errorf("more than %d objects: split the file", maxObjects))
		return errTooMany
	}
	if len(json) > maxObject {
		return s.refuse(line, fmt.Errorf("the object is larger than %d MiB, which the API server refuses", maxObject>>20))
	}
	return s.do(Object{File: s.file, Line: line, JSON: json}, nil)
}
