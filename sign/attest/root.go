package attest

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
)

// LoadRoot reads a trusted root: whose certificates, logs and timestamps count.
func LoadRoot(file string) (*root.TrustedRoot, error) {
	trusted, err := root.NewTrustedRootFromPath(file)
	if err != nil {
		return nil, fmt.Errorf("read the trusted root %s: %w; make one with `bulkhead sign trusted-root`", file, err)
	}
	return trusted, nil
}

// FetchRoot fetches the trusted root of a sigstore installation from its TUF repository. First is the repository's
// root.json that was carried here by a way that is trusted; everything else is proved by it.
func FetchRoot(ctx context.Context, url string, first []byte) ([]byte, error) {
	trusted, err := root.FetchTrustedRootWithOptions((&tuf.Options{RepositoryBaseURL: url, Root: first, DisableLocalCache: true}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("fetch the trusted root from %s: %w", url, err)
	}
	return json.MarshalIndent(trusted, "", "  ")
}
