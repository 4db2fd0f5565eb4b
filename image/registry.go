package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	dockerHub     = "docker.io"
	dockerHubHost = name.DefaultRegistry // where Docker Hub answers
)

// accepted are the kinds of manifests that can be read. A registry that has none of them says so.
var accepted = strings.Join([]string{
	string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
}, ", ")

// parseReference reads "nginx", "nginx:1.27", "registry.example:5000/team/app@sha256:…" as Docker does.
func parseReference(target string) (name.Reference, error) {
	reference, err := name.ParseReference(target, name.WeakValidation)
	if err != nil {
		return nil, fmt.Errorf("%q is neither a file nor a reference to an image: %w", target, err)
	}
	return reference, nil
}

// familiar is the full name of an image, as engines call it: "docker.io/library/nginx:1.27".
func familiar(r name.Reference) string { return familiarName(r.Name()) }

func familiarName(full string) string {
	if rest, ok := strings.CutPrefix(full, dockerHubHost+"/"); ok {
		return dockerHub + "/" + rest
	}
	return full
}

// openRegistry opens an image from its registry, or from the first mirror that has it.
func openRegistry(ctx context.Context, target, rest string, opt Options) (*Image, error) {
	reference, err := parseReference(rest)
	if err != nil {
		return nil, err
	}
	plan, err := newPlan(opt)
	if err != nil {
		return nil, err
	}
	var tried []error
	for _, e := range plan.endpoints(reference) {
		i, err := e.open(ctx, target, reference)
		if err == nil {
			return i, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, fmt.Errorf("%s: %w", e.host, advice(err)))
	}
	return nil, &NotFoundError{Target: target, Tried: tried}
}

// advice adds the next step to what a registry says.
func advice(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return err
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w; sign in with docker login, or check the name", err)
	case http.StatusNotFound:
		return fmt.Errorf("%w; check the name and the tag", err)
	}
	return err
}

// plan is how registries are spoken to.
type plan struct {
	opt  Options
	base http.RoundTripper
}

func newPlan(opt Options) (*plan, error) {
	roots, err := trusted(opt.CAs)
	if err != nil {
		return nil, err
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	base.DialContext = (&net.Dialer{Timeout: min(opt.Stall, 10*time.Second), KeepAlive: 30 * time.Second}).DialContext
	base.TLSHandshakeTimeout = opt.Stall
	base.ResponseHeaderTimeout = opt.Stall
	base.MaxResponseHeaderBytes = 256 << 10 // of a signed redirect to a cloud's store, some ten
	base.DisableCompression = true          // digests are of what was stored
	return &plan{opt: opt, base: base}, nil
}

// trusted is the system's certificates and those in files; nil is the system's alone.
func trusted(files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	for _, file := range files {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the certificate to trust: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", file)
		}
	}
	return roots, nil
}

// endpoint is one host that may have the image.
type endpoint struct {
	plan       *plan
	host       string // with port
	repository string
	plain      bool // plain HTTP is allowed
}

// endpoints are the mirrors of a reference's registry, and then itself.
func (p *plan) endpoints(r name.Reference) []endpoint {
	host, repository := r.Context().RegistryStr(), r.Context().RepositoryStr()
	var all []endpoint
	for _, mirror := range p.mirrors(host) {
		scheme, rest, ok := strings.Cut(mirror, "://")
		if !ok {
			scheme, rest = "https", mirror
		}
		at, prefix, _ := strings.Cut(strings.TrimSuffix(rest, "/"), "/")
		plain := scheme == "http" || slices.Contains(p.opt.PlainHTTP, at)
		all = append(all, endpoint{plan: p, host: at, repository: path.Join(prefix, repository), plain: plain})
	}
	return append(all, endpoint{plan: p, host: host, repository: repository, plain: slices.Contains(p.opt.PlainHTTP, host)})
}

func (p *plan) mirrors(host string) []string {
	if p.opt.Authorization != "" {
		return nil
	}
	if host == dockerHubHost {
		return slices.Concat(p.opt.Mirrors[dockerHub], p.opt.Mirrors[dockerHubHost])
	}
	return p.opt.Mirrors[host]
}

func (e endpoint) open(ctx context.Context, target string, r name.Reference) (*Image, error) {
	remote, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	d, err := remote.resolve(ctx, r.Identifier())
	if err != nil {
		return nil, err
	}
	i := &Image{Target: target, Name: familiar(r), From: "registry"}
	o := &opener{store: remote, opt: e.plan.opt, image: i}
	if err := o.open(ctx, d); err != nil {
		return nil, err
	}
	i.attribute(remote.base(ctx, i))
	i.close = append(i.close, func() error { remote.client.CloseIdleConnections(); return nil })
	return i, nil
}

// remote is one repository of a registry, signed in to. It is a store.
type remote struct {
	endpoint
	client *http.Client
}

