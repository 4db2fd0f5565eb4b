package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// form is one way to write a target.
type form struct {
	prefix string
	open   func(ctx context.Context, target, rest string, opt Options) (*Image, error)
}

// forms are the targets that say what they are. All others are recognised by their content, see [Open].
var forms = []form{
	{"docker:", openDocker},
	{"containerd:", openContainerd},
	{"container:", openContainer},
	{"registry:", openRegistry},
	{"docker-archive:", openNamedArchive},
	{"oci-archive:", openNamedArchive},
	{"oci:", func(ctx context.Context, target, rest string, opt Options) (*Image, error) {
		dir, reference := cutReference(rest)
		return openLayoutDir(ctx, target, dir, reference, opt)
	}},
	{"dir:", func(_ context.Context, target, rest string, opt Options) (*Image, error) {
		return openDir(target, rest, opt)
	}},
	{"sbom:", func(_ context.Context, _, rest string, _ Options) (*Image, error) {
		return nil, &SBOMError{Path: rest}
	}},
}

// Open opens a target. What it is follows from how it is written:
//
//	nginx:1.27                 an image: in Docker's store, else in containerd's, else in its registry
//	docker:REF containerd:REF registry:REF      the same, there and nowhere else
//	container:NAME             a container of an engine: its image's layers, and what it wrote as the last one
//	FILE                       docker save (also compressed), an OCI layout in a tar, or the tar of a root file system
//	docker-archive:FILE[:REF] oci-archive:FILE[:REF]    one of several images in it
//	oci:DIR[:REF]              an OCI layout
//	dir:DIR                    a directory as it is; dir:/ is this host
//	sbom:FILE                  no image: a [*SBOMError]
//
// A path without a prefix is looked at: "./x" and "/x" are always one, "x" when there is an archive of that name.
// "docker:27" and "registry:2" are the images of those names.
//
// The layers' DiffIDs and the configuration are known before any layer is read. The image must be closed.
func Open(ctx context.Context, target string, opt Options) (*Image, error) {
	opt = opt.withDefaults()
	if _, err := opt.platform(); err != nil {
		return nil, err
	}
	for _, f := range forms {
		if rest, ok := strings.CutPrefix(target, f.prefix); ok && rest != "" && !namesakeTag(f.prefix, rest) {
			return f.open(ctx, target, rest, opt)
		}
	}
	i, err := openPath(ctx, target, opt)
	if err != errNoPath {
		return i, err
	}
	return openAnywhere(ctx, target, opt)
}

// namesakes are prefixes that are also the names of well-known images, with the tags of those that are words.
var namesakes = map[string][]string{
	"docker:":   {"latest", "dind", "cli", "git", "rc", "stable", "edge"},
	"registry:": {"latest"},
}

// namesakeTag reports whether "docker:27-dind" or "registry:2" means the image of that name.
func namesakeTag(prefix, rest string) bool {
	tags, ok := namesakes[prefix]
	if !ok || strings.ContainsAny(rest, "/:@") {
		return false
	}
	for _, tag := range tags {
		if rest == tag || strings.HasPrefix(rest, tag+"-") {
			return true
		}
	}
	version := rest[0] >= '0' && rest[0] <= '9'
	return version && len(rest) < 12 // twelve and more are an image's id
}

var errNoPath = errors.New("the target is no path")

// openPath opens a file or a directory; errNoPath says that the target is none.
func openPath(ctx context.Context, target string, opt Options) (*Image, error) {
	written := filepath.IsAbs(target) || target == "." || target == ".." || strings.HasSuffix(target, "/") || strings.HasPrefix(target, "./") || strings.HasPrefix(target, "../")
	info, err := os.Stat(target)
	switch {
	case err != nil && written:
		return nil, fmt.Errorf("open %s: %w", target, errors.Unwrap(err))
	case err != nil:
		return nil, errNoPath
	case info.IsDir() && written:
		return openDirectory(ctx, target, opt)
	case !info.Mode().IsRegular():
		return nil, errNoPath
	}
	return openFile(ctx, target, written, opt)
}

