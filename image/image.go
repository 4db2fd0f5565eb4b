// Package image opens container images: their layers and files, from a registry, an archive, a layout, an engine's
// store or a directory. Start with [Open] and [Layer.Walk].
//
// It promises that what it hands out is bounded and harmless: paths stay inside, sizes are those that were read, and
// an image that lies about a digest, a size or a layer is an error that says where. Nothing is written but spooled
// bytes in the directory for temporary files, which go with the visit. It is not for what the files mean: that is scan.
package image

import (
	"context"
	"sync"

	"bulkhead"
)

// Image is an opened target: an image, or a directory that is looked at as if it were one layer.
type Image struct {
	Target string // as it was asked for
	// Name is the full name of what was opened, "docker.io/library/nginx:1.27"; empty where there is none.
	Name string
	// Digest is that of the manifest of the platform that was opened, "sha256:…". Docker's own store remembers only
	// what was pulled, which is the index's for an image of several platforms, and nothing for one that was built
	// here. Empty for a directory.
	Digest string
	Index  string  // digest of the index in which that platform was chosen; empty when there was none
	ID     string  // of the configuration, "sha256:…"; empty for a directory
	From   string  // where it was found: "registry", "docker", "containerd", "docker-archive", "oci-archive", "oci", "dir", "tar"
	Config Config  // what the image says about how it is run
	Layers []Layer // from the base image upwards

	close []func() error // in reverse order

	mu      sync.Mutex
	skipped []Skip
}

// Skip is something that a walk left out.
type Skip struct {
	Path, Layer, Message string
	// Expected says that nobody would miss it: file systems that the kernel makes up, the stores of container engines.
	Expected bool
}

// maxSkips bounds what is remembered: a tree may have a million directories that cannot be opened.
const maxSkips = 1000

// Skipped returns what the walks until now have left out, in no particular order: the first thousand.
func (i *Image) Skipped() []Skip {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]Skip(nil), i.skipped...)
}

func (i *Image) skip(s Skip) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.skipped) < maxSkips {
		i.skipped = append(i.skipped, s)
	}
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
	// Unproved says that Walk takes the DiffID as it is, see [Options]. What is seen may then be kept under Source, and
	// not under the DiffID.
	Unproved bool
	// Source names the bytes of a layer in a local archive: the file, when it was last changed, and the place in it. It
	// returns the same as long as they are, and nothing where the file was changed so lately that its times would not
	// show another change. Nil where the layer is in no such file.
	Source func() string

	walk func(context.Context, func(*File) error) error
}

// Walk visits the entries of the layer in the order in which they are stored, each once, whiteouts included; the root
// itself is no entry. The File is reused: nothing of it may be kept but what its fields say. The first error that visit
// returns ends the walk and is returned as it is; any other is a [*LayerError] after what could be visited. Layers may
// be walked at the same time, and again.
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
