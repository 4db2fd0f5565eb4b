// Package image opens container images: their layers and files, from a registry, an archive, a layout, an engine's
// store or a directory. Start with [Image] and [Layer].
//
// It promises that what it hands out is bounded and harmless: paths stay inside, sizes are those that were read, and
// an image that lies about a digest, a size or a layer is an error that says where. Nothing is written but spooled
// bytes in the directory for temporary files, which go with the visit. It is not for what the files mean: that is scan.
package image

import (
	"context"

	"bulkhead"
)

// Image is an opened target: an image, or a directory that is looked at as if it were one layer.
type Image struct {
	Target string         // as it was asked for
	Digest string         // of the manifest, "sha256:…"; empty for a directory
	ID     string         // of the configuration, "sha256:…"; empty for a directory
	Config Config         // what the image says about how it is run
	Layers []Layer        // from the base image upwards
	close  []func() error // in reverse order
}

// Config is the part of an image's configuration that says how it is run. Field names are those of the OCI image
// specification.
type Config struct {
	Architecture string
	OS           string
	Created      string
	User         string
	ExposedPorts []string
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      []string
	WorkingDir   string
	Labels       map[string]string
	Healthcheck  []string
	History      []History
}

// History is one step of the Dockerfile.
type History struct {
	CreatedBy string
	Comment   string
	Created   string
	Empty     bool // it made no layer
}

// Layer is one layer of an image.
type Layer struct {
	bulkhead.LayerInfo
	Size int64 // in bytes as stored; 0 when unknown

	walk func(context.Context, func(*File) error) error
}

// Walk visits the entries of the layer in the order in which they are stored, each once, whiteouts included. The first
// error that visit returns ends the walk and is returned.
func (l *Layer) Walk(ctx context.Context, visit func(*File) error) error { return l.walk(ctx, visit) }

// Close lets go of what opening it took.
func (i *Image) Close() (err error) {
	for n := len(i.close) - 1; n >= 0; n-- {
		if e := i.close[n](); err == nil {
			err = e
		}
	}
	return err
}
