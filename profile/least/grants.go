// Package least compares what a container was granted with what its workload was seen to use, and proposes the difference
// as a patch: for Kubernetes, docker run and compose. Start with [Propose] and [Grants].
//
// It promises that nothing is taken away on a section of the profile that is not complete, on a start that was not seen or on
// something that nobody watches: then it says so. What engines and manifests say is read with bounds, and of the environment
// nothing but where secrets come from. It is not for changing anything that runs, and asks nobody.
package least

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Grants is what one container was granted, as its engine, its node or its manifest says.
type Grants struct {
	Container       string    `json:"container"`
	Source          string    `json:"source"`            // docker, runtime (its specification) or manifest
	Started         time.Time `json:"started,omitzero"`  // zero: not known
	Privileged      bool      `json:"privileged"`        //
	Capabilities    []string  `json:"capabilities"`      // that its processes can ever have
	Seccomp         string    `json:"seccomp"`           // unconfined, default or custom
	User            string    `json:"user"`              // as it is named there
	Root            string    `json:"root"`              // whether that is root: yes, no; empty: the image says
	ReadOnly        bool      `json:"readOnly"`          // its root file system
	NoNewPrivileges bool      `json:"noNewPrivileges"`   //
	HostNamespaces  []string  `json:"hostNamespaces"`    // network, pid, ipc, uts, cgroup
	Devices         []string  `json:"devices"`           // of the host, by the path that it sees
	Mounts          []Mount   `json:"mounts"`            //
	Environment     []string  `json:"environment"`       // secrets and config maps in its variables: "secret/db"
	Account         string    `json:"account,omitempty"` // its service account, where a manifest says so
	APIServer       string    `json:"apiServer,omitempty"`
	Others          []string  `json:"others"` // further containers of its pod

	// What a node sees besides. Looked is false where none did.
	Looked      bool        `json:"looked"`
	Directories []Directory `json:"directories"` // of the image that have to be writable
	Setuid      []string    `json:"setuid"`      // of the programs that run, those that get privileges by being started
	OpenDevices []string    `json:"openDevices"` // that its processes hold
	Watched     []string    `json:"watched"`     // patterns of files whose reading is noticed

	owner owner // the object that a manifest has it in
}

// Mount is something that was mounted into a container, besides what every container has.
type Mount struct {
	Path     string `json:"path"`
	Source   string `json:"source,omitempty"` // of the host
	Kind     string `json:"kind"`             // bind, volume, tmpfs, secret, configmap, token, engine-socket
	Name     string `json:"name,omitempty"`
	ReadOnly bool   `json:"readOnly"`
}

// Directory is one of the image in which a container writes.
type Directory struct {
	Path   string `json:"path"`
	Filled bool   `json:"filled"` // the image has something in it
	Apart  bool   `json:"apart"`  // no file was moved between it and another: each that it has was written there, and is still there
}

// The kinds of mounts.
const (
	kindBind    = "bind"
	kindVolume  = "volume"
	kindTmpfs   = "tmpfs"
	kindSecret  = "secret"
	kindConfig  = "configmap"
	kindToken   = "token"
	kindEngine  = "engine-socket"
	tokenFolder = "/var/run/secrets/kubernetes.io/serviceaccount"
)

const (
	// MaxGrants bounds what one node says of the containers of a workload, as JSON.
	MaxGrants = 1 << 20
	// maxConfiguration bounds what an engine says of one container.
	maxConfiguration = 4 << 20
	// most bounds every list: a container with more mounts than that is none that a person wrote.
	most = 1024
)

// ReadGrants reads what nodes sent: a list, as JSON.
func ReadGrants(content []byte) ([]Grants, error) {
	if len(content) > MaxGrants {
		return nil, fmt.Errorf("what containers were granted has more than %d KiB", MaxGrants>>10)
	}
	var all []Grants
	if err := json.Unmarshal(content, &all); err != nil {
		return nil, fmt.Errorf("read what containers were granted: %w", err)
	}
	for i := range all {
		all[i].tidy()
	}
	return all[:min(len(all), most)], nil
}

// tidy sorts the lists and bounds them; none is null.
func (g *Grants) tidy() {
	for _, list := range []*[]string{&g.Capabilities, &g.HostNamespaces, &g.Devices, &g.Environment, &g.Others, &g.Setuid, &g.OpenDevices, &g.Watched} {
		slices.Sort(*list)
		if *list = slices.Compact(*list); *list == nil {
			*list = []string{}
		}
		*list = (*list)[:min(len(*list), most)]
	}
	slices.SortFunc(g.Mounts, func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
	g.Mounts = append([]Mount{}, g.Mounts[:min(len(g.Mounts), most)]...)
	g.Directories = append([]Directory{}, g.Directories[:min(len(g.Directories), most)]...)
}

// usual are the capabilities that Docker and containerd give by themselves.
var usual = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// granted are the usual capabilities, without those that are dropped, with those that are added.
func granted(all []string, add, drop []string) []string {
	name := func(s string) string {
		s = strings.ToUpper(s)
		if s == "ALL" {
			return s
		}
		return "CAP_" + strings.TrimPrefix(s, "CAP_")
	}
	has := map[string]bool{}
	if !slices.ContainsFunc(drop, func(s string) bool { return name(s) == "ALL" }) {
		for _, c := range usual {
			has[c] = true
		}
	}
	if slices.ContainsFunc(add, func(s string) bool { return name(s) == "ALL" }) {
		for _, c := range all {
			has[c] = true
		}
	}
	for _, c := range drop {
		delete(has, name(c))
	}
	for _, c := range add {
		if slices.Contains(all, name(c)) {
			has[name(c)] = true
		}
	}
	list := []string{}
	for c := range has {
		list = append(list, c)
	}
	slices.Sort(list)
	return list
}

// sockets are those by which one commands an engine, and so the host.
var sockets = []string{"docker.sock", "containerd.sock", "crio.sock", "podman.sock", "cri-dockerd.sock"}

// commandsEngine says whether a path of the host is such a socket, or a directory that has one.
func commandsEngine(source string) bool {
	return slices.Contains(sockets, path.Base(source)) || slices.Contains([]string{"/", "/run", "/var/run", "/run/containerd", "/run/crio", "/var/run/crio"}, path.Clean(source))
}

func bindKind(source string) string {
	if commandsEngine(source) {
		return kindEngine
	}
	return kindBind
}

// below says whether a path is another, or lies in it.
func below(p, dir string) bool {
	return p == dir || dir == "/" || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// usualMounts are in every container.
func usualMount(p string) bool {
	return slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/termination-log", "/dev/shm"}, p) ||
		below(p, "/proc") || below(p, "/sys") || below(p, "/dev")
}

var errLarge = errors.New("it is too large")

func unmarshal(content []byte, into any) error {
	if len(content) > maxConfiguration {
		return errLarge
	}
	return json.Unmarshal(content, into)
}
