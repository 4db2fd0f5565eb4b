package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	blobs "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	namespaces "github.com/containerd/containerd/api/services/namespaces/v1"
	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// maxMessage bounds one answer of containerd: a list of containers has some ten KiB for each.
const maxMessage = 32 << 20

// containerd is one namespace of one containerd. It is a store.
type containerd struct {
	conn      *grpc.ClientConn
	namespace string
	root      string // of the content store, "" when it cannot be read
	opt       Options
}

// openContainerd opens an image in containerd's store.
func openContainerd(ctx context.Context, target, rest string, opt Options) (*Image, error) {
	reference, err := parseReference(rest)
	if err != nil {
		return nil, err
	}
	return anyContainerd(ctx, opt, target, func(c *containerd) (*Image, error) {
		i, err := c.image(ctx, familiar(reference))
		if err != nil {
			return nil, err
		}
		i.Target = target
		return i, nil
	})
}

var containerdSockets = []string{"/run/containerd/containerd.sock", "/run/docker/containerd/containerd.sock", "/run/k3s/containerd/containerd.sock"}

// anyContainerd asks all namespaces of all sockets in turn, until one has it.
func anyContainerd(ctx context.Context, opt Options, target string, ask func(*containerd) (*Image, error)) (*Image, error) {
	var tried []error
	for _, socket := range containerdAddresses(opt) {
		i, err := askContainerd(ctx, socket, opt, ask)
		if err == nil {
			return i, nil
		}
		tried = append(tried, fmt.Errorf("containerd at %s: %w", socket, err))
	}
	if len(tried) == 0 {
		tried = []error{errors.New("containerd: not on this machine")}
	}
	return nil, &NotFoundError{Target: target, Tried: tried}
}

func containerdAddresses(opt Options) []string {
	switch address := os.Getenv("CONTAINERD_ADDRESS"); {
	case opt.Containerd != nil:
		return opt.Containerd
	case address != "":
		return []string{address}
	}
	return existing(containerdSockets)
}

