// Package java finds Java libraries: in jars and what is nested in them, however deep, and in the lists that Maven and
// Gradle keep beside sources. Start with [Installed] and [Declared].
//
// It promises to read no class: of a jar it reads the list of entries, the manifest and the properties that Maven puts
// in. Depth, number, bytes and unpacked bytes are limited over all that is nested in one file, and what was left out is
// told. It is not for archives of other kinds: those are opened in scan/archive.
package java

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"bulkhead"
	"bulkhead/image"
	"bulkhead/scan/language/manifest"
	"bulkhead/scan/language/unzip"
	"bulkhead/scan/look"
)

// Installed returns the analyzer of jars.
func Installed() []look.Analyzer {
	return []look.Analyzer{{Name: "java", Version: 1, Kind: look.Packages, Wants: wantsJar, Look: lookAtJar}}
}

// The limits of one jar with all that is nested in it.
const (
	maxDepth    = 6         // a jar in a war in an ear in a distribution has 3
	maxArchives = 20_000    // opened; the largest application servers bring 2,000 jars
	maxUnpacked = 2 << 30   // bytes; nested jars are mostly stored as they are and cost nothing
	maxRead     = 4 << 30   // bytes: lists of entries can be one inside another, and each archive can lie about where they are
	maxMemory   = 8 << 20   // bytes of an unpacked jar that are held in memory; larger ones go into a temporary file
	maxManifest = 1 << 20   // bytes; OSGi manifests reach 200 KiB
	maxPackages = 1_000_000 // as long as nothing is nested, some 200 bytes of a jar make a package
)

func wantsJar(f *image.File) bool {
	return f.Kind == image.Regular && f.Size >= unzip.MinSize && archive(f.Path)
}

// archive tells by name what is a jar, whatever its purpose: web and enterprise applications, plug-ins of Jenkins,
// Liferay, Karaf, NetBeans, Android libraries.
func archive(path string) bool {
	dot := strings.LastIndexByte(path, '.')
	if dot < 0 || len(path)-dot > 5 {
		return false
	}
	switch path[dot+1:] {
	case "jar", "war", "ear", "par", "sar", "jpi", "hpi", "kar", "lpkg", "nbm", "aar", "JAR", "WAR", "EAR":
		return true
	}
	return false
}

func lookAtJar(ctx context.Context, f *image.File) (look.Facts, error) {
	r, err := f.ReaderAt()
	if err != nil {
		return look.Facts{}, err
	}
	return Read(ctx, f.Path, r, f.Size)
}

// Read returns the libraries in the jar at path: itself, those that were copied into it, and those of the jars that it
// holds. Paths are empty for the jar itself and "PATH!WEB-INF/lib/x.jar" for what is inside it.
func Read(ctx context.Context, path string, r io.ReaderAt, size int64) (look.Facts, error) {
	w := &walk{ctx: ctx, path: path, found: manifest.NewList("maven"), unpacked: maxUnpacked, left: maxRead, archives: maxArchives}
	if err := w.jar(manifest.Base(path), path, reader{w, r}, size, 0); err != nil {
		return look.Facts{}, err
	}
	facts := w.found.Facts()
	facts.Incomplete = w.incomplete
	return facts, nil
}

// walk goes through one file and all that is nested in it.
type walk struct {
	ctx        context.Context
	path       string // of the outermost file
	found      *manifest.List
	incomplete []bulkhead.Omission
	unpacked   int64 // bytes that may still be unpacked
	left       int64 // bytes that may still be read
	archives   int   // that may still be opened
}

// reader counts what is read, and ends when the scan does.
type reader struct {
	w *walk
	r io.ReaderAt
}

func (r reader) ReadAt(p []byte, at int64) (int, error) {
	if err := r.w.ctx.Err(); err != nil {
		return 0, err
	}
	if r.w.left < 0 {
		return 0, errRead
	}
	n, err := r.r.ReadAt(p, at)
	r.w.left -= int64(n)
	return n, err
}

var errRead = fmt.Errorf("more than %d GiB to read in one file; its lists of entries overlap", maxRead>>30)

