package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Registries is how registries are spoken to, for whoever asks them often: connections are kept.
type Registries struct{ plan *plan }

// NewRegistries prepares it; no registry is asked.
func NewRegistries(opt Options) (*Registries, error) {
	p, err := newPlan(opt.withDefaults())
	if err != nil {
		return nil, err
	}
	return &Registries{p}, nil
}

// Repository is one repository of a registry, and of the mirrors that stand for it: manifests, and what refers to them
// (signatures, attestations). Whatever it answers is proved to have the digest it was asked for.
type Repository struct {
	Name      Name
	reference name.Reference
	at        []endpoint

	mutex sync.Mutex
	open  map[int]*remote // by the number of the endpoint
}

// Repository reads a reference as Docker does; no registry is asked.
func (r *Registries) Repository(reference string) (*Repository, error) {
	parsed, err := parseReference(reference)
	if err != nil {
		return nil, err
	}
	n, err := ParseName(reference)
	if err != nil {
		return nil, err
	}
	return &Repository{Name: n, reference: parsed, at: r.plan.endpoints(parsed), open: map[int]*remote{}}, nil
}

// Manifest is a manifest or an index, as it is in the registry.
type Manifest struct {
	Digest    string
	MediaType string
	Raw       []byte
}

// Referrer is what somebody attached to an image. Everything but the digest is only what the registry says of it.
type Referrer struct {
	Digest       string
	ArtifactType string
	Size         int64
	Annotations  map[string]string
}

// Resolve asks which manifest the reference's tag names now, or reads the one that its digest names.
func (r *Repository) Resolve(ctx context.Context) (Manifest, error) {
	return r.Manifest(ctx, r.reference.Identifier())
}

// Manifest reads a manifest by tag or digest.
func (r *Repository) Manifest(ctx context.Context, identifier string) (m Manifest, err error) {
	err = r.each(ctx, func(remote *remote) error {
		d, err := remote.resolve(ctx, identifier)
		m = Manifest{d.digest, string(d.mediaType), d.raw}
		return err
	})
	return m, err
}

// Blob reads a blob of at most limit bytes.
func (r *Repository) Blob(ctx context.Context, digest string, limit int64) (raw []byte, err error) {
	hash, err := v1.NewHash(digest)
	if err != nil {
		return nil, err
	}
	err = r.each(ctx, func(remote *remote) error {
		body, err := remote.blob(ctx, digest)
		if err != nil {
			return err
		}
		defer body.Close()
		raw, err = readProved(body, v1.Descriptor{Digest: hash}, limit)
		return err
	})
	return raw, err
}

// Referrers lists what refers to the image of that digest, at most limit; more says that there is more. A registry
// without the API of OCI 1.1 keeps the list under a tag of the digest's name.
func (r *Repository) Referrers(ctx context.Context, digest, artifactType string, limit int) (all []Referrer, more bool, err error) {
	err = r.each(ctx, func(remote *remote) error {
		all, more, err = remote.referrers(ctx, digest, artifactType, limit)
		if err == nil && len(all) == 0 {
			return errAbsent // a mirror may not have what was attached; the registry itself may
		}
		return err
	})
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return all, more, err
}

// each asks one place after the other until one has an answer. The registry itself is the last, and its word is told.
func (r *Repository) each(ctx context.Context, ask func(*remote) error) error {
	var tried []error
	for i := range r.at {
		remote, err := r.connect(ctx, i)
		if err == nil {
			err = ask(remote)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", r.at[i].host, ctx.Err())
		}
		tried = append(tried, fmt.Errorf("%s: %w", r.at[i].host, advice(err)))
	}
	return errors.Join(tried...)
}

func (r *Repository) connect(ctx context.Context, i int) (*remote, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.open[i] != nil {
		return r.open[i], nil
	}
	remote, err := r.at[i].connect(ctx)
	if err == nil {
		r.open[i] = remote
	}
	return remote, err
}

// Outage reports whether a registry did not answer, rather than that it has not what was asked for or refuses to say.
func Outage(err error) bool {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode >= 500 || answer.StatusCode == http.StatusTooManyRequests
	}
	var mismatch *MismatchError
	return err != nil && !errors.As(err, &mismatch) && !errors.Is(err, errAbsent)
}

// maxReferrerPages bounds the pages of a list, each of at most [maxManifest]: a registry could go on for ever.
const maxReferrerPages = 64

