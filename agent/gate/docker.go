package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkhead/container"
)

// Docker is an engine that is asked what it has.
type Docker interface {
	Image(ctx context.Context, reference string) (container.DockerImage, error)
	Container(ctx context.Context, name string) (container.DockerMade, error)
}

// The bounds of what Docker sends: it passes bodies of at most 1 MiB on, in base64 within JSON.
const (
	maxQuestion = 4 << 20
	askTime     = 8 * time.Second // Docker itself waits longer
)

// ServeDocker answers Docker's questions as an authorization plug-in on a socket, until the context ends. It speaks for all
// engines: what is asked does not say of which.
func (g *Gate) ServeDocker(ctx context.Context, socket string, engines func() []Docker) error {
	l, err := listen(socket)
	if err != nil {
		return fmt.Errorf("serving Docker's authorization plug-in: %w", err)
	}
	defer os.Remove(socket)
	server := &http.Server{
		Handler: g.dockerHandler(engines), ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving Docker's authorization plug-in: %w", err)
	}
	return nil
}

// listen takes the place of a socket that a killed agent left.
func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// question is one of Docker's.
type question struct {
	RequestMethod, RequestUri string //nolint:revive // as Docker spells it
	RequestBody               []byte
}

type answerBody struct {
	Allow bool
	Msg   string `json:",omitempty"`
}

func (g *Gate) dockerHandler(engines func() []Docker) http.Handler {
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.1+json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("POST /Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) { reply(w, map[string][]string{"Implements": {"authz"}}) })
	mux.HandleFunc("POST /AuthZPlugin.AuthZRes", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxQuestion)) // what was done is done
		reply(w, answerBody{Allow: true})
	})
	mux.HandleFunc("POST /AuthZPlugin.AuthZReq", func(w http.ResponseWriter, r *http.Request) {
		var q question
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion)).Decode(&q); err != nil {
			reply(w, answerBody{Msg: "bulkhead: the engine's question cannot be read: " + err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), askTime)
		defer cancel()
		if why := g.docker(ctx, q, engines()); why != "" {
			reply(w, answerBody{Msg: "bulkhead: " + why})
			return
		}
		reply(w, answerBody{Allow: true})
	})
	return mux
}

// The requests that make containers run.
var (
	pathCreate = regexp.MustCompile(`^(/v[0-9.]+)?/containers/create$`)
	pathStart  = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/(start|restart)$`)
	pathExec   = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/exec$`)
)

// docker says why a request is refused; nothing where it is not.
func (g *Gate) docker(ctx context.Context, q question, engines []Docker) string {
	if q.RequestMethod != http.MethodPost || !g.Active() {
		return ""
	}
	u, err := url.Parse(q.RequestUri)
	if err != nil {
		return fmt.Sprintf("the request %.200q cannot be read", q.RequestUri)
	}
	at := path.Clean("/" + u.Path)
	if pathCreate.MatchString(at) {
		return g.create(ctx, q, u.Query().Get("name"), engines)
	}
	if m := pathStart.FindStringSubmatch(at); m != nil {
		return g.started(ctx, q, m[2], engines)
	}
	if m := pathExec.FindStringSubmatch(at); m != nil {
		return g.exec(ctx, q, m[2], engines)
	}
	return ""
}

// wish is what of a request to make a container is looked at. Old clients wrote what belongs to the host beside it.
type wish struct {
	Image      string
	HostConfig *hostConfig
	hostConfig
}

func (g *Gate) create(ctx context.Context, q question, name string, engines []Docker) string {
	var w wish
	if err := json.Unmarshal(q.RequestBody, &w); err != nil {
		return fmt.Sprintf("what the container is to be was not passed on or cannot be read (%d bytes): %v", len(q.RequestBody), err)
	}
	powers := w.powers()
	if w.HostConfig != nil {
		powers = union(powers, w.HostConfig.powers())
	}
	asked := false
	for _, e := range engines {
		i, err := e.Image(ctx, w.Image)
		switch {
		case errors.Is(err, container.ErrUnknown):
			asked = true // it cannot be run there: Docker says so itself
			continue
		case err != nil:
			continue
		}
		asked = true
		if why := g.answer(ctx, askOf(name, w.Image, i, powers)); why != "" {
			return why
		}
	}
	if !asked {
		return fmt.Sprintf("no Docker engine says which image %.300q is", w.Image)
	}
	return ""
}

// started judges a container as it was made: what it was made of may have got another name since.
func (g *Gate) started(ctx context.Context, q question, id string, engines []Docker) string {
	made, i, err := find(ctx, id, engines)
	if errors.Is(err, container.ErrUnknown) {
		return "" // Docker says so itself
	}
	if err != nil {
		return fmt.Sprintf("what container %.100q is cannot be found out: %v", id, err)
	}
	var h hostConfig
	if err := json.Unmarshal(made.HostConfig, &h); err != nil {
		return fmt.Sprintf("what container %.100q may do cannot be found out: %v", id, err)
	}
	powers := h.powers()
	if body := strings.TrimSpace(string(q.RequestBody)); body != "" && body != "{}" && body != "null" {
		var late hostConfig // clients of 2015 said it at the start
		if err := json.Unmarshal([]byte(body), &late); err != nil {
			return fmt.Sprintf("what the start of container %.100q says cannot be read: %v", id, err)
		}
		powers = union(powers, late.powers())
	}
	return g.answer(ctx, askOf(strings.TrimPrefix(made.Name, "/"), made.Config.Image, i, powers))
}

