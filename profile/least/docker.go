package least

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/profile"
)

// inspected is what we need of what Docker says of a container.
type inspected struct {
	Name   string
	State  struct{ StartedAt time.Time }
	Config struct{ User string }
	Mounts []struct {
		Type, Name, Source, Destination string
		RW                              bool
	}
	HostConfig struct {
		Privileged, ReadonlyRootfs             bool
		CapAdd, CapDrop, SecurityOpt           []string
		NetworkMode, PidMode, IpcMode, UTSMode string
		CgroupnsMode                           string
		Devices                                []struct{ PathInContainer string }
		Tmpfs                                  map[string]string
	}
}

// FromDocker reads what Docker says of one container, as `docker inspect` and its API do.
func FromDocker(content []byte) (Grants, error) {
	var one inspected
	if err := unmarshal(content, &one); err != nil {
		return Grants{}, fmt.Errorf("read what Docker says of a container: %w", err)
	}
	h := one.HostConfig
	g := Grants{
		Container: strings.TrimPrefix(one.Name, "/"), Source: "docker", Privileged: h.Privileged, ReadOnly: h.ReadonlyRootfs, Seccomp: "default",
		User: one.Config.User, Root: rootName(one.Config.User), Capabilities: granted(profile.Capabilities(), h.CapAdd, h.CapDrop),
	}
	if one.State.StartedAt.Year() > 1970 {
		g.Started = one.State.StartedAt
	}
	if h.Privileged {
		g.Capabilities, g.Seccomp = profile.Capabilities(), "unconfined"
	}
	g.security(h.SecurityOpt)
	for name, mode := range map[string]string{"network": h.NetworkMode, "pid": h.PidMode, "ipc": h.IpcMode, "uts": h.UTSMode, "cgroup": h.CgroupnsMode} {
		if mode == "host" {
			g.HostNamespaces = append(g.HostNamespaces, name)
		}
	}
	for _, d := range h.Devices {
		g.Devices = append(g.Devices, d.PathInContainer)
	}
	for _, m := range one.Mounts {
		kind := m.Type
		if kind == kindBind {
			kind = bindKind(m.Source)
		}
		g.Mounts = append(g.Mounts, Mount{Path: m.Destination, Source: m.Source, Kind: kind, Name: m.Name, ReadOnly: !m.RW})
	}
	for where := range h.Tmpfs {
		if !slices.ContainsFunc(g.Mounts, func(m Mount) bool { return m.Path == where }) {
			g.Mounts = append(g.Mounts, Mount{Path: where, Kind: kindTmpfs})
		}
	}
	g.tidy()
	return g, nil
}

// security reads the options of --security-opt, which are written with "=" or, as of old, with ":".
func (g *Grants) security(options []string) {
	for _, o := range options {
		name, value := o, ""
		if i := strings.IndexAny(o, "=:"); i >= 0 {
			name, value = o[:i], o[i+1:]
		}
		switch {
		case name == "no-new-privileges":
			g.NoNewPrivileges = value != "false"
		case name == "seccomp" && value == "unconfined":
			g.Seccomp = "unconfined"
		case name == "seccomp" && value != "builtin":
			g.Seccomp = "custom"
		}
	}
}

// rootName says whether a name or number, with or without a group, is root's.
func rootName(user string) string {
	name, _, _ := strings.Cut(user, ":")
	if name == "" || name == "root" || strings.Trim(name, "0") == "" {
		return "yes"
	}
	return "no"
}
