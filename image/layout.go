package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// layout is an OCI layout in a directory. Links in it may not lead outside: os.Root sees to that.
type layout struct{ root *os.Root }

func (l layout) manifest(ctx context.Context, digest string) (io.ReadCloser, error) {
	return l.blob(ctx, digest)
}

func (l layout) blob(_ context.Context, digest string) (io.ReadCloser, error) {
	return l.open(blobPath(digest))
}

func (l layout) open(name string) (io.ReadCloser, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (l layout) read(name string, limit int64) ([]byte, error) {
	r, err := l.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s has more than %d bytes, which are not read", name, limit)
	}
	return b, err
}

// library is a store with an index of what is in it: a layout in a directory or in an archive.
type library interface {
	store
	read(name string, limit int64) ([]byte, error)
}

func openLayoutDir(ctx context.Context, target, dir, reference string, opt Options) (*Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the OCI layout: %w", err)
	}
	i := &Image{Target: target, From: "oci", close: []func() error{root.Close}}
	if err := openLayout(ctx, i, layout{root}, reference, opt); err != nil {
		i.Close()
		return nil, fmt.Errorf("open the OCI layout %s: %w", dir, err)
	}
	return i, nil
}

// openLayout opens the image with that reference, or the only one, of a library.
func openLayout(ctx context.Context, i *Image, l library, reference string, opt Options) error {
	raw, err := l.read("index.json", maxDocument)
	if err != nil {
		return fmt.Errorf("it has no index of what is in it: %w", err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("index.json: %w", err)
	}
	chosen, err := opt.chooseEntry(index.Manifests, reference)
	if err != nil {
		return err
	}
	d, err := readDocument(ctx, l, chosen)
	if err != nil {
		return err
	}
	i.Name = entryName(chosen)
	if err := (&opener{store: l, opt: opt, image: i}).open(ctx, d); err != nil {
		return err
	}
	i.attribute(base{})
	return nil
}

// Annotations by which layouts name their images: OCI's, which may be a bare tag, and the one of containerd and Docker.
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

func entryName(d v1.Descriptor) string {
	if name := d.Annotations[annotationName]; name != "" {
		return name
	}
	return d.Annotations[annotationRef]
}

// chooseEntry finds the entry of a layout's index. Several without a reference are one image when they differ in
// their platforms alone.
func (o Options) chooseEntry(all []v1.Descriptor, reference string) (v1.Descriptor, error) {
	var names []string
	var found []v1.Descriptor
	different := map[string]bool{}
	for _, d := range all {
		if !isImage(d) {
			continue
		}
		if reference == "" || d.Digest.String() == reference || named([]string{d.Annotations[annotationName], d.Annotations[annotationRef]}, reference) {
			found = append(found, d)
			different[entryName(d)] = true
		}
		names = append(names, entryName(d))
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 || len(different) > 1:
		return v1.Descriptor{}, severalError(len(names), names, reference)
	}
	return o.chooseFrom(found)
}
