package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	gcr "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Attachment is a document that is attached to an image: one layer, with the image as its subject.
type Attachment struct {
	Type        string // media type of the document, and type of the artifact
	Document    []byte
	Annotations map[string]string
}

// attachAttempts is how often the list under a tag is written again when somebody else wrote it meanwhile.
const attachAttempts = 6

// Attach writes an attachment beside the image that subject is, and returns its digest. It is written to the registry
// itself, never to a mirror. Where the registry keeps no list of referrers, the list under the tag is kept, and read
// again: two who attach at once would else lose one.
func (r *Repository) Attach(ctx context.Context, subject Manifest, a Attachment) (string, error) {
	own := r.at[len(r.at)-1]
	repository, user, err := own.authenticator(ctx)
	if err != nil {
		return "", err
	}
	options := []gcr.Option{gcr.WithContext(ctx), gcr.WithAuth(user), gcr.WithTransport(own.writer())}
	manifest, err := manifestOf(subject, a)
	if err != nil {
		return "", err
	}
	for _, layer := range []v1.Layer{static.NewLayer([]byte("{}"), emptyConfig), static.NewLayer(a.Document, types.MediaType(a.Type))} {
		if err := gcr.WriteLayer(repository, layer, options...); err != nil {
			return "", fmt.Errorf("write what is attached: %w", advice(err))
		}
	}
	return manifest.digest(), r.put(ctx, repository, subject.Digest, manifest, options)
}

// writer is the way to the registry for what is written: without the retries of a reader, which no write may have.
func (e endpoint) writer() http.RoundTripper {
	return &guard{inner: &patient{inner: e.plan.base, stall: e.plan.opt.Stall, attempts: 1}, plain: e.allowed()}
}

func (r *Repository) put(ctx context.Context, repository name.Repository, subject string, m attached, options []gcr.Option) error {
	for attempt := range attachAttempts {
		if err := gcr.Put(repository.Digest(m.digest()), m, options...); err != nil {
			return fmt.Errorf("write what is attached: %w", advice(err))
		}
		listed, err := r.listed(ctx, subject, m.digest())
		if err != nil || listed {
			return err
		}
		select { // another moment for each attempt, so that two do not meet again
		case <-time.After(time.Duration(attempt+1) * time.Duration(50+m.raw[len(m.raw)/2]) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the registry does not list what was attached: another program writes the same list; try again")
}

// maxListed is how many referrers are looked through for the one just written.
const maxListed = 100_000

func (r *Repository) listed(ctx context.Context, subject, digest string) (bool, error) {
	remote, err := r.connect(ctx, len(r.at)-1)
	if err != nil {
		return false, err
	}
	all, _, err := remote.referrers(ctx, subject, "", maxListed)
	return slices.ContainsFunc(all, func(one Referrer) bool { return one.Digest == digest }), err
}

// attached is the manifest of an attachment.
type attached struct{ raw []byte }

func (a attached) RawManifest() ([]byte, error)        { return a.raw, nil }
func (a attached) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (a attached) digest() string                      { return digestOf(a.raw) }

func manifestOf(subject Manifest, a Attachment) (attached, error) {
	hash, err := v1.NewHash(subject.Digest)
	if err != nil {
		return attached{}, err
	}
	descriptor := func(kind string, b []byte) v1.Descriptor {
		digest, _ := v1.NewHash(digestOf(b))
		return v1.Descriptor{MediaType: types.MediaType(kind), Digest: digest, Size: int64(len(b))}
	}
	raw, err := json.Marshal(struct {
		v1.Manifest
		ArtifactType string `json:"artifactType"`
	}{v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: descriptor(emptyConfig, []byte("{}")), Layers: []v1.Descriptor{descriptor(a.Type, a.Document)},
		Subject:     &v1.Descriptor{MediaType: types.MediaType(subject.MediaType), Digest: hash, Size: int64(len(subject.Raw))},
		Annotations: a.Annotations,
	}, a.Type})
	return attached{raw}, err
}
