package distro

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/look"
)

// maxPath is the kernel's PATH_MAX: a longer path names no file.
const maxPath = 4096

const (
	// maxRPM is the largest database that is read. One of 5,000 packages with all their files has 500 MB.
	maxRPM = 2 << 30
	// maxHeader is the largest package: those with the most files (kernel sources, TeX) have headers of some 10 MB.
	maxHeader = 64 << 20
	// maxManifest holds 100,000 lines.
	maxManifest = 32 << 20
)

// blobs reads the headers of a database, one after the other; a header is valid until the next one.
type blobs func(ctx context.Context, f *pages, visit func(header []byte)) error

// databases are the kinds that rpm has had, by the name of their file.
var databases = map[string]blobs{
	"rpmdb.sqlite": sqliteBlobs,
	"Packages.db":  ndbBlobs,
	"Packages":     bdbBlobs,
}

// journal is where SQLite keeps what is not yet in the database's file.
const journal = "rpmdb.sqlite-wal"

func wantsRPM(f *image.File) bool {
	if !regular(f) || !strings.Contains(f.Path, "/rpm") {
		return false
	}
	if strings.HasPrefix(f.Path, "var/lib/rpmmanifest/") {
		return f.Path == "var/lib/rpmmanifest/container-manifest-2"
	}
	name := path.Base(f.Path)
	return (databases[name] != nil || name == journal) && in(f, "var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
}

func lookRPM(ctx context.Context, f *image.File) (look.Facts, error) {
	name := path.Base(f.Path)
	switch {
	case name == journal:
		return look.Facts{}, fmt.Errorf("%s is not empty: the image was made while rpm was at work, and its last changes are not in the package list; run any rpm command and make the image again", f.Path)
	case databases[name] == nil:
		return whole(f, maxManifest, func(b []byte) (look.Facts, error) { return manifest(f.Path, b), nil })
	case f.Size > maxRPM:
		return look.Facts{}, &image.TooLargeError{Path: f.Path, Size: f.Size, Limit: maxRPM}
	}
	r, err := f.ReaderAt()
	if err != nil {
		return look.Facts{}, err
	}
	return rpms(ctx, f.Path, r, f.Size, databases[name])
}

// rpms reads a database. Of a damaged one the packages before the damage stand, and the damage is told.
func rpms(ctx context.Context, name string, r io.ReaderAt, size int64, read blobs) (look.Facts, error) {
	var facts look.Facts
	var bad error
	o := newOwners()
	err := read(ctx, newPages(r, size), func(blob []byte) {
		h, err := parseHeader(blob)
		if err != nil {
			bad = err
			return
		}
		p, err := h.rpm()
		if err != nil {
			bad = err
			return
		}
		facts.Packages = append(facts.Packages, p)
		o.add(p.Name, h.paths(o.left+1))
	})
	o.tell(name, &facts)
	if err == nil {
		err = bad
	}
	switch {
	case err == nil:
		return facts, nil
	case ctx.Err() != nil:
		return look.Facts{}, context.Cause(ctx)
	case len(facts.Packages) == 0:
		return look.Facts{}, fmt.Errorf("read the rpm database %s: %w", name, err)
	}
	facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{
		Path:    name,
		Message: fmt.Sprintf("read the rpm database: %v; %d packages could be read, others may be missing", err, len(facts.Packages)),
	})
	return facts, nil
}

// manifest reads the list that distroless images of CBL-Mariner and Azure Linux have in place of a database: per line
// name, version-release, install time, build time, vendor, epoch, size, architecture, epoch number, source rpm.
func manifest(name string, b []byte) look.Facts {
	var facts look.Facts
	bad := 0
	lines(b, func(line []byte) {
		if len(line) == 0 {
			return
		}
		p, ok := manifestLine(strings.Split(string(line), "\t"))
		if !ok {
			bad++
			return
		}
		facts.Packages = append(facts.Packages, p)
	})
	if bad > 0 {
		facts.Incomplete = append(facts.Incomplete, bulkhead.Omission{
			Path: name, Message: fmt.Sprintf("read the package list: %d lines are no packages and were left out", bad),
		})
	}
	return facts
}

func manifestLine(column []string) (bulkhead.Package, bool) {
	if len(column) < 10 || !word(column[0]) || !word(column[1]) {
		return bulkhead.Package{}, false
	}
	epoch := ""
	if column[8] != "0" && word(column[8]) && column[8] != "(none)" {
		epoch = column[8] + ":"
	}
	p := bulkhead.Package{Name: column[0], Version: epoch + column[1], Type: typeRPM, Arch: column[7]}
	p.Source = sourceRPM(column[9], epoch, p)
	return p, true
}