// omit notes what was left out; at most as many as anybody reads.
func (w *walk) omit(path string, why error) {
	if path == w.path {
		path = ""
	}
	if len(w.incomplete) < 100 {
		w.incomplete = append(w.incomplete, bulkhead.Omission{Path: path, Message: "read the jar: " + why.Error()})
	}
}

// add adds a library; the path of the file itself is for the caller to fill in.
func (w *walk) add(c coordinates, path string) {
	if path == w.path {
		path = ""
	}
	w.found.Add(manifest.Item{Name: c.name(), Version: c.version, Path: path})
}

// jar reads one archive.
func (w *walk) jar(name, path string, r io.ReaderAt, size int64, depth int) error {
	if w.archives--; w.archives < 0 {
		return fmt.Errorf("more than %d jars in one file", maxArchives)
	}
	z, err := unzip.Open(r, size, interesting)
	if err != nil {
		return err
	}
	if w.found.Len() > maxPackages {
		return fmt.Errorf("more than %d packages in one file", maxPackages)
	}
	w.describe(z, name, path)
	for _, e := range z.Entries {
		if !archive(e.Name) {
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		inner := path + "!" + clean(e.Name)
		if err := w.nested(z, e, inner, depth+1); err != nil {
			w.omit(inner, err)
		}
	}
	return nil
}

var (
	metaInf     = []byte("META-INF/")
	jarManifest = []byte("META-INF/MANIFEST.MF")
	properties  = []byte("/pom.properties")
	model       = []byte("/pom.xml")
)

// interesting is the filter of the list of entries: manifests, Maven's properties and models, nested archives.
func interesting(name []byte) bool {
	if bytes.HasPrefix(name, metaInf) && (bytes.HasSuffix(name, properties) || bytes.HasSuffix(name, model) || bytes.Equal(name, jarManifest)) {
		return true
	}
	if n := len(name); n < 5 || n > 4096 || name[n-1] == 's' { // ".class", and never allocate for it
		return false
	}
	return archive(string(name))
}

// clean makes the name of an entry harmless: it is only shown.
func clean(name string) string { return strings.ToValidUTF8(strings.TrimLeft(name, "/"), "\uFFFD") }

// nested opens an archive inside an archive: in place where it is stored as it is, else unpacked.
func (w *walk) nested(z *unzip.File, e unzip.Entry, path string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested more than %d deep", maxDepth)
	}
	name := manifest.Base(e.Name)
	if e.Method == unzip.Stored {
		s, err := z.Section(e)
		if err != nil {
			return err
		}
		return w.jar(name, path, s, s.Size(), depth)
	}
	r, size, done, err := w.unpack(z, e)
	if err != nil {
		return err
	}
	defer done()
	return w.jar(name, path, reader{w, r}, size, depth)
}

// unpack unpacks an entry into memory, or into a temporary file that done removes.
func (w *walk) unpack(z *unzip.File, e unzip.Entry) (r io.ReaderAt, size int64, done func(), err error) {
	packed, err := z.Open(e)
	if err != nil {
		return nil, 0, nil, err
	}
	limited := &io.LimitedReader{R: packed, N: w.unpacked + 1}
	defer func() { w.unpacked = limited.N - 1 }()
	var b bytes.Buffer
	n, err := io.CopyN(&b, limited, maxMemory)
	if err == io.EOF {
		return bytes.NewReader(b.Bytes()), n, func() {}, nil
	}
	if err != nil {
		return nil, 0, nil, fmt.Errorf("unpack: %w", err)
	}
	return spool(io.MultiReader(&b, limited), limited)
}

func spool(r io.Reader, limited *io.LimitedReader) (io.ReaderAt, int64, func(), error) {
	f, err := os.CreateTemp("", "bulkhead-jar-*")
	if err != nil {
		return nil, 0, nil, fmt.Errorf("unpack: %w", err)
	}
	os.Remove(f.Name()) // it goes with the descriptor, also when the program is killed
	n, err := io.Copy(f, r)
	if err == nil && limited.N <= 0 {
		err = fmt.Errorf("more than %d GiB in all when unpacked", maxUnpacked>>30)
	}
	if err != nil {
		f.Close()
		return nil, 0, nil, fmt.Errorf("unpack: %w", err)
	}
	return f, n, func() { f.Close() }, nil
}
