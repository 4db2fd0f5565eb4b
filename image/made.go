package image

import (
	"context"

	"bulkhead"
)

// Made returns a layer of these files, which are in memory already: for tests.
func Made(info bulkhead.LayerInfo, files ...*File) Layer {
	return Layer{LayerInfo: info, walk: func(ctx context.Context, visit func(*File) error) error {
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := visit(f); err != nil {
				return err
			}
		}
		return nil
	}}
}
