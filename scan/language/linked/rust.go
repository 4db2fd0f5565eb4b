package linked

import (
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"

	"bulkhead"
	"bulkhead/scan/language/manifest"
)

// maxCrates is the most that the list of a program's crates may have when it is unpacked, in bytes: the limit that
// cargo-audit has. Firefox, the largest known, has 100 KiB.
const maxCrates = 8 << 20

// readCrates reads the list that cargo-auditable makes the linker put into a section of its own.
func readCrates(r io.Reader) ([]bulkhead.Package, error) {
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("unpack the list of crates: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(z, maxCrates+1))
	if err != nil {
		return nil, fmt.Errorf("unpack the list of crates: %w", err)
	}
	if len(b) > maxCrates {
		return nil, fmt.Errorf("unpack the list of crates: more than %d MiB", maxCrates>>20)
	}
	var list struct {
		Packages []struct {
			Name, Version, Source, Kind string
			Root                        bool
		}
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("read the list of crates: %w", err)
	}
	l := manifest.NewList("cargo")
	for _, p := range list.Packages {
		// What only built the program is not in it.
		l.Add(manifest.Item{Name: p.Name, Version: p.Version, Dev: p.Kind == "build"})
	}
	return l.Facts().Packages, nil
}
