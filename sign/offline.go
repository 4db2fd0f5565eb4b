package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"bulkhead/image"
)

// files are bundles that were carried in.
type files struct{ bundles []Bundle }

// OpenFiles reads bundles from files, for images that are named by their digest.
func OpenFiles(names []string) (Source, error) {
	f := &files{}
	if len(names) > maxBundles {
		return nil, fmt.Errorf("%d bundles, the limit is %d", len(names), maxBundles)
	}
	for _, name := range names {
		raw, err := readBounded(name, maxBundle)
		if err != nil {
			return nil, fmt.Errorf("read a bundle: %w", err)
		}
		f.bundles = append(f.bundles, Bundle{filepath.Base(name), raw})
	}
	return f, nil
}

func (f *files) Resolve(_ context.Context, reference string) (string, []string, error) {
	name, err := image.ParseName(reference)
	if err == nil && name.Digest == "" {
		err = errNoDigest
	}
	return name.Digest, nil, err
}

func (f *files) Evidence(_ context.Context, _ string, want Wanted) (Evidence, error) {
	return Evidence{Types: want.Types, Bundles: f.bundles, Seen: len(f.bundles)}, nil
}

// cached is a cache in the place of registries: what it does not have is not there.
type cached struct{ *Cache }

// Source is what was kept, however old, for a machine that may ask nobody.
func (c *Cache) Source() Source { return cached{c} }

func (c cached) Resolve(_ context.Context, reference string) (string, []string, error) {
	name, err := image.ParseName(reference)
	if err != nil || name.Digest != "" {
		return name.Digest, nil, err
	}
	digest, at, ok := c.loadTag(name.String(), time.Now())
	if !ok {
		return "", nil, fmt.Errorf("the cache has no answer of the last day for %s; %w", reference, errNoDigest)
	}
	return digest, []string{fmt.Sprintf("%s was this digest at %s", reference, at.UTC().Format(time.RFC3339))}, nil
}

func (c cached) Evidence(_ context.Context, pinned string, want Wanted) (Evidence, error) {
	e, _, ok := c.load(want.Digest, want.Types)
	if !ok {
		return Evidence{}, fmt.Errorf("the cache has nothing of %s: verify it once with the registry at hand, or give --bundle or --layout", pinned)
	}
	return e, nil
}

// layout is an OCI layout in a directory, with an image and what is attached to it. Links in it may not lead outside.
type layout struct {
	root  *os.Root
	index v1.IndexManifest
}

// The limits of a layout.
const (
	maxIndex    = 16 << 20
	maxManifest = 4 << 20  // what the OCI distribution specification asks registries to take
	maxLoose    = 64 << 10 // of a blob that might be an attachment's manifest, where the index does not name it
)

// OpenLayout opens an OCI layout: what `cosign save`, `oras copy --recursive` and others write.
func OpenLayout(dir string) (Source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the OCI layout: %w", err)
	}
	l := &layout{root: root}
	raw, err := l.read("index.json", maxIndex)
	if err == nil {
		err = json.Unmarshal(raw, &l.index)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the OCI layout %s: %w", dir, err), root.Close())
	}
	return l, nil
}

func (l *layout) read(name string, limit int64) ([]byte, error) {
	f, err := l.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", name))
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes, which are not read", name, limit)
	}
	return raw, err
}

// blob reads a blob and proves it.
func (l *layout) blob(digest string, limit int64) ([]byte, error) {
	hex, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(hex) != 64 || strings.ContainsAny(hex, "./") {
		return nil, fmt.Errorf("%.80q is no digest of a blob", digest)
	}
	raw, err := l.read("blobs/sha256/"+hex, limit)
	if err == nil && digestOf(raw) != digest {
		return nil, &image.MismatchError{What: "digest", Want: digest, Got: digestOf(raw)}
	}
	return raw, err
}

// Annotations by which layouts name their images.
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

// Resolve finds the image that a reference names: by digest, by name, or as the only one.
func (l *layout) Resolve(_ context.Context, reference string) (string, []string, error) {
	name, err := image.ParseName(reference)
	if err != nil || name.Digest != "" {
		return name.Digest, nil, err
	}
	var images []v1.Descriptor
	for _, d := range l.index.Manifests {
		if named(d, name) {
			return d.Digest.String(), nil, nil
		}
		if !attachedTo(d) {
			images = append(images, d)
		}
	}
	if len(images) == 1 {
		note := fmt.Sprintf("the layout's only image is taken for %s", reference)
		return images[0].Digest.String(), []string{note}, nil
	}
	return "", nil, fmt.Errorf("the layout has %d images and none is called %s; %w", len(images), reference, errNoDigest)
}

func named(d v1.Descriptor, name image.Name) bool {
	for _, text := range []string{d.Annotations[annotationName], d.Annotations[annotationRef]} {
		if text == name.String() || text != "" && repositoryOf(text) == name.Repository && strings.HasSuffix(text, ":"+name.Tag) {
			return true
		}
	}
	return false
}

// attachedTo reports whether an entry of the index says that it is no image of its own.
func attachedTo(d v1.Descriptor) bool {
	return isBundleType(d.ArtifactType) || d.Annotations[annotationPredicate] != "" || strings.HasPrefix(d.Annotations[annotationRef], "sha256-")
}

// Evidence looks through the index, through the list under the digest's tag, and where both have nothing through all small
// blobs: some tools write what is attached and do not list it.
func (l *layout) Evidence(ctx context.Context, _ string, want Wanted) (Evidence, error) {
	found := Evidence{Types: want.Types}
	for _, digest := range l.candidates(want.Digest) {
		if err := ctx.Err(); err != nil {
			return found, err
		}
		if len(found.Bundles) >= maxBundles {
			found.More = true
			break
		}
		l.take(&found, digest, want)
	}
	return found, nil
}

func (l *layout) candidates(subject string) []string {
	var all []string
	for _, d := range l.index.Manifests {
		if d.Annotations[annotationRef] == strings.Replace(subject, ":", "-", 1) {
			all = append(all, l.listed(d.Digest.String())...)
			continue
		}
		if attachedTo(d) {
			all = append(all, d.Digest.String())
		}
	}
	if len(all) == 0 {
		all = l.loose()
	}
	slices.Sort(all)
	return slices.Compact(all[:min(len(all), maxReferrers)])
}

// listed is what the list under a digest's tag names.
func (l *layout) listed(digest string) (all []string) {
	raw, err := l.blob(digest, maxManifest)
	var index v1.IndexManifest
	if err != nil || json.Unmarshal(raw, &index) != nil {
		return nil
	}
	for _, d := range index.Manifests {
		all = append(all, d.Digest.String())
	}
	return all
}

// loose are all small blobs.
func (l *layout) loose() (all []string) {
	entries, err := fs.ReadDir(l.root.FS(), "blobs/sha256")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() && info.Size() <= maxLoose && len(all) < maxReferrers {
			all = append(all, "sha256:"+e.Name())
		}
	}
	return all
}

// take adds the bundle that a manifest names, when it is one about this image.
func (l *layout) take(found *Evidence, digest string, want Wanted) {
	raw, err := l.blob(digest, maxManifest)
	if err != nil {
		return
	}
	layer, kind, err := bundleLayer(raw, want.Digest)
	if err != nil || !want.has(kind) {
		return
	}
	found.Seen++
	if raw, err = l.blob(layer, maxBundle); err != nil {
		found.Notes = append(found.Notes, fmt.Sprintf("attachment %s was not looked at: %s", short(digest), brief(err)))
		return
	}
	found.Bundles = append(found.Bundles, Bundle{digest, raw})
}
