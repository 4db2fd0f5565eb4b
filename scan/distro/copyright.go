package distro

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

const (
	docs = "usr/share/doc/"
	// The largest copyright file of Debian (chromium's, rustc's) has some 3 MB; more than this is not worth its time.
	maxCopyright = 4 << 20
)

func isCopyright(p string) bool {
	if !strings.HasPrefix(p, docs) || path.Base(p) != "copyright" {
		return false
	}
	return strings.Count(p, "/") == strings.Count(docs, "/")+1
}

// lookCopyright tells the licences of a package as a package without a version: [Complete] gives them to the real one.
func lookCopyright(f *image.File) (look.Facts, error) {
	if f.Size > maxCopyright {
		return look.Facts{}, nil
	}
	return whole(f, maxCopyright, func(b []byte) (look.Facts, error) {
		found := copyrightLicences(b)
		if len(found) == 0 {
			return look.Facts{}, nil
		}
		name := path.Base(path.Dir(f.Path))
		return look.Facts{Packages: []bulkhead.Package{{Name: name, Type: typeDeb, Licenses: found}}}, nil
	})
}

var commonLicence = regexp.MustCompile(`/usr/share/common-licenses/([A-Za-z][A-Za-z0-9.+-]*)`)

// copyrightLicences reads the licences of a copyright file: of the machine-readable format its fields, else the
// common licences that the text refers to. The names are Debian's.
func copyrightLicences(b []byte) []string {
	var found []string
	if bytes.Contains(firstBytes(b, 1024), []byte("/copyright-format/")) {
		lines(b, func(line []byte) {
			if value, ok := bytes.CutPrefix(line, []byte("License:")); ok {
				found = append(found, string(bytes.TrimSpace(value)))
			}
		})
	} else {
		for _, m := range commonLicence.FindAllSubmatch(b, -1) {
			found = append(found, string(bytes.TrimRight(m[1], ".-+")))
		}
	}
	return tidy(found)
}

func firstBytes(b []byte, n int) []byte { return b[:min(n, len(b))] }

// tidy returns the licences sorted, each once. A word of more than a line's length is none.
func tidy(found []string) []string {
	found = slices.DeleteFunc(found, func(s string) bool { return s == "" || len(s) > 120 })
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return slices.Compact(found)
}