// referrers asks page by page.
func (r *remote) referrers(ctx context.Context, digest, artifactType string, limit int) (all []Referrer, more bool, err error) {
	next := r.url("referrers", digest)
	if artifactType != "" {
		next += "?" + url.Values{"artifactType": {artifactType}}.Encode()
	}
	for range maxReferrerPages {
		page, link, err := r.referrerPage(ctx, next)
		if err != nil {
			return nil, false, err
		}
		if page == nil {
			page, err = r.referrersTag(ctx, digest)
			link = ""
		}
		if err != nil {
			return nil, false, err
		}
		all = append(all, fitting(page, artifactType)...)
		if len(all) > limit {
			return all[:limit], true, nil
		}
		if link == "" {
			return all, false, nil
		}
		if next, err = r.beside(next, link); err != nil {
			return nil, false, err
		}
	}
	return all, true, nil
}

// fitting leaves out what has another type: a registry need not filter, and some say the type only in the manifest.
func fitting(page []Referrer, artifactType string) []Referrer {
	fit := page[:0]
	for _, p := range page {
		if artifactType == "" || p.ArtifactType == artifactType || p.ArtifactType == "" || p.ArtifactType == emptyConfig || p.ArtifactType == imageConfig {
			fit = append(fit, p)
		}
	}
	return fit
}

// What a registry names as the type of an artifact that has none of its own: its configuration's.
const (
	emptyConfig = "application/vnd.oci.empty.v1+json"
	imageConfig = "application/vnd.oci.image.config.v1+json"
)

// referrerPage reads one page; nil says that the registry does not know of referrers.
func (r *remote) referrerPage(ctx context.Context, address string) (page []Referrer, link string, err error) {
	response, err := r.get(ctx, address, 0)
	var answer *transport.Error
	if errors.As(err, &answer) && (answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusBadRequest ||
		answer.StatusCode == http.StatusMethodNotAllowed || answer.StatusCode == http.StatusNotAcceptable) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("list what is attached: %w", err)
	}
	defer response.Body.Close()
	if kind, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); kind != string(types.OCIImageIndex) {
		return nil, "", nil // some answer every path with a page for people
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxManifest+1))
	if err != nil {
		return nil, "", fmt.Errorf("list what is attached: %w", err)
	}
	page, err = parseReferrers(raw)
	return page, response.Header.Get("Link"), err
}

// referrersTag reads the list that clients keep under a tag where a registry keeps none.
func (r *remote) referrersTag(ctx context.Context, digest string) ([]Referrer, error) {
	d, err := r.resolve(ctx, strings.Replace(digest, ":", "-", 1))
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return []Referrer{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list what is attached: %w", err)
	}
	return parseReferrers(d.raw)
}

func parseReferrers(raw []byte) ([]Referrer, error) {
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("the list of what is attached has more than %d bytes, which are not read", maxManifest)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("the list of what is attached: %w", err)
	}
	all := make([]Referrer, 0, len(index.Manifests))
	for _, d := range index.Manifests {
		all = append(all, Referrer{d.Digest.String(), d.ArtifactType, d.Size, d.Annotations})
	}
	return all, nil
}

// beside follows a link to the next page, on this host and in this list alone: no registry leads elsewhere.
func (r *remote) beside(from, link string) (string, error) {
	target, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
	base, err := url.Parse(from)
	if err != nil || !ok || !strings.Contains(rest, "next") {
		return "", fmt.Errorf("the next page of what is attached: %q is no link to it", link)
	}
	next, err := base.Parse(target)
	if err != nil || next.Host != base.Host || next.Path != base.Path {
		return "", fmt.Errorf("the next page of what is attached: %q leads elsewhere", link)
	}
	next.Scheme = base.Scheme
	return next.String(), nil
}

func (e endpoint) authenticator(ctx context.Context) (name.Repository, authn.Authenticator, error) {
	var options []name.Option
	if e.plain {
		options = append(options, name.Insecure)
	}
	repository, err := name.NewRepository(e.host+"/"+e.repository, append(options, name.StrictValidation)...)
	if err != nil {
		return name.Repository{}, nil, err
	}
	user, err := e.plan.credentials(ctx, repository)
	if err != nil {
		return name.Repository{}, nil, fmt.Errorf("credentials: %w", err)
	}
	return repository, user, nil
}
