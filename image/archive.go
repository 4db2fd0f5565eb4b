package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

const (
	// maxMembers bounds the files of an archive of images: docker save writes some four for each layer.
	maxMembers = 100_000
	// maxDocument bounds manifest.json and index.json of an archive of many images.
	maxDocument = 16 << 20
	// maxLinks is how often a member may point to another: old docker save does so once.
	maxLinks = 8
)

// archive is a tar on disk, indexed once; its members are read where they are.
type archive struct {
	file    *os.File
	members map[string]member
}

type member struct {
	offset, size int64
	link         string // another member that it stands for
}

// openArchive indexes the archive at name. One that is compressed is first unpacked into a temporary file: its members
// could not be read in any order otherwise.
func openArchive(name string, opt Options) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	plain, err := unpacked(f, opt)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	a := &archive{file: plain, members: map[string]member{}}
	if err := a.index(); err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return a, nil
}

// unpacked returns f, or a temporary file with what is compressed in it.
func unpacked(f *os.File, opt Options) (*os.File, error) {
	head := make([]byte, len(magicXZ))
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch head = head[:n]; {
	case bytes.HasPrefix(head, magicGzip), bytes.HasPrefix(head, magicZstd):
		return unpack(f, opt)
	case bytes.HasPrefix(head, magicXZ), bytes.HasPrefix(head, magicBzip2):
		return nil, errors.New("it is compressed with xz or bzip2: unpack it first, or use gzip or zstd")
	}
	return f, nil
}

func unpack(f *os.File, opt Options) (*os.File, error) {
	spool, err := spoolFile(opt.Temp)
	if err != nil {
		return nil, fmt.Errorf("unpack it into a temporary file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	s := stored{size: info.Size(), opt: opt, open: func(context.Context) (io.ReadCloser, error) { return f, nil }}
	// A whole archive holds several layers: each of them may have the limit, and is held to it when it is read.
	s.opt.Limits.LayerBytes *= 4
	p, err := s.start(context.Background())
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	defer p.stop()
	if _, err := io.Copy(spool, p.files); err != nil {
		return nil, errors.Join(fmt.Errorf("unpack it into a temporary file: %w", broken(err)), spool.Close())
	}
	return spool, nil
}

// index notes where each member is. Names are only looked up, never opened: any is harmless.
func (a *archive) index() error {
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	file := io.NewSectionReader(a.file, 0, info.Size())
	t := tar.NewReader(file) // passes over contents by Seek
	for range maxMembers {
		header, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return broken(err)
		}
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		a.add(header, offset, info.Size())
	}
	if a.kind() == archiveFiles {
		return nil // more files than this are of no interest: it is walked from its start
	}
	return fmt.Errorf("it has more than %d files: no archive of images has so many", maxMembers)
}

func (a *archive) add(header *tar.Header, offset, end int64) {
	name, ok := inside(header.Name)
	switch {
	case !ok:
	case header.Typeflag == tar.TypeReg && !sparse(header) && header.Size <= end-offset:
		a.members[name] = member{offset: offset, size: header.Size}
	case header.Typeflag == tar.TypeSymlink:
		a.members[name] = member{link: path.Join(path.Dir(name), header.Linkname)}
	case header.Typeflag == tar.TypeLink:
		a.members[name] = member{link: path.Clean(header.Linkname)}
	}
}

// sparse files are not stored as they are read. No tool writes images so.
func sparse(header *tar.Header) bool {
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// archiveKind is what an archive holds.
type archiveKind int

const (
	archiveFiles  archiveKind = iota // a root file system, as docker export writes it
	archiveDocker                    // images as docker save writes them
	archiveOCI                       // an OCI layout, which current docker save writes as well
)

func (a *archive) kind() archiveKind {
	has := func(name string) bool { _, err := a.find(name); return err == nil }
	switch {
	case has("oci-layout") && has("index.json"):
		return archiveOCI
	case has("manifest.json"):
		return archiveDocker
	}
	return archiveFiles
}

// find returns a regular member, and follows links to it.
func (a *archive) find(name string) (member, error) {
	for range maxLinks {
		m, ok := a.members[name]
		if !ok {
			return member{}, fmt.Errorf("%q: %w", name, errAbsent)
		}
		if m.link == "" {
			return m, nil
		}
		name = m.link
	}
	return member{}, fmt.Errorf("%q leads from link to link", name)
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
}

func (a *archive) read(name string, limit int64) ([]byte, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	if m.size > limit {
		return nil, fmt.Errorf("%s has %d bytes: more than %d are not read", name, m.size, limit)
	}
	b := make([]byte, m.size)
	_, err = a.file.ReadAt(b, m.offset)
	return b, err
}

// An archive of an OCI layout is a store.
func (a *archive) manifest(_ context.Context, digest string) (io.ReadCloser, error) {
	return a.open(blobPath(digest))
}

func (a *archive) blob(_ context.Context, digest string) (io.ReadCloser, error) {
	return a.open(blobPath(digest))
}

// blobPath is where an OCI layout keeps what has the digest.
func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

// openArchiveFile opens an archive of images, or of a root file system. The reference chooses among several images.
func openArchiveFile(ctx context.Context, target, name, reference string, opt Options) (_ *Image, err error) {
	a, err := openArchive(name, opt)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	i := &Image{Target: target, close: []func() error{a.file.Close}}
	defer func() {
		if err != nil {
			i.Close()
		}
	}()
	switch a.kind() {
	case archiveOCI:
		i.From = "oci-archive"
		err = openLayout(ctx, i, a, reference, opt)
	case archiveDocker:
		i.From = "docker-archive"
		err = a.docker(i, reference, opt)
	default:
		i.From = "tar"
		err = a.files(i, opt)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return i, nil
}

// files takes the archive as it is for the one layer of an image that has no configuration.
func (a *archive) files(i *Image, opt Options) error {
	if len(a.members) == 0 {
		return errors.New("it is no image: neither an archive with files, nor a package list")
	}
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	i.add(opt, stored{size: info.Size(), at: a.file, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(a.file, 0, info.Size())), nil
	}})
	return nil
}

// dockerItem is one image in the manifest.json of docker save.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func (a *archive) docker(i *Image, reference string, opt Options) error {
	raw, err := a.read("manifest.json", maxDocument)
	if err != nil {
		return err
	}
	var items []dockerItem
	if err := json.Unmarshal(raw, &items); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	item, err := chooseItem(items, reference)
	if err != nil {
		return err
	}
	return a.item(i, item, opt)
}

