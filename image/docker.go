package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"bulkhead"
)

const (
	// maxAnswer bounds an answer of an engine: an image's history has some 100 KiB at most, a container that changed
	// 100,000 files answers with ten MiB.
	maxAnswer = 64 << 20
	// engineWait bounds how long an engine may take to take a connection.
	engineWait = 5 * time.Second
	// saveWait bounds how long an engine may take to begin with what it saves: it first packs all layers.
	saveWait = 10 * time.Minute
)

// docker speaks the Engine API. It is five GETs, so the client is ours.
type docker struct {
	host    string // as it is written in DOCKER_HOST
	http    *http.Client
	address string // of URLs
	opt     Options
}

// openDocker opens an image in Docker's store.
func openDocker(ctx context.Context, target, rest string, opt Options) (*Image, error) {
	return anyDocker(opt, target, func(d *docker) (*Image, error) {
		i, err := d.image(ctx, rest)
		if err != nil {
			return nil, err
		}
		i.Target = target
		return i, nil
	})
}

// anyDocker asks the engines in turn, until one has it.
func anyDocker(opt Options, target string, ask func(*docker) (*Image, error)) (*Image, error) {
	var tried []error
	for _, host := range dockerHosts(opt) {
		d, err := dialDocker(host, opt)
		if err != nil {
			tried = append(tried, fmt.Errorf("docker: %w", err))
			continue
		}
		i, err := ask(d)
		if err == nil {
			i.close = append(i.close, func() error { d.http.CloseIdleConnections(); return nil })
			return i, nil
		}
		d.http.CloseIdleConnections()
		tried = append(tried, fmt.Errorf("docker at %s: %w", host, err))
	}
	if len(tried) == 0 {
		tried = []error{errors.New("docker: no engine on this machine")}
	}
	return nil, &NotFoundError{Target: target, Tried: tried}
}

// dockerSockets are where Docker and what speaks its language usually answer.
var dockerSockets = []string{"/var/run/docker.sock", "$XDG_RUNTIME_DIR/docker.sock", "$HOME/.docker/run/docker.sock", "/run/podman/podman.sock", "$XDG_RUNTIME_DIR/podman/podman.sock"}

// dockerHosts are the engines to ask: those of the options, or the one of the environment or of docker's current
// context, or those at well-known sockets.
func dockerHosts(opt Options) []string {
	if opt.Docker != nil {
		return opt.Docker
	}
	if host := cmp.Or(os.Getenv("DOCKER_HOST"), contextHost()); host != "" {
		return []string{host}
	}
	return existing(dockerSockets)
}

func existing(sockets []string) []string {
	return slices.DeleteFunc(slices.Clone(sockets), func(socket string) bool {
		info, err := os.Stat(os.ExpandEnv(socket))
		return err != nil || info.Mode().Type() != os.ModeSocket
	})
}

// contextHost is where docker's current context points, "" for the default one.
func contextHost() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	dir := cmp.Or(os.Getenv("DOCKER_CONFIG"), filepath.Join(home, ".docker"))
	var config struct {
		CurrentContext string `json:"currentContext"`
	}
	readJSON(filepath.Join(dir, "config.json"), &config)
	current := cmp.Or(os.Getenv("DOCKER_CONTEXT"), config.CurrentContext)
	if current == "" || current == "default" {
		return ""
	}
	sum := sha256.Sum256([]byte(current))
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	readJSON(filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"), &meta)
	return meta.Endpoints["docker"].Host
}

// readJSON leaves into as it is when there is no such file, or not the expected one.
func readJSON(name string, into any) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	_ = json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(into)
}

func dialDocker(host string, opt Options) (*docker, error) {
	scheme, address, ok := strings.Cut(os.ExpandEnv(host), "://")
	if !ok {
		scheme, address = "unix", scheme
	}
	t := &http.Transport{ResponseHeaderTimeout: saveWait, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true, IdleConnTimeout: time.Minute}
	d := &docker{host: host, address: "http://docker", http: &http.Client{Transport: &patient{inner: t, stall: opt.Stall, attempts: 1}}, opt: opt}
	d.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	dialer := &net.Dialer{Timeout: engineWait}
	switch scheme {
	case "unix":
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", address)
		}
	case "tcp", "http", "https":
		t.DialContext = dialer.DialContext
		d.address = "http://" + address
		if scheme == "https" || os.Getenv("DOCKER_TLS_VERIFY") != "" {
			d.address = "https://" + address
			return d, clientTLS(t)
		}
	default:
		return nil, fmt.Errorf("%s: only unix and tcp are spoken: forward the engine's socket, or name the image as registry:REF", host)
	}
	return d, nil
}