// exec refuses what would give a container's new process more than its policy lets the container have.
func (g *Gate) exec(ctx context.Context, q question, id string, engines []Docker) string {
	var e struct{ Privileged bool }
	if err := json.Unmarshal(q.RequestBody, &e); err != nil {
		return fmt.Sprintf("what is to run in container %.100q was not passed on or cannot be read: %v", id, err)
	}
	if !e.Privileged {
		return ""
	}
	made, i, err := find(ctx, id, engines)
	if errors.Is(err, container.ErrUnknown) {
		return ""
	}
	if err != nil {
		return fmt.Sprintf("what container %.100q is cannot be found out: %v", id, err)
	}
	v := g.Judge(ctx, askOf(strings.TrimPrefix(made.Name, "/"), made.Config.Image, i, []string{"privileged"}))
	for _, r := range v.Reasons {
		if strings.HasSuffix(r.Rule, "/containers/privileged") && r.Action == "deny" {
			return r.Rule + ": " + r.Message
		}
	}
	return ""
}

// find asks each engine for a container, and that one for its image.
func find(ctx context.Context, id string, engines []Docker) (container.DockerMade, container.DockerImage, error) {
	err := error(container.ErrUnknown)
	for _, e := range engines {
		made, failed := e.Container(ctx, id)
		if failed == nil {
			i, failed := e.Image(ctx, made.Image)
			if errors.Is(failed, container.ErrUnknown) { // deleted by force beneath it
				return made, container.DockerImage{ID: made.Image}, nil
			}
			return made, i, failed
		}
		if !errors.Is(failed, container.ErrUnknown) {
			err = failed
		}
	}
	return container.DockerMade{}, container.DockerImage{}, err
}

func askOf(name, reference string, i container.DockerImage, powers []string) Ask {
	if byID(reference, i) {
		reference = ""
	}
	return Ask{Container: name, Reference: reference, Names: slices.Concat(i.Digests, i.Tags), Powers: powers}
}

// byID reports whether a reference is the beginning of the image's id, and no name: Docker takes both.
func byID(reference string, i container.DockerImage) bool {
	hex := strings.TrimPrefix(reference, "sha256:")
	return reference == "" || len(hex) >= 4 && strings.HasPrefix(strings.TrimPrefix(i.ID, "sha256:"), hex)
}

// hostConfig are the parts of Docker's HostConfig that give a container power over its host.
type hostConfig struct {
	Privileged                    bool
	NetworkMode, PidMode, IpcMode string
	CapAdd                        list
	SecurityOpt, Binds            []string
	Mounts                        []mount
	Devices, DeviceRequests       []json.RawMessage
	DeviceCgroupRules             []string
}

type mount struct {
	Type, Source  string
	VolumeOptions *struct {
		DriverConfig *struct{ Options map[string]string }
	}
}

// list is a list that may be written as one text.
type list []string

func (l *list) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(l))
}

// ordinary are the capabilities that Docker gives by itself.
var ordinary = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// powers are those of [sign.Powers] that a container asks for.
func (h hostConfig) powers() []string {
	var all []string
	add := func(name string, asks bool) {
		if asks {
			all = append(all, name)
		}
	}
	sources := h.sources()
	add("privileged", h.Privileged)
	add("host-network", h.NetworkMode == "host")
	add("host-pid", h.PidMode == "host")
	add("host-ipc", h.IpcMode == "host")
	add("host-path", len(sources) > 0)
	add("engine-socket", slices.ContainsFunc(sources, reachesEngine))
	add("capabilities", slices.ContainsFunc(h.CapAdd, extraordinary))
	add("devices", len(h.Devices)+len(h.DeviceRequests)+len(h.DeviceCgroupRules) > 0)
	add("unconfined", slices.ContainsFunc(h.SecurityOpt, unconfining))
	return all
}

func extraordinary(capability string) bool {
	return !slices.Contains(ordinary, strings.TrimPrefix(strings.ToUpper(capability), "CAP_"))
}

func unconfining(option string) bool {
	option = strings.ReplaceAll(strings.ToLower(option), ":", "=")
	return slices.Contains([]string{"seccomp=unconfined", "apparmor=unconfined", "label=disable", "systempaths=unconfined"}, option)
}

// sources are the directories of the host that a container gets.
func (h hostConfig) sources() (all []string) {
	for _, b := range h.Binds {
		if source, _, _ := strings.Cut(b, ":"); strings.HasPrefix(source, "/") {
			all = append(all, source)
		}
	}
	for _, m := range h.Mounts {
		switch {
		case strings.EqualFold(m.Type, "bind"):
			all = append(all, m.Source)
		case m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil && m.VolumeOptions.DriverConfig.Options["device"] != "":
			all = append(all, m.VolumeOptions.DriverConfig.Options["device"]) // a volume that is a directory of the host
		}
	}
	return all
}

// engineSockets are where engines listen.
var engineSockets = []string{"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/podman/podman.sock"}

// reachesEngine reports whether a directory or file of the host has an engine's socket in it.
func reachesEngine(source string) bool {
	source = path.Clean(source)
	if slices.Contains([]string{"docker.sock", "containerd.sock", "crio.sock", "podman.sock"}, path.Base(source)) {
		return true
	}
	return slices.ContainsFunc(engineSockets, func(socket string) bool { return source == "/" || strings.HasPrefix(socket, source+"/") })
}

func union(a, b []string) []string {
	for _, one := range b {
		if !slices.Contains(a, one) {
			a = append(a, one)
		}
	}
	return a
}
