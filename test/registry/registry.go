// Package registry is a registry inside the test that wants one. Start with [Start] and [Registry.Push].
//
// It promises a real registry by go-containerregistry, with or without the API for referrers, whose answers a test can
// change. It is not for anything but tests: what it has is gone with the process.
package registry

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is a running registry.
type Registry struct {
	Host string // with port
	// Front, when it is set, may answer in the registry's place; it says whether it did.
	Front func(http.ResponseWriter, *http.Request) bool

	server *httptest.Server
}

// Start starts a registry. Without referrers it is one of before OCI 1.1.
func Start(referrers bool) *Registry {
	r := &Registry{}
	back := registry.New(registry.WithReferrersSupport(referrers), registry.Logger(log.New(io.Discard, "", 0)))
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.Front == nil || !r.Front(w, q) {
			back.ServeHTTP(w, q)
		}
	}))
	r.Host = strings.TrimPrefix(r.server.URL, "http://")
	return r
}

// Close ends it.
func (r *Registry) Close() { r.server.Close() }

// Push writes a new image under a name like "shop/web:v1", and returns its digest.
func (r *Registry) Push(as string) (digest string, err error) {
	image, err := random.Image(256, 1)
	if err != nil {
		return "", err
	}
	return r.Write(as, image)
}

// Write writes this image.
func (r *Registry) Write(as string, image v1.Image) (digest string, err error) {
	reference, err := name.ParseReference(r.Host+"/"+as, name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(reference, image); err != nil {
		return "", fmt.Errorf("write %s: %w", as, err)
	}
	hash, err := image.Digest()
	return hash.String(), err
}