// clientTLS takes the certificates that docker takes (DOCKER_CERT_PATH).
func clientTLS(t *http.Transport) error {
	home, _ := os.UserHomeDir()
	dir := cmp.Or(os.Getenv("DOCKER_CERT_PATH"), filepath.Join(home, ".docker"))
	roots, err := trusted([]string{filepath.Join(dir, "ca.pem")})
	if err != nil {
		return err
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return fmt.Errorf("the client's certificate: %w", err)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	return nil
}

// get asks for one path. The caller closes the body.
func (d *docker) get(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.address+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the invented address
		}
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, errAbsent
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 512))
	return nil, fmt.Errorf("GET %s: %s: %q", path, response.Status, strings.TrimSpace(string(text)))
}

func (d *docker) read(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, d.opt.Stall)
	defer cancel()
	response, err := d.get(ctx, path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body := &io.LimitedReader{R: response.Body, N: maxAnswer}
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

// graph is where a layer or a container is on the engine's disk.
type graph struct {
	Name string
	Data struct{ LowerDir, UpperDir string }
}

// dockerImage is what the engine says of an image.
type dockerImage struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Created      string
	Config       runConfig
	Architecture string
	Variant      string
	OS           string `json:"Os"`
	RootFS       struct{ Layers []string }
	GraphDriver  graph
	Descriptor   *v1.Descriptor // with containerd's store
}

func (d *docker) image(ctx context.Context, reference string) (*Image, error) {
	var said dockerImage
	if err := d.read(ctx, "/images/"+escape(reference)+"/json", &said); err != nil {
		return nil, err
	}
	if !isDigest(said.ID) {
		return nil, fmt.Errorf("the engine says that the image's id is %.80q", said.ID)
	}
	if said.Descriptor != nil {
		return d.fromContainerd(ctx, reference, said)
	}
	c, err := d.config(ctx, said)
	if err != nil {
		return nil, err
	}
	i := &Image{Name: dockerName(reference, said), Digest: dockerDigest(reference, said), ID: said.ID, From: "docker", Config: c.config()}
	if err := (&opener{opt: d.opt, image: i}).samePlatform(c); err != nil {
		return nil, err
	}
	d.layers(i, said, c)
	i.attribute(d.base(ctx, i))
	return i, nil
}

// escape keeps the slashes of a reference, as the engine's router wants them.
func escape(reference string) string {
	return strings.ReplaceAll(url.PathEscape(reference), "%2F", "/")
}

func dockerName(reference string, said dockerImage) string {
	if len(said.RepoTags) == 0 || named(said.RepoTags, reference) {
		if r, err := parseReference(reference); err == nil && !strings.HasPrefix(strings.TrimPrefix(said.ID, "sha256:"), reference) {
			return familiar(r)
		}
	}
	if len(said.RepoTags) > 0 {
		return said.RepoTags[0]
	}
	return ""
}

// dockerDigest is the digest under which the repository of that name was pulled or pushed.
func dockerDigest(reference string, said dockerImage) string {
	digest := ""
	want, wrong := parseReference(reference)
	for _, one := range slices.Sorted(slices.Values(said.RepoDigests)) {
		_, found, _ := strings.Cut(one, "@")
		if !isDigest(found) {
			continue
		}
		digest = cmp.Or(digest, found)
		if have, err := parseReference(one); err == nil && wrong == nil && have.Context() == want.Context() {
			return found
		}
	}
	return digest
}

