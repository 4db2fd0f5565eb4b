package gate

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
)

// TestNRI speaks with the library that containerd and CRI-O have on their side.
func TestNRI(t *testing.T) {
	w := newWorld(t, "  containers:\n    refuse: [host-pid, host-path, engine-socket]\n")
	ref := w.Host + "/shop/web:v1"
	_, signed, _ := strings.Cut(w.push("shop/web:v1", w.release), "@")
	_, unsigned, _ := strings.Cut(w.push("shop/web:v2"), "@")
	socket := filepath.Join(t.TempDir(), "nri.sock")
	runtime, err := adaptation.New("test", "1", func(ctx context.Context, cb adaptation.SyncCB) error { _, err := cb(ctx, nil, nil); return err },
		func(context.Context, []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) { return nil, nil }, adaptation.WithSocketPath(socket), adaptation.WithPluginPath(t.TempDir()))
	w.check(err)
	w.check(runtime.Start())
	t.Cleanup(runtime.Stop)
	ctx, cancel := context.WithCancel(t.Context())
	served, connected := make(chan struct{}), make(chan struct{}, 8)
	go func() {
		defer close(served)
		w.gate.ServeNRI(ctx, NRI{Socket: socket, Digest: func(context.Context, string) string { return unsigned }}, func(err error) {
			if err == nil {
				connected <- struct{}{}
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-served })
	select {
	case <-connected:
	case <-time.After(20 * time.Second):
		t.Fatal("the plug-in did not register")
	}
	time.Sleep(100 * time.Millisecond) // the runtime asks a plug-in only once it has its answer
	all := []*api.LinuxNamespace{{Type: "network", Path: "/x"}, {Type: "pid"}, {Type: "ipc", Path: "/x"}}
	for name, c := range map[string]struct {
		container *api.Container
		why       string
	}{
		"signed":                 {&api.Container{Image: &api.Image{Name: ref, Digest: signed}, Linux: &api.LinuxContainer{Namespaces: all}}, ""},
		"unsigned":               {&api.Container{Image: &api.Image{Name: ref, Digest: unsigned}, Linux: &api.LinuxContainer{Namespaces: all}}, "shop/signature"},
		"by annotation":          {&api.Container{Annotations: map[string]string{"io.kubernetes.cri.image-name": ref + "@" + signed}, Linux: &api.LinuxContainer{Namespaces: all}}, ""},
		"by what the engine has": {&api.Container{Annotations: map[string]string{"io.kubernetes.cri.image-name": ref}, Linux: &api.LinuxContainer{Namespaces: all}}, "shop/signature"},
		"the host's processes":   {&api.Container{Image: &api.Image{Name: ref, Digest: signed}, Linux: &api.LinuxContainer{Namespaces: all[:1]}}, "host-pid"},
		"the engine's socket": {&api.Container{Image: &api.Image{Name: ref, Digest: signed}, Linux: &api.LinuxContainer{Namespaces: all}, Mounts: []*api.Mount{
			{Type: "bind", Source: "/run/containerd/containerd.sock"},
		}}, "engine-socket"},
		"its own volume": {&api.Container{Image: &api.Image{Name: ref, Digest: signed}, Linux: &api.LinuxContainer{Namespaces: all}, Mounts: []*api.Mount{
			{Type: "bind", Source: "/var/lib/kubelet/pods/7b1f/volumes/kubernetes.io~empty-dir/tmp"}, {Type: "bind", Source: "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/pod/shm"},
		}}, ""},
		"another pod's volume": {&api.Container{Image: &api.Image{Name: ref, Digest: signed}, Linux: &api.LinuxContainer{Namespaces: all}, Mounts: []*api.Mount{
			{Type: "bind", Source: "/var/lib/kubelet/pods/0000/volumes/kubernetes.io~secret/key"},
		}}, "host-path"},
	} {
		t.Run(name, func(t *testing.T) {
			c.container.Id, c.container.PodSandboxId = name, "pod"
			_, err := runtime.CreateContainer(t.Context(), &api.CreateContainerRequest{Pod: &api.PodSandbox{Id: "pod", Uid: "7b1f", Name: "web", Namespace: "shop"}, Container: c.container})
			if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("%v, want %q", err, c.why)
			}
		})
	}
}
