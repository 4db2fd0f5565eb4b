package image

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Name is a reference to an image, taken apart.
type Name struct {
	Registry   string // "docker.io", "registry.example:5000"
	Repository string // with the registry: "docker.io/library/nginx"
	Tag        string // empty when only a digest was given
	Digest     string // empty when none was given
}

// ParseName reads "nginx", "registry.example/app:v1", "app:v1@sha256:…" as Docker does.
func ParseName(reference string) (Name, error) {
	r, err := parseReference(reference)
	if err != nil {
		return Name{}, err
	}
	n := Name{Repository: familiarName(r.Context().Name()), Registry: r.Context().RegistryStr()}
	if n.Registry == dockerHubHost {
		n.Registry = dockerHub
	}
	switch r := r.(type) {
	case name.Digest:
		n.Digest = r.DigestStr()
		if tag, err := name.NewTag(r.Context().Name()+tagOf(reference), name.StrictValidation); err == nil {
			n.Tag = tag.TagStr()
		}
	case name.Tag:
		n.Tag = r.TagStr()
	}
	return n, nil
}

// tagOf is the tag that a digest makes superfluous, with its colon: ":1" of "app:1@sha256:…".
func tagOf(reference string) string {
	before, _, _ := strings.Cut(reference, "@")
	if i := strings.LastIndexByte(before, ':'); i > strings.LastIndexByte(before, '/') {
		return before[i:]
	}
	return ""
}

// String writes it in full: a tag where there is one, else the digest.
func (n Name) String() string {
	if n.Tag != "" {
		return n.Repository + ":" + n.Tag
	}
	return n.Repository + "@" + n.Digest
}

// Pinned writes it with its digest where that is known, so that it cannot come to be another image.
func (n Name) Pinned() string {
	if n.Digest != "" {
		return n.Repository + "@" + n.Digest
	}
	return n.String()
}

// maxTagPage bounds one page of tags, in bytes: a thousand tags of at most 128.
const maxTagPage = 1 << 20

// Tags lists the tags of a repository in the order of its registry, at most limit.
func Tags(ctx context.Context, repository string, limit int, opt Options) ([]string, error) {
	opt = opt.withDefaults()
	reference, err := parseReference(repository)
	if err != nil {
		return nil, err
	}
	plan, err := newPlan(opt)
	if err != nil {
		return nil, err
	}
	var tried []error
	for _, e := range plan.endpoints(reference) {
		tags, err := e.tags(ctx, limit)
		if err == nil {
			return tags, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, fmt.Errorf("%s: %w", e.host, advice(err)))
	}
	return nil, &NotFoundError{Target: repository, Tried: tried}
}

// tags asks page by page. The next page is asked by the last tag of this one, so that no registry leads elsewhere.
func (e endpoint) tags(ctx context.Context, limit int) (all []string, err error) {
	r, err := e.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer r.client.CloseIdleConnections()
	last := ""
	for {
		page, more, err := r.tagPage(ctx, last)
		if err != nil {
			return nil, fmt.Errorf("list tags: %w", err)
		}
		all = append(all, page...)
		if len(all) >= limit {
			return all[:limit], nil
		}
		if !more || len(page) == 0 || page[len(page)-1] == last {
			return all, nil
		}
		last = page[len(page)-1]
	}
}

func (r *remote) tagPage(ctx context.Context, last string) (tags []string, more bool, err error) {
	query := url.Values{"n": {"1000"}}
	if last != "" {
		query.Set("last", last)
	}
	response, err := r.get(ctx, r.url("tags", "list")+"?"+query.Encode(), 0)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxTagPage))
	if err != nil {
		return nil, false, err
	}
	var answer struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, false, fmt.Errorf("read the list of tags: %w", err)
	}
	valid := func(tag string) bool {
		_, err := name.NewTag("registry.invalid/x:"+tag, name.StrictValidation)
		return err == nil
	}
	tags = slices.DeleteFunc(answer.Tags, func(tag string) bool { return !valid(tag) })
	return tags, response.Header.Get("Link") != "", nil
}

// authorization reads the header of somebody who asks for the scan.
func authorization(header string) (authn.Authenticator, error) {
	scheme, value, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return authn.FromConfig(authn.AuthConfig{RegistryToken: value}), nil
	case "basic":
		plain, err := base64.StdEncoding.DecodeString(value)
		user, password, ok := strings.Cut(string(plain), ":")
		if err == nil && ok {
			return &authn.Basic{Username: user, Password: password}, nil
		}
	}
	return nil, errors.New("the authorization is neither Basic nor Bearer") // its value is a secret
}