// config is the image's configuration: from the engine's own files where they can be read, as only they tell which
// steps made no layer; else as the API tells it.
func (d *docker) config(ctx context.Context, said dockerImage) (*configFile, error) {
	if c := storedConfig(said); c != nil {
		return c, nil
	}
	c := &configFile{Architecture: said.Architecture, Variant: said.Variant, OS: said.OS, Created: said.Created, Config: said.Config}
	c.RootFS.DiffIDs = said.RootFS.Layers
	if len(c.RootFS.DiffIDs) > maxLayers || slices.ContainsFunc(c.RootFS.DiffIDs, func(id string) bool { return !isDigest(id) }) {
		return nil, errors.New("the engine names layers that are no digests")
	}
	var steps []dockerStep
	if err := d.read(ctx, "/images/"+said.ID+"/history", &steps); err != nil {
		return nil, err
	}
	slices.Reverse(steps)
	c.History = stepsOf(steps, len(c.RootFS.DiffIDs))
	return c, nil
}

// storedConfig reads the configuration beside the layers: DIR/overlay2/ID/diff and DIR/image/overlay2/imagedb.
func storedConfig(said dockerImage) *configFile {
	root := filepath.Dir(filepath.Dir(filepath.Dir(said.GraphDriver.Data.UpperDir)))
	name := filepath.Join(root, "image", said.GraphDriver.Name, "imagedb", "content", strings.Replace(said.ID, ":", "/", 1))
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil || digestOf(raw) != said.ID {
		return nil
	}
	c, err := parseConfig(raw)
	if err != nil || !slices.Equal(c.RootFS.DiffIDs, said.RootFS.Layers) {
		return nil
	}
	return c
}

// dockerStep is one line of docker history.
type dockerStep struct {
	Created   int64
	CreatedBy string
	Comment   string
	Size      int64
}

// stepsOf finds out which steps made no layer, which the API does not say: those without bytes whose instruction makes
// none, or else all without bytes.
func stepsOf(steps []dockerStep, layers int) []configHistory {
	for _, empty := range []func(dockerStep) bool{
		func(s dockerStep) bool { return s.Size == 0 && !makesLayer(s.CreatedBy) },
		func(s dockerStep) bool { return s.Size == 0 },
	} {
		out, full := make([]configHistory, 0, len(steps)), 0
		for _, s := range steps {
			h := configHistory{Created: time.Unix(s.Created, 0).UTC().Format(time.RFC3339), CreatedBy: s.CreatedBy, Comment: s.Comment, EmptyLayer: empty(s)}
			if !h.EmptyLayer {
				full++
			}
			out = append(out, h)
		}
		if full == layers {
			return out
		}
	}
	return nil
}

// makesLayer reports whether a step's instruction makes a layer even when nothing is in it.
func makesLayer(step string) bool {
	if rest, ok := strings.CutPrefix(step, "/bin/sh -c #(nop)"); ok {
		step = strings.TrimSpace(rest)
	} else if strings.HasPrefix(step, "/bin/sh -c ") {
		return true
	}
	return slices.ContainsFunc([]string{"RUN ", "COPY ", "ADD ", "WORKDIR "}, func(word string) bool { return strings.HasPrefix(step, word) })
}

// layers takes the directories of overlay2 where they can be read, which is faster than anything else: nothing is
// packed, unpacked, or read that nobody looks at. Their DiffIDs are as the engine says; it proved them when it pulled.
func (d *docker) layers(i *Image, said dockerImage, c *configFile) {
	dirs := said.GraphDriver.dirs()
	if len(dirs) == len(c.RootFS.DiffIDs) && readable(dirs) {
		for n, dir := range dirs {
			i.addTree(d.opt, c.RootFS.DiffIDs[n], dir)
		}
		return
	}
	s := &saved{docker: d, id: said.ID}
	i.close = append(i.close, s.close)
	for n, id := range c.RootFS.DiffIDs {
		i.add(d.opt, stored{diffID: id, open: func(ctx context.Context) (io.ReadCloser, error) { return s.layer(ctx, n) }})
	}
}

// dirs are the layers' directories, from the lowest. The upper one is the last.
func (g graph) dirs() []string {
	if g.Name != "overlay2" || g.Data.UpperDir == "" {
		return nil
	}
	dirs := []string{g.Data.UpperDir}
	if g.Data.LowerDir != "" {
		dirs = append(dirs, strings.Split(g.Data.LowerDir, ":")...)
	}
	slices.Reverse(dirs)
	return dirs
}

