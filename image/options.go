package image

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Options say how a target is opened. The zero value is good for a developer's machine.
type Options struct {
	// Platform chooses from an index of several: "linux/arm64", "linux/arm/v7". Empty: this machine's
	// architecture, with Linux.
	Platform string

	// PlainHTTP names the registries ("registry.example:5000") that may be spoken to without TLS. No other is,
	// not even one on this machine.
	PlainHTTP []string
	// CAs are files with certificates (PEM) that are trusted beside the system's.
	CAs []string
	// Mirrors are asked first, in this order, by the name of the registry that they stand for ("docker.io"). Each is
	// a host with an optional path, or an URL; "http://" allows plain HTTP to it.
	Mirrors map[string][]string
	// Credentials tell the user and password for a registry, empty for none. Nil: as Docker keeps them, in its
	// configuration file and credential helpers (or Podman's).
	Credentials func(ctx context.Context, registry string) (user, password string, err error)
	// Authorization is the header ("Basic …", "Bearer …") of somebody who asks for the scan and has access to the
	// registry. Neither Credentials nor Mirrors count then: it is for nobody else.
	Authorization string
	// Stall is how long an answer of a registry or engine may stop before it is given up. Default 30 s.
	Stall time.Duration

	// Docker and Containerd are the sockets of the engines. Nil: as the environment says, or the well-known ones.
	Docker, Containerd []string
	// Namespace is the one in containerd to look in. Empty: all, k8s.io and default first.
	Namespace string

	// Unproved reads of an uncompressed layer in a local archive only what is asked for, which is several times faster,
	// and so cannot hold the layer against its DiffID. Such a layer says so, see [Layer].
	Unproved bool

	// Temp is the directory for what is too large for memory. Default: the system's.
	Temp   string
	Limits Limits
}

// Limits keep a hostile image from taking time, memory and disk without end. Zero means the default.
type Limits struct {
	// LayerBytes bounds what one layer holds uncompressed. Default 64 GiB: the largest layers of machine learning
	// images have some 20.
	LayerBytes int64
	// Entries bounds the entries of one layer. Default 4 million: a whole Debian archive mirror has fewer.
	Entries int64
	// Ratio bounds how many times its stored size a layer may hold, once it holds more than 256 MiB. Default 200:
	// images have 2 to 10, a layer of nothing but zeros 1,000.
	Ratio int64
	// Memory is how large a file may be to be kept in memory while it is visited; what is larger is spooled into a
	// temporary file. Default 32 MiB; each walk that runs has so much.
	Memory int64
}

const (
	defaultStall      = 30 * time.Second
	defaultLayerBytes = 64 << 30
	defaultEntries    = 4_000_000
	defaultRatio      = 200
	defaultMemory     = 32 << 20
	// ratioFrom is from where on the ratio counts: below, a bomb does no harm.
	ratioFrom = 256 << 20
)

func (o Options) withDefaults() Options {
	o.Stall = cmp.Or(o.Stall, defaultStall)
	o.Limits.LayerBytes = cmp.Or(o.Limits.LayerBytes, defaultLayerBytes)
	o.Limits.Entries = cmp.Or(o.Limits.Entries, defaultEntries)
	o.Limits.Ratio = cmp.Or(o.Limits.Ratio, defaultRatio)
	o.Limits.Memory = cmp.Or(o.Limits.Memory, defaultMemory)
	return o
}

// platform is what to choose from an index.
func (o Options) platform() (v1.Platform, error) {
	if o.Platform == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := v1.ParsePlatform(o.Platform)
	if err != nil {
		return v1.Platform{}, fmt.Errorf("the platform %q: %w; write it as linux/arm64", o.Platform, err)
	}
	return *p, nil
}
