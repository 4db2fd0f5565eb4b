package gate

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"

	"bulkhead"
	"bulkhead/image"
)

// The name of the plug-in, and its place among others: first, as it refuses.
const (
	pluginName  = "bulkhead"
	pluginIndex = "00"
)

// NRI is a plug-in of containerd's and CRI-O's, which asks about each container of a pod when it is made.
type NRI struct {
	Socket string
	// Digest finds the digest that an engine has for a reference, where it does not say so itself.
	Digest func(ctx context.Context, reference string) string
	Log    *slog.Logger
}

// ServeNRI answers an engine for as long as the context lasts; one that is away is tried again. Its error, told to
// problem and taken back with nil, is that there is an engine which cannot be spoken to.
func (g *Gate) ServeNRI(ctx context.Context, o NRI, problem func(error)) {
	for ctx.Err() == nil {
		err := g.nriSession(ctx, o, func() { problem(nil) })
		if err != nil && ctx.Err() == nil {
			problem(fmt.Errorf("answering the engine at %s: %w", o.Socket, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// nriSession is one connection. Without a socket there is no engine with NRI, which is nobody's fault.
func (g *Gate) nriSession(ctx context.Context, o NRI, connected func()) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", o.Socket)
	if err != nil {
		return nil
	}
	defer conn.Close()
	plugin, err := stub.New(&nriPlugin{g, o, connected}, stub.WithPluginName(pluginName), stub.WithPluginIdx(pluginIndex), stub.WithConnection(conn), stub.WithOnClose(func() {}), stub.WithLogger(nriLog{o.Log}))
	if err != nil {
		return err
	}
	if err := plugin.Start(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, plugin.Stop)
	defer stop()
	plugin.Wait()
	return nil
}

type nriPlugin struct {
	gate *Gate
	NRI
	connected func()
}

// Synchronize is the engine's word that it asks from now on. What runs already is the agent's to find.
func (p *nriPlugin) Synchronize(context.Context, []*api.PodSandbox, []*api.Container) ([]*api.ContainerUpdate, error) {
	p.connected()
	return nil, nil
}

// CreateContainer refuses a container by an error, which the engine passes on to the kubelet.
func (p *nriPlugin) CreateContainer(ctx context.Context, pod *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	if !p.gate.Active() {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if why := p.gate.answer(ctx, p.ask(ctx, pod, c)); why != "" {
		return nil, nil, fmt.Errorf("bulkhead: %s", why)
	}
	return nil, nil, nil
}

// annotations under which engines keep the image's name.
var imageAnnotations = []string{"io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"}

func (p *nriPlugin) ask(ctx context.Context, pod *api.PodSandbox, c *api.Container) Ask {
	a := Ask{Container: c.GetName(), Workload: pod.GetNamespace() + "/" + pod.GetName(), Reference: c.GetImage().GetName(), Powers: nriPowers(pod, c)}
	digest := c.GetImage().GetDigest()
	for _, name := range imageAnnotations {
		if a.Reference == "" {
			a.Reference = c.GetAnnotations()[name]
		}
	}
	if n, err := image.ParseName(a.Reference); err == nil && digest == "" {
		digest = n.Digest
	}
	if digest == "" && p.Digest != nil {
		digest = p.Digest(ctx, a.Reference)
	}
	a.Names = Named(bulkhead.Image{Reference: a.Reference, Digest: digest})
	return a
}

// nriPowers are those of [sign.Powers] that show in what the engine is about to run.
func nriPowers(pod *api.PodSandbox, c *api.Container) []string {
	var all []string
	add := func(name string, has bool) {
		if has {
			all = append(all, name)
		}
	}
	own := func(kind string) bool {
		return slices.ContainsFunc(c.GetLinux().GetNamespaces(), func(n *api.LinuxNamespace) bool { return n.GetType() == kind })
	}
	var sources []string
	for _, m := range c.GetMounts() {
		if hostMount(m, pod) {
			sources = append(sources, m.GetSource())
		}
	}
	add("host-network", !own("network"))
	add("host-pid", !own("pid"))
	add("host-ipc", !own("ipc"))
	add("host-path", len(sources) > 0)
	add("engine-socket", slices.ContainsFunc(sources, reachesEngine))
	add("devices", len(c.GetLinux().GetDevices()) > 0)
	return all
}

// hostMount tells a directory of the host from what the kubelet and the engine made for this pod, in directories that have
// its number. Another pod's are the host's too.
func hostMount(m *api.Mount, pod *api.PodSandbox) bool {
	bind := m.GetType() == "bind" || slices.Contains(m.GetOptions(), "bind") || slices.Contains(m.GetOptions(), "rbind")
	own := func(id string) bool { return id != "" && strings.Contains(path.Clean(m.GetSource())+"/", "/"+id+"/") }
	return bind && !own(pod.GetUid()) && !own(pod.GetId())
}

// nriLog passes on what the library says.
type nriLog struct{ log *slog.Logger }

func (l nriLog) Debugf(_ context.Context, format string, args ...any) {
	l.say(slog.LevelDebug, format, args)
}

func (l nriLog) Infof(_ context.Context, format string, args ...any) {
	l.say(slog.LevelDebug, format, args)
}

func (l nriLog) Warnf(_ context.Context, format string, args ...any) {
	l.say(slog.LevelWarn, format, args)
}

func (l nriLog) Errorf(_ context.Context, format string, args ...any) {
	l.say(slog.LevelWarn, format, args)
}

func (l nriLog) say(level slog.Level, format string, args []any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, "nri", "text", fmt.Sprintf(format, args...))
	}
}