func (e endpoint) connect(ctx context.Context) (*remote, error) {
	repository, user, err := e.authenticator(ctx)
	if err != nil {
		return nil, err
	}
	guarded := &guard{inner: &patient{inner: e.plan.base, stall: e.plan.opt.Stall, attempts: attempts}, plain: e.allowed()}
	// The library's own retries are not wanted: patient does them, and knows what a registry asks for.
	signed, err := transport.NewWithContext(ctx, repository.Registry, user, guarded, []string{repository.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &remote{endpoint: e, client: &http.Client{Transport: signed}}, nil
}

// allowed are the hosts that may be spoken to without TLS.
func (e endpoint) allowed() []string {
	if e.plain {
		return append([]string{e.host}, e.plan.opt.PlainHTTP...)
	}
	return e.plan.opt.PlainHTTP
}

// helperWait bounds how long a credential helper may take: some ask a person, none may hang a pipeline.
const helperWait = 30 * time.Second

func (p *plan) credentials(ctx context.Context, r name.Repository) (authn.Authenticator, error) {
	if p.opt.Authorization != "" {
		return authorization(p.opt.Authorization)
	}
	if p.opt.Credentials != nil {
		user, password, err := p.opt.Credentials(ctx, r.RegistryStr())
		if err != nil || user == "" && password == "" {
			return authn.Anonymous, err
		}
		return &authn.Basic{Username: user, Password: password}, nil
	}
	type answer struct {
		authn.Authenticator
		error
	}
	answers := make(chan answer, 1)
	go func() { // a helper is a program that takes no context
		found, err := authn.DefaultKeychain.Resolve(r)
		answers <- answer{found, err}
	}()
	select {
	case a := <-answers:
		return a.Authenticator, a.error
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(helperWait):
		return nil, fmt.Errorf("the credential helper did not answer for %s", helperWait)
	}
}

// url has TLS; the transport takes it away where the registry was found to have none.
func (r *remote) url(kind, identifier string) string {
	u := url.URL{Scheme: "https", Host: r.host, Path: "/v2/" + r.repository + "/" + kind + "/" + identifier}
	return u.String()
}

// resolve finds out which manifest a tag names, or proves the one that a digest names.
func (r *remote) resolve(ctx context.Context, identifier string) (document, error) {
	response, err := r.get(ctx, r.url("manifests", identifier), 0)
	if err != nil {
		return document{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxManifest+1))
	if err != nil {
		return document{}, fmt.Errorf("read the manifest: %w", err)
	}
	if len(raw) > maxManifest {
		return document{}, fmt.Errorf("the manifest has more than %d bytes, which are not read", maxManifest)
	}
	digest := digestOf(raw)
	for _, want := range []string{identifier, response.Header.Get("Docker-Content-Digest")} {
		if isDigest(want) && want != digest {
			return document{}, fmt.Errorf("read the manifest: %w", &MismatchError{"digest", want, digest})
		}
	}
	return document{types.MediaType(response.Header.Get("Content-Type")), digest, raw}, nil
}

func (r *remote) manifest(ctx context.Context, digest string) (io.ReadCloser, error) {
	response, err := r.get(ctx, r.url("manifests", digest), 0)
	if err != nil {
		return nil, err
	}
	return response.Body, nil
}

func (r *remote) blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	response, err := r.get(ctx, r.url("blobs", digest), 0)
	if err != nil {
		return nil, err
	}
	again := func(from int64) (io.ReadCloser, error) {
		next, err := r.get(ctx, r.url("blobs", digest), from)
		if err != nil {
			return nil, err
		}
		return next.Body, nil
	}
	return &resumed{body: response.Body, again: again, left: attempts}, nil
}

// get asks for something, from an offset on. The caller closes the body.
func (r *remote) get(ctx context.Context, address string, from int64) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accepted)
	want := http.StatusOK
	if from > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		want = http.StatusPartialContent
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(response, want); err != nil {
		response.Body.Close()
		return nil, err
	}
	return response, nil
}

// Annotations and labels that name the base image.
const (
	labelBaseDigest = "org.opencontainers.image.base.digest"
	labelBaseName   = "org.opencontainers.image.base.name"
)

// base asks for the layers of the base image that the labels name. Only this registry is asked: a label must not
// make anybody call another host. An answer that does not come is no error.
func (r *remote) base(ctx context.Context, i *Image) base {
	digest := i.Config.Labels[labelBaseDigest]
	other, err := parseReference(i.Config.Labels[labelBaseName])
	if err != nil || !isDigest(digest) || other.Context().RegistryStr() != r.host {
		return base{}
	}
	e := r.endpoint
	e.repository = other.Context().RepositoryStr()
	near, err := e.connect(ctx)
	if err != nil {
		return base{}
	}
	d, err := near.resolve(ctx, digest)
	if err != nil {
		return base{}
	}
	platform := v1.Platform{OS: i.Config.OS, Architecture: i.Config.Architecture}
	opt := r.plan.opt
	opt.Platform = platform.String()
	below := &Image{}
	if err := (&opener{store: near, opt: opt, image: below}).open(ctx, d); err != nil {
		return base{}
	}
	return base{diffIDs: below.diffIDs()}
}

func (i *Image) diffIDs() []string {
	ids := make([]string, 0, len(i.Layers))
	for _, l := range i.Layers {
		ids = append(ids, l.DiffID)
	}
	return ids
}
