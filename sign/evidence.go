package sign

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead/image"
)

// BundleType is the media type of a sigstore bundle, and the type of the artifact that has it for its one layer.
const BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Annotations of an attachment. Whoever can write to the registry can write them, so they only help to find.
const (
	annotationPredicate = "dev.sigstore.bundle.predicateType"
	annotationContent   = "dev.sigstore.bundle.content"
	annotationCreated   = "org.opencontainers.image.created"
)

// The limits of what is looked at for one image. Whoever can push to a repository can attach as much as he likes.
const (
	maxReferrers = 10_000   // in the list
	maxBundles   = 256      // fetched
	maxBundle    = 24 << 20 // bytes: the list of packages of a large image has 10 MiB
	maxTotal     = 48 << 20 // of all together
	fetchers     = 8        // at once
)

// Source is where an image's attachments are.
type Source interface {
	// Resolve says which digest a reference names, and what should be known of that answer.
	Resolve(ctx context.Context, reference string) (digest string, notes []string, err error)
	// Evidence fetches what is attached to the image that is named by its digest.
	Evidence(ctx context.Context, pinned string, want Wanted) (Evidence, error)
}

// Wanted is what is looked for.
type Wanted struct {
	Digest string
	Types  []string // of predicates, sorted
	Kept   bool     // something is at hand already, so that nobody need wait long
}

func (w Wanted) has(kind string) bool { return kind == "" || slices.Contains(w.Types, kind) }

// Evidence is what was found, nothing of it proved.
type Evidence struct {
	Types   []string `json:"types"` // that were looked for
	Bundles []Bundle `json:"bundles"`
	Seen    int      `json:"seen"` // attachments that might have been bundles
	More    bool     `json:"more"` // there are more than were looked at
	Notes   []string `json:"notes"`
}

// Bundle is one sigstore bundle, as bytes.
type Bundle struct {
	Digest string `json:"digest"` // of its manifest, or of the file
	Raw    []byte `json:"raw"`
}

// remote is registries, with a cache for when they are away.
type remote struct {
	registries *image.Registries
	cache      *Cache
	now        func() time.Time
	patience   time.Duration // how long to wait for an answer that could be done without

	mutex sync.Mutex
	away  map[string]time.Time // registries that did not answer, and until when they are not asked in vain
}

// awayFor is how long a registry that did not answer is not asked again by those who can do without.
const awayFor = 5 * time.Second

// errAway says that a registry did not answer a moment ago.
var errAway = errors.New("it did not answer a moment ago")

// ask asks a registry. Whoever has something at hand waits for a moment only, and not at all where somebody did in vain.
func (r *remote) ask(ctx context.Context, registry string, kept bool, question func(context.Context) error) error {
	if !kept {
		return question(ctx)
	}
	r.mutex.Lock()
	away := r.now().Before(r.away[registry])
	r.mutex.Unlock()
	if away {
		return errAway
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	err := question(ctx)
	if err != nil && image.Outage(err) {
		r.mutex.Lock()
		r.away[registry] = r.now().Add(awayFor)
		r.mutex.Unlock()
	}
	return err
}

// Resolve asks for a tag once. A registry that is away is stood in for by its last answer: the image is verified all the
// same, so what that can do is run an older image that was trusted.
func (r *remote) Resolve(ctx context.Context, reference string) (string, []string, error) {
	repository, err := r.registries.Repository(reference)
	if err != nil {
		return "", nil, err
	}
	name := repository.Name
	if name.Digest != "" {
		return name.Digest, nil, nil
	}
	kept, at, ok := r.cache.loadTag(name.String(), r.now())
	var now image.Manifest
	err = r.ask(ctx, name.Registry, ok, func(ctx context.Context) (err error) {
		now, err = repository.Resolve(ctx)
		return err
	})
	if err == nil {
		r.cache.storeTag(name.String(), now.Digest, r.now())
		return now.Digest, nil, nil
	}
	if !ok || !image.Outage(err) {
		return "", nil, err
	}
	note := fmt.Sprintf("the registry does not answer: %s was this digest at %s (%s)", reference, at.UTC().Format(time.RFC3339), brief(err))
	return kept, []string{note}, nil
}

// Evidence fetches the bundles of the wanted types.
func (r *remote) Evidence(ctx context.Context, pinned string, want Wanted) (Evidence, error) {
	repository, err := r.registries.Repository(pinned)
	if err != nil {
		return Evidence{}, err
	}
	found := Evidence{}
	err = r.ask(ctx, repository.Name.Registry, want.Kept, func(ctx context.Context) (err error) {
		found, err = gather(ctx, repository, want)
		return err
	})
	return found, err
}

func gather(ctx context.Context, repository *image.Repository, want Wanted) (Evidence, error) {
	all, more, err := repository.Referrers(ctx, want.Digest, BundleType, maxReferrers)
	if err != nil {
		return Evidence{}, err
	}
	found := Evidence{Types: want.Types, Seen: len(all), More: more}
	all = choose(all, want)
	if len(all) > maxBundles {
		all, found.More = all[:maxBundles], true
	}
	f := &fetch{repository: repository, want: want, bundles: make([]*Bundle, len(all)), notes: make([]string, len(all))}
	if err := f.all(ctx, all); err != nil {
		return Evidence{}, err
	}
	found.take(f)
	return found, nil
}

// choose leaves out what says of itself that it is something else, and takes the newest first, so that a limit leaves out
// what is old. Both are only what the registry says.
func choose(all []image.Referrer, want Wanted) []image.Referrer {
	all = slices.DeleteFunc(all, func(one image.Referrer) bool { return !want.has(one.Annotations[annotationPredicate]) })
	slices.SortStableFunc(all, func(a, b image.Referrer) int {
		return cmp.Compare(b.Annotations[annotationCreated], a.Annotations[annotationCreated])
	})
	return all
}

// fetch reads several attachments at once.
type fetch struct {
	repository *image.Repository
	want       Wanted
	bundles    []*Bundle
	notes      []string
	total      atomic.Int64
	over       atomic.Bool // there was more than is read
}

// all reads them. One that cannot be read is noted: it may be somebody's rubbish. A registry that stops answering is an error.
func (f *fetch) all(ctx context.Context, list []image.Referrer) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(fetchers)
	for i, one := range list {
		group.Go(func() error {
			b, err := f.one(ctx, one)
			if err != nil && (ctx.Err() != nil || image.Outage(err) && !errors.Is(err, errOdd)) {
				return fmt.Errorf("read attachment %s: %w", one.Digest, err)
			}
			if err != nil {
				f.notes[i] = fmt.Sprintf("attachment %s was not looked at: %s", short(one.Digest), brief(err))
			}
			f.bundles[i] = b
			return nil
		})
	}
	return group.Wait()
}