// openDirectory opens a layout where there is one, else the directory as it is.
func openDirectory(ctx context.Context, dir string, opt Options) (*Image, error) {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err == nil {
		return openLayoutDir(ctx, dir, dir, "", opt)
	}
	return openDir(dir, dir, opt)
}

// openFile opens a file by its content. One that is no archive may be a file beside which an image has the same name.
func openFile(ctx context.Context, name string, written bool, opt Options) (*Image, error) {
	kind, err := sniff(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", name, reasonError(err))
	case kind == contentSBOM:
		return nil, &SBOMError{Path: name}
	case kind == contentArchive:
		return openArchiveFile(ctx, name, name, "", opt)
	case written || strings.HasSuffix(name, ".tar"):
		return nil, fmt.Errorf("open %s: it is neither an archive of an image (tar, also with gzip or zstd) nor a package list", name)
	}
	return nil, errNoPath
}

type contentKind int

const (
	contentOther contentKind = iota
	contentArchive
	contentSBOM
)

// sniffed is how much of a file is looked at to tell what it is: package lists say it at their beginning.
const sniffed = 64 << 10

func sniff(name string) (contentKind, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, sniffed))
	if err != nil {
		return 0, err
	}
	return kindOfContent(head), nil
}

var (
	archiveMagic = [][]byte{magicGzip, magicZstd, magicXZ, magicBzip2}
	sbomMarks    = [][]byte{
		[]byte(`"bomFormat"`), []byte(`"spdxVersion"`), []byte("cyclonedx.org/schema/bom"), []byte("SPDXVersion:"),
		[]byte("spdx.org/rdf/"), []byte(`"spdxId"`),
	}
)

func kindOfContent(head []byte) contentKind {
	for _, magic := range archiveMagic {
		if bytes.HasPrefix(head, magic) {
			return contentArchive
		}
	}
	if len(head) >= 263 && string(head[257:262]) == "ustar" {
		return contentArchive
	}
	for _, mark := range sbomMarks {
		if bytes.Contains(head, mark) {
			return contentSBOM
		}
	}
	return contentOther
}

func openNamedArchive(ctx context.Context, target, rest string, opt Options) (*Image, error) {
	name, reference := cutReference(rest)
	return openArchiveFile(ctx, target, name, reference, opt)
}

// cutReference cuts "file.tar:nginx:1.27" after the longest path that exists.
func cutReference(rest string) (path, reference string) {
	for end := len(rest); end > 0; end = strings.LastIndexByte(rest[:end], ':') {
		if _, err := os.Stat(rest[:end]); err == nil {
			return rest[:end], strings.TrimPrefix(rest[end:], ":")
		}
	}
	path, reference, _ = strings.Cut(rest, ":")
	return path, reference
}

// openAnywhere looks for an image where Docker's users expect it: on this machine first.
func openAnywhere(ctx context.Context, target string, opt Options) (*Image, error) {
	if _, err := parseReference(target); err != nil {
		return nil, err
	}
	var tried []error
	for _, place := range []form{
		{"docker", openDocker}, {"containerd", openContainerd}, {"registry", openRegistry},
	} {
		i, err := place.open(ctx, target, target, opt)
		if err == nil {
			return i, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open %s: %w", target, ctx.Err())
		}
		tried = append(tried, said(place.prefix, err)...)
	}
	return nil, &NotFoundError{Target: target, Tried: tried}
}

// said are the words of one place about why it has no image.
func said(place string, err error) []error {
	var none *NotFoundError
	if errors.As(err, &none) {
		return none.Tried
	}
	return []error{fmt.Errorf("%s: %w", place, err)}
}

func reasonError(err error) error { return errors.New(reason(err)) }
