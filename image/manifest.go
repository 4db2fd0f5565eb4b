package image

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"bulkhead"
)

const (
	maxManifest = 4 << 20  // what the OCI distribution specification asks registries to take
	maxConfig   = 16 << 20 // 500 times a usual one: some builders write long histories and labels
	maxNested   = 4        // indexes inside indexes
)

// store is where manifests, configurations and layers are kept by their digest. An answer is proved here, not there.
type store interface {
	manifest(ctx context.Context, digest string) (io.ReadCloser, error)
	blob(ctx context.Context, digest string) (io.ReadCloser, error)
}

// document is a manifest or an index, proved.
type document struct {
	mediaType types.MediaType
	digest    string
	raw       []byte
}

// opener makes an image from a store.
type opener struct {
	store store
	opt   Options
	image *Image
}

func readDocument(ctx context.Context, s store, d v1.Descriptor) (document, error) {
	r, err := s.manifest(ctx, d.Digest.String())
	if err != nil {
		return document{}, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	defer r.Close()
	raw, err := readProved(r, d, maxManifest)
	if err != nil {
		return document{}, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return document{d.MediaType, d.Digest.String(), raw}, nil
}

// readProved reads all of r, and compares it with what was promised.
func readProved(r io.Reader, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size > limit {
		return nil, fmt.Errorf("it has %d bytes: more than %d are not read", d.Size, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > limit:
		return nil, fmt.Errorf("it has more than %d bytes, which are not read", limit)
	case d.Size > 0 && d.Size != int64(len(raw)):
		return nil, &MismatchError{"size", fmt.Sprint(d.Size), fmt.Sprint(len(raw))}
	case digestOf(raw) != d.Digest.String():
		return nil, &MismatchError{"digest", d.Digest.String(), digestOf(raw)}
	}
	return raw, nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// open follows indexes to the manifest of the platform, and the manifest to the layers.
func (o *opener) open(ctx context.Context, d document) error {
	for range maxNested {
		kind, err := kindOfManifest(d)
		if err != nil {
			return err
		}
		if kind == kindImage {
			return o.manifest(ctx, d)
		}
		o.image.Index = cmp.Or(o.image.Index, d.digest)
		if d, err = o.choose(ctx, d); err != nil {
			return err
		}
	}
	return fmt.Errorf("the image's index leads to another, more than %d times", maxNested)
}

type manifestKind int

const (
	kindImage manifestKind = iota
	kindIndex
)

// kindOfManifest looks at the document itself: what a store calls it may be wrong, and layouts often say nothing.
func kindOfManifest(d document) (manifestKind, error) {
	var shape struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		FSLayers      json.RawMessage `json:"fsLayers"`
	}
	if err := json.Unmarshal(d.raw, &shape); err != nil {
		return 0, fmt.Errorf("the manifest %s: %w", d.digest, err)
	}
	switch {
	case shape.FSLayers != nil || shape.SchemaVersion == 1:
		return 0, errors.New("the image has a manifest of schema 1, which says too little to trust: push it again with a current tool")
	case shape.Manifests != nil && shape.Layers != nil:
		return 0, fmt.Errorf("%s is manifest and index in one: nobody can say what it is", d.digest) // CVE-2021-41190
	case shape.Manifests != nil:
		return kindIndex, nil
	case shape.Layers != nil:
		return kindImage, nil
	}
	return 0, fmt.Errorf("%s is neither an image's manifest nor an index (%s)", d.digest, cmp.Or(shape.MediaType, d.mediaType, "of unknown type"))
}

// choose returns the manifest of the platform that was asked for.
func (o *opener) choose(ctx context.Context, d document) (document, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(d.raw))
	if err != nil {
		return document{}, fmt.Errorf("the index %s: %w", d.digest, err)
	}
	chosen, err := o.opt.chooseFrom(index.Manifests)
	if err != nil {
		return document{}, err
	}
	return readDocument(ctx, o.store, chosen)
}

// chooseFrom returns the descriptor of the platform. Where none was asked for and there is only one image, that is it.
func (o Options) chooseFrom(all []v1.Descriptor) (v1.Descriptor, error) {
	want, err := o.platform()
	if err != nil {
		return v1.Descriptor{}, err
	}
	images := slices.DeleteFunc(slices.Clone(all), func(d v1.Descriptor) bool { return !isImage(d) })
	if o.Platform == "" && len(images) == 1 {
		return images[0], nil
	}
	best, found := 0, -1
	for n, d := range images {
		if fit := fits(want, d.Platform); fit > best {
			best, found = fit, n
		}
	}
	if found < 0 {
		return v1.Descriptor{}, fmt.Errorf("the image has nothing for %s; it has: %s", want, platforms(images))
	}
	return images[found], nil
}

// isImage is false for what builders put beside the images of an index: attestations, other indexes' artifacts.
func isImage(d v1.Descriptor) bool {
	if d.Annotations["vnd.docker.reference.type"] != "" {
		return false
	}
	known := d.MediaType == "" || d.MediaType.IsImage() || d.MediaType.IsIndex()
	return known && (d.Platform == nil || d.Platform.OS != "unknown")
}

// fits says how well a platform serves the one that is wanted, 0 for not at all. Of variants the same is best, then
// the highest that the wanted one can run; without a wish the one that has none, then the usual one of its architecture.
func fits(want v1.Platform, have *v1.Platform) int {
	switch {
	case have == nil:
		return 1 // says nothing: perhaps
	case have.OS != want.OS || have.Architecture != want.Architecture:
		return 0
	case want.OSVersion != "" && have.OSVersion != want.OSVersion:
		return 0
	case have.Variant == want.Variant:
		return 100
	case want.Variant == "":
		return 50 + usual(have)
	case have.Variant == "":
		return 2
	}
	level, wanted := variantLevel(have.Variant), variantLevel(want.Variant)
	if level > wanted {
		return 0
	}
	return 2 + level
}

func usual(have *v1.Platform) int {
	if have.Variant == map[string]string{"arm": "v7", "arm64": "v8", "amd64": "v1"}[have.Architecture] {
		return 10
	}
	return -variantLevel(have.Variant)
}

// variantLevel is the 7 of "v7".
func variantLevel(variant string) (level int) {
	fmt.Sscanf(variant, "v%d", &level)
	return min(max(level, 0), 40)
}

func platforms(all []v1.Descriptor) string {
	var names []string
	for _, d := range all {
		if d.Platform != nil {
			names = append(names, d.Platform.String())
		}
	}
	return cmp.Or(strings.Join(names, ", "), "nothing that says for what")
}

// manifest takes the layers and the configuration of one image.
func (o *opener) manifest(ctx context.Context, d document) error {
	m, err := v1.ParseManifest(bytes.NewReader(d.raw))
	if err != nil {
		return fmt.Errorf("the manifest %s: %w", d.digest, err)
	}
	if t := m.Config.MediaType; t != "" && t != types.OCIConfigJSON && t != types.DockerConfigJSON {
		return fmt.Errorf("%s is an artifact of type %s, not an image that runs", d.digest, t)
	}
	o.image.Digest = d.digest
	raw, err := o.readConfig(ctx, m.Config)
	if err != nil {
		return fmt.Errorf("the configuration %s: %w", m.Config.Digest, err)
	}
	c, err := parseConfig(raw)
	if err != nil {
		return err
	}
	o.image.ID, o.image.Config = m.Config.Digest.String(), c.config()
	if err := o.samePlatform(c); err != nil {
		return err
	}
	return o.layers(m, c)
}

func (o *opener) readConfig(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	r, err := o.store.blob(ctx, d.Digest.String())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return readProved(r, d, maxConfig)
}

// samePlatform refuses an image that is for another platform than one that was asked for by name.
func (o *opener) samePlatform(c *configFile) error {
	if o.opt.Platform == "" {
		return nil
	}
	want, err := o.opt.platform()
	if err != nil {
		return err
	}
	have := v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	if fits(want, &have) == 0 {
		return fmt.Errorf("the image is for %s, not for %s", have, want)
	}
	return nil
}

func (o *opener) layers(m *v1.Manifest, c *configFile) error {
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return fmt.Errorf("the manifest %s names %d layers and its configuration %d: the image contradicts itself",
			o.image.Digest, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for n, d := range m.Layers {
		if strings.Contains(string(d.MediaType), "+encrypted") {
			return fmt.Errorf("layer %s is encrypted: decrypt the image first", d.Digest)
		}
		if d.Size < 0 {
			return fmt.Errorf("layer %s has %d bytes, as the manifest says: that cannot be", d.Digest, d.Size)
		}
		digest := d.Digest.String()
		o.image.add(o.opt, stored{
			diffID: c.RootFS.DiffIDs[n], digest: digest, size: d.Size,
			open: func(ctx context.Context) (io.ReadCloser, error) { return o.store.blob(ctx, digest) },
		})
	}
	return nil
}

// add puts a stored layer on top.
func (i *Image) add(opt Options, s stored) {
	s.opt, s.skip = opt, i.skip
	i.Layers = append(i.Layers, Layer{
		LayerInfo: bulkhead.LayerInfo{DiffID: s.diffID, Digest: s.digest},
		Size:      s.size, Unproved: opt.Unproved && s.plain(), walk: s.walk, Source: s.source,
	})
}
