package least

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// runtimeSpec is what we need of an OCI runtime specification.
type runtimeSpec struct {
	Process struct {
		User            struct{ UID int }
		Env             []string
		NoNewPrivileges bool
		Capabilities    struct{ Bounding []string }
	}
	Root   struct{ Readonly bool }
	Mounts []struct {
		Destination, Type, Source string
		Options                   []string
	}
	Linux struct {
		Namespaces []struct{ Type string }
		Seccomp    *struct {
			Syscalls []struct {
				Names  []string
				Action string
			}
		}
		Devices     []struct{ Path string }
		MaskedPaths []string
	}
}

// allCapabilities is how many a container has to have for being called privileged: kernels differ by the newest few.
const allCapabilities = 38

// manySyscalls is how many names the default profiles allow at least. One of fewer was made for the workload.
const manySyscalls = 250

// FromSpec reads an OCI runtime specification, as containerd and CRI-O keep one for each container.
func FromSpec(name string, content []byte) (Grants, error) {
	var s runtimeSpec
	if err := unmarshal(content, &s); err != nil {
		return Grants{}, fmt.Errorf("read the runtime specification of %s: %w", name, err)
	}
	g := Grants{
		Container: name, Source: "runtime", Capabilities: s.Process.Capabilities.Bounding, User: strconv.Itoa(s.Process.User.UID), Root: "no",
		ReadOnly: s.Root.Readonly, NoNewPrivileges: s.Process.NoNewPrivileges, Seccomp: "unconfined", APIServer: apiServer(s.Process.Env),
	}
	if s.Process.User.UID == 0 {
		g.Root = "yes"
	}
	if s.Linux.Seccomp != nil {
		allowed := 0
		for _, rule := range s.Linux.Seccomp.Syscalls {
			if rule.Action == "SCMP_ACT_ALLOW" {
				allowed += len(rule.Names)
			}
		}
		if g.Seccomp = "default"; allowed < manySyscalls {
			g.Seccomp = "custom"
		}
	}
	g.Privileged = g.Seccomp == "unconfined" && len(g.Capabilities) >= allCapabilities && len(s.Linux.MaskedPaths) == 0
	g.hostNamespaces(s)
	for _, d := range s.Linux.Devices {
		if !slices.Contains(ordinaryDevices, d.Path) && !g.Privileged {
			g.Devices = append(g.Devices, d.Path)
		}
	}
	for _, m := range s.Mounts {
		g.Mounts = append(g.Mounts, specMount(m.Destination, m.Type, m.Source, slices.Contains(m.Options, "ro")))
	}
	g.Mounts = slices.DeleteFunc(g.Mounts, func(m Mount) bool { return usualMount(m.Path) })
	g.tidy()
	return g, nil
}

// hostNamespaces are those that the specification does not have at all. One that it joins by a path may be the host's too:
// the node sees that.
func (g *Grants) hostNamespaces(s runtimeSpec) {
	for _, kind := range []string{"network", "pid", "ipc", "uts"} {
		if !slices.ContainsFunc(s.Linux.Namespaces, func(n struct{ Type string }) bool { return n.Type == kind }) {
			g.HostNamespaces = append(g.HostNamespaces, kind)
		}
	}
}

// ordinaryDevices are in every container.
var ordinaryDevices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/console"}

// specMount tells a kubelet's volumes apart by where it keeps them on the host.
func specMount(where, kind, source string, readOnly bool) Mount {
	m := Mount{Path: where, Source: source, Kind: kind, ReadOnly: readOnly}
	if kind == kindTmpfs {
		m.Source = ""
		return m
	}
	m.Kind = bindKind(source)
	_, volume, found := strings.Cut(source, "/volumes/kubernetes.io~")
	if !found {
		return m
	}
	plugin, rest, _ := strings.Cut(volume, "/")
	m.Name, _, _ = strings.Cut(rest, "/")
	switch {
	case plugin == "secret":
		m.Kind = kindSecret
	case plugin == "configmap":
		m.Kind = kindConfig
	case plugin == "projected" && isToken(where):
		m.Kind = kindToken
	default:
		m.Kind = kindVolume
	}
	return m
}

func isToken(where string) bool {
	return path.Clean(where) == tokenFolder || path.Clean(where) == strings.TrimPrefix(tokenFolder, "/var")
}

// apiServer is where the kubelet told a container to find it.
func apiServer(env []string) string {
	host, port := "", ""
	for _, v := range env {
		if s, ok := strings.CutPrefix(v, "KUBERNETES_SERVICE_HOST="); ok {
			host = s
		}
		if s, ok := strings.CutPrefix(v, "KUBERNETES_SERVICE_PORT="); ok {
			port = s
		}
	}
	if host == "" || len(host) > 64 || len(port) > 5 {
		return ""
	}
	return host + " " + port
}