func askContainerd(ctx context.Context, socket string, opt Options, ask func(*containerd) (*Image, error)) (*Image, error) {
	conn, err := grpc.NewClient("unix:"+strings.TrimPrefix(socket, "unix://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // a unix socket, guarded by its mode
		grpc.WithAuthority("localhost"), grpc.WithDisableServiceConfig(), grpc.WithMaxHeaderListSize(64<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, err
	}
	i, err := inNamespaces(ctx, &containerd{conn: conn, opt: opt}, ask)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	i.close = append(i.close, conn.Close)
	return i, nil
}

func inNamespaces(ctx context.Context, c *containerd, ask func(*containerd) (*Image, error)) (*Image, error) {
	names, err := c.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	c.root = c.contentRoot(ctx)
	failed := errAbsent
	for _, name := range names {
		in := *c
		in.namespace = name
		i, err := ask(&in)
		if err == nil {
			return i, nil
		}
		if !errors.Is(err, errAbsent) {
			failed = fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return nil, failed
}

// call is the context of one call: in the namespace, and not forever.
func (c *containerd) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Stall)
	return c.in(ctx), cancel
}

func (c *containerd) in(ctx context.Context) context.Context {
	if c.namespace == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "containerd-namespace", c.namespace)
}

// told makes an answer's error one of ours.
func told(err error) error {
	if status.Code(err) == codes.NotFound {
		return errAbsent
	}
	return err
}

// namespaces are those to look in: the one of the options, else all, those where people keep images first.
func (c *containerd) namespaces(ctx context.Context) ([]string, error) {
	if c.opt.Namespace != "" {
		return []string{c.opt.Namespace}, nil
	}
	ctx, cancel := c.call(ctx)
	defer cancel()
	answer, err := namespaces.NewNamespacesClient(c.conn).List(ctx, &namespaces.ListNamespacesRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, one := range answer.GetNamespaces() {
		names = append(names, one.GetName())
	}
	first := []string{"moby", "default", "k8s.io"} // later is earlier
	slices.SortStableFunc(names, func(a, b string) int { return slices.Index(first, b) - slices.Index(first, a) })
	return names, nil
}

// contentRoot is the directory of the content store, if it is on this host and can be read.
func (c *containerd) contentRoot(ctx context.Context) string {
	ctx, cancel := c.call(ctx)
	defer cancel()
	answer, err := introspection.NewIntrospectionClient(c.conn).Plugins(ctx, &introspection.PluginsRequest{Filters: []string{"id==content"}})
	if err != nil {
		return ""
	}
	for _, p := range answer.GetPlugins() {
		if root := p.GetExports()["root"]; p.GetType() == "io.containerd.content.v1" && readable([]string{root}) {
			return root
		}
	}
	return ""
}

func (c *containerd) image(ctx context.Context, name string) (*Image, error) {
	call, cancel := c.call(ctx)
	defer cancel()
	answer, err := images.NewImagesClient(c.conn).Get(call, &images.GetImageRequest{Name: name})
	if err != nil {
		return nil, told(err)
	}
	target := answer.GetImage().GetTarget()
	digest, err := v1.NewHash(target.GetDigest())
	if err != nil {
		return nil, fmt.Errorf("containerd says that the image's digest is %.80q: %w", target.GetDigest(), err)
	}
	d, err := readDocument(ctx, c, v1.Descriptor{Digest: digest, MediaType: types.MediaType(target.GetMediaType())})
	if err != nil {
		return nil, err
	}
	i := &Image{Name: name, From: "containerd"}
	if err := (&opener{store: c, opt: c.opt, image: i}).open(ctx, d); err != nil {
		return nil, err
	}
	if err := c.unpacked(ctx, i); err != nil {
		return nil, err
	}
	i.attribute(base{})
	return i, nil
}

func (c *containerd) manifest(ctx context.Context, digest string) (io.ReadCloser, error) {
	return c.blob(ctx, digest)
}

// blob reads from the store's directory, and from containerd where that cannot be read.
func (c *containerd) blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	if c.root != "" && isDigest(digest) {
		if f, err := os.Open(filepath.Join(c.root, blobPath(digest))); err == nil {
			return f, nil
		}
	}
	ctx, cancel := context.WithCancel(c.in(ctx))
	stream, err := blobs.NewContentClient(c.conn).Read(ctx, &blobs.ReadContentRequest{Digest: digest})
	if err != nil {
		cancel()
		return nil, told(err)
	}
	b := &received{stream: stream, cancel: cancel}
	if b.rest, b.err = b.next(); b.err != nil && b.err != io.EOF {
		cancel()
		return nil, told(b.err)
	}
	return b, nil
}

// received is content that containerd sends.
type received struct {
	stream blobs.Content_ReadClient
	cancel context.CancelFunc
	rest   []byte
	err    error
}

func (r *received) next() ([]byte, error) {
	answer, err := r.stream.Recv()
	return answer.GetData(), err
}

func (r *received) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.rest, r.err = r.next()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *received) Close() error {
	r.cancel()
	return nil
}

// containerName is what ids and names of containers are made of, so that one can stand in a filter.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

func (c *containerd) findContainer(ctx context.Context, name string) (*containers.Container, error) {
	if !containerName.MatchString(name) {
		return nil, fmt.Errorf("%.80q is no name of a container", name)
	}
	ctx, cancel := c.call(ctx)
	defer cancel()
	quoted := strconv.Quote(name)
	answer, err := containers.NewContainersClient(c.conn).List(ctx, &containers.ListContainersRequest{Filters: []string{
		"id~=" + strconv.Quote("^"+regexp.QuoteMeta(name)),
		`labels."io.kubernetes.container.name"==` + quoted,
		`labels."nerdctl/name"==` + quoted,
	}})
	if err != nil {
		return nil, err
	}
	return oneContainer(answer.GetContainers(), name)
}

func oneContainer(found []*containers.Container, name string) (*containers.Container, error) {
	var ids []string
	for _, one := range found {
		if one.GetID() == name {
			return one, nil
		}
		ids = append(ids, one.GetID())
	}
	switch len(found) {
	case 0:
		return nil, errAbsent
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%d containers are called %s: give the id of one: %s", len(ids), name, strings.Join(ids[:min(len(ids), 10)], ", "))
}

// mounts are the directories of a container that exists. Nothing is mounted by that.
func (c *containerd) mounts(ctx context.Context, snapshotter, key string) (overlayMount, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	answer, err := snapshots.NewSnapshotsClient(c.conn).Mounts(ctx, &snapshots.MountsRequest{Snapshotter: snapshotter, Key: key})
	if err != nil {
		return overlayMount{}, told(err)
	}
	for _, m := range answer.GetMounts() {
		if m.GetType() == "overlay" {
			return overlayOptions(m.GetOptions()), nil
		}
	}
	return overlayMount{}, nil
}