func readable(dirs []string) bool {
	return !slices.ContainsFunc(dirs, func(dir string) bool {
		f, err := os.Open(dir)
		if err != nil {
			return true
		}
		defer f.Close()
		_, err = f.Readdirnames(1)
		return err != nil && err != io.EOF
	})
}

// addTree puts a layer of overlayfs on top.
func (i *Image) addTree(opt Options, diffID, dir string) {
	t := &tree{dir: dir, diffID: diffID, overlay: true, prune: none, opt: opt, skip: i.skip}
	i.Layers = append(i.Layers, Layer{LayerInfo: bulkhead.LayerInfo{DiffID: diffID}, walk: t.walk})
}

// base finds the layers of the base image that the labels name, when this engine has it.
func (d *docker) base(ctx context.Context, i *Image) base {
	digest, name := i.Config.Labels[labelBaseDigest], i.Config.Labels[labelBaseName]
	r, err := parseReference(name)
	if err != nil || !isDigest(digest) {
		return base{}
	}
	var said dockerImage
	if err := d.read(ctx, "/images/"+escape(r.Context().Name()+"@"+digest)+"/json", &said); err != nil {
		return base{}
	}
	return base{diffIDs: said.RootFS.Layers}
}

// saved is an image as the engine writes it out. That comes in the engine's order, so it is kept in a temporary file,
// when the first layer is asked for.
type saved struct {
	docker *docker
	id     string

	mu      sync.Mutex
	archive *archive
	item    dockerItem
}

func (s *saved) layer(ctx context.Context, n int) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.archive == nil {
		if err := s.load(ctx); err != nil {
			return nil, fmt.Errorf("save the image out of the engine: %w", err)
		}
	}
	if n >= len(s.item.Layers) {
		return nil, fmt.Errorf("the engine saved %d layers: fewer than it names", len(s.item.Layers))
	}
	name, _ := inside(s.item.Layers[n])
	return s.archive.open(name)
}

func (s *saved) load(ctx context.Context) error {
	spool, err := s.docker.save(ctx, s.id)
	if err != nil {
		return err
	}
	a := &archive{file: spool, members: map[string]member{}}
	if s.item, err = a.only(); err != nil {
		return errors.Join(err, spool.Close())
	}
	s.archive = a
	return nil
}

// only indexes an archive and returns its one image.
func (a *archive) only() (dockerItem, error) {
	if err := a.index(); err != nil {
		return dockerItem{}, err
	}
	raw, err := a.read("manifest.json", maxDocument)
	if err != nil {
		return dockerItem{}, err
	}
	var items []dockerItem
	if err := json.Unmarshal(raw, &items); err != nil {
		return dockerItem{}, fmt.Errorf("manifest.json: %w", err)
	}
	return chooseItem(items, "")
}

// save writes an image into a temporary file.
func (d *docker) save(ctx context.Context, id string) (*os.File, error) {
	response, err := d.get(ctx, "/images/get?names="+url.QueryEscape(id))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	spool, err := spoolFile(d.opt.Temp)
	if err != nil {
		return nil, err
	}
	limit := 4 * d.opt.Limits.LayerBytes // as for any archive of images
	n, err := io.Copy(spool, io.LimitReader(response.Body, limit))
	if err == nil && n == limit {
		err = &LimitError{"bytes", limit}
	}
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	return spool, nil
}

func (s *saved) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.archive == nil {
		return nil
	}
	return s.archive.file.Close()
}

// fromContainerd opens an image of an engine that keeps its images in containerd: what it saves is an OCI layout.
func (d *docker) fromContainerd(ctx context.Context, reference string, said dockerImage) (*Image, error) {
	spool, err := d.save(ctx, cmp.Or(reference, said.ID))
	if err != nil {
		return nil, fmt.Errorf("save the image out of the engine: %w", err)
	}
	a := &archive{file: spool, members: map[string]member{}}
	i := &Image{From: "docker", close: []func() error{spool.Close}}
	err = a.index()
	if err == nil {
		err = openLayout(ctx, i, a, "", d.opt)
	}
	if err != nil {
		i.Close()
		return nil, fmt.Errorf("save the image out of the engine: %w", err)
	}
	i.Name = dockerName(reference, said)
	return i, nil
}