// errOdd says that an attachment is not made as one should be.
var errOdd = errors.New("it is no bundle")

// one reads one attachment: its manifest, and the bundle that this names. Nil without an error is one of another type.
func (f *fetch) one(ctx context.Context, r image.Referrer) (*Bundle, error) {
	m, err := f.repository.Manifest(ctx, r.Digest)
	if err != nil {
		return nil, err
	}
	layer, kind, err := bundleLayer(m.Raw, f.want.Digest)
	if err != nil || !f.want.has(kind) {
		return nil, err
	}
	if f.total.Load() >= maxTotal {
		f.over.Store(true)
		return nil, nil
	}
	raw, err := f.repository.Blob(ctx, layer, maxBundle)
	if err != nil {
		return nil, err
	}
	f.total.Add(int64(len(raw)))
	return &Bundle{r.Digest, raw}, nil
}

// bundleLayer reads the manifest of an attachment: which blob is the bundle, and of what type it says it is.
func bundleLayer(raw []byte, subject string) (layer, kind string, err error) {
	var m struct {
		ArtifactType string
		Config       struct{ MediaType string }
		Layers       []struct {
			MediaType, Digest string
			Size              int64
		}
		Manifests   json.RawMessage
		Subject     *struct{ Digest string }
		Annotations map[string]string
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", "", fmt.Errorf("%w: %w", errOdd, err)
	}
	switch {
	case m.Manifests != nil:
		return "", "", fmt.Errorf("%w: it is manifest and index in one", errOdd)
	case m.Subject == nil || m.Subject.Digest != subject:
		return "", "", fmt.Errorf("%w: it is attached to another image, whatever the list says", errOdd)
	case len(m.Layers) != 1:
		return "", "", fmt.Errorf("%w: it has %d layers", errOdd, len(m.Layers))
	case !isBundleType(m.Layers[0].MediaType):
		return "", "", fmt.Errorf("%w: its layer is of type %.100q", errOdd, m.Layers[0].MediaType)
	case m.Layers[0].Size > maxBundle:
		return "", "", fmt.Errorf("%w: it has %d bytes, more than %d are not read", errOdd, m.Layers[0].Size, maxBundle)
	}
	return m.Layers[0].Digest, m.Annotations[annotationPredicate], nil
}

// isBundleType knows every version of the format; which of them is good is for the bundle itself to say.
func isBundleType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.dev.sigstore.bundle")
}

// take keeps what was fetched.
func (e *Evidence) take(f *fetch) {
	e.More = e.More || f.over.Load()
	for i, b := range f.bundles {
		if f.notes[i] != "" && len(e.Notes) < maxNotes {
			e.Notes = append(e.Notes, f.notes[i])
		}
		if b != nil {
			e.Bundles = append(e.Bundles, *b)
		}
	}
}

// maxNotes is how many attachments that are rubbish are told of.
const maxNotes = 5

// short is a digest as people compare it.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }
