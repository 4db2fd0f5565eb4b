package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"bulkhead"
)

// openContainer opens a container, running or not: the layers of its image, and as the last one what it has written.
func openContainer(ctx context.Context, target, name string, opt Options) (*Image, error) {
	var tried []error
	for _, open := range []func(context.Context, string, string, Options) (*Image, error){openDockerContainer, openContainerdContainer} {
		i, err := open(ctx, target, name, opt)
		if err == nil {
			return i, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open %s: %w", target, ctx.Err())
		}
		tried = append(tried, said("engine", err)...)
	}
	return nil, &NotFoundError{Target: target, Tried: tried}
}

func openDockerContainer(ctx context.Context, target, name string, opt Options) (*Image, error) {
	return anyDocker(opt, target, func(d *docker) (*Image, error) {
		var said dockerContainer
		if err := d.read(ctx, "/containers/"+url.PathEscape(name)+"/json", &said); err != nil {
			return nil, err
		}
		i, err := d.image(ctx, said.Image)
		if err != nil {
			return nil, fmt.Errorf("the container's image %s: %w", said.Image, err)
		}
		i.Target = target
		if err := d.written(i, said); err != nil {
			i.Close()
			return nil, err
		}
		return i, nil
	})
}

// dockerContainer is what the engine says of a container.
type dockerContainer struct {
	ID          string `json:"Id"`
	Image       string
	GraphDriver graph
	Mounts      []struct{ Type, Destination string }
}

// createdBy stands for the step of the Dockerfile at the layer that a container wrote.
const createdBy = "written by the container"

// written puts what the container wrote on top.
func (d *docker) written(i *Image, said dockerContainer) error {
	for _, m := range said.Mounts {
		i.mounted(m.Type, m.Destination)
	}
	if upper := said.GraphDriver.Data.UpperDir; said.GraphDriver.Name == "overlay2" && readable([]string{upper}) {
		i.addTree(d.opt, "", upper)
	} else {
		e := exported{docker: d, id: said.ID, opt: d.opt, skip: i.skip}
		i.Layers = append(i.Layers, Layer{walk: e.walk})
	}
	i.Layers[len(i.Layers)-1].CreatedBy = createdBy
	return nil
}

// mounted notes a volume: what is in it belongs to no layer.
func (i *Image) mounted(kind, destination string) {
	where, _ := inside(destination)
	i.skip(Skip{Path: where, Message: "a " + kind + " mount of the container: its files are in no layer", Expected: true})
}

// exported is what a container wrote, as the API tells it to those who cannot read the engine's disk: the list of
// changes says which files of the whole file system these are.
type exported struct {
	docker *docker
	id     string
	opt    Options
	skip   func(Skip)
}

// The kinds of changes, as the API numbers them.
const changeDeleted = 2

func (e exported) walk(ctx context.Context, visit func(*File) error) error {
	var changes []struct {
		Path string
		Kind int
	}
	if err := e.docker.read(ctx, "/containers/"+e.id+"/changes", &changes); err != nil {
		return &LayerError{Err: fmt.Errorf("ask for the container's changes: %w", err)}
	}
	changed := map[string]bool{}
	for _, c := range changes {
		name, ok := inside(c.Path)
		if !ok {
			continue
		}
		if c.Kind != changeDeleted {
			changed[name] = true
			continue
		}
		if err := visit(&File{Path: name, Kind: Whiteout}); err != nil {
			return err
		}
	}
	s := stored{opt: e.opt, skip: e.skip, open: func(ctx context.Context) (io.ReadCloser, error) {
		response, err := e.docker.get(ctx, "/containers/"+e.id+"/export")
		if err != nil {
			return nil, err
		}
		return response.Body, nil
	}}
	return s.walk(ctx, func(f *File) error {
		if !changed[f.Path] {
			return nil
		}
		return visit(f)
	})
}

// openContainerdContainer finds a container by its id, the beginning of its id, or its name in a pod.
func openContainerdContainer(ctx context.Context, target, name string, opt Options) (*Image, error) {
	return anyContainerd(ctx, opt, target, func(c *containerd) (*Image, error) {
		return c.container(ctx, target, name)
	})
}

func (c *containerd) container(ctx context.Context, target, name string) (*Image, error) {
	found, err := c.findContainer(ctx, name)
	if err != nil {
		return nil, err
	}
	i, err := c.image(ctx, found.GetImage())
	if err != nil {
		return nil, fmt.Errorf("the container's image %s: %w", found.GetImage(), err)
	}
	i.Target = target
	mounts, err := c.mounts(ctx, found.GetSnapshotter(), found.GetSnapshotKey())
	if err == nil {
		err = c.overlay(i, mounts)
	}
	if err != nil {
		i.Close()
		return nil, fmt.Errorf("the container's files: %w", err)
	}
	for _, m := range specMounts(found.GetSpec().GetValue()) {
		i.mounted("bind", m)
	}
	return i, nil
}

// specMounts are the bind mounts of a container's runtime specification.
func specMounts(raw []byte) (destinations []string) {
	var spec struct {
		Mounts []struct{ Destination, Type string }
	}
	if json.Unmarshal(raw, &spec) != nil {
		return nil
	}
	for _, m := range spec.Mounts {
		if m.Type == "bind" {
			destinations = append(destinations, m.Destination)
		}
	}
	return destinations
}

// overlay takes the directories of a container's overlayfs: the image's layers from there, too, when they are all
// there, and what the container wrote.
func (c *containerd) overlay(i *Image, m overlayMount) error {
	if m.upper == "" {
		return errors.New("they are not on overlayfs, the only snapshotter that is known here: scan its image by name")
	}
	if !readable([]string{m.upper}) {
		return fmt.Errorf("%s cannot be read: run this as root, on the same host", m.upper)
	}
	if len(m.lower) == len(i.Layers) && readable(m.lower) {
		i.fromTrees(c.opt, m.lower)
	}
	i.addTree(c.opt, "", m.upper)
	i.Layers[len(i.Layers)-1].LayerInfo = bulkhead.LayerInfo{CreatedBy: createdBy}
	return nil
}

// overlayMount are the directories of an overlayfs, the lower ones from the lowest.
type overlayMount struct {
	lower []string
	upper string
}

func overlayOptions(options []string) (m overlayMount) {
	for _, o := range options {
		if dirs, ok := strings.CutPrefix(o, "lowerdir="); ok {
			for _, dir := range strings.Split(dirs, ":") {
				m.lower = append([]string{path.Clean(dir)}, m.lower...)
			}
		}
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			m.upper = path.Clean(dir)
		}
	}
	return m
}