func chooseItem(items []dockerItem, reference string) (dockerItem, error) {
	var names []string
	for _, item := range items {
		if reference != "" && named(item.RepoTags, reference) {
			return item, nil
		}
		names = append(names, item.RepoTags...)
	}
	if reference == "" && len(items) == 1 {
		return items[0], nil
	}
	return dockerItem{}, severalError(len(items), names, reference)
}

// named reports whether one of the names is the reference, written short or long.
func named(names []string, reference string) bool {
	want, err := parseReference(reference)
	if err != nil {
		return false
	}
	for _, n := range names {
		if have, err := parseReference(n); n == reference || err == nil && have.Name() == want.Name() {
			return true
		}
	}
	return false
}

func severalError(count int, names []string, reference string) error {
	list := "without names"
	if len(names) > 0 {
		list = strings.Join(names[:min(len(names), 20)], ", ")
	}
	if reference != "" {
		return fmt.Errorf("it has no image %q; it has %d: %s", reference, count, list)
	}
	return fmt.Errorf("it has %d images (%s): say which one, as docker-archive:FILE:NAME, oci-archive:FILE:NAME or oci:DIR:NAME", count, list)
}

func (a *archive) item(i *Image, item dockerItem, opt Options) error {
	config, _ := inside(item.Config)
	raw, err := a.read(config, maxConfig)
	if err != nil {
		return fmt.Errorf("the image's configuration: %w", err)
	}
	i.ID = digestOf(raw)
	// The configuration is named after its digest, by all tools that write such archives.
	if want := "sha256:" + strings.TrimSuffix(path.Base(config), ".json"); isDigest(want) && want != i.ID {
		return fmt.Errorf("the image's configuration: %w", &MismatchError{"digest", want, i.ID})
	}
	c, err := parseConfig(raw)
	if err != nil {
		return err
	}
	if len(c.RootFS.DiffIDs) != len(item.Layers) {
		return fmt.Errorf("manifest.json names %d layers and the configuration %d: the image contradicts itself", len(item.Layers), len(c.RootFS.DiffIDs))
	}
	i.Config = c.config()
	if len(item.RepoTags) > 0 {
		i.Name = item.RepoTags[0]
	}
	for n, layer := range item.Layers {
		if err := a.layer(i, c.RootFS.DiffIDs[n], layer, opt); err != nil {
			return err
		}
	}
	i.attribute(base{})
	return (&opener{opt: opt, image: i}).samePlatform(c)
}

func (a *archive) layer(i *Image, diffID, name string, opt Options) error {
	name, _ = inside(name)
	m, err := a.find(name)
	if err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	section := io.NewSectionReader(a.file, m.offset, m.size)
	i.add(opt, stored{diffID: diffID, size: m.size, at: section, source: func() string { return sourceOf(a.file, m.offset, m.size) }, open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(a.file, m.offset, m.size)), nil
	}})
	return nil
}
