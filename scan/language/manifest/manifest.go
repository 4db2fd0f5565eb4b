// Package manifest reads what package managers write, within bounds, and puts it into the words of a report. Start
// with [Bytes], [Fields] and [List].
//
// It promises that no file makes it slow, large or panic: sizes, depths and names are limited, and a name that no
// registry would take is left out. It is not for what one ecosystem's files mean: each has a folder beside this one.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"bulkhead/image"
)

// The limits of files, in bytes.
const (
	// Small is for what describes one package. The largest of 20,000 package.json files of popular packages has 300 KiB.
	Small = 4 << 20
	// Large is for what lists many packages as JSON or plain lines: 100,000 packages take some 40 MiB.
	Large = 64 << 20
	// YAML and TOML take ten times their size while they are read, and time. The largest known are of 6 and 3 MiB.
	maxYAML = 12 << 20
	maxTOML = 6 << 20
)

// Base is the last part of a slash-separated path. Unlike path.Base it has no special cases and never allocates.
func Base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// Dir is the path without its last part, "" where it has only one.
func Dir(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }

// Sized reports whether a file is a regular one with content and not larger than limit bytes. Wants functions use it
// for files that are one of many; of lists, which each may hold a whole application, a larger one must be an error.
func Sized(f *image.File, limit int64) bool {
	return f.Kind == image.Regular && f.Size > 0 && f.Size <= limit
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// Bytes returns the content without a byte order mark; a file of more than limit bytes is an error.
func Bytes(f *image.File, limit int64) ([]byte, error) {
	b, err := f.Bytes(limit)
	if err != nil {
		return nil, err
	}
	return bytes.TrimPrefix(b, byteOrderMark), nil
}

// Head returns at most limit bytes of the start of the content.
func Head(f *image.File, limit int64) ([]byte, error) {
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(limit, f.Size))
	n, err := io.ReadFull(r, b)
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil // a shorter file than it said is judged by what it has
	}
	return bytes.TrimPrefix(b[:n], byteOrderMark), err
}

// JSON decodes a file of at most [Large] bytes. Of duplicate keys the last counts and invalid UTF-8 becomes U+FFFD, as
// in the package managers themselves.
func JSON(f *image.File, into any) error { return decode(f, Large, "JSON", into, json.Unmarshal) }

// YAML decodes a file of at most 12 MiB without aliases.
func YAML(f *image.File, into any) error { return decode(f, maxYAML, "YAML", into, unmarshalYAML) }

// TOML decodes a file of at most 6 MiB, in which keys and inline tables are not deep.
func TOML(f *image.File, into any) error { return decode(f, maxTOML, "TOML", into, unmarshalTOML) }

func decode(f *image.File, limit int64, format string, into any, unmarshal func([]byte, any) error) error {
	b, err := Bytes(f, limit)
	if err != nil {
		return err
	}
	if err := unmarshal(b, into); err != nil {
		return fmt.Errorf("read as %s: %w", format, readable(err))
	}
	return nil
}

// readable takes the names of Go types out of an error.
func readable(err error) error {
	var wrongJSON *json.UnmarshalTypeError
	if errors.As(err, &wrongJSON) {
		return fmt.Errorf("byte %d: %q is not for a %s", wrongJSON.Offset, wrongJSON.Field, wrongJSON.Value)
	}
	var wrongYAML *yaml.TypeError
	if errors.As(err, &wrongYAML) && len(wrongYAML.Errors) > 0 {
		line, _, _ := strings.Cut(wrongYAML.Errors[0], ": ")
		return fmt.Errorf("%s: not what such a file has there", line)
	}
	return err
}
